"""Noise on weights: there for a gradient, gone after it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sayso.training.noise import noisy


def test_the_gradient_is_that_of_the_moved_weights() -> None:
    weight = nn.Parameter(torch.randn(400, 50, generator=torch.Generator().manual_seed(0)))
    before = weight.detach().clone()
    with noisy([weight], 0.075, seed=3):
        moved = weight.detach().clone()
        weight.square().sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(weight.detach(), before)
    assert weight.grad is not None and torch.equal(weight.grad, 2 * moved)
    noise = moved - before
    assert noise.std().item() == pytest.approx(0.075, rel=0.02) and abs(noise.mean().item()) < 0.002
    assert ((noise.abs() < 0.075).float().mean() - 0.6827).abs() < 0.01, "Gaussian"
    with noisy([weight], 0.075, seed=3):
        assert torch.equal(weight.detach(), moved)
    with noisy([weight], 0.075, seed=4):
        assert not torch.equal(weight.detach(), moved)


def test_weights_come_back_whatever_happens() -> None:
    weights = [nn.Parameter(torch.ones(5)), nn.Parameter(torch.zeros(2, 2))]
    with pytest.raises(RuntimeError, match="out of memory"), noisy(weights, 1.0, seed=0):
        assert not torch.equal(weights[0].detach(), torch.ones(5))
        raise RuntimeError("out of memory")
    assert torch.equal(weights[0].detach(), torch.ones(5)) and torch.equal(weights[1].detach(), torch.zeros(2, 2))


def test_noise_leaves_other_randomness_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with noisy([nn.Parameter(torch.ones(9))], 0.1, seed=1):
        pass
    assert torch.equal(torch.rand(3), expected)
