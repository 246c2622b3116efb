"""At the endpoint: one meaning out of the search's hypotheses, how sure it is, and what to do with it.

The graph proposes, the network's heads vote: the intent head's log-probability is a bonus on complete paths of its
intent, the slot head's on paths whose tags it agrees with, both weighted by the bundle's ``combine`` settings. What is
left is evidence for the calibration, and the policy turns confidence into a decision.

Shape letters: ``H`` hypotheses, ``U`` tokens, ``D`` encoder width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from sayso.core.result import Alternative, Frame, Intent, Result, Slot, Word
from sayso.decoding.graph import GraphHypothesis, GraphSearch
from sayso.decoding.graph_state import GraphState
from sayso.decoding.words import spans_of
from sayso.nlu.calibration import GAP_CAP, Evidence
from sayso.nlu.policy import Decision, Doubt, Situation, decide, doubt_of
from sayso.runtime.engine import Engine
from sayso.runtime.present import intent_of, raw_words, slots_of, timed_words
from sayso.runtime.reading import read, states_of
from sayso.runtime.undecided import without_domain
from sayso.runtime.utterance import Utterance, manners, rejected
from sayso.text.disfluency import fluent
from sayso.text.display import display

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What stands behind a final result, for calibration and reports. The guess is there for rejected speech too."""

    evidence: Evidence | None = None
    confidence: float | None = None
    intent: str | None = None
    slots: tuple[Slot, ...] = ()
    doubt: Doubt | None = None  # what a question would be about
    slot_log_probs: tuple[tuple[float, ...], ...] = ()  # of each spoken slot's tokens
    words: tuple[Word, ...] = ()  # of the guess, and without the graph; confidences as the searches have them
    free_words: tuple[Word, ...] = ()
    hypotheses: tuple[GraphHypothesis, ...] = ()
    texts: tuple[tuple[str, float], ...] = ()  # n-best of the free text, with log scores: a cascade's input


class Expecting(Protocol):
    """What was said before an utterance, and so what may be said now."""

    def legal(self, intent: str, text: str) -> bool:
        """Whether a sentence of ``search`` means anything now."""

    def lift(self, intent: str) -> float:
        """By how much an intent is likelier now than by itself (log of odds)."""


def choose(
    engine: Engine,
    search: GraphSearch | None,
    state: GraphState | None,
    heard: Utterance,
    before: Expecting | None = None,
) -> tuple[Result, Outcome]:
    """The final result (without stream fields such as timing) and what it rests on.

    ``before`` says what may be meant now, and what is likely; None: all that the graph accepts, and nothing more than
    the rest.
    """
    if search is None or state is None:
        return without_domain(engine, heard), Outcome()
    heard = read(engine, heard)
    hypotheses = _ranked(engine, search, state, heard)
    if before is not None:
        hypotheses = [h for h in hypotheses if before.legal(intent_of(search, h), search.automaton.text(h.tokens))]
    if not hypotheses:
        situation = Situation(intent=None, speech_s=heard.speech_s, snr_db=heard.snr_db, truncated=heard.truncated)
        return rejected(decide(situation, engine.policy), heard, ()), Outcome(free_words=heard.raw_words)
    best = hypotheses[0]
    intent = intent_of(search, best)
    evidence = _evidence(engine, search, state, hypotheses, heard)
    confidence = engine.calibration.confidence(evidence, 0.0 if before is None else before.lift(intent))
    slots = slots_of(engine, search, best)
    risk, clarify = manners(engine, intent)
    doubt = doubt_of(slots, _close(engine, search, hypotheses))
    situation = Situation(
        intent=intent,
        slots=slots,
        doubt=doubt,
        confidence=confidence,
        evidence=evidence,
        risk=risk,
        clarify=clarify,
        speech_s=heard.speech_s,
        snr_db=heard.snr_db,
        truncated=heard.truncated,
    )
    decision = decide(situation, engine.policy)
    if heard.truncated and decision.reason != "no_speech":
        decision = Decision("reject", "truncated")
    outcome = Outcome(
        evidence=evidence,
        confidence=confidence,
        intent=intent,
        slots=slots,
        doubt=doubt,
        slot_log_probs=tuple(best.scores[m.first : m.last + 1] for m in best.slots),
        words=tuple(raw_words(engine, search, best)),
        free_words=heard.raw_words,
        hypotheses=tuple(hypotheses),
    )
    others = _alternatives(engine, search, hypotheses, confidence, evidence, heard.nonblank)
    if decision.decision == "reject":
        return rejected(decision, heard, others), outcome
    text = search.automaton.text(best.tokens)
    frame = Frame(intent=Intent(name=intent, confidence=confidence), slots=slots)
    result = Result(
        stable=text,
        text=text,
        display=display(text),
        intent=frame.intent,
        slots=slots,
        frames=(frame,),
        decision=decision.decision,
        prompt=decision.prompt,
        words=timed_words(engine, search, best),
        alternatives=others[1:],
    )
    return result, outcome


def _close(engine: Engine, search: GraphSearch, hypotheses: Sequence[GraphHypothesis]) -> list[tuple[Slot, ...]]:
    """Slots of the rivals of the best hypothesis' intent that lie close behind it."""
    best = hypotheses[0]
    return [
        slots_of(engine, search, rival)
        for rival in hypotheses[1:]
        if best.score - rival.score <= engine.policy.close and intent_of(search, rival) == intent_of(search, best)
    ]


