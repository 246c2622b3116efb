"""N-gram language models: packed arrays, batched queries, ARPA files, and the scorers that searches plug in.

An n-gram is the pair (number of its first n-1 words' n-gram, last word) packed into one integer; an order is a sorted
array of those, with log probabilities and back-off weights beside it. A query for many states at once is one binary
search per order, and a state is the numbers of the n-grams that the history ends in, so nothing is hashed and no text
is touched. Estimation is in ``kneser_ney``.

Shape letters: ``n`` queries, ``N`` order, ``V`` words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sayso.core.errors import DataError
from sayso.decoding.beam import Doubles, Longs

BOS, EOS, UNK = "<s>", "</s>", "<unk>"


@dataclass(frozen=True, kw_only=True)
class Order:
    """All n-grams of one length, sorted by ``keys``; natural logs."""

    keys: Longs  # number of the first n-1 words' n-gram times V, plus the last word
    log_probs: Doubles
    backoffs: Doubles  # 0 where the n-gram is no context

    def find(self, keys: Longs) -> Longs:
        """Numbers of n-grams; -1 for those that are not here."""
        if not len(self.keys):
            return np.full(keys.shape, -1)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, place, -1)


class NGram:
    """A model over ``words``, which hold ``<s>``, ``</s>`` and ``<unk>``; the first order has a row for every word."""

    def __init__(self, words: Sequence[str], orders: Sequence[Order]) -> None:
        self.words, self.orders = tuple(words), tuple(orders)
        self.ids = {word: i for i, word in enumerate(self.words)}
        missing = [word for word in (BOS, EOS, UNK) if word not in self.ids]
        if missing:
            raise DataError(f"a language model needs the words {BOS}, {EOS} and {UNK}; this one lacks {missing[0]}")
        if not self.orders or len(self.orders[0].keys) != len(self.words):
            raise DataError("a language model needs a probability for every one of its words")

    @property
    def order(self) -> int:
        """The longest n-gram's words."""
        return len(self.orders)

    def start(self, *words: str) -> Longs:
        """The state (N-1,) after ``<s>`` and ``words``: numbers of the n-grams of 1, 2, ... words that end there."""
        state = np.full((1, self.order - 1), -1)
        for word in (BOS, *words):
            state = self.step(state, np.array([self.ids.get(word, self.ids[UNK])]))[1]
        return np.asarray(state[0])

    def step(self, states: Longs, words: Longs) -> tuple[Doubles, Longs]:
        """States (n, N-1) and word ids (n,) to log p(word | state) (n,) and the next states.

        p(w|h) is the probability of the longest n-gram that ends h w, times the back-off weights of all longer
        contexts that the model has (Katz 1987).
        """
        total, found, weight = np.zeros(len(words)), np.zeros(len(words), dtype=bool), len(self.words)
        following = np.full((len(words), self.order - 1), -1)
        for length in range(self.order - 1, -1, -1):  # words of context
            context = states[:, length - 1] if length else np.zeros(len(words), dtype=np.int64)
            order = self.orders[length]
            number = np.where(context >= 0, order.find(context * weight + words), -1)
            here = (number >= 0) & ~found
            total[here] += order.log_probs[number[here]]
            found |= here
            lacking = ~found & (context >= 0)
            if length:
                total[lacking] += self.orders[length - 1].backoffs[context[lacking]]
            if length < self.order - 1:
                following[:, length] = number
        return total, following

    def score(self, words: Sequence[str]) -> float:
        """Log probability of a whole sentence, its end included; words that the model lacks are ``<unk>``."""
        state, total = self.start()[None], 0.0
        for word in (*words, EOS):
            scores, state = self.step(state, np.array([self.ids.get(word, self.ids[UNK])]))
            total += float(scores[0])
        return total


class NGramScorer:
    """A model whose words are word pieces: every token is one query. Pieces that it lacks are ``<unk>``."""

    def __init__(self, model: NGram, pieces: Sequence[str]) -> None:
        self._model = model
        self._ids = np.array([model.ids.get(piece, model.ids[UNK]) for piece in pieces], dtype=np.int64)

    def start(self, context: Mapping[str, Any] | None = None) -> Longs:
        """After ``<s>``."""
        return self._model.start()

    def score(self, states: Sequence[Longs], tokens: Longs) -> tuple[Doubles, list[Longs]]:
        """Log probabilities of ``tokens`` and the states after them."""
        scores, following = self._model.step(np.stack(states), self._ids[tokens])
        return scores, list(following)

    def final(self, states: Sequence[Longs]) -> Doubles:
        """Log probabilities of ``</s>``."""
        return self._model.step(np.stack(states), np.full(len(states), self._model.ids[EOS]))[0]


