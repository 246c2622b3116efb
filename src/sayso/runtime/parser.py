"""The second pass of a bundle with a decoder: at the endpoint, all that was heard becomes a meaning.

Shape letters: ``T`` encoder frames, ``D`` their width, ``R`` rows of CTC posteriors, ``V`` tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sayso.core.errors import DataError
from sayso.decoding.align import align
from sayso.decoding.attention_beam import AttentionBeam, AttentionBeamConfig
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.predictor import Floats, Predictor
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.nlu.trees import Parts, words
from sayso.runtime.graphs import Graph, State, split, stack


@dataclass(frozen=True)
class Parsed:
    """What was meant; ``text`` is all that was said, None where the trees leave words out; ``spoken`` says when, None
    too where that text does not fit the recording."""

    parts: Parts
    text: str | None = None
    spoken: Hypothesis | None = None


class Parser:
    """The graphs ``memory`` and ``decoder`` behind a search under ``grammar``; holds no stream."""

    def __init__(self, memory: Graph, decoder: Graph, grammar: TreeGrammar, config: AttentionBeamConfig) -> None:
        self._memory, self._decoder, self._grammar = memory, decoder, grammar
        longest = next(pair.shape[1] for pair in decoder.spec.states if len(pair.shape) == 3)
        self._search = AttentionBeam(config.model_copy(update={"limit": min(config.limit, longest)}))
        self._coupled = grammar.schema.form == "coupled"

    def parse(self, encoded: Floats, log_probs: Floats) -> Parsed:
        """The meaning of encoder frames (T, D) and their posteriors (R, V), T at least 1."""
        kept, _ = self._memory.run({"x": encoded[None], "lengths": np.array([len(encoded)])})

        def run(labels: NDArray[np.int64], states: list[State]) -> tuple[Floats, list[State]]:
            memory = {name: np.repeat(value, len(states), axis=0) for name, value in kept.items()}
            out, following = self._decoder.run({"labels": labels[:, 0], **memory}, stack(states))
            return out["logits"], split(following, len(states))

        decoder = Predictor(run, context=1, initial=self._decoder.start())
        best = self._search.search(decoder, self._grammar, log_probs if self._coupled else None)[0]
        parts = self._grammar.decode(best.tokens)
        if not self._coupled:
            return Parsed(parts)
        try:
            spoken = align(log_probs, [token for token in best.tokens if token < self._grammar.end])
        except DataError:  # a network that CTC could not hold back
            spoken = None
        return Parsed(parts, " ".join(words(parts)), spoken)