def _ranked(engine: Engine, search: GraphSearch, state: GraphState, heard: Utterance) -> list[GraphHypothesis]:
    """Complete hypotheses, best first, with the votes of both heads in their scores."""
    combine = engine.combine
    bonus = {}
    if heard.intent is not None and combine.intent_weight:
        names = engine.manifest.intent_classes
        bonus = {name: combine.intent_weight * float(value) for name, value in zip(names, heard.intent, strict=False)}
        # the head knows nothing of what was added after its training: to that it is as to its favourite
        favourite = combine.intent_weight * float(heard.intent.max())
        bonus |= {m.intent: favourite for m in search.automaton.meanings if m.intent not in bonus}
    found = search.nbest(state, combine.nbest, bonus=bonus)
    if len(found) > 1 and combine.slot_weight and heard.encoded is not None:
        votes = _slot_votes(engine, search, found, heard.encoded)
        found = [replace(h, score=h.score + combine.slot_weight * v) for h, v in zip(found, votes, strict=True)]
        found.sort(key=lambda hypothesis: -hypothesis.score)
    if engine.open_slots is not None and heard.open_rows is not None:
        found = engine.open_slots.hear(heard.open_rows, found)
    return found


def _slot_votes(
    engine: Engine, search: GraphSearch, hypotheses: Sequence[GraphHypothesis], encoded: Floats
) -> list[float]:
    """For each hypothesis: the slot head's log-probability of the tags that its slots imply, summed over its pieces."""
    graph = engine.graph("slots")
    if graph is None:
        return [0.0] * len(hypotheses)
    index = {tag: i for i, tag in enumerate(engine.manifest.tags)}
    spelled = [_spelled(engine, search, hypothesis) for hypothesis in hypotheses]
    count, longest = len(hypotheses), max(len(tagged) for tagged in spelled)
    tokens = np.zeros((count, longest), np.int64)
    frames = np.zeros((count, longest, encoded.shape[1]), np.float32)
    lengths = np.array([len(tagged) for tagged in spelled], np.int64)
    for row, tagged in enumerate(spelled):
        tokens[row, : lengths[row]] = [token for token, _, _ in tagged]
        frames[row, : lengths[row]] = encoded[np.array([at for _, at, _ in tagged]) // engine.manifest.ctc_rate]
    states = states_of(engine, tokens, lengths, encoded)
    log_probs = graph.run({"frames": frames, "tokens": tokens, "lengths": lengths, **states})[0]["log_probs"]
    return [
        sum(float(log_probs[row, u, index[tag]]) for u, (_, _, tag) in enumerate(tagged) if tag in index)
        for row, tagged in enumerate(spelled)
    ]


def _spelled(engine: Engine, search: GraphSearch, hypothesis: GraphHypothesis) -> list[tuple[int, int, str]]:
    """The tokenizer's pieces of what a hypothesis says: (piece, row, tag). The pieces of a pronounced word take its
    sounds' rows by turns."""
    tags = ["O"] * len(hypothesis.tokens)
    for match in hypothesis.slots:
        tags[match.first : match.last + 1] = [f"I-{match.slot}"] * (match.last + 1 - match.first)
        tags[match.first] = f"B-{match.slot}"
    if not search.automaton.lexicon:
        return list(zip(hypothesis.tokens, hypothesis.frames, tags, strict=True))
    found: list[tuple[int, int, str]] = []
    for first, last in spans_of(hypothesis.tokens, search.automaton.pieces):
        pieces = engine.tokenizer.encode(search.automaton.text(hypothesis.tokens[first : last + 1]))
        for number, piece in enumerate(pieces):
            at = first + number * (last + 1 - first) // len(pieces)
            inside = tags[first].replace("B-", "I-") if number else tags[first]
            found.append((piece, hypothesis.frames[at], inside))
    return found


def _evidence(
    engine: Engine,
    search: GraphSearch,
    state: GraphState,
    hypotheses: Sequence[GraphHypothesis],
    heard: Utterance,
) -> Evidence:
    best, frames = hypotheses[0], max(1, heard.nonblank)
    said = search.automaton.text(best.tokens)
    gap = GAP_CAP if len(hypotheses) < 2 else (best.score - hypotheses[1].score) / frames
    head = head_gap = 0.0
    if heard.intent is not None:
        names, intent = engine.manifest.intent_classes, intent_of(search, best)
        place = names.index(intent) if intent in names else int(heard.intent.argmax())
        head = float(heard.intent[place])
        head_gap = head - float(np.delete(heard.intent, place).max())
    return Evidence(
        margin=search.margin(state),
        gap=gap,
        head=head,
        head_gap=head_gap,
        free=max(Levenshtein.normalized_similarity(each, said) for each in (heard.free_text, fluent(heard.free_text))),
        length=math.log(frames),
    )


def _alternatives(
    engine: Engine,
    search: GraphSearch,
    hypotheses: Sequence[GraphHypothesis],
    confidence: float | None,
    evidence: Evidence,
    nonblank: int,
) -> tuple[Alternative, ...]:
    """All hypotheses, the best first. Its score is the log of its confidence (uncalibrated: the margin); the others lie
    below it by what they lose per non-blank frame."""
    top = min(0.0, evidence.margin) if confidence is None else math.log(max(confidence, 1e-12))
    best = hypotheses[0].score
    return tuple(
        Alternative(
            text=search.automaton.text(hypothesis.tokens),
            intent=intent_of(search, hypothesis),
            slots=slots_of(engine, search, hypothesis),
            score=top + (hypothesis.score - best) / max(1, nonblank),
        )
        for hypothesis in hypotheses
    )
