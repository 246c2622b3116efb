"""Coarse labels are sums of their children; smoothing is its formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sayso.losses.labels import label_loss

# of six classes: each itself, then 'one of the first three', then 'one of the last two'
MEMBERS = torch.cat([torch.eye(6), torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1]])]).bool()


def log_probs(rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(rows, 6, generator=generator, dtype=torch.float64)).log_softmax(1)


def test_a_coarse_label_is_the_log_of_its_childrens_sum() -> None:
    """Coarse and fine in one batch."""
    said, labels = log_probs(5), torch.tensor([6, 2, 7, -1, 6])
    each = label_loss(said, labels, MEMBERS, reduction="none")
    p = said.exp().tolist()
    wanted = [-math.log(sum(p[0][:3])), -math.log(p[1][2]), -math.log(p[2][4] + p[2][5]), 0.0, -math.log(sum(p[4][:3]))]
    assert each.tolist() == pytest.approx(wanted, abs=1e-9)
    assert label_loss(said, labels, MEMBERS).item() == pytest.approx(sum(wanted) / 4, abs=1e-9)


def test_without_coarse_labels_it_is_cross_entropy() -> None:
    logits, labels = (
        torch.randn(7, 6, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 5, -1, 3, 3, -1, 2]),
    )
    for smoothing in (0.0, 0.1):
        wanted = functional.cross_entropy(logits, labels, ignore_index=-1, label_smoothing=smoothing)
        for members in (None, MEMBERS):
            found = label_loss(logits.log_softmax(1), labels, members, smoothing=smoothing)
            torch.testing.assert_close(found, wanted)


def test_smoothing_is_its_formula() -> None:
    """(1 - e) of the target and e / C of everything (Szegedy et al. 2016, section 7), of coarse labels too."""
    said = log_probs(2)
    found = label_loss(said, torch.tensor([4, 7]), MEMBERS, smoothing=0.2, reduction="none")
    uniform = [sum(row) / 6 for row in said.tolist()]
    hit = [said[0, 4].item(), math.log(said[1, 4].exp().item() + said[1, 5].exp().item())]
    wanted = [-0.8 * h - 0.2 * u for h, u in zip(hit, uniform, strict=True)]
    assert found.tolist() == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradient_is_finite_differences(smoothing: float) -> None:
    labels = torch.tensor([6, 1, -1, 7])
    logits = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    call = lambda x: label_loss(x.log_softmax(1), labels, MEMBERS, smoothing=smoothing, reduction="none")  # noqa: E731
    assert torch.autograd.gradcheck(call, (logits,))
    call(logits).sum().backward()
    assert logits.grad is not None and not logits.grad[2].any()


def test_nothing_known_costs_nothing_and_impossible_classes_are_no_nan() -> None:
    logits = torch.zeros(2, 6, requires_grad=True)
    loss = label_loss(logits.log_softmax(1), torch.tensor([-1, -1]), MEMBERS)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0 and logits.grad is not None and not logits.grad.any()
    far = torch.tensor([[0.0, -200.0, -300.0, -400.0, -1e4, -1e4]], dtype=torch.float64)
    sure = far.log_softmax(1).requires_grad_()
    loss = label_loss(sure, torch.tensor([7]), MEMBERS)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(1e4 - math.log(2)) and sure.grad is not None
    assert sure.grad[0, 4:].tolist() == pytest.approx([-0.5, -0.5])


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.5"):
        label_loss(log_probs(1), torch.tensor([6]))
    with pytest.raises(ValueError, match="a class for every label"):
        label_loss(log_probs(1), torch.tensor([0]), torch.zeros(2, 6, dtype=torch.bool))
    with pytest.raises(ValueError, match="0 <= e < 1"):
        label_loss(log_probs(1), torch.tensor([0]), smoothing=1.0)
