"""Expected errors against the paper's formula, and against every path of a small network."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sayso.losses import expected_errors_loss


def test_it_is_the_papers_formula() -> None:
    """Prabhavalkar et al. 2018, equation 8: probabilities among the list, errors above the list's mean."""
    scores = torch.tensor([[-1.0, -2.5, -0.5], [-3.0, -3.5, 9.0]], dtype=torch.float64)
    errors = torch.tensor([[0, 3, 1], [2, 1, 99]])
    found = expected_errors_loss(scores, errors, torch.tensor([3, 2]), "none")
    wanted = []
    for row, count in ((0, 3), (1, 2)):
        p = [math.exp(float(s)) for s in scores[row, :count]]
        w = [float(e) for e in errors[row, :count]]
        wanted.append(sum(a / sum(p) * (b - sum(w) / count) for a, b in zip(p, w, strict=True)))
    assert found.tolist() == pytest.approx(wanted, abs=1e-12)
    assert expected_errors_loss(scores, errors, torch.tensor([3, 2])).item() == pytest.approx(sum(wanted) / 2)


def test_over_all_labellings_it_is_the_expectation_over_all_paths() -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(4, 3, generator=generator, dtype=torch.float64).log_softmax(1)

    def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(label for label, _ in itertools.groupby(path) if label)

    likely: dict[tuple[int, ...], float] = {}
    expected = 0.0
    for path in itertools.product(range(3), repeat=4):
        p = math.exp(sum(float(log_probs[t, label]) for t, label in enumerate(path)))
        likely[collapse(path)] = likely.get(collapse(path), 0.0) + p
        expected += p * len(collapse(path))  # errors against silence
    names = sorted(likely)
    errors = torch.tensor([[len(name) for name in names]])
    scores = torch.tensor([[math.log(likely[name]) for name in names]], dtype=torch.float64)
    found = expected_errors_loss(scores, errors)
    assert found.item() == pytest.approx(expected - errors.double().mean().item(), abs=1e-9)


def test_gradient_is_finite_differences_and_favours_fewer_errors() -> None:
    scores = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    errors, counts = torch.tensor([[0, 1, 2, 5], [1, 1, 7, 0], [3, 0, 0, 0]]), torch.tensor([4, 2, 1])
    assert torch.autograd.gradcheck(lambda x: expected_errors_loss(x, errors, counts, "none"), (scores,))
    expected_errors_loss(scores, errors, counts, "sum").backward()
    assert scores.grad is not None and scores.grad[0, 0] < 0 < scores.grad[0, 3]
    assert not scores.grad[1:].abs().gt(1e-12).any(), "equal errors, and a list of one, have nothing to tell"


def test_what_cannot_be_said_is_no_nan() -> None:
    scores = torch.tensor([[0.0, -torch.inf], [-torch.inf, -torch.inf], [-9e9, 0.0]], requires_grad=True)
    errors, counts = torch.tensor([[1, 3], [1, 2], [0, 0]]), torch.tensor([2, 2, 0])
    loss = expected_errors_loss(scores, errors, counts, "none")
    loss.sum().backward()
    assert loss.tolist() == [-1.0, 0.0, 0.0] and scores.grad is not None and scores.grad.isfinite().all()
    with pytest.raises(ValueError, match=r"\(B,N\) both"):
        expected_errors_loss(scores, errors[:2])
