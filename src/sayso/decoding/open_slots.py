"""What was said in an open slot, heard again at the endpoint with a language model of what such slots hold.

The graph search fills an open slot with whatever tokens are likeliest, because a language model inside it would have
to keep histories apart in every frame. The sentence around the slot says where it lies; between those frames a prefix
beam with a model of word pieces finds words. What is there to score is a few dozen frames, once an utterance.

Shape letters: ``T`` rows of CTC posteriors, ``V`` tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from sayso.core.config import Config
from sayso.decoding.beam import Doubles, Longs
from sayso.decoding.ctc_beam import CtcBeam, CtcBeamConfig
from sayso.decoding.graph_nbest import GraphHypothesis, SlotMatch
from sayso.decoding.hypothesis import Hypothesis, Scorer
from sayso.decoding.ngram import NGram, NGramScorer
from sayso.decoding.predictor import Floats


class OpenSlotConfig(Config):
    """``file`` is a packed n-gram model of the tokenizer's pieces, each sentence of it one slot's words; None: without.

    ``weight`` multiplies its log probability; ``bonus`` is added for every token, since each costs probability and
    short answers would win by that alone. Defaults suit the held-out clips of ``home``.
    """

    kind: Literal["ngram"] = "ngram"
    file: str | None = None
    weight: float = Field(default=0.8, ge=0, allow_inf_nan=False)
    bonus: float = Field(default=3.0, ge=0, allow_inf_nan=False)
    search: CtcBeamConfig = CtcBeamConfig(beam=16, top_k=24, token_margin=12.0, commit_frames=None, nbest=1)


class SlotScorer:
    """A piece model's weighted log probability and a bonus per token; the first token opens a word."""

    def __init__(self, model: NGram, pieces: Sequence[str], weight: float, bonus: float) -> None:
        self._model, self._weight, self._bonus = NGramScorer(model, pieces), weight, bonus
        self._opens = np.array([piece.startswith("▁") for piece in pieces])

    def start(self, context: Mapping[str, Any] | None = None) -> tuple[Longs, bool]:
        """Before the slot's first token."""
        return self._model.start(context), False

    def score(self, states: Sequence[tuple[Longs, bool]], tokens: Longs) -> tuple[Doubles, list[tuple[Longs, bool]]]:
        """-inf for a first token that goes on with a word."""
        found, following = self._model.score([memory for memory, _ in states], tokens)
        begun = np.array([begun for _, begun in states])
        scores = np.where(begun | self._opens[tokens], self._weight * found + self._bonus, -np.inf)
        return scores, [(memory, True) for memory in following]

    def final(self, states: Sequence[tuple[Longs, bool]]) -> Doubles:
        """The end of the slot; an empty one is none."""
        ends = self._weight * self._model.final([memory for memory, _ in states])
        return np.where([begun for _, begun in states], ends, -np.inf)


class WordStart:
    """No score but this: the first token opens a word, and there is one."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self._opens = np.array([piece.startswith("▁") for piece in pieces])

    def start(self, context: Mapping[str, Any] | None = None) -> bool:
        """Before the slot's first token."""
        return False

    def score(self, states: Sequence[bool], tokens: Longs) -> tuple[Doubles, list[bool]]:
        """-inf for a first token that goes on with a word."""
        return np.where(np.array(states, np.bool_) | self._opens[tokens], 0.0, -np.inf), [True] * len(states)

    def final(self, states: Sequence[bool]) -> Doubles:
        """An empty slot is none."""
        return np.where(np.array(states, np.bool_), 0.0, -np.inf)


class OpenSlots(ABC):
    """Hears open slots again; holds no stream. Tokens of what it hears are the sentences' own."""

    by_sound = False  # whether it listens to what the grammar listens to, or to the posteriors of pieces

    def hear(self, rows: Floats, hypotheses: Sequence[GraphHypothesis]) -> list[GraphHypothesis]:
        """The same sentences with what their open slots hold, from log posteriors (T, V) of the utterance.

        Scores of the sentences stay. A slot that leaves no frame for a token stays as it was.
        """
        known: dict[tuple[int, int, int], Hypothesis | None] = {}
        return [self._sentence(rows, hypothesis, known) for hypothesis in hypotheses]

    @abstractmethod
    def slot(self, rows: Floats, before: int) -> Hypothesis | None:
        """What is said in ``rows`` behind token ``before`` (0: nothing before); None where that is nothing."""

    def _sentence(
        self, rows: Floats, hypothesis: GraphHypothesis, known: dict[tuple[int, int, int], Hypothesis | None]
    ) -> GraphHypothesis:
        for place, match in enumerate(hypothesis.slots):
            if match.list is not None:
                continue
            first, last = match.first, match.last
            begin = hypothesis.frames[first - 1] + 1 if first else 0
            end = hypothesis.frames[last + 1] if last + 1 < len(hypothesis.tokens) else len(rows)
            before = hypothesis.tokens[first - 1] if first else 0
            if (before, begin, end) not in known:
                known[before, begin, end] = self.slot(rows[begin:end], before)
            heard = known[before, begin, end]
            if heard is not None:
                hypothesis = _replaced(hypothesis, place, heard, begin)
        return hypothesis


class OpenPieces(OpenSlots):
    """By a prefix beam over word pieces, which begin at ``spelled`` among the sentences' tokens."""

    def __init__(self, config: OpenSlotConfig, model: NGram | None, pieces: Sequence[str], spelled: int = 0) -> None:
        self.config, self._spelled = config, spelled
        scorers: dict[str, tuple[Scorer[Any], float]] = {"open": (WordStart(pieces), 1.0)}
        if model is not None:
            scorers = {"open": (SlotScorer(model, pieces, config.weight, config.bonus), 1.0)}
        self._beam = CtcBeam(config.search, scorers)

    def slot(self, rows: Floats, before: int) -> Hypothesis | None:
        """As ``OpenSlots.slot``. More of the token before is no new one; a sound before is none of the pieces."""
        state = self._beam.step(self._beam.start(after=0 if self._spelled else before), rows)
        heard = self._beam.finish(state)[0][0]
        if not heard.tokens or not np.isfinite(heard.score):
            return None
        return replace(heard, tokens=tuple(self._spelled + token for token in heard.tokens))


def _replaced(hypothesis: GraphHypothesis, place: int, heard: Hypothesis, begin: int) -> GraphHypothesis:
    """``hypothesis`` with the tokens of its slot number ``place`` exchanged and all later places moved."""
    old = hypothesis.slots[place]
    more = len(heard.tokens) - (old.last - old.first + 1)

    def moved(match: SlotMatch) -> SlotMatch:
        if match is old:
            return replace(match, last=match.last + more)
        if match.first > old.last:
            return replace(match, first=match.first + more, last=match.last + more)
        return match

    def spliced(values: tuple[Any, ...], new: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*values[: old.first], *new, *values[old.last + 1 :])

    return replace(
        hypothesis,
        tokens=spliced(hypothesis.tokens, heard.tokens),
        frames=spliced(hypothesis.frames, tuple(begin + frame for frame in heard.frames)),
        scores=spliced(hypothesis.scores, heard.log_probs),
        slots=tuple(moved(match) for match in hypothesis.slots),
    )
