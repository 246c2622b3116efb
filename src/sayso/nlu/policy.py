"""What to do with an understood command: accept it, ask back, or refuse it with a reason.

One pure function of the evidence, so that every surface (library, command, server) decides alike and a threshold can
be judged without running a model. Two thresholds on a calibrated confidence make three outcomes; an intent at risk
``confirm`` is never carried out without asking. An uncalibrated model has no probabilities: it then decides by the
rejection margin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from sayso.core import result
from sayso.core.config import Config
from sayso.nlu.calibration import Evidence

Risk = Literal["none", "confirm"]


class PolicyConfig(Config):
    """Thresholds. ``accept`` and ``reject`` bound a calibrated confidence; ``margin`` serves in its absence.

    A refusal is blamed on ``out_of_domain`` when the evidence's margin lies below ``margin`` (nats per non-blank
    frame), on ``too_noisy`` when the estimated SNR lies below ``min_snr_db``. Less speech than ``min_speech_s`` is no
    speech. A question names two values of a slot where the second lies at most ``close`` (nats) behind.
    """

    kind: Literal["thresholds"] = "thresholds"
    accept: float = Field(default=0.6, ge=0.0, le=1.0)
    reject: float = Field(default=0.35, ge=0.0, le=1.0)
    margin: float = Field(default=0.0, allow_inf_nan=False)
    close: float = Field(default=4.0, ge=0.0, allow_inf_nan=False)
    min_speech_s: float = Field(default=0.1, ge=0.0)
    min_snr_db: float = Field(default=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> PolicyConfig:
        if self.reject > self.accept:
            raise ValueError(f"reject ({self.reject}) must not lie above accept ({self.accept})")
        return self


@dataclass(frozen=True)
class Doubt:
    """What a question is about: a slot, and its one or two likeliest values with the words that say them, the likeliest
    first."""

    slot: str
    values: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known at the end of an utterance.

    ``intent`` None: no complete parse. ``speech_s``: seconds the VAD called speech. ``snr_db`` None: not estimated.
    ``truncated``: the utterance was cut at its maximum length. ``clarify``: the domain's own prompt for this intent.
    ``doubt``: the least certain slot.
    """

    intent: str | None
    slots: Sequence[result.Slot] = ()
    confidence: float | None = None
    evidence: Evidence | None = None
    risk: Risk = "none"
    clarify: str | None = None
    doubt: Doubt | None = None
    speech_s: float = 1.0
    snr_db: float | None = None
    truncated: bool = False


@dataclass(frozen=True)
class Decision:
    """The three fields of a Result: ``reason`` belongs to ``reject`` alone, ``prompt`` to ``clarify`` alone."""

    decision: result.Decision
    reason: result.Reason | None = None
    prompt: str | None = None


def decide(situation: Situation, config: PolicyConfig) -> Decision:
    """Accept, clarify or reject.

    An utterance that was cut off is refused however sure its beginning is: the rest of the sentence is missing. Noise
    explains a refusal and never causes one.
    """
    if situation.speech_s < config.min_speech_s:
        return Decision("reject", "no_speech")
    if situation.truncated:
        return Decision("reject", "truncated")
    certainty = _certainty(situation, config)
    if situation.intent is None or certainty == "low":
        return Decision("reject", _blame(situation, config))
    if certainty == "middle" or situation.risk == "confirm":
        return Decision("clarify", None, question(situation, least=2))
    return Decision("accept")


def doubt_of(slots: Sequence[result.Slot], rivals: Sequence[Sequence[result.Slot]] = ()) -> Doubt | None:
    """The slot to ask about: that in which alone a close rival of the same intent differs, else the one that was heard
    with the least confidence; None where no slot was spoken."""
    mine = {slot.name: slot for slot in slots}
    for rival in rivals:
        theirs = {slot.name: slot for slot in rival}
        if theirs.keys() != mine.keys():
            continue
        differing = [name for name, slot in mine.items() if theirs[name].value != slot.value]
        if len(differing) == 1:
            pair = (mine[differing[0]], theirs[differing[0]])
            return Doubt(differing[0], tuple(s.value for s in pair), tuple(s.text or s.value for s in pair))
    spoken = [slot for slot in slots if slot.source not in ("template", "context")]
    if not spoken:
        return None
    least = min(spoken, key=lambda slot: 1.0 if slot.confidence is None else slot.confidence)
    return Doubt(least.name, (least.value,), (least.text or least.value,))


def question(situation: Situation, *, least: int = 1) -> str:
    """What to ask back, in the domain's own words where it has some.

    The values in doubt are named where they are ``least`` or more: "Which door should I lock: front door or back
    door?"
    """
    assert situation.intent is not None, "there is nothing to ask about"
    doubt = situation.doubt
    texts = doubt.texts if doubt is not None and len(doubt.texts) >= least else ()
    if situation.clarify is None:
        known = situation.slots
        if doubt is not None and len(texts) > 1:
            either = " or ".join(texts)
            known = [s.model_copy(update={"text": either}) if s.name == doubt.slot else s for s in known]
        return default_prompt(situation.intent, known)
    return f"{situation.clarify.rstrip('?. ')}: {' or '.join(texts)}?" if texts else situation.clarify


def default_prompt(intent: str, slots: Sequence[result.Slot] = ()) -> str:
    """A question that says what was understood: ``Turn on, area: kitchen. Is that right?``"""
    parts = [_words(intent).capitalize(), *(f"{_words(slot.name)}: {slot.text or slot.value}" for slot in slots)]
    return ", ".join(parts) + ". Is that right?"


def _certainty(situation: Situation, config: PolicyConfig) -> Literal["low", "middle", "high"]:
    if situation.confidence is not None:
        if situation.confidence >= config.accept:
            return "high"
        return "middle" if situation.confidence >= config.reject else "low"
    if situation.evidence is None:
        return "high"  # nothing speaks against the parse
    return "high" if situation.evidence.margin >= config.margin else "low"


def _blame(situation: Situation, config: PolicyConfig) -> result.Reason:
    if situation.snr_db is not None and situation.snr_db < config.min_snr_db:
        return "too_noisy"
    if situation.intent is None or (situation.evidence is not None and situation.evidence.margin < config.margin):
        return "out_of_domain"
    return "low_confidence"


def _words(name: str) -> str:
    """``turn_on`` and ``orderDrink`` as words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ").lower().strip()
