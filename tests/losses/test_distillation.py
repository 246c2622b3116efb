"""The student's tokens and the teacher's."""

from __future__ import annotations

import math

import pytest
import torch

from sayso.losses import distillation_loss, lattice_distillation_loss


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


def _lattice(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two rows, (3 frames, 2 labels) and (2, 1), of six tokens; what lies outside them is NaN or a wrong label."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(2, 3, 3, 6, generator=generator).double() for _ in range(2))
    for x in (student, teacher):
        x[1, 2], x[1, :, 2] = torch.nan, torch.nan
    return student, teacher, torch.tensor([[2, 5], [3, 0]]), torch.tensor([3, 2]), torch.tensor([2, 1])


def _three(scores: list[float], label: int | None) -> list[float]:
    """Probabilities of the blank, of the label and of all others, by hand."""
    total = sum(map(math.exp, scores))
    p = [math.exp(score) / total for score in scores]
    named = [p[0]] if label is None else [p[0], p[label]]
    return [*named, sum(p) - sum(named)]


def test_of_a_lattice_it_is_the_sum_over_its_own_points_written_out() -> None:
    student, teacher, targets, frames, labels = _lattice()
    expected = []
    for row in range(2):
        total = 0.0
        for t in range(int(frames[row])):
            for u in range(int(labels[row]) + 1):
                label = int(targets[row, u]) if u < labels[row] else None
                told, heard = (_three(x[row, t, u].tolist(), label) for x in (teacher, student))
                total += sum(a * math.log(a / b) for a, b in zip(told, heard, strict=True))
        expected.append(total)
    found = lattice_distillation_loss(student, teacher, targets, frames, labels, reduction="none")
    assert found.tolist() == pytest.approx(expected, rel=1e-5) and min(expected) > 1


def test_the_gradient_of_a_lattice_is_that_of_finite_differences_and_none_outside() -> None:
    student, teacher, targets, frames, labels = _lattice(1)
    logits = student.clone().requires_grad_()
    lattice_distillation_loss(logits, teacher, targets, frames, labels).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    for place in [(0, 0, 0, 0), (0, 1, 1, 5), (0, 2, 2, 3), (1, 1, 1, 0), (1, 0, 0, 4)]:
        two = []
        for step in (1e-5, -1e-5):
            moved = student.clone()
            moved[place] += step
            two.append(lattice_distillation_loss(moved, teacher, targets, frames, labels).item())
        assert logits.grad[place].item() == pytest.approx((two[0] - two[1]) / 2e-5, abs=1e-8)
    assert not logits.grad[1, 2].any() and not logits.grad[1, :, 2].any() and logits.grad[0].any(-1).all()
    assert logits.grad.isfinite().all()


def test_which_of_the_other_tokens_it_is_does_not_matter_to_a_lattice() -> None:
    student, teacher, targets, frames, labels = _lattice(2)
    assert lattice_distillation_loss(teacher, teacher, targets, frames, labels).item() == pytest.approx(0, abs=1e-6)
    swapped = teacher.clone()
    swapped[..., [1, 4]] = teacher[..., [4, 1]]  # neither is a label here
    assert lattice_distillation_loss(swapped, teacher, targets, frames, labels).item() == pytest.approx(0, abs=1e-5)
    swapped = teacher.clone()
    swapped[..., [1, 2]] = teacher[..., [2, 1]]  # 2 is
    assert lattice_distillation_loss(swapped, teacher, targets, frames, labels).item() > 0.1
    with pytest.raises(ValueError, match="must both be"):
        lattice_distillation_loss(student[:, :2], teacher, targets, frames, labels)
    with pytest.raises(ValueError, match="V > 2"):
        lattice_distillation_loss(student[..., :2], teacher[..., :2], targets, frames, labels)
    with pytest.raises(ValueError, match="target_lengths"):
        lattice_distillation_loss(student, teacher, targets, frames, labels + 2)
