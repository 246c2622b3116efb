"""What went wrong, in rows to read and clips to listen to.

The worst come first: what was done although it was wrong, the surest of it before the rest; then questions back; then
refusals; and by how much was wrong. The sound is that which the model heard (noise included), as MP3 inside the page,
because every browser plays it and it takes 4 kB a second.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np
import soundfile  # type: ignore[import-untyped]
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from sayso.core.result import Example, Result, Slot
from sayso.evaluation import metrics
from sayso.evaluation.evaluate import Pair, confidence_of
from sayso.evaluation.semantics import semantic_errors
from sayso.text.normalise import normalise

Floats = NDArray[np.float32]
Listen = Callable[[Example], tuple[Floats, int]]
"""Samples (N,) in [-1, 1] and their rate in Hz."""
HEAD = ("Recording", "Expected", "Understood", "Decision", "Confidence", "Heard")
_LONGEST_S = 10.0
_BADNESS = {"accept": 2, "clarify": 1, "reject": 0}


def failed(example: Example, result: Result) -> bool:
    """Whether the meaning is not as expected; an example without a known meaning never fails."""
    if example.negative or (example.intent is not None and example.slots is None):
        return not metrics.intent_right(example, result)
    if example.intent is not None:
        return not metrics.command_right(example, result)
    return False


def row(example: Example, result: Result) -> list[str]:
    """A line under ``HEAD``."""
    known = confidence_of(result)
    decision = result.decision + (f": {result.reason}" if result.reason else "")
    confidence = "" if known is None else f"{known:.2f}"
    return [Path(example.audio).name, _expected(example), _understood(result), decision, confidence, result.text]


def worst(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """At most ``count`` mistakes, the worst first: of meaning, or of words where no meaning is known."""
    ranked = []
    for example, result in pairs:
        if example.intent is None and not example.negative:
            errors = 0 if example.text is None else metrics.word_errors(normalise(example.text), result.text).errors
            rank = (0, 0.0, errors)
        else:
            errors = semantic_errors(example, result).errors if failed(example, result) else 0
            rank = (_BADNESS[result.decision], confidence_of(result) or 0.0, errors)
        if errors:
            ranked.append((rank, (example, result)))
    return [pair for _, pair in sorted(ranked, key=lambda item: item[0], reverse=True)[:count]]


def players(pairs: Sequence[Pair], listen: Listen | None, count: int) -> str:
    """``count`` mistakes at most as HTML, each with its sound (10 s of it at most); nothing without ``listen``."""
    chosen = worst(pairs, count) if listen is not None else []
    if listen is None or not chosen:
        return ""
    cards = "".join(f"<li>{_card(*pair)}{_audio(*listen(pair[0]))}</li>" for pair in chosen)
    return f'<h3>The worst, to listen to</h3><ul class="clips">{cards}</ul>'


def _card(example: Example, result: Result) -> str:
    lines = []
    if example.negative or example.intent is not None:
        known = confidence_of(result)
        sure = "" if known is None else f" ({known:.0%} sure)"
        lines += [("expected", escape(_expected(example))), ("understood", escape(_understood(result) + sure))]
    if example.text is not None:
        lines.append(("said", escape(example.text)))
    lines.append(("heard", _marked(example.text, result.text)))
    return "".join(f"<p><b>{name}</b> {text}</p>" for name, text in lines)


def _marked(said: str | None, heard: str) -> str:
    """What was heard, with the words that were not said marked."""
    if said is None:
        return escape(heard) or "(nothing)"
    gold, got = normalise(said).split(), heard.split()
    parts = []
    for step in Levenshtein.opcodes(gold, got):
        words = escape(" ".join(got[step.dest_start : step.dest_end]))
        if words:
            parts.append(words if step.tag == "equal" else f"<mark>{words}</mark>")
    return " ".join(parts) or "(nothing)"


def _audio(samples: Floats, rate: int) -> str:
    file = io.BytesIO()
    short = samples[: round(_LONGEST_S * rate)]
    soundfile.write(file, short, rate, format="MP3", compression_level=0.8)
    sound = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<audio controls preload="none" src="data:audio/mpeg;base64,{sound}"></audio>'


def _expected(example: Example) -> str:
    return "(reject)" if example.negative else _meaning(example.intent, example.slots or ())


def _understood(result: Result) -> str:
    intent, slots = metrics.understood(result)
    if intent is None and result.alternatives:
        guess = result.alternatives[0]
        return f"(guess: {_meaning(guess.intent, guess.slots)})"
    return _meaning(intent, slots)


def _meaning(intent: str | None, slots: Sequence[Slot]) -> str:
    inside = ", ".join(f"{slot.name}={slot.value}" for slot in slots)
    return f"{intent or '(nothing)'}{f' {{{inside}}}' if inside else ''}"