class WordScorer:
    """A model of whole words on top of word pieces: a word is scored when the next one opens, or at the end.

    ``unknown`` is added for a word that the model lacks (natural log), beside the probability of ``<unk>``; ``bonus``
    for every word, because each lowers the probability of the whole and long words would win without it.
    """

    def __init__(self, model: NGram, pieces: Sequence[str], unknown: float = 0.0, bonus: float = 0.0) -> None:
        self._model, self._pieces, self._unknown, self._bonus = model, tuple(pieces), unknown, bonus

    def start(self, context: Mapping[str, Any] | None = None) -> tuple[Longs, str]:
        """After ``<s>``, in no word."""
        return self._model.start(), ""

    def score(self, states: Sequence[tuple[Longs, str]], tokens: Longs) -> tuple[Doubles, list[tuple[Longs, str]]]:
        """The word before, where a token opens a new one; else 0."""
        pieces = [self._pieces[token] for token in tokens.tolist()]
        closing = [i for i, (_, word) in enumerate(states) if word and pieces[i].startswith("▁")]
        scores = np.zeros(len(states))
        memory = [state for state, _ in states]
        scores[closing], closed = self._close([states[i] for i in closing])
        for i, state in zip(closing, closed, strict=True):
            memory[i] = state
        texts = [
            piece[1:] if piece.startswith("▁") else word + piece
            for piece, (_, word) in zip(pieces, states, strict=True)
        ]
        return scores, list(zip(memory, texts, strict=True))

    def final(self, states: Sequence[tuple[Longs, str]]) -> Doubles:
        """The last word, and ``</s>``."""
        scores = np.zeros(len(states))
        memory = [state for state, _ in states]
        spoken = [i for i, (_, word) in enumerate(states) if word]
        scores[spoken], closed = self._close([states[i] for i in spoken])
        for i, state in zip(spoken, closed, strict=True):
            memory[i] = state
        return scores + self._model.step(np.stack(memory), np.full(len(states), self._model.ids[EOS]))[0]

    def _close(self, states: Sequence[tuple[Longs, str]]) -> tuple[Doubles, list[Longs]]:
        if not states:
            return np.zeros(0), []
        unknown = self._model.ids[UNK]
        ids = np.array([self._model.ids.get(word, unknown) for _, word in states], dtype=np.int64)
        scores, following = self._model.step(np.stack([state for state, _ in states]), ids)
        return scores + np.where(ids == unknown, self._unknown, 0.0) + self._bonus, list(following)


def pack(words: Sequence[str], tables: Sequence[tuple[Longs, Doubles, Doubles]], where: str) -> NGram:
    """A model from tables of word ids (m, n), log probabilities (m,) and back-off weights (m,), orders rising.

    ``DataError`` where an n-gram's first words are no n-gram themselves, or one is there twice.
    """
    orders: list[Order] = []
    for grams, log_probs, backoffs in tables:
        number = np.zeros(len(grams), dtype=np.int64)
        for position, order in enumerate(orders):
            number = order.find(number * len(words) + grams[:, position])
            if (number < 0).any():
                lost = " ".join(words[i] for i in grams[int(np.argmin(number))])
                raise DataError(f"{where}: '{lost}' is there, but not its first {position + 1} words")
        keys = number * len(words) + grams[:, -1]
        rank = np.argsort(keys, kind="stable")
        if (np.diff(keys[rank]) == 0).any():
            raise DataError(f"{where}: an n-gram of {len(orders) + 1} words is there twice")
        orders.append(Order(keys=keys[rank], log_probs=log_probs[rank], backoffs=backoffs[rank]))
    return NGram(words, orders)


def grams_of(model: NGram, length: int) -> Longs:
    """Word ids (m, length) of all n-grams of ``length`` words, in the order of their numbers."""
    columns, keys = [], model.orders[length - 1].keys
    for order in range(length - 1, -1, -1):
        columns.append(keys % len(model.words))
        if order:
            keys = model.orders[order - 1].keys[keys // len(model.words)]
    return np.stack(columns[::-1], axis=1)


LOG10 = math.log(10.0)
