"""The command as a process: what it prints, how it stops, and that nothing anybody said is in anything it leaves."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from live_service import ROOT, certify, eventually, pcm16
from numpy.typing import NDArray
from other_clients import VoskClient, raw
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sayso.core.bundle import copy_bundle, read_bundle, resolve, write_bundle
from sayso.core.result import Result
from sayso.serving.auth import hashed
from sayso.serving.client import Client, ServiceError

KEY = "sayso-CANARY-key-0"
CANARY = "CANARY-7731"
NAME = "turn-on-the-kitchen-lights"
SAID = ("kitchen", "lights")  # of the recording: no intent and no slot is called so
STREAMS = 50
CONFIG = """
host = "127.0.0.1"
wyoming_port = 0
[limits]
admission = "fixed"
final_s = 300
drain_s = {drain_s}
idle_s = 300
first_audio_s = 300
[telemetry]
usage = "{usage}"
[[auth.keys]]
name = "panel"
hash = "{hash}"
scopes = ["understand", "metrics", "admin"]
"""


class Process:
    """``sayso serve`` in a process of its own, with its log in a file."""

    def __init__(self, folder: Path, *more: str, bundle: str = "home", drain_s: int = 300) -> None:
        """``more``: lines that come first in its configuration."""
        self.folder, self.usage, self.log = folder, folder / "usage.db", folder / "log"
        text = "\n".join((*more, CONFIG.format(usage=self.usage, hash=hashed(KEY), drain_s=drain_s)))
        (folder / "serve.toml").write_text(text)
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
        command = [sys.executable, "-m", "sayso.cli.main", "serve", "--bundle", bundle]
        command += ["--config", str(folder / "serve.toml"), "--port", "0"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env=environment, cwd=folder)
        eventually(lambda: "/metrics" in self.said() or self.process.poll() is not None, 300)
        self.endpoints = [line for line in self.said().splitlines() if "://127.0.0.1" in line]
        assert self.endpoints, self.said()
        self.url = next(line for line in self.endpoints if line.startswith("http")).rsplit("/v1", 1)[0]
        self.client = Client(self.url, key=KEY, timeout_s=300)

    def said(self) -> str:
        return self.log.read_text()

    def socket(self) -> Any:
        url = self.url.replace("http", "ws") + "/v1/stream"
        return connect(url, additional_headers={"Authorization": f"Bearer {KEY}"}, proxy=None)

    def engines(self) -> list[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(number) for number in found]


@contextmanager
def command(folder: Path, *more: str, bundle: str = "home", drain_s: int = 300) -> Iterator[Process]:
    found = Process(folder, *more, bundle=bundle, drain_s=drain_s)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()


def test_a_life(tmp_path: Path, speech: dict[str, NDArray[np.float32]], truth: dict[str, Result]) -> None:
    with command(tmp_path) as found:
        assert [line.partition("//")[2].partition("/")[2] for line in found.endpoints][:2] == [
            "v1/stream",
            "v1/understand",
        ]
        assert found.client.get("/health/live") == "alive\n" and found.client.get("/health/ready") == "ready\n"
        _plant(found)
        metrics = found.client.get("/metrics")
        assert 'slu_streams_total{outcome="ok",protocol="rest"} 1.0' in metrics
        results = asyncio.run(drained(found, pcm16(speech[NAME]), STREAMS))
        assert found.process.wait(300) == 0
        assert len(results) == STREAMS and {result.text for result in results} == {truth[NAME].text}
        rows = _usage(found.usage)
        assert len(rows) >= STREAMS + 1 and {row["key"] for row in rows} == {"panel"}
        assert sum(row["outcome"] == "ok" for row in rows) == STREAMS + 1
        left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "serve.toml"]
        assert {path.name for path in left} <= {
            "log",
            "usage.db",
            "usage.db-wal",
            "usage.db-shm",
        }  # no audio, no copies
        everything = metrics.encode() + b"".join(path.read_bytes() for path in left)
        assert b'"event": "stream"' in everything and b"turn_on" in everything
        for secret in (CANARY, KEY, *SAID):
            assert secret.encode() not in everything, secret
        assert b"Traceback" not in everything


def _plant(found: Process) -> None:
    """The canary goes wherever a client can put words."""
    recording = ROOT / "examples" / f"{NAME}.flac"
    result = found.client.understand(recording, lists={"area": [("kitchen", CANARY)]})
    assert [slot.value for slot in result.slots] == [CANARY]
    for wrong in ({"lists": {CANARY: ["x"]}}, {"bundle": CANARY}, {"language": CANARY}):
        with pytest.raises(ServiceError):
            found.client.understand(recording, **wrong)  # type: ignore[arg-type]
    for body in (CANARY.encode(), b"RIFF" + CANARY.encode() * 9):
        with pytest.raises(ServiceError):
            found.client.understand(body)
    with pytest.raises(ServiceError):
        found.client.get(f"/{CANARY}?key={CANARY}")
    with pytest.raises(ServiceError):
        Client(found.url, key=CANARY).understand(recording)

    async def talk() -> None:
        for message in (
            CANARY,
            f'{{"type": "{CANARY}"}}',
            f'{{"type": "start", "{CANARY}": 1}}',
            b"\xff" + CANARY.encode(),
        ):
            async with found.socket() as link:
                await link.send(message, text=True)
                with suppress(ConnectionClosed):
                    while True:
                        await link.recv()

    asyncio.run(talk())
    _plant_elsewhere(found, recording.read_bytes())


def _plant_elsewhere(found: Process, recording: bytes) -> None:
    """In the words of other protocols; none of these becomes a stream that ends well."""
    client = openai.OpenAI(base_url=found.url + "/v1", api_key=KEY, max_retries=0)
    wrong: tuple[dict[str, Any], ...] = (
        {"file": (CANARY, CANARY.encode()), "prompt": CANARY},
        {"response_format": CANARY},
        {"language": CANARY},
        {"extra_body": {CANARY: "x", "slu": CANARY}},
    )
    for fields in wrong:
        with pytest.raises(openai.BadRequestError):
            client.audio.transcriptions.create(**{"model": CANARY, "file": ("x", recording), **fields})
    for config in ({"model": CANARY}, {"slu": {CANARY: 1}}, {"sample_rate": CANARY}):
        with VoskClient(int(found.url.rpartition(":")[2]), KEY) as vosk:
            vosk.config(**config)
            assert "error" in vosk.ask(bytes(3200))
    eventually(lambda: "(wyoming)" in found.said())
    port = int(found.said().partition("tcp://127.0.0.1:")[2].split()[0])
    for event in ({"type": CANARY, "data": CANARY}, {"type": "transcribe", "data": {"name": CANARY}}):
        with raw(port) as wyoming:
            wyoming.send({"type": "transcript", "data": {"text": CANARY, "context": {CANARY: CANARY}}})
            assert CANARY in str(wyoming.read())  # the context comes back
            wyoming.send(event)
            wyoming.start()
            wyoming.ended()


async def drained(found: Process, sound: bytes, streams: int) -> list[Result]:
    """Streams in the middle of speech when SIGTERM comes; how they end, and what others see meanwhile."""
    spoken = asyncio.Barrier(streams + 1)
    closed: list[int] = []

    async def speak() -> Result:
        async with found.client.connect() as connection:
            stream = await connection.start(partials=False)
            await stream.send(sound[:20000])
            await spoken.wait()
            for start in range(20000, len(sound), 6400):
                await stream.send(sound[start : start + 6400])
                await asyncio.sleep(0.15)
            await stream.end()
            result: Result = await stream.result()
            with suppress(ConnectionClosed):
                while True:
                    await connection.socket.recv()
            closed.append(connection.socket.close_code)
            return result

    async def idle() -> None:
        async with found.socket() as link:
            with pytest.raises(ConnectionClosed):
                while True:
                    await link.recv()
            closed.append(link.close_code)

    async with asyncio.timeout(600):
        tasks = [asyncio.create_task(speak()) for _ in range(streams)]
        waiting = asyncio.create_task(idle())
        await spoken.wait()
        found.process.send_signal(signal.SIGTERM)
        with pytest.raises(ServiceError) as refused:
            while True:
                await asyncio.to_thread(found.client.get, "/health/ready")
        assert refused.value.status == 503
        with pytest.raises(InvalidStatus) as also:
            async with found.socket():
                pass
        assert also.value.response.status_code == 503 and "Retry-After" in also.value.response.headers
        results = await asyncio.gather(*tasks)
        await waiting
    assert closed == [1001] * (streams + 1)
    return results


def test_a_second_signal_stops_at_once_and_records_stay_whole(
    tmp_path: Path, speech: dict[str, NDArray[np.float32]]
) -> None:
    with command(tmp_path) as found:
        engines = found.engines()
        assert engines
        found.client.understand(ROOT / "examples" / f"{NAME}.flac")
        eventually(lambda: len(_usage(found.usage)) == 1)

        async def hold() -> None:
            async with found.client.connect() as connection:
                stream = await connection.start()
                await stream.send(pcm16(speech[NAME]))
                await anext(aiter(stream))  # it runs
                found.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(eventually, lambda: '"draining"' in found.said())
                assert found.process.poll() is None  # it waits for us
                began = time.monotonic()
                found.process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(found.process.wait, 60) == 128 + signal.SIGTERM
                assert time.monotonic() - began < 10.0  # and not the two minutes that the stream may take

        asyncio.run(hold())
        eventually(lambda: not any(Path(f"/proc/{number}/cmdline").exists() and _runs(number) for number in engines))
        assert [row["outcome"] for row in _usage(found.usage)] == ["ok"]
        with sqlite3.connect(found.usage) as base:
            assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_who_never_ends_is_answered_when_the_patience_is_over(
    tmp_path: Path, speech: dict[str, NDArray[np.float32]], truth: dict[str, Result]
) -> None:
    with command(tmp_path, drain_s=2) as found:

        async def hold() -> Result:
            async with found.client.connect() as connection:
                stream = await connection.start(partials=False)
                await stream.send(pcm16(speech[NAME]))
                await asyncio.to_thread(eventually, lambda: "slu_streams_active 1.0" in found.client.get("/metrics"))
                found.process.send_signal(signal.SIGTERM)  # and no end from us
                result: Result = await stream.result()
                with suppress(ConnectionClosed):
                    while True:
                        await connection.socket.recv()
                assert connection.socket.close_code == 1001
                return result

        assert asyncio.run(hold()).text == truth[NAME].text
        assert found.process.wait(60) == 0


def _runs(number: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _usage(path: Path) -> list[dict[str, Any]]:
    with sqlite3.connect(path) as base:
        base.row_factory = sqlite3.Row
        return [dict(row) for row in base.execute("SELECT * FROM usage")]


def test_a_hangup_loads_bundles_and_the_certificate_again(tmp_path: Path) -> None:
    """What is new and whole is taken; what is damaged changes nothing, and the service goes on."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl to make a certificate")
    place = tmp_path / "copy.bundle"
    copy_bundle(read_bundle(resolve("home")), place)
    whole = read_bundle(place)
    files = {name: whole.file(name) for name in whole.manifest.files}
    certificate, key = certify(tmp_path)
    lines = (f'tls_certificate = "{certificate}"', f'tls_key = "{key}"')
    with command(tmp_path, *lines, bundle=f"copy={place}") as found:
        port = int(found.url.rpartition(":")[2])

        def hangup(outcomes: list[str]) -> str:
            """The certificate that is shown after it, once this many things were tried with these outcomes."""
            before = len(_reloads(found))
            found.process.send_signal(signal.SIGHUP)
            eventually(lambda: len(_reloads(found)) == before + 2, 300)
            assert [line["outcome"] for line in _reloads(found)[before:]] == outcomes
            return ssl.get_server_certificate(("127.0.0.1", port))

        first = ssl.get_server_certificate(("127.0.0.1", port))
        certify(tmp_path)
        manifest = write_bundle(whole.manifest.model_copy(update={"description": "another"}), files, place)
        second = hangup(["ok", "ok"])
        assert second == certificate.read_text() != first
        assert _reloads(found)[-1]["version"] == manifest.sha256[:12]
        key.write_text("no key")
        (place / "ctc.onnx").write_bytes(files["ctc.onnx"][:-1] + b"!")
        assert hangup(["failed", "failed"]) == second


def _reloads(found: Process) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in found.said().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "reload"]


def test_wrong_settings_are_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sayso.cli.main import main

    file = tmp_path / "serve.toml"
    for text, message in (
        ("[limits]\nstrems = 3\n", "'limits.strems' is not a known key; did you mean 'streams'?"),
        ('host = "0.0.0.0"\n', "there are no keys"),
        ('[[auth.keys]]\nname = "a"\nhash = "secret"\n', "sayso serve --new-key NAME"),
        ("port = 70000\n", "'port'"),
    ):
        file.write_text(text)
        assert main(["serve", "--config", str(file)]) == 2
        assert message in capsys.readouterr().err
    assert main(["serve", "--new-key", "panel"]) == 0
    shown = capsys.readouterr()
    assert hashed(shown.out.strip()) in shown.err and shown.out.strip() not in shown.err
