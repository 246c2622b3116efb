"""A service under paced streams of real speech: how long people wait, and what each stream costs.

    python benchmarks/serve.py [--bundle B] [--streams 1 2 4 8 16] [--seconds 20] [--engines 1] [--audio FILE ...]

Every stream is a client of its own that sends packets of ``--packet-ms`` at the pace of a microphone, one recording
after another, and knows where the speech in each ends (the last word of the in-process result). Packets are due at
times fixed beforehand: where a client falls behind, it sends at once and the wait counts from when the packet was due,
so a stalled server cannot make its own figures better (coordinated omission). Streams begin spread over two seconds.
Per number of streams:

- ``intent_ms``: from the end message's due time, which is the endpoint decision here, to the final result of an
  utterance with an intent, p50, p95, p99; ``speech_intent_ms``: the same from the end of speech;
- ``final_ms``: as ``intent_ms``, over all utterances;
- ``chunk_ms``: from the due time of the packet that held the last sample which a partial needed, to that partial;
- ``cpu_per_stream``: processor seconds of the service per second and stream; ``mb_per_stream``: growth of the resident
  memory of the service and its engines over the idle service, per stream; ``refused``, ``failed``: streams and
  utterances that got no result; ``wrong``: results that differ from those in process (times taken aside).

``refusal_ms``: how long the stream after the last place takes to be refused. ``--sherpa DIR`` runs
``sherpa-onnx-online-websocket-server`` of the package ``sherpa-onnx-bin`` on the model that ``sayso export --format
sherpa`` wrote there, in the same run: the final text stands in for the intent, which it does not know. One JSON line
per figure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _lines import ROOT, emit, skip
from numpy.typing import NDArray

import sayso
from sayso.audio.decode import read
from sayso.core.errors import SaysoError
from sayso.core.result import Result, Timing
from sayso.serving.client import Client, ServiceError
from sayso.serving.schema import ResultMessage

BENCH, RATE = "serve", 16000
OURS, SHERPA = "sayso", "sherpa-onnx"
TAIL_S = 0.4  # of silence after every recording, before the client says that it ended
START_S = 120.0


@dataclass
class Clip:
    """A recording, where its speech ends, and what it means in process."""

    name: str
    pcm: NDArray[np.float32]
    speech_end_s: float
    result: Result


@dataclass
class Waits:
    """What the clients of one run saw; seconds."""

    intent: list[float] = field(default_factory=list)
    speech_intent: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    chunk: list[float] = field(default_factory=list)
    refused: int = 0
    failed: int = 0
    wrong: int = 0


Speak = Callable[[Clip, float, Waits, float], Awaitable[None]]


def clips(model: sayso.Model, files: Sequence[Path]) -> list[Clip]:
    """Recordings with speech in them."""
    found = []
    for file in files:
        sound = np.concatenate([read(file, RATE), np.zeros(round(TAIL_S * RATE), np.float32)])
        sound = np.clip(np.round(sound * 32768), -32768, 32767).astype(np.float32) / 32768
        result = model.understand(sound, RATE)
        if result.words:
            found.append(Clip(file.stem, sound, result.words[-1].end, result))
    return found


class Ours:
    """Clients of a running ``sayso serve``."""

    def __init__(self, url: str) -> None:
        self._client = Client(url)

    async def speak(self, clip: Clip, packet_s: float, waits: Waits, due: float) -> None:
        """One utterance whose first packet is due at ``due`` on the event loop's clock."""
        try:
            async with self._client.connect() as connection:
                await self._one(connection, clip, packet_s, waits, due)
        except ServiceError as error:
            waits.refused += error.status is not None
            waits.failed += error.status is None

    async def _one(self, connection: Any, clip: Clip, packet_s: float, waits: Waits, due: float) -> None:
        loop, size = asyncio.get_running_loop(), round(packet_s * RATE)
        stream = await connection.start()
        dues: list[float] = []

        async def send() -> None:
            for at in range(0, len(clip.pcm), size):
                packet = clip.pcm[at : at + size]
                dues.append(due + (at + len(packet)) / RATE)  # a packet is there once its last sample was said
                await asyncio.sleep(max(0.0, dues[-1] - loop.time()))
                await stream.send(packet)
            await stream.end()

        sending = asyncio.create_task(send())
        try:
            async for message in stream:
                now, result = loop.time(), message.result
                if isinstance(message, ResultMessage):
                    end = due + len(clip.pcm) / RATE
                    waits.final.append(now - end)
                    if result.intent is not None:
                        waits.intent.append(now - end)
                        waits.speech_intent.append(now - due - clip.speech_end_s)
                    waits.wrong += timeless(result) != timeless(clip.result)
                else:
                    packet = min(len(dues) - 1, int(result.timing.audio_s / packet_s + 1e-6) - 1)
                    waits.chunk.append(now - dues[max(0, packet)])
        finally:
            sending.cancel()


