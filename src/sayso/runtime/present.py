"""A hypothesis of the graph search as a result shows it: its intent, its slots, its words with their times."""

from __future__ import annotations

from sayso.core.result import Slot, Word
from sayso.decoding.graph import GraphHypothesis, GraphSearch
from sayso.decoding.words import spans_of, times_of, words
from sayso.runtime.engine import Engine
from sayso.runtime.utterance import presentable
from sayso.text.written import slot_readings


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
        ambiguous: tuple[str, ...] = ()
        value = match.value or text
        if match.list is None:
            value, ambiguous = slot_readings(text, types[match.slot])
        slot = Slot(
            name=match.slot,
            value=value,
            ambiguous=ambiguous,
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


def timed_words(engine: Engine, search: GraphSearch, hypothesis: GraphHypothesis) -> tuple[Word, ...]:
    """Words with times; confidence only where the bundle is calibrated."""
    return presentable(engine, raw_words(engine, search, hypothesis), engine.calibration.words)


def raw_words(engine: Engine, search: GraphSearch, hypothesis: GraphHypothesis) -> list[Word]:
    """Words with times and the confidences that the search gives."""
    return words(
        hypothesis.tokens,
        hypothesis.frames,
        hypothesis.scores,
        search.automaton.pieces,
        frame_s=engine.ctc_frame_s,
        delay_s=engine.calibration.delay_s,
    )


def _times(engine: Engine, search: GraphSearch, hypothesis: GraphHypothesis) -> list[tuple[float, float]]:
    """Start and end in seconds of the word that each token is of."""
    spans = spans_of(hypothesis.tokens, search.automaton.pieces)
    frame_s, delay_s = engine.ctc_frame_s, engine.calibration.delay_s
    times = times_of(spans, hypothesis.frames, frame_s=frame_s, delay_s=delay_s)
    return [time for (first, last), time in zip(spans, times, strict=True) for _ in range(first, last + 1)]
