"""Engines that die, hang or are handed what they cannot do: the streams on them are told, all others go on."""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.client import HTTPException
from typing import Any

import numpy as np
import pytest
from live_service import Server, certify, eventually, pcm16, serving, timeless
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed

from sayso.core.result import Result
from sayso.decoding.open_words import OpenWords
from sayso.runtime.load import load
from sayso.runtime.model import Model
from sayso.runtime.stream import Stream
from sayso.serving import engine, pool
from sayso.serving.client import Client, ServiceError
from sayso.serving.refusal import Refusal
from sayso.serving.wire import HEADER, LARGEST, Frame, Kind, Opening, Said, Unpacker, pack

Speech = dict[str, NDArray[np.float32]]
NAME = "turn-on-the-kitchen-lights"


def test_frames_come_out_as_they_went_in() -> None:
    frames = [Frame(kind, number, bytes(range(number))) for number, kind in enumerate(Kind)]
    whole = b"".join(pack(*frame) for frame in frames)
    for size in (1, 7, HEADER.size, len(whole)):
        unpacker = Unpacker()
        found = [f for at in range(0, len(whole), size) for f in unpacker.feed(whole[at : at + size])]
        assert found == frames
    with pytest.raises(ValueError, match="longer than any"):
        list(Unpacker().feed(HEADER.pack(LARGEST + 1, Kind.RESULT, 1)))


def restarts(service: Server) -> float:
    (line,) = re.findall(r"^slu_engine_restarts_total (\S+)$", service.client().get("/metrics"), re.M)
    return float(line)


def test_a_killed_engine_takes_only_its_own(service: Server, speech: Speech, truth: dict[str, Result]) -> None:
    """Four streams on two engines; one is killed in the middle. Then it is there again, with the same bundle."""
    engines = service.running.service.pool.engines
    sound, before = speech[NAME], restarts(service)

    async def speak(connection: Any, halfway: asyncio.Barrier, killed: asyncio.Event) -> Result | str:
        stream = await connection.start(encoding="pcm_f32le")
        await stream.send(sound[:16000])
        await halfway.wait()
        await killed.wait()
        try:
            await stream.send(sound[16000:])
            await stream.end()
            result: Result = await stream.result()
        except ServiceError as error:
            assert error.retry_after_s is not None
            return error.code
        return result

    async def together() -> list[Result | str]:
        halfway, killed = asyncio.Barrier(5), asyncio.Event()

        async def one() -> Result | str:
            async with service.client().connect() as connection:
                first = await speak(connection, halfway, killed)
                if first == "engine_lost":  # the connection is still good
                    stream = await connection.start(encoding="pcm_f32le")
                    await stream.send(sound)
                    await stream.end()
                    assert timeless(await stream.result()) == timeless(truth[NAME])
                return first

        tasks = [asyncio.create_task(one()) for _ in range(4)]
        await halfway.wait()
        assert sorted(engine.seats for engine in engines) == [2, 2]
        victim = engines[0].pid
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        await asyncio.to_thread(eventually, lambda: engines[0].pid != victim or not engines[0].alive)
        killed.set()
        return await asyncio.gather(*tasks)

    outcomes = asyncio.run(together())
    assert outcomes.count("engine_lost") == 2
    others = [outcome for outcome in outcomes if isinstance(outcome, Result)]
    assert len(others) == 2 and all(timeless(result) == timeless(truth[NAME]) for result in others)
    eventually(lambda: engines[0].alive and bool(engines[0].editions))
    assert restarts(service) == before + 1


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With TLS, and with admission by what was measured."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl to make a certificate")
    certificate, key = certify(tmp_path_factory.mktemp("tls"))
    limits = {"admission": "measured", "streams": 1000}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate))
        with serving(tls_certificate=str(certificate), tls_key=str(key), limits=limits) as found:
            yield found


def test_tls(secure: Server, speech: Speech) -> None:
    """Certificates are checked; without TLS nothing is said."""
    address = f"127.0.0.1:{secure.port}"
    client = Client(f"https://{address}")
    assert client.get("/health/ready") == "ready\n"
    assert f"wss://{address}/v1/stream" in secure.running.endpoints

    async def stream() -> str:
        async with client.connect() as connection:
            stream = await connection.start()
            await stream.send(speech[NAME])
            await stream.end()
            return (await stream.result()).text

    assert asyncio.run(stream()) == "turn on the kitchen lights"
    with pytest.raises((OSError, HTTPException)):
        Client(f"http://{address}").get("/health/ready")


def test_admission_goes_by_what_was_measured(secure: Server) -> None:
    """The measured work per second of audio bounds the streams; the first always fits."""
    seats = secure.running.service.pool
    (one,) = seats.engines
    assert one.rtf > 0  # from running warm
    expected, taken = max(1, int(seats.limits.headroom / one.rtf)), []

    def fill() -> int:
        with suppress(Refusal):
            while True:
                taken.append(seats.seat())
        return len(taken)

    assert secure.call(fill) == expected
    secure.call(lambda: [seat.release() for seat in taken])
    assert seats.seats == 0


def test_an_engine_does_what_it_can_with_wrong_packets(service: Server, speech: Speech) -> None:
    """NaN ends the stream that sent it, with a message; its neighbours and its connection do not mind."""

    async def run() -> tuple[str, str]:
        async with service.client().connect() as bad, service.client().connect() as good:
            other = await good.start()
            await other.send(pcm16(speech[NAME]))
            stream = await bad.start(encoding="pcm_f32le")
            await stream.send(np.full(4000, np.nan, "<f4").tobytes())
            code = ""
            try:
                await stream.result()
            except ServiceError as error:
                code = error.code
            await other.end()
            again = await bad.start()
            await again.send(pcm16(speech[NAME]))
            await again.end()
            assert (await again.result()).text == "turn on the kitchen lights"
            return code, (await other.result()).text

    assert asyncio.run(run()) == ("bad_audio", "turn on the kitchen lights")


