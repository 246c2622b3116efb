"""From feature banks to batches: buckets of like duration, padding, everything a function of the step.

The batch of step ``n`` depends only on the seed and ``n``, so a resumed run sees exactly the batches it would have
seen.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sayso.data.teacher import Halves
from sayso.models.subsampling import FACTOR
from sayso.training.curriculum import Curriculum

Floats = NDArray[np.float32]
PHONES_PER_FRAME = 2  # a frame of 80 ms holds about one phone, so that one label would miss many


@dataclass(frozen=True)
class Item:
    """One training example: where its features are, its token ids, its meaning (-1: unknown), and one phone per 10 ms
    of the recording as it was before anything stretched it (empty: unknown); likewise what a teacher makes of it,
    (T/8, D). ``synthetic``: nobody said it. ``tree`` is what a decoder is to write, without the end (empty:
    unknown). ``pronounced`` are the phones of ``text/lexicon.py`` (empty: not asked for, or too many for the rows)."""

    bank: int
    index: int
    frames: int
    tokens: tuple[int, ...]
    intent: int = -1
    tags: tuple[int, ...] = ()
    phones: bytes = b""
    teacher: Halves | None = field(default=None, compare=False, repr=False)
    synthetic: bool = False
    tree: tuple[int, ...] = ()
    pronounced: tuple[int, ...] = ()


@dataclass
class Batch:
    """Features (B,T,F), lengths (B,), targets (B,U), target lengths (B,), intent (B,), tags (B,U) and phones
    (B,T/8,PHONES_PER_FRAME) with -100 for unknown; the teacher's vectors (B,T/8,D) with NaN for unknown, None where
    all are; trees (B,W) and their lengths (B,), 0 for unknown; and so the phones of the transcript (B,P)."""

    features: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    intent: Tensor
    tags: Tensor
    phones: Tensor
    teacher: Tensor | None = None
    trees: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    tree_lengths: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    pronounced: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    pronounced_lengths: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def to(self, device: torch.device) -> Batch:
        """The same there."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)


