"""Modified Kneser-Ney estimation of n-gram models (Chen and Goodman 1999, section 3), interpolated, with numpy.

The longest n-grams keep their counts; a shorter one counts the different words before it, unless it begins the
sentence. Three discounts per order, for counts of one, two and more, come from the counts of counts; what they free
goes to the next shorter order, at the end to the uniform distribution over the vocabulary, which is all that a word
gets that was never seen. Probabilities of every context sum to one.

Shape letters: ``m`` n-grams of an order, ``P`` places in the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sayso.core.errors import DataError
from sayso.decoding.beam import Doubles, Longs
from sayso.decoding.ngram import BOS, EOS, UNK, NGram, Order

FALLBACK = (0.5, 1.0, 1.5)  # discounts where counts of counts are too few to say: small or regular texts


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """One order: n-grams by key, their adjusted counts, and the n-grams of their first and last n-1 words."""

    keys: Longs
    counts: Longs
    prefix: Longs
    suffix: Longs


def estimate(sentences: Iterable[Sequence[str]], order: int, vocabulary: Iterable[str] = ()) -> NGram:
    """A model of ``order`` from sentences of words (or pieces); words of ``vocabulary`` that never occur count too.

    ``<unk>`` in a sentence counts like a word. ``DataError`` for no sentence at all, or one that holds ``<s>``,
    ``</s>`` or a space.
    """
    if order < 1:
        raise ValueError(f"order {order} must be at least 1")
    words, text = _numbered(sentences, vocabulary)
    levels = _count(text, order, len(words))
    uniform = np.full(len(words), 1.0 / (len(words) - 1))  # <s> is never said
    orders: list[Order] = []
    lower = uniform
    gammas: list[Doubles] = []
    for level in levels:
        discounts = _discounts(level.counts)
        kind = np.minimum(level.counts, 3)
        taken = np.array([0.0, *discounts])[kind]
        contexts = len(orders[-1].keys) if orders else 1
        total = np.bincount(level.prefix, level.counts, contexts)
        freed = np.bincount(level.prefix, np.where(level.counts > 0, taken, 0.0), contexts)
        gamma = np.divide(freed, total, out=np.ones(contexts), where=total > 0)
        share = np.divide(level.counts - taken, total[level.prefix], out=np.zeros(len(taken)), where=level.counts > 0)
        probability = share + gamma[level.prefix] * lower[level.suffix]
        if not orders:
            probability[0] = 0.0  # <s>
        gammas.append(gamma)
        with np.errstate(divide="ignore"):
            orders.append(Order(keys=level.keys, log_probs=np.log(probability), backoffs=np.zeros(len(level.keys))))
        lower = probability
    for length in range(1, order):
        # a context that nothing follows has gamma 1: its weight passes whole to the shorter one
        orders[length - 1] = Order(
            keys=orders[length - 1].keys, log_probs=orders[length - 1].log_probs, backoffs=np.log(gammas[length])
        )
    return NGram(words, orders)


def _numbered(sentences: Iterable[Sequence[str]], vocabulary: Iterable[str]) -> tuple[list[str], Longs]:
    """Words (``<s>`` 0, ``</s>`` 1, ``<unk>`` 2) and the text with its sentence marks."""
    ids = {BOS: 0, EOS: 1, UNK: 2}
    text: list[int] = []
    for sentence in sentences:
        for word in sentence:
            if word in (BOS, EOS) or not word or word.split() != [word]:
                raise DataError(f"'{word}' cannot be a word of the text that a language model is made from")
        text += [0, *[ids.setdefault(word, len(ids)) for word in sentence], 1]
    for word in vocabulary:
        ids.setdefault(word, len(ids))
    if not text:
        raise DataError("a language model needs at least one sentence; the text has none")
    return list(ids), np.array(text, dtype=np.int64)


def _count(text: Longs, order: int, vocabulary: int) -> list[_Counts]:
    """Adjusted counts of every order; the numbers of n-grams are ranks of their keys."""
    ends = np.flatnonzero(text == 1)
    room = ends[np.searchsorted(ends, np.arange(len(text)))] - np.arange(len(text)) + 1  # words to the sentence's end
    raw: list[tuple[Longs, Longs, Longs, Longs]] = []  # keys, counts, first places, first words
    numbers = [np.zeros(len(text), dtype=np.int64)]  # of the n-gram that begins at each place
    for length in range(1, order + 1):
        places = np.flatnonzero(room >= length)
        keys = numbers[-1][places] * vocabulary + text[places + length - 1]
        if length == 1:  # every word has a row, said or not
            found, counts = np.arange(vocabulary), np.bincount(text, minlength=vocabulary)
            first, inverse = np.full(vocabulary, -1), text
        else:
            found, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
            first = places[first]
        number = np.full(len(text), -1)
        number[places] = inverse
        numbers.append(number)
        raw.append((found, counts, first, text[first]))
    levels: list[_Counts] = []
    for length, (keys, counts, first, word) in enumerate(raw, 1):
        adjusted = counts
        if length < order:
            longer = raw[length][2]
            adjusted = np.bincount(numbers[length][longer + 1], minlength=len(keys))
            if length > 1:
                adjusted = np.where(word == 0, counts, adjusted)  # nothing stands before a sentence
        if length == 1:
            adjusted = np.where(keys == 0, 0, adjusted)  # <s> is never said
        suffix = keys if length == 1 else numbers[length - 1][first + 1]
        levels.append(_Counts(keys=keys, counts=adjusted, prefix=keys // vocabulary, suffix=suffix))
    return levels


def _discounts(counts: Longs) -> tuple[float, float, float]:
    """D1, D2 and D3+ from the numbers of n-grams seen once to four times; ``FALLBACK`` where they do not make sense."""
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 <= d <= k for k, d in enumerate(found, 1)) else FALLBACK
