"""Many short strings as sparse vectors over hashed character n-grams, kept by n-gram so that one query is compared with
all of them at once.

The strings' vectors hold plain counts and have length one; how rare an n-gram is weighs on the query's side alone, so
strings may come and go without any other vector changing (asymmetric weights: Salton & Buckley 1988).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]
_BITS = 15  # hashed n-grams fall into 2 ** 15 buckets
_EDGE = 1  # before and after a text


@dataclass(frozen=True)
class Grams:
    """Vectors of length one over hashed n-grams, by bucket: ``rows[ptr[b]:ptr[b+1]]`` hold bucket ``b``."""

    ptr: Ints
    rows: Ints
    weights: Floats

    @staticmethod
    def build(strings: Sequence[str]) -> Grams:
        """Of many strings at once."""
        row, bucket = _hashed(strings)
        both, counts = np.unique(bucket.astype(np.int64) * max(1, len(strings)) + row, return_counts=True)
        buckets, rows = np.divmod(both, max(1, len(strings)))
        weights = counts.astype(np.float64)
        norms = np.sqrt(np.bincount(rows, weights**2, minlength=len(strings)))
        ptr = np.searchsorted(buckets, np.arange((1 << _BITS) + 1)).astype(np.int32)
        return Grams(ptr, rows.astype(np.int32), (weights / norms[rows]).astype(np.float32))

    def cosines(self, buckets: NDArray[np.int64], weights: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        """The products of a query's weights with every row."""
        spans = [(int(self.ptr[b]), int(self.ptr[b + 1])) for b in buckets]
        if not spans:
            return np.zeros(count)
        rows = np.concatenate([self.rows[first:last] for first, last in spans])
        parts = [self.weights[first:last] * weight for (first, last), weight in zip(spans, weights, strict=True)]
        return np.bincount(rows, np.concatenate(parts), minlength=count).astype(np.float64)

    def check(self, count: int) -> None:
        """Raise ``ValueError`` for arrays that would be read out of bounds."""
        sound = self.ptr.shape == ((1 << _BITS) + 1,) and self.rows.shape == self.weights.shape
        sound = sound and self.ptr[0] == 0 and self.ptr[-1] == len(self.rows) and bool(np.all(np.diff(self.ptr) >= 0))
        if not sound or (len(self.rows) and not 0 <= int(self.rows.min()) <= int(self.rows.max()) < count):
            raise ValueError("its n-grams are damaged")


def _hashed(strings: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """String number and bucket of every pair and triple of characters, edges among them."""
    edge = chr(_EDGE)
    joined = "".join(f"{edge}{string}{edge}" for string in strings)
    codes = np.frombuffer(joined.encode("utf-32-le"), np.uint32).astype(np.uint64)
    owner = np.repeat(np.arange(len(strings)), [len(string) + 2 for string in strings])
    rows, hashes = [], []
    for size in (2, 3):
        count = len(codes) - size + 1
        if count <= 0:
            continue
        value = np.full(count, size, np.uint64)
        for place in range(size):
            value = value * np.uint64(1_000_003) + codes[place : place + count]
        inside = owner[:count] == owner[size - 1 :]
        rows.append(owner[:count][inside])
        hashes.append((value[inside] * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _BITS))
    if not rows:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(rows).astype(np.int64), np.concatenate(hashes).astype(np.int64)


def query(
    strings: Sequence[str], shares: NDArray[np.float64], fields: Sequence[Grams], entries: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Buckets and weights of texts by their shares; n-grams that are rare in ``fields``, the vectors of ``entries``
    strings, weigh more. The norm is one."""
    row, bucket = _hashed(strings)
    weights = np.bincount(bucket, shares[row], minlength=1 << _BITS).astype(np.float64)
    buckets = np.flatnonzero(weights).astype(np.int64)
    holding = sum((grams.ptr[buckets + 1] - grams.ptr[buckets] for grams in fields), np.zeros(len(buckets), np.int32))
    weighted = np.asarray(weights[buckets] * np.log1p(entries / (1.0 + holding)), np.float64)
    norm = float(np.linalg.norm(weighted))
    return buckets, weighted / norm if norm else weighted