def test_a_crowd_that_ends_at_once_does_not_silence_an_engine(
    home: Model, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finals are spread over turns, first come, first served; between them the engine does everything else."""
    monkeypatch.setattr(engine, "FINALS_S", 0.0)
    monkeypatch.setattr(engine, "STATS_S", 0.0)
    inbox: Any = queue.SimpleQueue()
    said: list[Frame] = []
    unpacker = Unpacker()
    works = engine.Engine(inbox, lambda data: said.extend(unpacker.feed(data)))
    works._models[1] = home
    order, sound = (3, 1, 2), speech[NAME][:8000].astype("<f4").tobytes()
    opening = Opening(edition=1, sample_rate=16000, partials=False).model_dump_json().encode()
    for now, stream in enumerate(order):
        for kind, payload in ((Kind.OPEN, opening), (Kind.FLOAT, sound), (Kind.END, b"")):
            inbox.put((float(now), Frame(kind, stream, payload)))
    thread = threading.Thread(target=works.run)
    thread.start()
    eventually(lambda: sum(frame.kind is Kind.DONE for frame in said) == len(order), 300)
    inbox.put(None)
    thread.join()
    results = [place for place, frame in enumerate(said) if frame.kind is Kind.RESULT]
    assert [said[place].stream for place in results] == list(order)
    for before, after in itertools.pairwise(results):
        assert Kind.STATS in {frame.kind for frame in said[before:after]}


def test_streams_step_together_and_fail_alone(
    home: Model, speech: Speech, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One encoder run for all that are ready; where one breaks it, the others still get what they are owed."""
    steps, broken = [], []
    step_many = Model.step_many

    def breaking(model: Model, streams: Sequence[Stream]) -> int:
        steps.append(len(streams))
        if broken[0] in streams:
            raise RuntimeError("what a recording says")
        return step_many(model, streams)

    monkeypatch.setattr(Model, "step_many", breaking)
    inbox: Any = queue.SimpleQueue()
    said: list[Frame] = []
    unpacker = Unpacker()
    works = engine.Engine(inbox, lambda data: said.extend(unpacker.feed(data)))
    works._models[1] = home
    opening = Opening(edition=1, sample_rate=16000, partials=False).model_dump_json().encode()
    sound = speech[NAME].astype("<f4").tobytes()
    for stream in (1, 2, 3):
        for kind, payload in ((Kind.OPEN, opening), (Kind.FLOAT, sound), (Kind.END, b"")):
            works._handle((0.0, Frame(kind, stream, payload)))
    broken.append(works._lives[2].stream)  # type: ignore[union-attr]
    thread = threading.Thread(target=works.run)
    thread.start()
    eventually(lambda: sum(frame.kind in (Kind.DONE, Kind.FAILED) for frame in said) == 3, 300)
    inbox.put(None)
    thread.join()
    assert steps[:4] == [3, 1, 1, 1] and max(steps[4:]) == 2
    ends = {frame.stream: frame for frame in said if frame.kind in (Kind.RESULT, Kind.FAILED)}
    assert {stream: frame.kind for stream, frame in ends.items()} == {1: Kind.RESULT, 2: Kind.FAILED, 3: Kind.RESULT}
    for stream in (1, 3):
        assert Said.model_validate_json(ends[stream].payload).result.text == "turn on the kitchen lights"
    assert b"internal" in ends[2].payload
    assert b"recording" not in ends[2].payload and "recording" not in capsys.readouterr().err


def test_an_engine_is_warm_with_its_dictionary() -> None:
    """The first open slot that anybody fills must not wait for it."""
    model = load("home")
    assert isinstance(model.engine.open_slots, OpenWords) and model.engine.open_slots._search is None
    assert engine.warm(model) > 0
    assert model.engine.open_slots._search is not None


@pytest.fixture(scope="module")
def brief() -> Iterator[Server]:
    """With short deadlines, and a service that soon takes a silent engine for dead."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "SILENCE_S", 6.0)
        with serving(limits={"session_s": 3.0, "final_s": 2.0}) as found:
            yield found


def test_a_silent_engine_is_replaced(brief: Server, speech: Speech) -> None:
    """Stopped in its tracks: the client's deadline holds, and another process takes the place."""
    (one,) = brief.running.service.pool.engines
    eventually(lambda: brief.running.service.ready, 300)
    victim = one.pid
    assert victim is not None

    async def stream() -> None:
        async with brief.client().connect() as connection:
            stream = await connection.start()
            os.kill(victim, signal.SIGSTOP)
            await stream.send(pcm16(speech[NAME][:8000]))
            await stream.end()
            await stream.result()

    with pytest.raises(ServiceError) as late:
        asyncio.run(stream())
    assert late.value.code == "deadline" and late.value.retry_after_s is not None
    eventually(lambda: one.pid != victim and brief.running.service.ready, 300)


def test_a_session_ends(brief: Server, speech: Speech) -> None:
    async def talk() -> str:
        async with brief.client().connect() as connection:
            await connection.start()
            with suppress(ConnectionClosed):
                while True:  # never silent
                    await connection.socket.send(pcm16(speech[NAME][:1600]))
                    await asyncio.sleep(0.1)
            assert connection.socket.close_code == 1008
            return str(connection.socket.close_reason)

    began = time.monotonic()
    assert asyncio.run(talk()) == "timeout"
    assert time.monotonic() - began >= 2.9
