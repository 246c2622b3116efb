"""What a finished stream knows, and what every way to a result needs of it: refusals, manners of intents, timed words.

Shape letters: ``T`` encoder frames, ``D`` their width, ``V`` tokens, ``I`` intents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sayso.core.result import Alternative, Result, Word
from sayso.decoding.hypothesis import Hypothesis
from sayso.nlu.calibration import Scaling
from sayso.nlu.policy import Decision
from sayso.runtime.engine import Engine
from sayso.runtime.graphs import State
from sayso.text.display import display

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """All that a finished stream knows. ``raw_words`` are ``free_words`` with the search's own confidences. ``encoded``
    (T, D), ``log_probs`` (rows, V) and ``open_rows``, those of them or of phones that open slots are heard again in,
    are None where no second pass needs them. ``pool`` is the intent head's memory of all that was heard."""

    free: Hypothesis
    free_text: str
    free_words: tuple[Word, ...]
    raw_words: tuple[Word, ...] = ()
    nonblank: int
    speech_s: float
    snr_db: float | None = None
    truncated: bool = False
    intent: Floats | None = None
    pool: State = field(default_factory=dict)
    encoded: Floats | None = None
    log_probs: Floats | None = None
    open_rows: Floats | None = None


def manners(engine: Engine, intent: str) -> tuple[Literal["none", "confirm"], str | None]:
    """How risky an intent is, and how to ask back about it; harmless where the bundle says nothing of it."""
    spec = next((spec for spec in engine.manifest.intents if spec.name == intent), None)
    return ("none", None) if spec is None else (spec.risk, spec.clarify)


def presentable(engine: Engine, found: Sequence[Word], scaling: Scaling) -> tuple[Word, ...]:
    """Times rounded to milliseconds, confidences by ``scaling``; none that was never calibrated."""
    known = engine.calibration.calibrated_on is not None
    return tuple(
        Word(
            text=word.text,
            start=round(word.start, 3),
            end=round(word.end, 3),
            confidence=scaling(word.confidence) if known and word.confidence is not None else None,
        )
        for word in found
    )


def rejected(decision: Decision, heard: Utterance, guesses: tuple[Alternative, ...]) -> Result:
    """A refusal with the best guesses beside it; silence has neither text nor guess."""
    silent = decision.reason == "no_speech"
    text = "" if silent else heard.free_text
    return Result(
        stable=text,
        text=text,
        display=display(text),
        decision="reject",
        reason=decision.reason,
        words=() if silent else heard.free_words,
        alternatives=() if silent else guesses,
    )
