"""The engine processes, seen from the service: started, watched, restarted, and not given more than they can carry.

A stream needs a seat. A seat belongs to one engine, the one with the most room. How much room there is has been
measured: work per second of audio times the streams that sit there must stay below a share of the engine's time, and
audio must not be waiting. An engine that dies or falls silent takes its own streams with it, each of which is told; the
rest go on, and a new process takes its place with the same editions of the same bundles.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from sayso.core.errors import BundleError
from sayso.serving.config import Limits
from sayso.serving.refusal import Refusal
from sayso.serving.telemetry import Telemetry, complain
from sayso.serving.wire import Frame, Kind, Opening, Stats, Unpacker, pack

SILENCE_S = 20.0  # without a word from an engine that should give figures twice a second
START_S = 60.0  # more, for a process that has just begun
LOAD_S = 120.0
MOST_WAIT_S = 0.5  # of audio in an engine, for new streams to be let in
SMOOTHING = 0.3  # of the newest measurement
LEAST_AUDIO_S = 0.5  # in a measurement that counts
_ENGINE = {  # its environment, where nothing else is asked for
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # what streams hold lies between the arrays of steps; glibc keeps the holes that these leave (3 MB a stream), unless
    # larger arrays are mapped, and given back one by one
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
_BACKOFF_S = (0.0, 0.2, 1.0, 5.0)


class Sink(Protocol):
    """Who hears what an engine says about one stream."""

    def frame(self, frame: Frame) -> None:
        """One frame; DONE and FAILED are the last."""

    def lost(self) -> None:
        """The engine is gone, and the stream with it."""


class Channel:
    """One stream in one engine; writing to an engine that is gone does nothing."""

    def __init__(self, engine: EngineProcess, number: int) -> None:
        self._engine, self._number = engine, number

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """PCM16, FLOAT, END or CANCEL."""
        if self._number in self._engine.sinks:
            self._engine.write(kind, self._number, payload)
        if kind is Kind.CANCEL:
            self._engine.sinks.pop(self._number, None)


class EngineProcess:
    """One process. ``started`` counts restarts."""

    def __init__(self, number: int, on_stats: Callable[[int, Stats], None]) -> None:
        self.number, self.started, self.seats = number, 0, 0
        self.sinks: dict[int, Sink] = {}
        self.editions: dict[int, float] = {}  # loaded ones, and their work per second of audio when warm
        self.rtf = self.wait_s = self.silent_s = 0.0
        self._numbers = itertools.count(1)
        self._on_stats = on_stats
        self._process: asyncio.subprocess.Process | None = None
        self._loading: dict[int, asyncio.Future[float]] = {}

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process is not None else None

    @property
    def loading(self) -> bool:
        """Whether it loads a bundle, which may keep it from saying anything."""
        return bool(self._loading)

    async def start(self) -> None:
        """A new process."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sayso.serving.engine",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**_ENGINE, **os.environ},
        )
        self.started += 1
        self.silent_s, self.rtf, self.wait_s = -START_S, 0.0, 0.0

    async def listen(self) -> None:
        """Hand on what it says, until it says no more."""
        assert self._process is not None and self._process.stdout is not None
        unpacker = Unpacker()
        try:
            while data := await self._process.stdout.read(1 << 16):
                for frame in unpacker.feed(data):
                    self._hear(frame)
        except ValueError:  # not frames: whatever runs there is no engine any more
            self.kill()
        finally:
            self.kill()
            await self._process.wait()
            self._lose()

    def write(self, kind: Kind, stream: int, payload: bytes = b"") -> None:
        """Send a frame. The pipe cannot fill for good: what a stream may have under way is bounded."""
        if self.alive and self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(pack(kind, stream, payload))

    def open(self, opening: Opening, sink: Sink) -> Channel:
        """Begin a stream."""
        number = next(self._numbers)
        self.sinks[number] = sink
        self.write(Kind.OPEN, number, opening.model_dump_json().encode())
        return Channel(self, number)

    async def load(self, edition: int, path: Path) -> None:
        """Load a bundle and run it warm. Raises ``BundleError``."""
        waiting = asyncio.get_running_loop().create_future()
        self._loading[edition] = waiting
        self.write(Kind.LOAD, 0, json.dumps({"edition": edition, "path": str(path)}).encode())
        try:
            self.editions[edition] = await asyncio.wait_for(waiting, LOAD_S)
        except TimeoutError:
            raise BundleError(f"the bundle was not loaded within {LOAD_S:.0f} s") from None
        finally:
            self._loading.pop(edition, None)
            self.silent_s = min(self.silent_s, 0.0)
        self.rtf = self.rtf or self.editions[edition]

    def drop(self, edition: int) -> None:
        """Forget a bundle that no stream uses."""
        self.editions.pop(edition, None)
        self.write(Kind.DROP, 0, json.dumps({"edition": edition}).encode())

    def kill(self) -> None:
        """End it at once."""
        if self.alive and self._process is not None:
            self._process.kill()

    def _hear(self, frame: Frame) -> None:
        if frame.kind is Kind.STATS:
            self.silent_s = 0.0
            self._measure(Stats.model_validate_json(frame.payload))
        elif frame.kind is Kind.LOADED:
            answer: dict[str, Any] = json.loads(frame.payload)
            waiting = self._loading.get(answer["edition"])
            if waiting is None or waiting.done():
                return
            if answer["error"] is None:
                waiting.set_result(float(answer["rtf"]))
            else:
                waiting.set_exception(BundleError(answer["error"]))
        else:
            last = frame.kind in (Kind.DONE, Kind.FAILED)
            sink = self.sinks.pop(frame.stream, None) if last else self.sinks.get(frame.stream)
            if sink is not None:
                sink.frame(frame)

    def _measure(self, stats: Stats) -> None:
        if stats.audio_s >= LEAST_AUDIO_S:
            self.rtf += SMOOTHING * (stats.busy_s / stats.audio_s - self.rtf)
        self.wait_s = max(stats.queue_s, default=0.0)
        self._on_stats(self.number, stats)

    def _lose(self) -> None:
        self.editions.clear()
        for waiting in self._loading.values():
            if not waiting.done():
                waiting.set_exception(BundleError("the engine process ended while it loaded the bundle"))
        sinks, self.sinks = list(self.sinks.values()), {}
        for sink in sinks:
            sink.lost()