class Batcher:
    """Deterministic batches of about ``seconds`` of audio, drawn with weights, similar lengths together.

    A ``curriculum`` says which clips are drawn when. With ``synthetic_share`` every batch has that share of synthetic
    speech by duration, to within a clip at either end; an epoch is then one of the real clips, and the synthetic ones
    are drawn as often as that takes. ``part`` tells the stages of a run apart, each counts its own steps.
    """

    def __init__(
        self,
        items: Sequence[Item],
        weights: Sequence[float],
        seconds: float,
        seed: int,
        *,
        curriculum: Curriculum | None = None,
        synthetic_share: float | None = None,
        part: int = 0,
    ) -> None:
        order = sorted(range(len(items)), key=lambda i: items[i].frames)
        self.items = [items[i] for i in order]
        self.weights = np.asarray([weights[i] for i in order], np.float64)
        self.frames = np.asarray([item.frames for item in self.items], np.int64)
        self.budget = int(seconds * 100)
        self.seed, self.part = seed, part
        self.curriculum = None if curriculum is None else Curriculum(curriculum.config, curriculum.ranks[order])
        self.share = synthetic_share
        self.synthetic = np.asarray([item.synthetic for item in self.items], np.bool_)
        if synthetic_share is not None and not {synthetic_share > 0, synthetic_share == 1} <= set(
            self.synthetic.tolist()
        ):
            raise ValueError(f"a share of {synthetic_share} of synthetic speech needs clips of either kind")
        self._starts = [0]  # the first step of every epoch drawn so far, and of the next one
        self._epoch = -1
        self._batches: list[NDArray[np.int64]] = []

    def plan(self, step: int) -> list[Item]:
        """The items of one step; each epoch draws every item ``weight`` times on average."""
        while step >= self._starts[-1]:
            self._starts.append(self._starts[-1] + len(self._epoch_batches(len(self._starts) - 1)))
        epoch = bisect_right(self._starts, step) - 1
        return [self.items[i] for i in self._epoch_batches(epoch)[step - self._starts[epoch]]]

    def _epoch_batches(self, epoch: int) -> list[NDArray[np.int64]]:
        if epoch == self._epoch:
            return self._batches
        rng = np.random.default_rng((self.seed, 1, epoch, self.part) if self.part else (self.seed, 1, epoch))
        rule = self.curriculum
        allowed = rule.allowed(self._starts[epoch]) if rule is not None else np.ones(len(self.items), np.bool_)
        chosen = self._mixed(rng, allowed) if self.share is not None else self._by_length(self._draw(rng, allowed), rng)
        batches: list[NDArray[np.int64]] = []
        start = longest = 0
        for end in range(len(chosen) + 1):
            grown = max(longest, int(self.frames[chosen[end]])) if end < len(chosen) else 0
            if end == len(chosen) or (end > start and grown * (end - start + 1) > self.budget):
                batches.append(chosen[start:end])
                start, grown = end, int(self.frames[chosen[end]]) if end < len(chosen) else 0
            longest = grown
        self._batches = [batches[i] for i in rng.permutation(len(batches)) if len(batches[i])]
        if rule is not None:
            if rule.config.in_order(epoch):
                self._batches.sort(key=lambda batch: float(rule.ranks[batch].mean()))
            self._batches = self._batches[: rule.config.longest(self._starts[epoch])]
        self._epoch = epoch
        return self._batches

    def _draw(self, rng: np.random.Generator, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Every allowed item ``weight`` times on average."""
        whole = np.floor(self.weights)
        counts = (whole + (rng.random(len(self.weights)) < self.weights - whole)).astype(np.int64)
        return np.repeat(np.arange(len(self.items)), counts * allowed)

    def _by_length(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """The sort key jitters so that bucket mates change between epochs."""
        return chosen[np.argsort(self.frames[chosen] * rng.uniform(0.9, 1.1, len(chosen)), kind="stable")]

    def _mixed(self, rng: np.random.Generator, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Real and synthetic items by length, with the share of the latter kept up all along."""
        assert self.share is not None
        if self.share in (0.0, 1.0):
            return self._by_length(self._draw(rng, allowed & (self.synthetic == bool(self.share))), rng)
        real = self._draw(rng, allowed & ~self.synthetic)
        wanted = self.share / (1 - self.share) * float(self.frames[real].sum())
        drawn: list[NDArray[np.int64]] = []
        while sum(float(self.frames[some].sum()) for some in drawn) < wanted:
            drawn.append(rng.permutation(self._draw(rng, allowed & self.synthetic)))
        made = np.concatenate([real[:0], *drawn])
        made = made[: int((np.cumsum(self.frames[made]) <= wanted).sum())]
        return interleave(self._by_length(real, rng), self._by_length(made, rng), self.frames, self.share)


def interleave(
    first: NDArray[np.int64], second: NDArray[np.int64], frames: NDArray[np.int64], share: float
) -> NDArray[np.int64]:
    """Both, each in its order, so that ``second`` has its ``share`` of the frames everywhere, to within a clip."""
    merged: list[int] = []
    ahead = iter(first.tolist()), iter(second.tolist())
    following = [next(clips, None) for clips in ahead]
    owed = 0.0  # frames that the second lacks
    while following[0] is not None or following[1] is not None:
        which = int(following[0] is None or (following[1] is not None and owed > 0))
        clip = following[which]
        assert clip is not None
        merged.append(clip)
        owed += int(frames[clip]) * (share - which)
        following[which] = next(ahead[which], None)
    return np.asarray(merged, np.int64)


def collate(features: Sequence[Floats], items: Sequence[Item]) -> Batch:
    """Pad to the longest row, rounded up: kernels are prepared once per shape, so few shapes are fast shapes."""
    longest, most = -(-max(len(f) for f in features) // 32) * 32, max(1, max(len(i.tokens) for i in items))
    batch = len(items)
    x = torch.zeros(batch, longest, features[0].shape[1])
    targets = torch.zeros(batch, most, dtype=torch.int64)
    tags = torch.full((batch, most), -100, dtype=torch.int64)
    phones = torch.full((batch, longest // FACTOR, PHONES_PER_FRAME), -100, dtype=torch.int64)
    width = next((item.teacher.shape[1] for item in items if item.teacher is not None), 0)
    teacher = torch.full((batch, longest // FACTOR, width), torch.nan) if width else None
    for row, (frame, item) in enumerate(zip(features, items, strict=True)):
        x[row, : len(frame)] = torch.from_numpy(np.ascontiguousarray(frame, dtype=np.float32))
        targets[row, : len(item.tokens)] = torch.tensor(item.tokens, dtype=torch.int64)
        if item.tags:
            tags[row, : len(item.tags)] = torch.tensor(item.tags, dtype=torch.int64)
        if item.phones:
            heard = torch.from_numpy(phones_of(item.phones, len(frame)))
            phones[row, : len(heard)] = heard
        if teacher is not None and item.teacher is not None:
            known = torch.from_numpy(teacher_of(item.teacher, len(frame)))
            teacher[row, : len(known)] = known
    trees, written = _padded([item.tree for item in items])
    pronounced, sounds = _padded([item.pronounced for item in items])
    return Batch(
        x,
        torch.tensor([len(f) for f in features]),
        targets,
        torch.tensor([len(i.tokens) for i in items]),
        torch.tensor([i.intent for i in items]),
        tags,
        phones,
        teacher,
        trees,
        written,
        pronounced,
        sounds,
    )


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(B, longest) with zeros behind, and the lengths (B,)."""
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return padded, lengths


def teacher_of(features: Halves, frames: int) -> Floats:
    """(T/8, D): the teacher's vectors (T'/8, D) of the whole clip for a version of it that is ``frames`` long."""
    count = -(-frames // FACTOR)
    places = ((np.arange(count) + 0.5) * (len(features) / count)).astype(np.int64)
    return features[np.minimum(places, len(features) - 1)].astype(np.float32)


def phones_of(phones: bytes, frames: int) -> NDArray[np.int64]:
    """(T/8, PHONES_PER_FRAME): the phones in the middle of each part of an encoder frame.

    ``frames`` is the length T after every change of tempo, which stretches the alignment as a whole.
    """
    known = np.frombuffer(phones, np.uint8)
    part = FACTOR / PHONES_PER_FRAME
    middles = (np.arange(-(-frames // FACTOR) * PHONES_PER_FRAME) + 0.5) * part
    places = np.minimum((middles * (len(known) / frames)).astype(np.int64), len(known) - 1)
    return known[places].astype(np.int64).reshape(-1, PHONES_PER_FRAME)
