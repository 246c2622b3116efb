"""The student's tokens and the teacher's."""

from __future__ import annotations

import math

import pytest
import torch

from sayso.losses import distillation_loss


def _two(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(2, 5, 4, generator=generator).log_softmax(2)
    teacher = torch.randn(2, 5, 4, generator=generator).log_softmax(2)
    teacher[1, 3:] = torch.nan
    return student, teacher


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_it_is_the_divergence_written_out(temperature: float) -> None:
    student, teacher = _two()
    total, count = 0.0, 0
    for row, frames in enumerate((5, 3)):
        for frame in range(frames):
            p, q = ([math.exp(v / temperature) for v in x[row, frame].tolist()] for x in (teacher, student))
            p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            count += 1
    found = distillation_loss(student, teacher, temperature)
    assert found.item() == pytest.approx(temperature**2 * total / count, rel=1e-5)
    assert found.item() > 0.05


def test_its_gradient_is_the_difference_of_the_two_distributions() -> None:
    student, teacher = _two(1)
    logits = student.clone().requires_grad_()
    temperature = 3.0
    distillation_loss(logits.log_softmax(2), teacher, temperature).backward()  # type: ignore[no-untyped-call]
    known = ~teacher[:, :, 0].isnan()
    expected = temperature * ((student / temperature).softmax(2) - (teacher / temperature).softmax(2)) / known.sum()
    assert logits.grad is not None
    assert torch.allclose(logits.grad[known], expected[known], atol=1e-6)
    assert not logits.grad[~known].any()


def test_nothing_to_learn_from_oneself_or_from_nobody() -> None:
    student, teacher = _two()
    assert distillation_loss(student, student).item() == pytest.approx(0, abs=1e-6)
    assert distillation_loss(student, torch.full_like(teacher, torch.nan)).item() == 0
    with pytest.raises(ValueError, match="one shape"):
        distillation_loss(student[:, :4], teacher)
