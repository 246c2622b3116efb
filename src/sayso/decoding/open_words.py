"""What was said in an open slot, heard again at the endpoint as words of the lexicon.

A pronounced grammar hears an open slot as sounds. Here they are read once more as one to a few words of the dictionary,
each with a prior: words that such slots are known to hold are likelier than others, and every word of the language is
possible, so that what nobody trained is spelled as it should be (the lexicon and unigram of a hybrid recogniser). The
dictionary is a list in a grammar of its own, a tree of its phones, and the search is that of the grammar.

Shape letters: ``T`` rows of posteriors, ``N`` pronunciations, ``K`` nodes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sayso.core.automaton import Automaton, Call, Ints, Meaning, Network, SlotList
from sayso.core.config import Config
from sayso.core.errors import DataError
from sayso.decoding.graph import GraphConfig, GraphSearch
from sayso.decoding.graph_nbest import GraphHypothesis
from sayso.decoding.graph_tables import Longs
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.open_slots import OpenSlots
from sayso.decoding.predictor import Floats
from sayso.text.lexicon import PHONES, Lexicon

_RARE = math.log(0.1)  # share of the probability that words without a prior have together
_LIST = "words"


class OpenWordsConfig(Config):
    """``file`` holds the priors: a JSON object of words and their natural-log probabilities.

    ``weight`` multiplies them; ``penalty`` is taken for every word; a slot holds at most ``most`` words.
    """

    kind: Literal["words"] = "words"
    file: str
    weight: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    penalty: float = Field(default=0.0, allow_inf_nan=False)
    most: int = Field(default=6, ge=1, le=12)
    search: GraphConfig = GraphConfig(beam=14.0, max_active=400, histories=4, nbest=1, commit_beam=None)


class OpenWords(OpenSlots):
    """``spell`` writes a word in tokens of the sentences. The dictionary becomes a tree with ``warm``, or when it is
    first needed: a fifth of a second."""

    by_sound = True

    def __init__(
        self, config: OpenWordsConfig, priors: Mapping[str, float], lexicon: Lexicon, spell: Callable[[str], list[int]]
    ) -> None:
        self.config, self.priors, self._lexicon, self.spell = config, priors, lexicon, spell
        self._search: GraphSearch | None = None

    def warm(self) -> None:
        """Make the tree now."""
        self._tree()

    def slot(self, rows: Floats, before: int) -> Hypothesis | None:
        """As ``OpenSlots.slot``; of a homophone the likelier word."""
        search = self._tree()
        found = search.nbest(search.step(search.start(), rows), 1)
        return self._written(found[0]) if found else None

    def _tree(self) -> GraphSearch:
        if self._search is None:
            self._search = GraphSearch(self._grammar(), self.config.search)
        return self._search

    def _written(self, heard: GraphHypothesis) -> Hypothesis:
        tokens: list[int] = []
        frames: list[int] = []
        scores: list[float] = []
        for match in heard.slots:
            word = self.spell(match.value or "")
            size = match.last + 1 - match.first
            at = [match.first + number * size // len(word) for number in range(len(word))]
            tokens += word
            frames += [heard.frames[place] for place in at]
            scores += [sum(heard.scores[match.first : match.last + 1]) / size] * len(word)
        found = (tuple(tokens), tuple(frames), tuple(scores))
        return Hypothesis(tokens=found[0], frames=found[1], log_probs=found[2], scores={_LIST: heard.score})

    def _grammar(self) -> Automaton:
        """One to ``most`` words, each a call of the dictionary under a name of its own, so that order counts."""
        most, none = self.config.most, np.full(self.config.most, -1, np.int32)
        chain = Network(
            token=none,
            call=np.arange(most, dtype=np.int32),
            succ_ptr=np.array([*range(most), most - 1], np.int32),
            succ=np.arange(1, most, dtype=np.int32),
            entry=np.zeros(1, np.int32),
            final_ptr=np.arange(most + 1, dtype=np.int32),
            final_out=np.zeros(most, np.int32),
        )
        return Automaton(
            main=chain,
            lists={_LIST: self._dictionary()},
            calls=tuple(Call(list=_LIST, slot=str(number)) for number in range(most)),
            meanings=(Meaning(intent=_LIST),),
            pieces=("",) * len(PHONES),
            tokenizer="",
            lexicon=self._lexicon.sha256,
            rows=np.arange(len(PHONES), dtype=np.int32),
        )

    def _dictionary(self) -> SlotList:
        """The words of the lexicon, and those that only the priors know."""
        flat, starts, lengths, owner = self._lexicon.sounds()
        known = {word: number for number, word in enumerate(self._lexicon.words)}
        more = [(word, way) for word in self.priors if word not in known for way in self._lexicon.pronounce(word)]
        for word, _ in more:
            known.setdefault(word, len(known))
        flat = np.concatenate([flat, np.array([phone for _, way in more for phone in way], np.uint8)])
        sizes = np.array([len(way) for _, way in more], np.int64)
        starts = np.concatenate([starts, len(flat) - sizes.sum() + np.cumsum(sizes) - sizes])
        lengths, owner = np.concatenate([lengths, sizes]), np.concatenate([owner, [known[word] for word, _ in more]])
        prior = np.full(len(known), _RARE - math.log(len(known)))
        for word, value in self.priors.items():
            prior[known[word]] = max(prior[known[word]], value)
        return SlotList(
            network=tree(flat, starts, lengths, owner.astype(np.int64)),
            values=tuple(known),
            texts=tuple(known),
            weights=self.config.weight * prior - self.config.penalty,
        )


def tree(flat: NDArray[np.uint8], starts: Longs, lengths: Longs, owner: Longs) -> Network:
    """The prefix tree of N pronunciations, level by level: ``lengths[i]`` phones of ``flat`` from ``starts[i]`` on; at
    the end of each ``owner[i]`` comes out."""
    here = np.full(len(starts), -1, np.int64)  # the node behind the phones so far; -1: the root
    tokens, parents, size = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    for level in range(int(lengths.max(initial=0))):
        rows = np.flatnonzero(lengths > level)
        keys, inverse = np.unique((here[rows] + 1) * len(PHONES) + flat[starts[rows] + level], return_inverse=True)
        here[rows] = size + inverse
        tokens.append(keys % len(PHONES))
        parents.append(keys // len(PHONES) - 1)
        size += len(keys)
    token, parent = np.concatenate(tokens), np.concatenate(parents)
    order, ends, first = np.argsort(parent, kind="stable"), np.argsort(here, kind="stable"), int((parent < 0).sum())
    return Network(
        token=token.astype(np.int32),
        call=np.full(size, -1, np.int32),
        succ_ptr=_pointers(parent[parent >= 0], size),
        succ=order[first:].astype(np.int32),
        entry=order[:first].astype(np.int32),
        final_ptr=_pointers(here, size),
        final_out=owner[ends].astype(np.int32),
    )


def read_priors(data: bytes, where: str) -> dict[str, float]:
    """What ``OpenWordsConfig.file`` holds; ``DataError`` where it is something else."""
    try:
        found = {str(word): float(value) for word, value in json.loads(data).items()}
        if not all(value <= 0 for value in found.values()):
            raise ValueError("a log probability is above 0")
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"{where}: not priors of words ({error}); legal is an object of words and log probabilities"
        ) from None
    return found


def _pointers(owners: Longs, size: int) -> Ints:
    return np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=size))]).astype(np.int32)
