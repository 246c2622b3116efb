"""Clients that speak at the pace of a microphone, and what they wait for; a server whose costs can be read.

Every client sends packets at times fixed beforehand. Where it falls behind it sends at once, and the wait counts from
when the packet was due, so a stalled server cannot make its own figures better (coordinated omission).
"""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sayso
from sayso.audio.decode import read
from sayso.core.errors import SaysoError
from sayso.core.result import Result, Timing
from sayso.serving.client import Client, ServiceError
from sayso.serving.schema import ResultMessage

RATE = 16000
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
    refusal: list[float] = field(default_factory=list)  # of streams that did not fit, until they were told
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
            if error.status == 503:
                waits.refusal.append(asyncio.get_running_loop().time() - due)
            else:
                waits.failed += 1

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
                    packet = min(len(dues), math.ceil(result.timing.audio_s / packet_s - 1e-6)) - 1
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
