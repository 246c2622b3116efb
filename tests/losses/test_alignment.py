"""Forced alignment against every path there is."""

from __future__ import annotations

import itertools

import pytest
import torch

from sayso.losses.alignment import ctc_alignment, ctc_emission_frames


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(label for label, _ in itertools.groupby(path) if label != 0)


def first_frames(path: tuple[int, ...]) -> list[int]:
    found, before = [], 0
    for frame, label in enumerate(path):
        if label not in (0, before):
            found.append(frame)
        before = label
    return found


def places(path: tuple[int, ...]) -> list[int]:
    found, place, before = [], -1, 0
    for label in path:
        place += label not in (0, before)
        found.append(place if label else -1)
        before = label
    return found


def brute(log_probs: torch.Tensor, target: tuple[int, ...]) -> tuple[int, ...]:
    frames, size = log_probs.shape
    paths = [p for p in itertools.product(range(size), repeat=frames) if collapse(p) == target]
    return max(paths, key=lambda p: sum(float(log_probs[t, label]) for t, label in enumerate(p)))


@pytest.mark.parametrize("seed", range(6))
def test_best_path_of_a_ragged_batch(seed: int) -> None:
    torch.manual_seed(seed)
    rows = [((1, 2), 6), ((1, 1), 5), ((2,), 3), ((3, 1, 3), 6), ((), 4), ((1, 1, 2), 4)]
    log_probs = torch.log_softmax(2 * torch.randn(len(rows), 6, 4), -1)
    targets = torch.zeros(len(rows), 3, dtype=torch.int64)
    for row, (target, _) in enumerate(rows):
        targets[row, : len(target)] = torch.tensor(target)
    lengths = torch.tensor([length for _, length in rows])
    counts = torch.tensor([len(target) for target, _ in rows])
    found = ctc_emission_frames(log_probs, targets, lengths, counts)
    path = ctc_alignment(log_probs, targets, lengths, counts)
    for row, (target, length) in enumerate(rows):
        best = brute(log_probs[row, :length], target)
        assert found[row].tolist() == first_frames(best) + [0] * (3 - len(target))
        assert path[row].tolist() == places(best) + [-1] * (6 - length)


def test_padding_and_batch_mates_change_nothing() -> None:
    torch.manual_seed(9)
    log_probs = torch.log_softmax(torch.randn(1, 5, 4), -1)
    targets, lengths, counts = torch.tensor([[1, 3]]), torch.tensor([5]), torch.tensor([2])
    alone = ctc_emission_frames(log_probs, targets, lengths, counts)
    wide = torch.log_softmax(torch.randn(2, 9, 4), -1)
    wide[0, :5] = log_probs[0]
    more = torch.tensor([[1, 3, 2, 2], [2, 2, 1, 3]])
    together = ctc_emission_frames(wide, more, torch.tensor([5, 9]), torch.tensor([2, 4]))
    assert together[0].tolist() == [*alone[0].tolist(), 0, 0]


def test_a_target_that_does_not_fit_has_no_path() -> None:
    log_probs = torch.log_softmax(torch.randn(1, 2, 4), -1)
    row = (log_probs, torch.tensor([[1, 2, 3]]), torch.tensor([2]), torch.tensor([3]))
    assert ctc_emission_frames(*row).tolist() == [[0, 0, 0]]
    assert ctc_alignment(*row).tolist() == [[-1, -1]]
