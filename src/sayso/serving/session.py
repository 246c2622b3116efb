"""The core that every protocol stands on: a ``Visit`` is a client's connection, an ``Utterance`` one stream on it.

A protocol adapter asks the service for a visit before it answers the client (``Service.visit`` refuses what may not
come in or does not fit), opens utterances on it one after another, gives them samples, and reads typed events:
``Partial``, ``Final``, and ``Failure`` in place of what cannot come any more. Samples wait here when a client is faster
than it may be or than the engine is, so that a client that sends too much is slowed down and pays alone. A client that
does not read loses partials, of which only the newest is kept, and no final.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import struct
import time
from collections import Counter, deque
from collections.abc import AsyncIterator

import numpy as np
from numpy.typing import NDArray

from sayso.core.result import Result
from sayso.serving.auth import Client
from sayso.serving.config import ServeConfig
from sayso.serving.dialogues import Dialogues
from sayso.serving.events import HIGHEST_HZ, LOWEST_HZ, Ask, Event, Failure, Final, Lists, Partial
from sayso.serving.hub import Edition, Hub
from sayso.serving.pool import Channel, Pool, Seat
from sayso.serving.refusal import CODES, Code, Refusal
from sayso.serving.telemetry import Telemetry, complain
from sayso.serving.usage import UsageRow
from sayso.serving.wire import Frame, Kind, Opening, Said

PIECE_S = 0.1  # what an engine takes of a stream in one turn
UNDER_WAY_S = 1.0  # of audio that an engine has not taken yet
GRACE_S = 0.5  # after the order to stop, for a client that had not heard of it
MOST_FINALS = 100  # that a client has not read
__all__ = ["Ask", "Event", "Failure", "Final", "Lists", "Partial", "Service", "Utterance", "Visit"]


class Service:
    """What all protocols share. ``connections`` counts visits by whose they are."""

    def __init__(self, config: ServeConfig, pool: Pool, hub: Hub, telemetry: Telemetry) -> None:
        self.config, self.limits = config, config.limits
        self.pool, self.hub, self.telemetry = pool, hub, telemetry
        self.utterances: set[Utterance] = set()
        self.visits: set[Visit] = set()
        self.dialogues = Dialogues(self.limits)
        self.draining = asyncio.Event()
        self._closes_at = math.inf
        self._by_client: Counter[str] = Counter()

    @property
    def ready(self) -> bool:
        """Whether new streams are welcome."""
        return not self.draining.is_set() and self.pool.ready

    def drain(self) -> None:
        """No new connections from now on, and no new streams on those there are, but for what is on its way."""
        self._closes_at = time.monotonic() + GRACE_S
        self.draining.set()

    @property
    def closed(self) -> bool:
        """Whether no stream may begin any more."""
        return time.monotonic() >= self._closes_at

    def visit(self, client: Client, protocol: str) -> Visit:
        """A place for a client that will stream. ``Refusal``: may not, too many of its own, no room, going away."""
        try:
            client.may("understand")
            if self.draining.is_set():
                raise Refusal("going_away", "the service is stopping; use another, or try again in a moment")
            if self._by_client[client.name] >= self.limits.connections_per_key:
                most = self.limits.connections_per_key
                raise Refusal("too_many", f"{most} connections of this client are open; legal are at most {most}")
            visit = Visit(self, client, protocol, self.pool.seat())
        except Refusal as refusal:
            self.telemetry.refused(refusal)
            raise
        self.visits.add(visit)
        self._by_client[client.name] += 1
        self.telemetry.connections.labels(protocol).inc()
        return visit

    def left(self, visit: Visit) -> None:
        """A visit is over."""
        self.visits.discard(visit)
        self._by_client[visit.client.name] -= 1
        if not self._by_client[visit.client.name]:
            del self._by_client[visit.client.name]
        self.telemetry.connections.labels(visit.protocol).dec()

    def refuse_lists(self, lists: Lists | None) -> None:
        """``Refusal`` for more than a request may bring."""
        values = [value for given in (lists or {}).values() for value in given]
        texts = [text for value in values for text in ([value] if isinstance(value, str) else value)]
        if len(lists or {}) > self.limits.lists or len(values) > self.limits.list_values:
            raise Refusal(
                "too_large",
                f"found {len(lists or {})} lists with {len(values)} values; legal are {self.limits.lists} lists with "
                f"{self.limits.list_values} values together",
            )
        if any(len(text) > self.limits.list_chars for text in texts):
            raise Refusal("too_large", f"a list value is longer than the legal {self.limits.list_chars} characters")


class Visit:
    """One client's connection, with room for one stream at a time. Use it as an async context."""

    def __init__(self, service: Service, client: Client, protocol: str, seat: Seat) -> None:
        self.service, self.client, self.protocol = service, client, protocol
        self.seat = seat
        self.utterance: Utterance | None = None
        self._gone = False

    async def __aenter__(self) -> Visit:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Give up the place and whatever runs on it; calling again does nothing."""
        if self._gone:
            return
        self._gone = True
        if self.utterance is not None:
            self.utterance.cancel()
        self.seat.release()
        self.service.left(self)

    def open(self, ask: Ask) -> Utterance:
        """Begin a stream; one that runs is cancelled. ``Refusal`` for what is not legal."""
        try:
            if self.service.closed:
                raise Refusal("going_away", "the service is stopping; use another, or try again in a moment")
            if not LOWEST_HZ <= ask.sample_rate <= HIGHEST_HZ:
                raise Refusal(
                    "bad_request", f"found a rate of {ask.sample_rate} Hz; legal is {LOWEST_HZ} to {HIGHEST_HZ}"
                )
            self.service.refuse_lists(ask.lists)
            edition = self.service.hub.find(ask.bundle, ask.language)
            if self.utterance is not None:
                self.utterance.cancel()
            self.utterance = Utterance(self, ask, edition)
        except Refusal as refusal:
            self.service.telemetry.refused(refusal)
            raise
        return self.utterance


class Utterance:
    """One stream. Samples in, events out, from two tasks if need be."""

    def __init__(self, visit: Visit, ask: Ask, edition: Edition) -> None:
        self.id, self.ask, self.edition = secrets.token_hex(8), ask, edition
        self.ended = self.over = False
        self._visit, self._service, self._limits = visit, visit.service, visit.service.limits
        self._rest = b""  # half a sample
        self._sent_s = self._taken_s = 0.0
        self._began = time.monotonic()
        self._partial: Partial | None = None
        self._events: deque[Final | Failure] = deque()
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._deadline: asyncio.TimerHandle | None = None
        self._end_at: float | None = None
        self._finals = 0
        self._last: tuple[Result, float] | None = None
        self._dialogue = self._service.dialogues.take(visit.client, edition, ask.session)
        lists = {name: list(values) for name, values in (ask.lists or {}).items()}
        opening = Opening(
            edition=edition.number,
            sample_rate=ask.sample_rate,
            lists=lists,
            partials=ask.partials,
            endpoint=ask.endpoint,
            dialogue=None if self._dialogue is None else self._dialogue.state,
        )
        try:
            self._channel: Channel = visit.seat.open(opening, self)
        except Refusal:
            self._leave_dialogue()
            raise
        self._service.hub.enter(edition)
        self._service.utterances.add(self)
        self._service.telemetry.active.inc()

    @property
    def audio_s(self) -> float:
        """Seconds of samples that the client has given."""
        return self._sent_s

    async def audio(self, pcm: bytes | NDArray[np.float32]) -> None:
        """Take samples: bytes in the encoding asked for, cut anywhere, or float32 (n,). Waits while too many came.

        What comes after ``end``, or after the stream is over, is dropped. Past the limit it fails (too_long).
        """
        integers = isinstance(pcm, bytes) and self.ask.encoding == "pcm_s16le"
        kind, width = (Kind.PCM16, 2) if integers else (Kind.FLOAT, 4)
        data = self._rest + pcm if isinstance(pcm, bytes) else pcm.astype("<f4").tobytes()
        whole = len(data) - len(data) % width
        self._rest = data[whole:]
        size = max(1, round(PIECE_S * self.ask.sample_rate)) * width
        for start in range(0, whole, size):
            piece = data[start : min(start + size, whole)]
            seconds = len(piece) / width / self.ask.sample_rate
            await self._wait_for_room(seconds)
            if self.over or self.ended:
                return
            self._sent_s += seconds
            self._channel.send(kind, piece)

    def end(self) -> None:
        """No more samples: the final result follows, or a ``Failure`` within ``limits.final_s``."""
        if self.ended or self.over:
            return
        self.ended, self._end_at = True, time.monotonic()
        self._room.set()
        self._channel.send(Kind.END)
        waiting_s = self._limits.final_s + max(0.0, self._sent_s - self._taken_s)
        self._deadline = asyncio.get_running_loop().call_later(waiting_s, self._late)

    def cancel(self) -> None:
        """The client has gone, or does not want it any more; events end without a final."""
        if not self.over:
            self._channel.send(Kind.CANCEL)
            self._finish("cancelled")

    async def events(self) -> AsyncIterator[Event]:
        """Events until the stream is over. Of partials that nobody took in time, only the newest comes."""
        while True:
            self._news.clear()
            while self._events:  # a final makes the partial before it old
                event = self._events.popleft()
                yield event
            if self._partial is not None:
                partial, self._partial = self._partial, None
                yield partial
            elif not self._events and self.over:
                return
            elif not self._events:
                await self._news.wait()

    async def result(self) -> Result:
        """End, and wait for the final result. Raises the ``Refusal`` that came in its place."""
        self.end()
        found: Result | None = None
        async for event in self.events():
            if isinstance(event, Failure):
                raise event.refusal
            if isinstance(event, Final):
                found = event.result
        if found is None:
            raise Refusal("internal", "the stream ended without a result")
        return found

    def frame(self, frame: Frame) -> None:
        """What the engine says (``pool.Sink``)."""
        if self.over:
            return
        if frame.kind is Kind.HEARD:
            self._taken_s += struct.unpack("<d", frame.payload)[0]
            self._room.set()
        elif frame.kind is Kind.PARTIAL:
            said = Said.model_validate_json(frame.payload)
            self._partial = Partial(utterance=said.utterance, offset_s=said.offset_s, result=said.result)
        elif frame.kind is Kind.RESULT:
            self._take_final(Said.model_validate_json(frame.payload))
        elif frame.kind is Kind.FAILED:
            why = json.loads(frame.payload)
            self.fail(Refusal(_code(why["code"]), why["message"]))
        elif frame.kind is Kind.DONE:
            self._finish("ok")
        self._news.set()

    def lost(self) -> None:
        """The engine has died (``pool.Sink``)."""
        self.fail(Refusal("engine_lost", "the engine that understood this stream has gone; try again"))

    def fail(self, refusal: Refusal) -> None:
        """End with a ``Failure``."""
        if not self.over:
            self._service.telemetry.refused(refusal)
            self._events.append(Failure(refusal=refusal))
            self._channel.send(Kind.CANCEL)
            self._finish(refusal.code)

    def _take_final(self, said: Said) -> None:
        self._partial = None
        if self._dialogue is not None and said.dialogue is not None:
            self._dialogue.state = said.dialogue
            if self.ask.endpoint != "always":  # the next utterance may come before this stream is cleared away
                self._leave_dialogue()
        waited_s = said.waited_s
        if self._end_at is not None and said.endpoint_delay_s is None:
            waited_s = time.monotonic() - self._end_at
        telemetry, version = self._service.telemetry, self.edition.revision
        telemetry.final(said.result, version, waited_s, said.endpoint_delay_s)
        self._finals, self._last = self._finals + 1, (said.result, waited_s)
        if len(self._events) >= MOST_FINALS:
            self.fail(Refusal("slow_reader", f"{MOST_FINALS} results wait to be read; read them as they come"))
            return
        self._events.append(Final(utterance=said.utterance, offset_s=said.offset_s, result=said.result))

    async def _wait_for_room(self, seconds: float) -> None:
        """Until the engine has taken most of what it got, and the clock allows more."""
        limits = self._limits
        if self.ask.endpoint != "always" and self._sent_s + seconds > limits.utterance_s + PIECE_S:
            self.fail(Refusal("too_long", f"found more than {limits.utterance_s:g} s of audio; send shorter ones"))
        while self._sent_s - self._taken_s > UNDER_WAY_S and not self.over and not self.ended:
            self._room.clear()
            await self._room.wait()
        ahead_s = self._sent_s - limits.burst_s - limits.rate * (time.monotonic() - self._began)
        if ahead_s > 0 and not self.over:
            await asyncio.sleep(ahead_s / limits.rate)

    def _leave_dialogue(self) -> None:
        self._service.dialogues.leave(self._dialogue)
        self._dialogue = None  # another utterance may have it now

    def _late(self) -> None:
        self.fail(Refusal("deadline", "the final result did not come in time; try again"))

    def _finish(self, outcome: str) -> None:
        """Over, once; the books are closed."""
        self.over = True
        self._news.set()
        self._room.set()
        if self._deadline is not None:
            self._deadline.cancel()
        service = self._service
        self._leave_dialogue()
        service.utterances.discard(self)
        service.telemetry.active.dec()
        result, final_s = self._last if self._last is not None else (None, None)
        row = UsageRow(
            at=time.time(),
            stream=self.id,
            protocol=self._visit.protocol,
            key=self._visit.client.label,
            bundle=self.edition.name,
            version=self.edition.revision,
            outcome=outcome,
            utterances=self._finals,
            audio_s=round(self._sent_s, 3),
            wall_s=round(time.monotonic() - self._began, 4),
            intent=result.intent.name if result is not None and result.intent is not None else None,
            decision=None if result is None else result.decision,
            confidence=result.intent.confidence if result is not None and result.intent is not None else None,
            final_s=None if final_s is None else round(final_s, 4),
        )
        service.hub.leave(self.edition)
        service.telemetry.ended(row)


def _code(name: str) -> Code:
    """A code that an engine names; one that is not in the table is a fault of ours."""
    for code in CODES:
        if code == name:
            return code
    complain("engine code", ValueError(name))
    return "internal"
