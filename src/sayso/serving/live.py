"""One client's stream inside an engine process: packets wait here, become utterances, and give what is to be said.

A stream takes one packet a turn, however many wait, so that nobody's upload delays anybody's speech. With
``endpoint`` ``client`` the whole stream is one utterance. Else a voice detector cuts it, as ``sayso listen`` does:
silence costs the detector alone, and a little of what came before speech was sure is kept, because its first sounds are
in there. What the detector says of the sound goes along to the stream, so that nothing is detected twice.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr  # type: ignore[import-untyped]
from numpy.typing import NDArray

from sayso.audio.vad import HOP, EndpointConfig
from sayso.core.errors import AudioError
from sayso.core.result import Result
from sayso.runtime.model import Model
from sayso.runtime.session import Session
from sayso.runtime.stream import Stream
from sayso.serving.wire import Kind, Opening, Said

LEAD_S = 0.6  # kept from before the beginning of speech
PIECE_S = 0.08  # shorter than the speech that opens an utterance: no piece holds an end and a beginning
Shown = tuple[str, str, str | None, int]


@dataclass(frozen=True)
class Saying:
    """A frame for the service."""

    kind: Kind
    said: Said


class Live:
    """A stream of one client. Making one compiles its lists, which takes a while: not where others wait."""

    def __init__(self, opening: Opening, model: Model) -> None:
        self.opening, self.model = opening, model
        self.stream: Stream | None = None
        self.ended = self.done = self._over = False
        self.taken_s = 0.0  # seconds of samples taken since this was last asked for
        self._packets: deque[tuple[float, NDArray[Any]]] = deque()
        self._shown: Shown | None = None
        self._utterance = 0
        self._offset_s = self._heard_s = 0.0
        self._decided: float | None = None  # wall time of the endpoint that waits for its final
        self._delay_s: float | None = None  # of that endpoint, after the end of speech
        self._resampler: Any = None
        self._lead: deque[tuple[NDArray[np.float32], list[float]]] = deque()  # with the detector's probabilities
        self._count = 0  # samples at the model's rate that the detector has heard
        self._endpointer = EndpointConfig().build() if opening.endpoint != "client" else None
        self._session: Session | None = None
        if opening.dialogue is not None:
            self._session = model.session(opening.lists or None, state=opening.dialogue)
        first, target = self._begin(), model.manifest.sample_rate  # a wrong list is said now, not at the first word
        if self._endpointer is None:
            self.stream = first
        elif opening.sample_rate != target:
            self._resampler = soxr.ResampleStream(opening.sample_rate, target, 1, "float32")

    def put(self, samples: NDArray[Any], arrived: float) -> None:
        """A packet to be taken when its turn comes."""
        if self.ended:
            return
        size = len(samples) if self._endpointer is None else round(PIECE_S * self.opening.sample_rate)
        for start in range(0, len(samples), max(1, size)):
            self._packets.append((arrived, samples[start : start + size]))

    def end(self, now: float) -> None:
        """The client has no more."""
        self.ended = True
        if not self._over:
            self._decided = now

    @property
    def wants(self) -> bool:
        """Whether a packet may be taken: one waits, and the network is not behind with this stream."""
        return bool(self._packets) and not self.due and not self.ready

    @property
    def ready(self) -> bool:
        """Whether the network has something to do for this stream."""
        return self.stream is not None and self.stream.ready

    @property
    def due(self) -> bool:
        """Whether the utterance is over."""
        return not self.done and (self._over or (self.ended and not self._packets))

    @property
    def due_since(self) -> float:
        """The wall time of the decision that the utterance is over; infinite before it."""
        return math.inf if self._decided is None else self._decided

    def settle(self) -> None:
        """What the stream of a ``due`` utterance held back becomes ``ready``, to be run with the others'."""
        if self.due and self.stream is not None:
            self.stream.close()

    def take(self) -> float:
        """Take the next packet; the wall time at which it came. Raises ``AudioError``."""
        arrived, samples = self._packets.popleft()
        seconds = len(samples) / self.opening.sample_rate
        self.taken_s += seconds
        if self._endpointer is None:
            assert self.stream is not None
            self.stream.feed(samples)
            if self.stream.truncated:  # the final will say so; nothing more is taken
                self._packets.clear()
                self.end(arrived)
        else:
            self._listen(self._at_model_rate(samples), arrived)
        self._heard_s += seconds
        return arrived

    def partial(self) -> Saying | None:
        """What is understood so far, where that has changed."""
        if self.stream is None or not self.opening.partials:
            return None
        result = self.stream.partial()
        shown = result.stable, result.text, result.intent.name if result.intent else None, len(result.slots)
        if not result.text or shown == self._shown:
            return None
        self._shown = shown
        return Saying(Kind.PARTIAL, self._said(result, 0.0))

    def finish(self) -> Saying | None:
        """The final result of an utterance that is ``due``, not ``ready``; None where the client ended in silence."""
        once = self.opening.endpoint == "once"
        if self.stream is None and not once:
            self.done = self.ended
            return None
        stream = self.stream if self.stream is not None else self._begin()
        result = stream.finish()
        waited_s = 0.0 if self._decided is None else time.monotonic() - self._decided
        saying = Saying(Kind.RESULT, self._said(result, waited_s))
        self.stream, self._shown, self._utterance = None, None, self._utterance + 1
        self._over, self._delay_s, self._decided = False, None, time.monotonic() if self.ended else None
        self.done = self._endpointer is None or once or (self.ended and not self._packets)
        return saying

    def _begin(self) -> Stream:
        rate = self.opening.sample_rate if self._endpointer is None else None
        if self._session is not None:
            return self._session.stream(sample_rate=rate)
        return self.model.stream(self.opening.lists or None, sample_rate=rate)

    def _listen(self, samples: NDArray[np.float32], arrived: float) -> None:
        assert self._endpointer is not None
        rate = self.model.manifest.sample_rate
        complete = self.stream is not None and self.stream.complete
        for event in self._endpointer.accept(samples, complete=complete):
            if event.kind == "start" and self.stream is None:
                self._start(rate)
            elif event.kind == "end" and self.stream is not None:
                self._over, self._decided, self._delay_s = True, arrived, event.decided_s - event.time_s
        self._count += len(samples)
        if self.stream is not None and not self._over:
            self.stream.feed(samples, self._endpointer.heard)
            if self.stream.truncated:
                self._over, self._decided = True, arrived
            return
        self._lead.append((samples, self._endpointer.heard))
        while self._lead_size() - len(self._lead[0][0]) > LEAD_S * rate:
            self._lead.popleft()

    def _start(self, rate: int) -> None:
        """An utterance begins, with what is kept from before it, from its first whole hop on."""
        self.stream = self._begin()
        size = self._lead_size()
        cut = (size - self._count) % HOP
        self._offset_s = max(0.0, self._heard_s - (size - cut) / rate)
        if self._lead:
            speech = [probability for _, heard in self._lead for probability in heard]
            self.stream.feed(np.concatenate([samples for samples, _ in self._lead])[cut:], speech[cut > 0 :])
        self._lead.clear()

    def _lead_size(self) -> int:
        return sum(len(samples) for samples, _ in self._lead)

    def _at_model_rate(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        floats = samples.astype(np.float32) / np.float32(32768) if samples.dtype == np.int16 else samples
        if not np.isfinite(floats).all():
            raise AudioError("found NaN or infinite samples; check what recorded them")
        floats = np.clip(floats, -1.0, 1.0).astype(np.float32, copy=False)
        if self._resampler is None:
            return np.asarray(floats, np.float32)
        resampled: NDArray[np.float32] = self._resampler.resample_chunk(floats)
        return resampled

    def _said(self, result: Result, waited_s: float) -> Said:
        offset_s = round(self._offset_s, 4)
        delay_s = self._delay_s if result.final else None
        return Said(
            utterance=self._utterance,
            offset_s=offset_s,
            waited_s=waited_s,
            endpoint_delay_s=delay_s,
            result=result,
            dialogue=self._session.state if self._session is not None and result.final else None,
        )
