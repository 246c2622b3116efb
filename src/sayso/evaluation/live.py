"""Recordings understood as if they came from a microphone: what a person waits for, without waiting.

A packet arrives when its last sample was said, and is worked on when the one before is done; work takes the wall time
that it takes. So the clock runs as it would live, but silence between packets costs nothing. An endpointer ends the
utterance, also where it should not have; silence is added after the recording, because a room does not end with the
speech.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sayso.core.result import Result

Floats = NDArray[np.float32]
_SILENCE_S = 2.0


class Listener(Protocol):
    """One utterance, as ``runtime.Stream``."""

    @property
    def complete(self) -> bool:
        """Whether what was understood cannot grow."""

    def accept(self, pcm: Floats) -> Result:
        """Take samples and say what is understood so far."""

    def finish(self) -> Result:
        """The final result."""


Ended = Callable[[Floats, bool], bool]
"""One utterance's endpointer: takes a packet and whether the parse is complete, says whether the utterance is over."""


class Trace(NamedTuple):
    """Seconds on the clock: the first words on the screen from the beginning of speech; the intent of the final result,
    from when it stood and stayed, and that result itself, both from the end of speech (negative: before it). None where
    there were no words, or no intent.
    """

    first_words_s: float | None
    intent_s: float | None
    result_s: float | None


@dataclass
class Live:
    """A model for ``predict.Run`` whose ``traces`` fill up, one for each recording that it understood.

    ``listen`` begins an utterance at a rate in Hz, ``endpoint`` its endpointer. Speech begins and ends where the first
    and the last word of the final result do.
    """

    listen: Callable[[int], Listener]
    endpoint: Callable[[], Ended]
    packet_s: float = 0.1
    clock: Callable[[], float] = time.perf_counter
    traces: list[Trace] = field(default_factory=list)

    def __call__(self, samples: Floats, rate: int) -> Result:
        """Play ``samples`` (N,) in [-1, 1]; the final result."""
        stream, ended = self.listen(rate), self.endpoint()
        size = max(1, round(self.packet_s * rate))
        sound = np.concatenate([samples, np.zeros(round(_SILENCE_S * rate), np.float32)])
        now, words_at, intent, intent_at = 0.0, None, None, 0.0
        for begin in range(0, len(sound), size):
            packet = sound[begin : begin + size]
            began, now = self.clock(), max(now, (begin + len(packet)) / rate)
            over = ended(packet, stream.complete)
            partial = stream.accept(packet)
            now += self.clock() - began
            if partial.text and words_at is None:
                words_at = now
            name = partial.intent.name if partial.intent else None
            if name != intent:
                intent, intent_at = name, now
            if over:
                break
        began = self.clock()
        result = stream.finish()
        now += self.clock() - began
        if result.intent is not None and result.intent.name != intent:
            intent_at = now
        first, last = (result.words[0].start, result.words[-1].end) if result.words else (None, None)
        self.traces.append(
            Trace(
                None if first is None else (now if words_at is None else words_at) - first,
                None if last is None or result.intent is None else intent_at - last,
                None if last is None else now - last,
            )
        )
        return result
