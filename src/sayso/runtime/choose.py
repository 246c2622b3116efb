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

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from sayso.core.result import Alternative, Frame, Intent, Result, Slot, Word
from sayso.decoding.graph import GraphHypothesis, GraphSearch
from sayso.decoding.graph_state import GraphState
from sayso.decoding.words import spans_of, times_of, words
from sayso.nlu.calibration import GAP_CAP, Evidence
from sayso.nlu.policy import Decision, Situation, decide
from sayso.runtime.engine import Engine
from sayso.runtime.undecided import without_domain
from sayso.runtime.utterance import Utterance, manners, presentable, rejected
from sayso.text.display import display
from sayso.text.written import slot_value

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What stands behind a final result, for calibration and reports. The guess is there for rejected speech too."""

    evidence: Evidence | None = None
    confidence: float | None = None
    intent: str | None = None
    slots: tuple[Slot, ...] = ()
    slot_log_probs: tuple[tuple[float, ...], ...] = ()  # of each spoken slot's tokens
    hypotheses: tuple[GraphHypothesis, ...] = ()
    texts: tuple[tuple[str, float], ...] = ()  # n-best of the free text, with log scores: a cascade's input


def choose(
    engine: Engine, search: GraphSearch | None, state: GraphState | None, heard: Utterance
) -> tuple[Result, Outcome]:
    """The final result (without stream fields such as timing) and what it rests on."""
    if search is None or state is None:
        return without_domain(engine, heard), Outcome()
    hypotheses = _ranked(engine, search, state, heard)
    if not hypotheses:
        situation = Situation(intent=None, speech_s=heard.speech_s, snr_db=heard.snr_db, truncated=heard.truncated)
        return rejected(decide(situation, engine.policy), heard, ()), Outcome()
    best = hypotheses[0]
    intent = intent_of(search, best)
    evidence = _evidence(engine, search, state, hypotheses, heard)
    confidence = engine.calibration.confidence(evidence)
    slots = slots_of(engine, search, best)
    risk, clarify = manners(engine, intent)
    situation = Situation(
        intent=intent,
        slots=slots,
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
        slot_log_probs=tuple(best.scores[m.first : m.last + 1] for m in best.slots),
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


def intent_of(search: GraphSearch, hypothesis: GraphHypothesis) -> str:
    """The intent of a complete hypothesis."""
    assert hypothesis.meaning is not None, "an incomplete hypothesis has no meaning"
    return search.automaton.meanings[hypothesis.meaning].intent


def slots_of(engine: Engine, search: GraphSearch, hypothesis: GraphHypothesis) -> tuple[Slot, ...]:
    """Spoken slots in the order they were said, then those that the template fixes."""
    times = _times(engine, search, hypothesis)
    types = {call.slot: call.type for call in search.automaton.calls if call.list is None}
    found = []
    for match in hypothesis.slots:
        text = search.automaton.text(hypothesis.tokens[match.first : match.last + 1])
        slot = Slot(
            name=match.slot,
            value=slot_value(text, types[match.slot]) if match.list is None else match.value or text,
            text=text,
            confidence=engine.calibration.slot_confidence(hypothesis.scores[match.first : match.last + 1]),
            start=round(times[match.first][0], 3),
            end=round(times[match.last][1], 3),
            source="open" if match.list is None else f"list:{match.list}",
        )
        found.append(slot)
    if hypothesis.meaning is not None:
        fixed = search.automaton.meanings[hypothesis.meaning].slots
        found += [Slot(name=name, value=value, source="template") for name, value in fixed]
    return tuple(found)


def _times(engine: Engine, search: GraphSearch, hypothesis: GraphHypothesis) -> list[tuple[float, float]]:
    """Start and end in seconds of the word that each token is of."""
    spans = spans_of(hypothesis.tokens, search.automaton.pieces)
    frame_s, delay_s = engine.ctc_frame_s, engine.calibration.delay_s
    times = times_of(spans, hypothesis.frames, frame_s=frame_s, delay_s=delay_s)
    return [time for (first, last), time in zip(spans, times, strict=True) for _ in range(first, last + 1)]


def timed_words(engine: Engine, search: GraphSearch, hypothesis: GraphHypothesis) -> tuple[Word, ...]:
    """Words with times; confidence only where the bundle is calibrated."""
    found = words(
        hypothesis.tokens,
        hypothesis.frames,
        hypothesis.scores,
        search.automaton.pieces,
        frame_s=engine.ctc_frame_s,
        delay_s=engine.calibration.delay_s,
    )
    return presentable(engine, found)


def _ranked(engine: Engine, search: GraphSearch, state: GraphState, heard: Utterance) -> list[GraphHypothesis]:
    """Complete hypotheses, best first, with the votes of both heads in their scores."""
    combine = engine.combine
    bonus = {}
    if heard.intent is not None and combine.intent_weight:
        names = [spec.name for spec in engine.manifest.intents]
        bonus = {name: combine.intent_weight * float(value) for name, value in zip(names, heard.intent, strict=False)}
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
    log_probs = graph.run({"frames": frames, "tokens": tokens, "lengths": lengths})[0]["log_probs"]
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
    gap = GAP_CAP if len(hypotheses) < 2 else (best.score - hypotheses[1].score) / frames
    head = head_gap = 0.0
    if heard.intent is not None:
        names = [spec.name for spec in engine.manifest.intents]
        place = names.index(intent_of(search, best)) if intent_of(search, best) in names else len(names)
        head = float(heard.intent[place])
        head_gap = head - float(np.delete(heard.intent, place).max())
    return Evidence(
        margin=search.margin(state),
        gap=gap,
        head=head,
        head_gap=head_gap,
        free=Levenshtein.normalized_similarity(heard.free_text, search.automaton.text(best.tokens)),
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
