"""What Sayso says it understood: the typed ``Result`` every surface returns.

Field names are frozen: the command, the library and the server print exactly these. All times are seconds from the
start of the stream; ``first_partial_s`` and ``final_s`` are wall time after the last sample needed and after the
endpoint.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Decision = Literal["accept", "clarify", "reject"]
Reason = Literal["low_confidence", "out_of_domain", "no_speech", "too_noisy", "truncated"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Intent(_Frozen):
    """An intent's name and its calibrated confidence (null when uncalibrated)."""

    name: str
    confidence: float | None = None


class Slot(_Frozen):
    """One slot. ``value`` is the list's ``out`` verbatim; ``text`` what was spoken; ``source`` e.g. ``list:area`` or
    ``open``. ``ambiguous`` holds all that a typed value may be, where the words leave it open: morning and evening."""

    name: str
    value: str
    text: str = ""
    confidence: float | None = None
    start: float | None = None
    end: float | None = None
    source: str | None = None
    ambiguous: tuple[str, ...] = ()


class Frame(_Frozen):
    """One meaning: several make several intents, or nesting through ``parent`` (an index into ``Result.frames``)."""

    intent: Intent
    slots: tuple[Slot, ...] = ()
    parent: int | None = None


class Word(_Frozen):
    """A spoken word with its times."""

    text: str
    start: float
    end: float
    confidence: float | None = None


class Alternative(_Frozen):
    """A runner-up; after a rejection the best guess stands here."""

    text: str
    intent: str | None = None
    slots: tuple[Slot, ...] = ()
    score: float = 0.0


class Applied(_Frozen):
    """What really took effect for this stream. ``turn`` counts the utterances of a dialogue, from 1; null: single."""

    language: str = "en"
    lists: dict[str, int] = {}
    bias: int = 0
    adapter: str | None = None
    turn: int | None = None


class Timing(_Frozen):
    """Audio length and wall-clock latencies; null where not measured."""

    audio_s: float = 0.0
    first_partial_s: float | None = None
    final_s: float | None = None
    rtf: float | None = None


class Result(_Frozen):
    """One understood (or honestly rejected) utterance of one talker."""

    version: Literal[1] = 1
    final: bool = True
    stable: str = ""
    talker: int = 0
    text: str = ""
    display: str = ""
    language: str = "en"
    domain: str | None = None
    intent: Intent | None = None
    slots: tuple[Slot, ...] = ()
    frames: tuple[Frame, ...] = ()
    decision: Decision = "reject"
    reason: Reason | None = None
    prompt: str | None = None
    words: tuple[Word, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    applied: Applied = Applied()
    timing: Timing = Timing()


class Example(_Frozen):
    """What a recording should be understood as: the reference side of every evaluation.

    ``audio`` is a path (relative to the manifest it came from, already resolved by the reader). ``intent`` None with
    ``negative`` True means: must be rejected. ``frames`` says what ``intent`` and ``slots`` cannot: several intents, or
    nested ones. ``custom`` is what else a corpus says of the recording (gender, age, accent, device, SNR), to judge by
    groups. Fields that a corpus does not know are None.
    """

    audio: str
    text: str | None = None
    intent: str | None = None
    slots: tuple[Slot, ...] | None = None
    negative: bool = False
    speaker: str | None = None
    language: str = "en"
    source: str | None = None
    duration_s: float | None = None
    frames: tuple[Frame, ...] | None = None
    custom: dict[str, str] = {}


def traits(row: Mapping[str, Any], meaning: Collection[str]) -> dict[str, str]:
    """What ``row`` says of a recording beside its ``meaning`` keys, where it is a text or a number: ``custom`` of an
    example."""
    kept = {name: value for name, value in row.items() if name not in meaning and not isinstance(value, bool)}
    return {name: str(value) for name, value in kept.items() if value != "" and isinstance(value, (str, int, float))}
