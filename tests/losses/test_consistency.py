"""The divergence of two views against its definition, who is taught by whom, and padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sayso.losses import consistency_loss

LENGTHS = torch.tensor([5, 2, 0])


def views() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    first, second = torch.randn(2, 3, 5, 4, dtype=torch.float64).unbind()
    return first.requires_grad_(), second.requires_grad_()


def test_equals_the_definition_and_its_gradient_has_fixed_targets() -> None:
    first, second = views()
    got = consistency_loss(first.log_softmax(-1), second.log_softmax(-1), LENGTHS)
    want = torch.zeros(3, dtype=torch.float64)
    for row, length in enumerate(LENGTHS.tolist()):
        for a, b in ((first, second), (second, first)):
            heard, target = a[row, :length].log_softmax(-1), b[row, :length].softmax(-1).detach()
            want[row] += 0.5 * functional.kl_div(heard, target, reduction="sum")
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    found = torch.autograd.grad(got.sum(), [first, second])
    expected = torch.autograd.grad(want.sum(), [first, second])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    # with a moving target the gradient would be another one
    p, q = first.softmax(-1), second.softmax(-1)
    moving = 0.5 * ((p - q) * (p.log() - q.log())).sum(2)
    both = torch.autograd.grad((moving[0].sum() + moving[1, :2].sum()), [first])[0]
    assert not torch.allclose(both, expected[0], rtol=1e-2)


def test_what_agrees_costs_nothing_and_padding_has_no_say() -> None:
    first, second = views()
    assert consistency_loss(first.log_softmax(-1), first.log_softmax(-1), LENGTHS).abs().max() == 0
    consistency_loss(first.log_softmax(-1), second.log_softmax(-1), LENGTHS).sum().backward()  # type: ignore[no-untyped-call]
    assert first.grad is not None and first.grad[1, 2:].abs().max() == 0 and first.grad[2].abs().max() == 0
    assert first.grad[0].abs().min() > 0


def test_impossible_frames_give_no_nan() -> None:
    sure = torch.tensor([[[0.0, -torch.inf]]], requires_grad=True)
    found = consistency_loss(sure, sure, torch.tensor([1]))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert found.item() == 0 and sure.grad is not None and bool(sure.grad.isfinite().all())


def test_views_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape"):
        consistency_loss(torch.zeros(1, 3, 2), torch.zeros(1, 4, 2), torch.tensor([3]))
