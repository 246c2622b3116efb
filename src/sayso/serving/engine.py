"""An engine process: it holds the models, and moves the streams of all its clients together.

``python -m sayso.serving.engine`` reads frames from stdin and writes frames to stdout, until stdin ends. A process of
its own, because a search in Python would otherwise hold up the sockets, because two of them use two cores, and because
what a hostile recording breaks is then one of them. Every turn takes one packet of each stream (features, voice
detection), waits a few milliseconds for company, runs the encoder once for all streams that are ready, and then says
what is new: finals first; partials not at all for a stream that is behind. Loading a bundle, and compiling a client's
lists, happen beside it in threads.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sayso.core.errors import SaysoError
from sayso.runtime.load import load
from sayso.runtime.model import Model
from sayso.serving.live import Live, Saying
from sayso.serving.tally import Tally
from sayso.serving.wire import Frame, Kind, Opening, Unpacker, pack

BATCH_WAIT_S = 0.005  # for more streams to be ready, once one is
MOST_BATCH = 32
BEHIND_S = 0.5  # of audio that waits: no partials then
FINALS_S = 0.1  # of work on finals in one turn, or one final
STATS_S = 0.5
WARM_S = 1.0
_Arrival = tuple[float, Frame] | Callable[[], None]


class Engine:
    """The loop. ``send`` takes packed frames."""

    def __init__(self, inbox: queue.SimpleQueue[_Arrival | None], send: Callable[[bytes], None]) -> None:
        self._inbox, self._send = inbox, send
        self._models: dict[int, Model] = {}
        self._lives: dict[int, Live | None] = {}  # None: being opened
        self._early: dict[int, list[tuple[float, Frame]]] = {}  # what came for those
        self._helpers = ThreadPoolExecutor(1, "lists")
        self._queue_s: dict[int, float] = {}  # by stream, how long its last packet had waited
        self._ready_since = 0.0  # since when something is ready; 0: nothing is
        self._tally = Tally()

    def run(self) -> None:
        """Work until the inbox gives None."""
        while self._receive():
            began = time.monotonic()
            self._take()
            self._step()
            self._speak()
            self._tally.busy_s += time.monotonic() - began
            self._report()

    def _receive(self) -> bool:
        """Handle what has come; wait for it only where there is nothing else to do."""
        lives = [live for live in self._lives.values() if live is not None]
        idle = not any(live.wants or live.ready or live.due for live in lives)
        try:
            arrival = self._inbox.get(timeout=STATS_S) if idle else self._inbox.get_nowait()
            while arrival is not None:
                self._handle(arrival)
                arrival = self._inbox.get_nowait()
        except queue.Empty:
            return True
        return False

    def _handle(self, arrival: _Arrival) -> None:
        if callable(arrival):
            arrival()
            return
        now, frame = arrival
        if frame.kind is Kind.LOAD:
            threading.Thread(target=self._load, args=(json.loads(frame.payload),), daemon=True).start()
        elif frame.kind is Kind.DROP:
            self._models.pop(json.loads(frame.payload)["edition"], None)
        elif frame.kind is Kind.OPEN:
            self._open(frame)
        elif frame.stream in self._early:
            self._early[frame.stream].append(arrival)
        elif (live := self._lives.get(frame.stream)) is not None:
            if frame.kind is Kind.PCM16:
                live.put(np.frombuffer(frame.payload, "<i2"), now)
            elif frame.kind is Kind.FLOAT:
                live.put(np.frombuffer(frame.payload, "<f4"), now)
            elif frame.kind is Kind.END:
                live.end(now)
            elif frame.kind is Kind.CANCEL:
                del self._lives[frame.stream]

    def _open(self, frame: Frame) -> None:
        """Lists, and what may follow in a dialogue, are compiled in a thread; what comes meanwhile waits for it."""
        opening = Opening.model_validate_json(frame.payload)
        model = self._models.get(opening.edition)
        if model is None:
            self._fail(frame.stream, "internal", "this bundle is not loaded here")
        elif opening.lists or (opening.dialogue is not None and opening.dialogue.history):
            self._lives[frame.stream], self._early[frame.stream] = None, []
            self._helpers.submit(self._make, frame.stream, opening, model)
        else:
            self._lives[frame.stream] = None
            self._opened(frame.stream, self._new(opening, model))

    def _make(self, stream: int, opening: Opening, model: Model) -> None:
        made = self._new(opening, model)
        self._inbox.put(lambda: self._opened(stream, made))

    def _new(self, opening: Opening, model: Model) -> Live | tuple[str, str]:
        try:
            return Live(opening, model)
        except SaysoError as error:
            return "bad_request", str(error)
        except Exception as error:
            complain("open", error)
            return "internal", "the stream could not be opened"

    def _opened(self, stream: int, made: Live | tuple[str, str]) -> None:
        early = self._early.pop(stream, [])
        if isinstance(made, Live):
            self._lives[stream] = made
            for arrival in early:
                self._handle(arrival)
        else:
            self._fail(stream, *made)

    def _take(self) -> None:
        """One packet of every stream that wants one."""
        for stream, live in self._running():
            try:
                if live.wants:
                    self._queue_s[stream] = time.monotonic() - live.take()
                live.settle()
            except SaysoError as error:
                self._fail(stream, "bad_audio", str(error))
            except Exception as error:
                complain("take", error)
                self._fail(stream, "internal", "the audio could not be processed")

    def _step(self) -> None:
        """One encoder run for all that are ready, a batch per model; a little later if that brings more of them."""
        ready = [(stream, live) for stream, live in self._running() if live.ready]
        if not ready:
            return
        until = self._ready_since + BATCH_WAIT_S if self._ready_since else time.monotonic() + BATCH_WAIT_S
        self._ready_since = self._ready_since or time.monotonic()
        waiting = len(ready) < len(self._lives) and len(ready) < MOST_BATCH and not any(live.due for _, live in ready)
        if waiting and (left := until - time.monotonic()) > 0:
            self._linger(left)
            return
        self._ready_since = 0.0
        for model in {id(live.model): live.model for _, live in ready}.values():
            batch = [(stream, live) for stream, live in ready if live.model is model][:MOST_BATCH]
            began = time.monotonic()
            self._advance(model, batch)
            self._tally.note(self._tally.compute_s, time.monotonic() - began)
            self._tally.note(self._tally.batch, len(batch))
            for stream, live in batch:
                self._show(stream, live)

    def _linger(self, left_s: float) -> None:
        """Take one thing that comes within this time; waiting is no work."""
        began = time.monotonic()
        try:
            arrival = self._inbox.get(timeout=left_s)
        except queue.Empty:
            return
        finally:
            self._tally.busy_s -= time.monotonic() - began
        if arrival is None:
            self._inbox.put(None)
        else:
            self._handle(arrival)

    def _advance(self, model: Model, batch: Sequence[tuple[int, Live]]) -> None:
        """Together; where that fails, alone, so that only the one that it fails for pays."""
        try:
            model.step_many([live.stream for _, live in batch if live.stream is not None])
        except Exception as error:
            complain("step", error)
            if len(batch) == 1:
                self._fail(batch[0][0], "internal", "the audio could not be processed")
                return
            for one in batch:
                self._advance(model, [one])

    def _show(self, stream: int, live: Live) -> None:
        """A partial, if the stream is not behind."""
        if self._lives.get(stream) is not live or live.due:
            return
        if self._queue_s.get(stream, 0.0) > BEHIND_S:
            self._tally.skipped += live.opening.partials
        elif (saying := self._guarded(stream, live.partial)) is not None:
            self._say(stream, saying)

    def _speak(self) -> None:
        """Finals, the longest due first, and how much of each stream has been taken.

        The rest of a crowd that ends at once waits for the next turn: others go on between, and the service hears us.
        """
        until, spoken = time.monotonic() + FINALS_S, 0
        for stream, live in sorted(self._running(), key=lambda one: one[1].due_since):
            if live.due and not live.ready and (not spoken or time.monotonic() < until):
                spoken += 1
                if (saying := self._guarded(stream, live.finish)) is not None:
                    self._say(stream, saying)
            if live.taken_s:
                self._send(pack(Kind.HEARD, stream, struct.pack("<d", live.taken_s)))
                self._tally.audio_s += live.taken_s
                live.taken_s = 0.0
                self._tally.note(self._tally.queue_s, self._queue_s.get(stream, 0.0))
            if live.done and self._lives.pop(stream, None) is not None:
                self._queue_s.pop(stream, None)
                self._send(pack(Kind.DONE, stream))

    def _guarded(self, stream: int, ask: Callable[[], Saying | None]) -> Saying | None:
        try:
            return ask()
        except Exception as error:
            complain("understand", error)
            self._fail(stream, "internal", "the audio could not be understood")
            return None

    def _say(self, stream: int, saying: Saying) -> None:
        self._send(pack(saying.kind, stream, saying.said.model_dump_json().encode()))

    def _fail(self, stream: int, code: str, message: str) -> None:
        self._lives.pop(stream, None)
        self._queue_s.pop(stream, None)
        self._send(pack(Kind.FAILED, stream, json.dumps({"code": code, "message": message}).encode()))

    def _running(self) -> list[tuple[int, Live]]:
        return [(stream, live) for stream, live in self._lives.items() if live is not None]

    def _load(self, wanted: dict[str, Any]) -> None:
        """In a thread: a bundle verified, loaded and warm; or why not."""
        edition, answer = int(wanted["edition"]), {"edition": wanted["edition"], "error": None, "rtf": 0.0}
        model: Model | None = None
        try:
            model = load(Path(wanted["path"]))
            answer["rtf"] = warm(model)
        except SaysoError as error:
            answer["error"] = str(error)
        except Exception as error:
            complain("load", error)
            answer["error"] = f"the bundle cannot be run ({type(error).__name__})"

        def loaded() -> None:
            if model is not None and answer["error"] is None:
                self._models[edition] = model
            self._send(pack(Kind.LOADED, 0, json.dumps(answer).encode()))

        self._inbox.put(loaded)

    def _report(self) -> None:
        if time.monotonic() - self._tally.began < STATS_S:
            return
        self._send(pack(Kind.STATS, 0, self._tally.stats(len(self._lives)).model_dump_json().encode()))
        self._tally = Tally()


def warm(model: Model) -> float:
    """Run a second of noise through, twice; seconds of work per second of audio, the second time. What noise does not
    reach is made ready too."""
    model.engine.warm()
    noise = np.random.default_rng(0).normal(0, 0.05, round(WARM_S * model.manifest.sample_rate)).astype(np.float32)
    began = 0.0
    for _ in range(2):
        began = time.monotonic()
        model.understand(np.clip(noise, -1, 1))
    return (time.monotonic() - began) / WARM_S


def complain(where: str, error: Exception) -> None:
    """An error of ours on stderr: its kind and its place, not its message, which may hold what was said."""
    trace, places = error.__traceback__, []
    while trace is not None:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    line = {"event": "engine_error", "where": where, "error": type(error).__name__, "at": " ".join(places[-6:])}
    print(json.dumps(line), file=sys.stderr, flush=True)


def _read(source: BinaryIO, inbox: queue.SimpleQueue[_Arrival | None]) -> None:
    unpacker = Unpacker()
    while data := os.read(source.fileno(), 1 << 16):
        for frame in unpacker.feed(data):
            inbox.put((time.monotonic(), frame))
    inbox.put(None)


def main() -> None:
    """The process: frames on stdin and stdout; whatever a library prints goes to stderr."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a group's signals are the service's to handle: it drains
        signal.signal(number, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    inbox: queue.SimpleQueue[_Arrival | None] = queue.SimpleQueue()

    def send(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[out.write(view) or 0 :]

    threading.Thread(target=_read, args=(sys.stdin.buffer, inbox), daemon=True).start()
    with suppress(BrokenPipeError):  # the service has gone
        Engine(inbox, send).run()
    out.close()
    os._exit(0)  # threads that load a bundle must not hold up the end


if __name__ == "__main__":
    main()
