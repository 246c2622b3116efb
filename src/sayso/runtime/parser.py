"""The second pass of a bundle with a decoder: at the endpoint, all that was heard becomes a meaning.

Shape letters: ``T`` encoder frames, ``D`` their width, ``R`` rows of CTC posteriors, ``V`` tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from sayso.core.errors import DataError
from sayso.decoding.align import align
from sayso.decoding.attention_beam import AttentionBeam, AttentionBeamConfig
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.predictor import Floats
from sayso.decoding.speller import Speller, predictor
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.nlu.trees import Parts, words


@dataclass(frozen=True)
class Parsed:
    """What was meant; ``text`` is all that was said, None where the trees leave words out; ``spoken`` says when, None
    too where that text does not fit the recording."""

    parts: Parts
    text: str | None = None
    spoken: Hypothesis | None = None


class Parser:
    """A decoder behind a search under ``grammar``; holds no stream."""

    def __init__(self, speller: Speller, grammar: TreeGrammar, config: AttentionBeamConfig) -> None:
        self._speller, self._grammar = speller, grammar
        limit = config.limit if speller.longest is None else min(config.limit, speller.longest)
        self._search = AttentionBeam(config.model_copy(update={"limit": limit}))
        self._coupled = grammar.schema.form == "coupled"
        self.means = bool(grammar.schema.intents)  # else it writes transcripts

    def parse(self, encoded: Floats, log_probs: Floats) -> Parsed:
        """The meaning of encoder frames (T, D) and their posteriors (R, V), T at least 1."""
        decoder = predictor(self._speller, encoded)
        best = self._search.search(decoder, self._grammar, log_probs if self._coupled else None)[0]
        parts = self._grammar.decode(best.tokens)
        if not self._coupled:
            return Parsed(parts)
        try:
            spoken = align(log_probs, [token for token in best.tokens if token < self._grammar.end])
        except DataError:  # a network that CTC could not hold back
            spoken = None
        return Parsed(parts, " ".join(words(parts)), spoken)
