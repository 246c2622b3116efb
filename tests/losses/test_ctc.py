"""Both CTC losses against every path there is, finite differences, each other, and targets that cannot be said."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sayso.losses import ctc_loss, ctc_loss_lattice

BOTH = pytest.mark.parametrize("loss", [ctc_loss, ctc_loss_lattice])
Loss = Callable[..., Tensor]


def enumerated(log_probs: Tensor, target: list[int], blank: int) -> Tensor:
    """-log of the summed probability of every path of one (T,V) that collapses to the target."""
    frames, size = log_probs.shape
    found = []
    for path in itertools.product(range(size), repeat=frames):
        if [label for label, _ in itertools.groupby(path) if label != blank] == target:
            found.append(log_probs[torch.arange(frames), list(path)].sum())
    return -torch.logsumexp(torch.stack(found), 0) if found else torch.tensor(torch.inf, dtype=log_probs.dtype)


@BOTH
@pytest.mark.parametrize("blank", [0, 2])
def test_equals_enumeration(loss: Loss, blank: int) -> None:
    rows = [([1, 3], 5), ([1, 1], 5), ([3, 3, 1], 4), ([1], 1), ([], 3), ([1, 1], 3), ([3, 1, 3], 3)]
    torch.manual_seed(blank)
    logits = torch.randn(len(rows), 5, 4, dtype=torch.float64)
    log_probs = logits.log_softmax(-1)
    targets = torch.ones(len(rows), 3, dtype=torch.int64)
    for row, (target, _) in enumerate(rows):
        targets[row, : len(target)] = torch.tensor(target)
    lengths, counts = torch.tensor([n for _, n in rows]), torch.tensor([len(target) for target, _ in rows])
    got = loss(log_probs, targets, lengths, counts, blank, "none")
    want = [enumerated(log_probs[row, :n], target, blank) for row, (target, n) in enumerate(rows)]
    torch.testing.assert_close(got, torch.stack(want), rtol=1e-9, atol=1e-9)


def ragged() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(8, 12, 4, generator=generator, dtype=torch.float64)  # few labels: many repeats
    targets = torch.randint(1, 4, (8, 5), generator=generator)
    return logits, targets, torch.tensor([12, 10, 11, 5, 1, 12, 9, 3]), torch.tensor([5, 5, 0, 2, 1, 3, 4, 0])


def test_ours_equals_torchs_and_so_does_the_gradient_of_logits() -> None:
    logits, *rest = ragged()
    weights = torch.rand(8, dtype=torch.float64)
    gradients, losses = [], []
    for loss in (ctc_loss, ctc_loss_lattice):
        x = logits.clone().requires_grad_()
        losses.append(loss(x.log_softmax(-1), *rest, reduction="none"))
        (losses[-1] * weights).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_gradient_is_finite_differences() -> None:
    logits, *rest = ragged()
    log_probs = logits.log_softmax(-1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ctc_loss_lattice(x, *rest, reduction="none"), (log_probs,))


@BOTH
@pytest.mark.parametrize("scale", [1.0, torch.inf])
def test_what_does_not_fit_teaches_nothing(loss: Loss, scale: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 4, requires_grad=True)
    targets, lengths = torch.tensor([[1, 1, 2], [1, 2, 3], [3, 2, 1]]), torch.tensor([3, 2, 4])
    row = (logits.log_softmax(-1), targets, lengths, torch.tensor([3, 3, 3]))
    assert loss(*row, reduction="none")[:2].tolist() == [0.0, 0.0]
    losses = loss(*row, reduction="none", zero_infinity=False)
    assert losses[:2].tolist() == [torch.inf, torch.inf] and torch.isfinite(losses[2])
    (losses * torch.tensor([scale, scale, 1.0])).sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[:2], torch.zeros(2, 4, 4)) and bool(logits.grad[2].any())


def test_forbidden_labels_never_give_nan() -> None:
    logits, *rest = ragged()
    logits[0, 3, 0], logits[1, 2, 1:3], logits[5, :, 1:] = -torch.inf, -torch.inf, -torch.inf
    log_probs = logits.log_softmax(-1).requires_grad_()
    losses = ctc_loss_lattice(log_probs, *rest, reduction="none", zero_infinity=False)
    torch.testing.assert_close(losses, ctc_loss(log_probs, *rest, reduction="none", zero_infinity=False))
    assert losses[5] == torch.inf and torch.isfinite(losses[:2]).all()
    losses.sum().backward()
    assert log_probs.grad is not None and torch.isfinite(log_probs.grad).all()
