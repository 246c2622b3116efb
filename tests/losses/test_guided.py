"""Guided attention against its formula, point by point."""

from __future__ import annotations

import math

import pytest
import torch

from sayso.losses.guided import guided_attention_loss


def test_it_is_its_formula_and_padding_is_not_read() -> None:
    attention = torch.rand(3, 4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outputs, inputs = torch.tensor([4, 2, 0]), torch.tensor([7, 5, 3])
    wanted = []
    for row, (many, long) in enumerate(zip(outputs.tolist(), inputs.tolist(), strict=True)):
        points = [(u, t) for u in range(many) for t in range(long)]
        costs = [1 - math.exp(-((u / many - t / long) ** 2) / (2 * 0.3**2)) for u, t in points]
        values = [float(attention[row, u, t]) * cost for (u, t), cost in zip(points, costs, strict=True)]
        wanted.append(sum(values) / max(1, len(values)))
    attention[1, 2:], attention[1, :, 5:], attention[2] = torch.nan, torch.nan, torch.nan
    found = guided_attention_loss(attention, outputs, inputs, 0.3, "none")
    assert found.tolist() == pytest.approx(wanted, abs=1e-12)


def test_the_diagonal_is_free_and_straying_costs_more_the_further() -> None:
    lengths = torch.tensor([5])
    here, near, far = (guided_attention_loss(torch.eye(5).roll(by, 1)[None], lengths, lengths) for by in (0, 1, 2))
    assert here.item() == 0.0 < near.item() < far.item()


def test_gradient_is_finite_differences() -> None:
    x = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([3, 2]), torch.tensor([4, 1])
    assert torch.autograd.gradcheck(lambda y: guided_attention_loss(y, *lengths, reduction="none"), (x,))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(B,U,T\)"):
        guided_attention_loss(torch.ones(3, 4), torch.tensor([3]), torch.tensor([4]))
    for wrong in ((torch.tensor([3, 3]), torch.tensor([4, 4])), (torch.tensor([3]), torch.tensor([4, 4]))):
        with pytest.raises(ValueError, match=r"lengths \(B,\)"):
            guided_attention_loss(torch.ones(1, 3, 4), *wrong)
    with pytest.raises(ValueError, match="sharpness"):
        guided_attention_loss(torch.ones(1, 3, 4), torch.tensor([3]), torch.tensor([4]), 0.0)