class Seat:
    """Room for one stream at a time. ``release`` it."""

    def __init__(self, pool: Pool, engine: EngineProcess) -> None:
        self._pool, self._engine, self._taken = pool, engine, True
        engine.seats += 1

    def open(self, opening: Opening, sink: Sink) -> Channel:
        """Begin a stream here; where this engine has gone, in another. ``Refusal`` where there is none."""
        if opening.edition not in self._engine.editions:
            engine = self._pool.engine_for(opening.edition)
            self._engine.seats -= self._taken
            self._engine = engine
            self._engine.seats += self._taken
        return self._engine.open(opening, sink)

    def release(self) -> None:
        """Leave the room to others; calling again does nothing."""
        self._engine.seats -= self._taken
        self._taken = False


class Pool:
    """All engines."""

    def __init__(self, engines: int, limits: Limits, telemetry: Telemetry) -> None:
        self.engines = [EngineProcess(number, telemetry.engine) for number in range(engines)]
        self.limits, self._on_restart = limits, telemetry.restarts.inc
        self._paths: dict[int, Path] = {}  # of the editions that every engine should have
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    async def start(self) -> None:
        """Start the processes and keep them running."""
        await asyncio.gather(*(engine.start() for engine in self.engines))
        self._tasks = [asyncio.create_task(self._keep(engine)) for engine in self.engines]
        self._tasks.append(asyncio.create_task(self._watch()))

    async def close(self) -> None:
        """End all processes."""
        self._closing = True
        for engine in self.engines:
            engine.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def load(self, edition: int, path: Path) -> None:
        """A bundle into every engine that runs. Raises ``BundleError``, and then none has it."""
        running = [engine for engine in self.engines if engine.alive]
        answers = await asyncio.gather(*(engine.load(edition, path) for engine in running), return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if failures:
            for engine in running:
                engine.drop(edition)
            raise failures[0]
        self._paths[edition] = path

    def drop(self, edition: int) -> None:
        """Out of every engine."""
        self._paths.pop(edition, None)
        for engine in self.engines:
            engine.drop(edition)

    @property
    def ready(self) -> bool:
        """Whether some engine can take streams of every edition."""
        return bool(self._paths) and any(set(self._paths) <= set(engine.editions) for engine in self.engines)

    @property
    def seats(self) -> int:
        """Taken ones."""
        return sum(engine.seats for engine in self.engines)

    def seat(self) -> Seat:
        """Room for a stream; ``Refusal`` (overloaded) where there is none."""
        usable = [engine for engine in self.engines if engine.editions]
        if not usable:
            raise Refusal("overloaded", "no engine is ready; try again in a moment")
        engine = min(usable, key=lambda engine: engine.seats)
        if self.seats >= self.limits.streams or not self._carries(engine):
            raise Refusal("overloaded", "all streams are taken; try again in a moment")
        return Seat(self, engine)

    def engine_for(self, edition: int) -> EngineProcess:
        """The emptiest engine that has this edition."""
        usable = [engine for engine in self.engines if edition in engine.editions]
        if not usable:
            raise Refusal("engine_lost", "no engine has this bundle at the moment; try again")
        return min(usable, key=lambda engine: engine.seats)

    def _carries(self, engine: EngineProcess) -> bool:
        """Whether one more stream fits; the first always does."""
        if self.limits.admission == "fixed" or engine.seats == 0:
            return True
        return (engine.seats + 1) * engine.rtf <= self.limits.headroom and engine.wait_s <= MOST_WAIT_S

    async def _keep(self, engine: EngineProcess) -> None:
        """Run a process; when it ends, run another, with what it had."""
        for attempt in itertools.count():
            began = time.monotonic()
            try:
                await engine.listen()
            except Exception as error:
                complain("engine", error)
            if self._closing:
                return
            self._on_restart()
            quick = time.monotonic() - began < 10.0
            await asyncio.sleep(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)] if quick else 0.0)
            await engine.start()
            self._tasks.append(asyncio.create_task(self._furnish(engine)))

    async def _furnish(self, engine: EngineProcess) -> None:
        """Give a new process what the others have; a bundle that came meanwhile, too."""
        started = engine.started
        while missing := [edition for edition in self._paths if edition not in engine.editions]:
            try:
                await engine.load(missing[0], self._paths[missing[0]])
            except BundleError:
                if engine.started == started:
                    engine.kill()  # it could yesterday: try another process
                return

    async def _watch(self) -> None:
        """An engine that says nothing is as good as dead. While the machine stands still, so do we."""
        while True:
            await asyncio.sleep(1.0)
            for engine in self.engines:
                engine.silent_s += 1.0
                if engine.alive and not engine.loading and engine.silent_s > SILENCE_S:
                    engine.kill()
