"""Where speech begins and ends: Silero's detector and the rules of an endpoint.

Silero's small recurrent network (v6, MIT licence) gives one probability of speech per 512 samples at 16 kHz; what it
remembers of a stream is handed to it with every hop, so one copy of it serves all streams of a process. The
``Endpointer`` turns probabilities into events by hysteresis (a high threshold opens, a lower one holds), and ends an
utterance after trailing silence, at a maximum length, or sooner when the caller says that the parse is complete and
cannot grow. All decisions are made per hop of 32 ms counted from the start of the stream, so packet sizes change
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sayso.core.config import Config
from sayso.core.inference import session_options

Floats = NDArray[np.float32]

HOP = 512  # samples at 16 kHz, fixed by the network
HOP_S = HOP / 16000
WIDTH = 128  # of the network's hidden and cell state
NETWORK = Path(__file__).with_name("silero_vad.onnx")  # written by export/detector.py
_RESULTS = ["probability", "next_hidden", "next_cell"]
_SLACK_S = 1e-9  # hops are counted in binary fractions; durations given in ms are not


class SpeechDetector(Protocol):
    """What an ``Endpointer`` needs: one probability per complete hop of 512 samples, over any packets."""

    def accept(self, samples: Floats) -> list[float]:
        """Probabilities of the hops completed by ``samples``."""

    def reset(self) -> None:
        """Forget the stream so far."""


class Vad:
    """Speech probability of one stream at 16 kHz. The network is one for all streams of a process; a stream holds 1 kB
    of state and less than a hop of samples."""

    def __init__(self) -> None:
        self._rest: Floats = np.zeros(0, np.float32)
        self._hidden = self._cell = np.zeros((1, WIDTH), np.float32)

    def accept(self, samples: Floats) -> list[float]:
        """One probability in [0, 1] per hop of 32 ms that ``samples`` (float32 in [-1, 1]) completes; may be empty."""
        joined = np.concatenate([self._rest, np.asarray(samples, np.float32)])
        whole = len(joined) - len(joined) % HOP
        self._rest = joined[whole:].copy()
        return [self._hear(hop) for hop in joined[:whole].reshape(-1, 1, HOP)]

    def reset(self) -> None:
        """Start a new stream."""
        self._hidden = self._cell = np.zeros((1, WIDTH), np.float32)
        self._rest = np.zeros(0, np.float32)

    def _hear(self, hop: Floats) -> float:
        feed = {"samples": hop, "hidden": self._hidden, "cell": self._cell}
        probability, self._hidden, self._cell = _session().run(_RESULTS, feed)
        return float(probability[0])


@cache
def _session() -> Any:
    return ort.InferenceSession(NETWORK.read_bytes(), session_options(), providers=["CPUExecutionProvider"])


class EndpointConfig(Config):
    """When an utterance begins and ends.

    Speech opens at ``threshold`` and lasts while the probability is at least ``exit``; it must last ``min_speech_ms``
    to count. ``pad_ms`` is added on both sides of the reported times.
    """

    kind: Literal["silero"] = "silero"
    threshold: float = Field(default=0.5, gt=0, le=1)
    exit: float = Field(default=0.35, ge=0, le=1)
    min_speech_ms: float = Field(default=96.0, ge=0)
    trailing_silence_ms: float = Field(default=700.0, gt=0)
    complete_silence_ms: float = Field(default=300.0, gt=0)
    max_utterance_s: float = Field(default=30.0, gt=0)
    pad_ms: float = Field(default=100.0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.exit > self.threshold:
            raise ValueError(f"exit ({self.exit}) must not be above threshold ({self.threshold})")
        if self.complete_silence_ms > self.trailing_silence_ms:
            raise ValueError(
                f"complete_silence_ms ({self.complete_silence_ms}) must not be above trailing_silence_ms "
                f"({self.trailing_silence_ms})"
            )
        return self

    def build(self) -> Endpointer:
        """An endpointer for one stream, with its own detector."""
        return Endpointer(self)


@dataclass(frozen=True)
class Event:
    """A beginning or an end. ``time_s`` is where it lies in the stream (padded), ``decided_s`` how much of the stream
    had been heard when it was decided; ``reason`` is None for a start."""

    kind: Literal["start", "end"]
    time_s: float
    reason: Literal["silence", "length", "complete"] | None = None
    decided_s: float = 0.0


class Endpointer:
    """Utterance boundaries of one stream. ``start`` and ``end`` alternate, and their times never decrease."""

    def __init__(self, config: EndpointConfig | None = None, vad: SpeechDetector | None = None) -> None:
        self.config = config or EndpointConfig()
        self._vad: SpeechDetector = vad if vad is not None else Vad()
        self.heard: list[float] = []  # probabilities of the hops that the last samples completed
        self._forget()

    def accept(self, samples: Floats, complete: bool = False) -> list[Event]:
        """Events that ``samples`` bring about, in order.

        ``complete`` describes the parse at the time of this call (complete, and cannot grow); it shortens the silence
        needed, also the silence already heard.
        """
        events: list[Event] = []
        self._end_if_due(complete, events)
        self.heard = self._vad.accept(samples)
        for probability in self.heard:
            self._hear(probability, events)
            self._end_if_due(complete, events)
        return events

    def reset(self) -> None:
        """Start a new stream at time zero."""
        self._vad.reset()
        self._forget()

    @property
    def speaking(self) -> bool:
        """Whether an utterance is open."""
        return self._open_s is not None

    @property
    def silence_s(self) -> float:
        """Silence heard since the last speech of the open utterance; 0 when none is open."""
        return 0.0 if self._open_s is None else self._now_s - self._last_speech_s

    @property
    def _now_s(self) -> float:
        return self._hops * HOP_S

    def _forget(self) -> None:
        self._hops = 0
        self._run: int | None = None  # hop at which speech not yet long enough to count began
        self._open_s: float | None = None  # padded start of the open utterance
        self._last_speech_s = 0.0
        self._last_end_s = 0.0

    def _hear(self, probability: float, events: list[Event]) -> None:
        """Take one hop."""
        going_on = self._open_s is not None or self._run is not None
        is_speech = probability >= (self.config.exit if going_on else self.config.threshold)
        self._hops += 1
        if self._open_s is not None:
            if is_speech:
                self._last_speech_s = self._now_s
            return
        if not is_speech:
            self._run = None
            return
        if self._run is None:
            self._run = self._hops - 1
        began_s = self._run * HOP_S
        if (self._now_s - began_s) * 1000 + _SLACK_S >= self.config.min_speech_ms:
            self._open_s = max(began_s - self.config.pad_ms / 1000, self._last_end_s)
            self._last_speech_s, self._run = self._now_s, None
            events.append(Event("start", self._open_s, None, self._now_s))

    def _end_if_due(self, complete: bool, events: list[Event]) -> None:
        if self._open_s is None:
            return
        silence_ms = self.silence_s * 1000 + _SLACK_S
        if silence_ms >= self.config.trailing_silence_ms:
            self._end("silence", events)
        elif complete and silence_ms >= self.config.complete_silence_ms:
            self._end("complete", events)
        elif self._now_s - self._open_s + _SLACK_S >= self.config.max_utterance_s:
            self._end("length", events)

    def _end(self, reason: Literal["silence", "length", "complete"], events: list[Event]) -> None:
        end_s = self._now_s
        if reason != "length":
            end_s = min(end_s, self._last_speech_s + self.config.pad_ms / 1000)
        events.append(Event("end", end_s, reason, self._now_s))
        self._open_s, self._last_end_s = None, end_s
