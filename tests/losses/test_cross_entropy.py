"""Label smoothing is its formula, inside the cross-entropy and nowhere else."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from sayso.losses import cross_entropy_loss


def test_it_is_its_formula() -> None:
    logits = torch.tensor([[[0.3, -1.0, 2.0], [1.5, 0.2, -0.4]]], dtype=torch.float64)
    expected = 0.0
    for row, target in zip(logits[0].tolist(), (2, 1), strict=True):
        total = math.log(sum(math.exp(x) for x in row))
        soft = [0.3 / 3 + (0.7 if label == target else 0.0) for label in range(3)]
        expected -= sum(share * (x - total) for share, x in zip(soft, row, strict=True))
    found = cross_entropy_loss(logits, torch.tensor([[2, 1]]), torch.tensor([2]), smoothing=0.3)
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_it_is_torchs_on_what_is_no_padding(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    targets, lengths = torch.randint(0, 7, (3, 5), generator=generator), torch.tensor([5, 0, 2])
    found = cross_entropy_loss(logits, targets, lengths, smoothing, reduction="none")
    for row, length in enumerate(lengths.tolist()):
        whole = functional.cross_entropy(
            logits[row, :length], targets[row, :length], label_smoothing=smoothing, reduction="sum"
        )
        torch.testing.assert_close(found[row], whole)


def test_padding_may_hold_anything() -> None:
    logits = torch.full((1, 2, 3), torch.inf)
    logits[0, 0] = torch.tensor([0.0, 1.0, 2.0])
    targets = torch.tensor([[1, -100]])
    wanted = cross_entropy_loss(logits[:, :1], targets[:, :1], torch.tensor([1]), 0.1)
    torch.testing.assert_close(cross_entropy_loss(logits, targets, torch.tensor([1]), 0.1), wanted)


def test_smoothing_everything_away_is_refused() -> None:
    with pytest.raises(ValueError, match="smoothing"):
        cross_entropy_loss(torch.zeros(1, 1, 2), torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), 1.0)
