"""Engines that die, hang or are handed what they cannot do: the streams on them are told, all others go on."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from typing import Any

import numpy as np
import pytest
from live_service import Server, eventually, pcm16, serving, timeless
from numpy.typing import NDArray

from sayso.core.result import Result
from sayso.serving.client import Client, ServiceError
from sayso.serving.refusal import Refusal
from sayso.serving.wire import HEADER, Frame, Kind, Unpacker, pack

Speech = dict[str, NDArray[np.float32]]
NAME = "turn-on-the-kitchen-lights"


def test_frames_come_out_as_they_went_in() -> None:
    frames = [Frame(kind, number, bytes(range(number))) for number, kind in enumerate(Kind)]
    whole = b"".join(pack(*frame) for frame in frames)
    for size in (1, 7, HEADER.size, len(whole)):
        unpacker = Unpacker()
        found = [f for at in range(0, len(whole), size) for f in unpacker.feed(whole[at : at + size])]
        assert found == frames


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
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    make += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
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
    pool = secure.running.service.pool
    (engine,) = pool.engines
    assert engine.rtf > 0  # from running warm
    expected, taken = max(1, int(pool.limits.headroom / engine.rtf)), []

    def fill() -> int:
        with suppress(Refusal):
            while True:
                taken.append(pool.seat())
        return len(taken)

    assert secure.call(fill) == expected
    secure.call(lambda: [seat.release() for seat in taken])
    assert pool.seats == 0


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