class Theirs:
    """Clients of a running sherpa-onnx server: float samples, ``Done``, then texts until the connection closes."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def speak(self, clip: Clip, packet_s: float, waits: Waits, due: float) -> None:
        """One utterance."""
        from websockets.asyncio.client import connect

        loop, size = asyncio.get_running_loop(), round(packet_s * RATE)
        async with connect(self._url, proxy=None, compression=None) as link:

            async def send() -> None:
                for at in range(0, len(clip.pcm), size):
                    packet = clip.pcm[at : at + size]
                    await asyncio.sleep(max(0.0, due + (at + len(packet)) / RATE - loop.time()))
                    await link.send(packet.astype("<f4").tobytes())
                await link.send("Done")

            sending = asyncio.create_task(send())
            heard = due + clip.speech_end_s
            async for message in link:
                if message == "Done!":
                    break
                heard = loop.time()
            waits.final.append(loop.time() - due - len(clip.pcm) / RATE)
            waits.speech_intent.append(heard - due - clip.speech_end_s)
            await sending


def timeless(result: Result) -> Result:
    """Without how long it took."""
    return result.model_copy(update={"timing": Timing(audio_s=result.timing.audio_s)})


async def load(speak: Speak, found: list[Clip], streams: int, seconds: float, packet_s: float) -> Waits:
    """``streams`` clients for ``seconds``, each with recordings one after another, at times fixed beforehand."""
    waits, loop = Waits(), asyncio.get_running_loop()
    began = loop.time() + 0.2

    async def person(number: int) -> None:
        due, place = began + number / streams * 2.0, number
        while due < began + seconds:
            clip = found[place % len(found)]
            await asyncio.sleep(max(0.0, due - loop.time()))
            await speak(clip, packet_s, waits, due)
            due, place = due + len(clip.pcm) / RATE + 0.3, place + streams

    await asyncio.gather(*(person(number) for number in range(streams)))
    return waits


class Process:
    """A server in a process of its own."""

    def __init__(self, arguments: Sequence[str], ready: Callable[[str], bool], log: Path) -> None:
        self._log = log
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with log.open("wb") as file:
            self.process = subprocess.Popen(arguments, stdout=file, stderr=file, env=environment)
        until = time.monotonic() + START_S
        while not ready(self.said()):
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise SaysoError(f"the server did not start: {self.said().strip().splitlines()[-1:]}")
            time.sleep(0.02)

    def said(self) -> str:
        """Its output so far."""
        return self._log.read_text(errors="replace")

    def family(self) -> list[int]:
        """The process and its children."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [self.process.pid, *(int(word) for word in children.read_text().split())]

    def memory_mb(self) -> float:
        """Resident memory of all of it."""
        pages = sum(int(Path(f"/proc/{number}/statm").read_text().split()[1]) for number in self.family())
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu_s(self) -> float:
        """Processor seconds of all of it."""
        ticks = 0
        for number in self.family():
            words = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            ticks += int(words[11]) + int(words[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def measure(case: str, server: Process, speak: Speak, found: list[Clip], arguments: argparse.Namespace) -> None:
    """All numbers of streams against one server."""
    packet_s = arguments.packet_ms / 1000
    asyncio.run(load(speak, found, 1, 3.0, packet_s))  # what is loaded or grown by the first of all
    idle = server.memory_mb()
    for streams in arguments.streams:
        busy, began = server.cpu_s(), time.monotonic()
        peak, stop = [idle], asyncio.Event()

        async def run(streams: int = streams, peak: list[float] = peak, stop: asyncio.Event = stop) -> Waits:
            async def watch() -> None:
                while not stop.is_set():
                    peak.append(server.memory_mb())
                    await asyncio.sleep(0.5)

            watching = asyncio.create_task(watch())
            waits = await load(speak, found, streams, arguments.seconds, packet_s)
            stop.set()
            await watching
            return waits

        waits = asyncio.run(run())
        name = f"{case}/{streams}"
        for metric in ("intent", "speech_intent", "final", "chunk"):
            values = getattr(waits, metric)
            for share in (50, 95, 99):
                value = float(np.percentile(values, share)) * 1000 if values else None
                emit(BENCH, name, f"{metric}_ms_p{share}", value)
        emit(BENCH, name, "utterances", len(waits.final))
        emit(BENCH, name, "cpu_per_stream", (server.cpu_s() - busy) / (time.monotonic() - began) / streams)
        emit(BENCH, name, "mb_per_stream", (max(peak) - idle) / streams)
        for metric in ("refused", "failed", "wrong"):
            emit(BENCH, name, metric, getattr(waits, metric))


async def refusal(url: str, most: int) -> float | None:
    """Seconds until the stream that does not fit is told so; None where all of ``most`` fit."""
    held, client = [], Client(url)
    try:
        for _ in range(most):
            began = time.monotonic()
            context = client.connect()
            try:
                await context.__aenter__()
            except ServiceError:
                return time.monotonic() - began
            held.append(context)
    finally:
        for context in held:
            await context.__aexit__(None, None, None)
    return None


def ours(arguments: argparse.Namespace, found: list[Clip], folder: Path) -> None:
    """Sayso's service."""
    admission = "fixed" if arguments.fixed else "measured"
    most = max(64, *arguments.streams)
    (folder / "serve.toml").write_text(
        f'engines = {arguments.engines}\n[limits]\nadmission = "{admission}"\nstreams = {most}\n'
        f'connections_per_key = {2 * most}\n[telemetry]\nlog = "off"\n'
    )
    command = [sys.executable, "-c", "import sys; from sayso.cli.main import main; sys.exit(main())", "serve"]
    command += ["--bundle", f"it={arguments.bundle}", "--config", str(folder / "serve.toml"), "--port", "0"]
    began = time.monotonic()
    server = Process(command, lambda said: "/metrics" in said, folder / "log")
    try:
        emit(BENCH, OURS, "ready_s", time.monotonic() - began)
        url = next(line for line in server.said().splitlines() if line.startswith("http")).rsplit("/v1", 1)[0]
        emit(BENCH, OURS, "idle_mb", server.memory_mb())
        measure(OURS, server, Ours(url).speak, found, arguments)
        waited = asyncio.run(refusal(url, 2 * most))
        emit(BENCH, OURS, "refusal_ms", None if waited is None else waited * 1000)
    finally:
        server.stop()


def theirs(arguments: argparse.Namespace, found: list[Clip], folder: Path) -> None:
    """sherpa-onnx's server on the exported model."""
    program = shutil.which("sherpa-onnx-online-websocket-server")
    if arguments.sherpa is None or program is None:
        skip(SHERPA, "give --sherpa DIR (sayso export --format sherpa), and install sherpa-onnx-bin")
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = {part: next(iter(sorted(arguments.sherpa.glob(f"{part}*.onnx"))), None) for part in
             ("encoder", "decoder", "joiner")}  # fmt: skip
    command = [program, f"--port={port}", f"--tokens={arguments.sherpa / 'tokens.txt'}", "--num-work-threads=1"]
    command += [f"--{part}={file}" for part, file in files.items()]
    server = Process(command, lambda said: _answers(port), folder / "sherpa.log")
    try:
        emit(BENCH, SHERPA, "idle_mb", server.memory_mb())
        measure(SHERPA, server, Theirs(f"ws://127.0.0.1:{port}").speak, found, arguments)
    finally:
        server.stop()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="home", help="folder, zip, or home")
    parser.add_argument("--audio", type=Path, nargs="*", help="recordings; default: examples/*.flac")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=20.0, help="of load for each number of streams")
    parser.add_argument("--packet-ms", type=int, default=100)
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument("--fixed", action="store_true", help="let all streams in, whatever the headroom")
    parser.add_argument("--sherpa", type=Path, metavar="DIR", help="a model that sherpa-onnx can stream")
    arguments = parser.parse_args()
    files = arguments.audio or sorted((ROOT / "examples").glob("*.flac"))
    found = clips(sayso.load(arguments.bundle), files)
    with tempfile.TemporaryDirectory() as folder:
        ours(arguments, found, Path(folder))
        theirs(arguments, found, Path(folder))
    print(json.dumps({"bench": BENCH, "clips": len(found)}), file=sys.stderr)


if __name__ == "__main__":
    main()
