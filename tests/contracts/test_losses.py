"""What every loss in the table must do, on a tiny ragged batch in float64: an empty target, a single frame, repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from sayso.losses import LOSSES

FRAMES, LABELS = torch.tensor([9, 5, 1, 7]), torch.tensor([3, 0, 1, 2])
TARGETS = torch.tensor([[2, 2, 1], [3, 3, 3], [4, 1, 1], [1, 3, 2]])
WIDTH, VOCAB = 4, 5


class Case(NamedTuple):
    """The axes of each tensor that learns (T frames, U labels, P = U + 1 positions), its width, and how the loss is
    called."""

    axes: tuple[str, ...]
    width: int
    call: Callable[..., Tensor]


def join(enc: Tensor, pred: Tensor) -> Tensor:
    out = torch.linspace(-1.5, 2.0, WIDTH * VOCAB, dtype=enc.dtype).view(VOCAB, WIDTH).sin() * 2
    return torch.tanh(enc + pred) @ out.T


def ctc(name: str) -> Case:
    return Case(("T",), VOCAB, lambda x, *rest, **more: LOSSES[name](x.log_softmax(-1), *rest, **more))


def joined(name: str, **options: Any) -> Case:
    def call(enc: Tensor, pred: Tensor, *rest: Tensor, **more: Any) -> Tensor:
        return LOSSES[name](enc, pred, join, *rest, **options, **more)

    return Case(("T", "P"), WIDTH, call)


def labelled(name: str, **options: Any) -> Case:
    """A loss that knows no frames."""

    def call(x: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, **more: Any) -> Tensor:
        return LOSSES[name](x, targets, labels, **options, **more)

    return Case(("U",), VOCAB, call)


CASES = {
    "cross_entropy": labelled("cross_entropy", smoothing=0.2),
    "ctc": ctc("ctc"),
    "ctc_lattice": ctc("ctc_lattice"),
    "transducer": Case(("TP",), VOCAB, LOSSES["transducer"]),
    "transducer_lean": joined("transducer_lean", fastemit_lambda=0.0),
    "transducer_pruned": joined("transducer_pruned", band=3, simple_scale=0.5),
    "transducer_simple": Case(("T", "P"), VOCAB, LOSSES["transducer_simple"]),
}


@pytest.fixture(params=sorted(LOSSES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def inputs(case: Case, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(6)
    sizes = {"T": 9, "U": 3, "P": 4}
    shapes = [(4, *(sizes[axis] for axis in axes), case.width) for axes in case.axes]
    return [scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def own(case: Case, row: int) -> list[tuple[slice, ...]]:
    """Where a row's own part of each input is."""
    size = {"T": slice(int(FRAMES[row])), "U": slice(int(LABELS[row])), "P": slice(int(LABELS[row]) + 1)}
    return [(slice(row, row + 1), *(size[axis] for axis in axes)) for axes in case.axes]


def gradients(case: Case, tensors: list[Tensor], *rest: Tensor, **more: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    tensors = [x.detach().requires_grad_() for x in tensors]
    losses = case.call(*tensors, *rest, reduction="none", **more)
    return losses.detach(), torch.autograd.grad(losses.sum(), tensors)


def test_gradient_is_finite_differences(case: Case) -> None:
    tensors = [x.requires_grad_() for x in inputs(case)]
    assert torch.autograd.gradcheck(lambda *x: case.call(*x, TARGETS, FRAMES, LABELS, reduction="none"), tensors)


def test_alone_as_in_company_and_padding_gets_nothing(case: Case) -> None:
    tensors = inputs(case)
    padding = [
        torch.ones(x.shape[: 1 + len(axes)], dtype=torch.bool) for x, axes in zip(tensors, case.axes, strict=True)
    ]
    for row in range(4):
        for mask, place in zip(padding, own(case, row), strict=True):
            mask[place] = False
    for x, mask in zip(tensors, padding, strict=True):
        x[mask] = 50.0
    losses, found = gradients(case, tensors, TARGETS, FRAMES, LABELS)
    for row in range(4):
        places = own(case, row)
        labels = TARGETS[row : row + 1, : int(LABELS[row])]
        mine = [x[place] for x, place in zip(tensors, places, strict=True)]
        loss, wanted = gradients(case, mine, labels, FRAMES[row : row + 1], LABELS[row : row + 1])
        torch.testing.assert_close(losses[row : row + 1], loss)
        for gradient, want, place in zip(found, wanted, places, strict=True):
            torch.testing.assert_close(gradient[place], want)
    for gradient, mask in zip(found, padding, strict=True):
        assert not gradient[mask].any()


def test_rows_in_any_order_and_reductions(case: Case) -> None:
    tensors, order = inputs(case), torch.tensor([2, 0, 3, 1])
    each = case.call(*tensors, TARGETS, FRAMES, LABELS, reduction="none")
    turned = [x[order] for x in (*tensors, TARGETS, FRAMES, LABELS)]
    torch.testing.assert_close(case.call(*turned, reduction="none"), each[order])
    torch.testing.assert_close(case.call(*tensors, TARGETS, FRAMES, LABELS), each.mean())
    torch.testing.assert_close(case.call(*tensors, TARGETS, FRAMES, LABELS, reduction="sum"), each.sum())
    with pytest.raises(ValueError, match="median"):
        case.call(*tensors, TARGETS, FRAMES, LABELS, reduction="median")


def test_extreme_inputs_stay_finite(case: Case) -> None:
    tensors = [x.float() for x in inputs(case, 1e3)]
    losses, found = gradients(case, tensors, TARGETS, FRAMES, LABELS)
    assert losses.dtype == torch.float32 and torch.isfinite(losses).all()
    assert all(torch.isfinite(x).all() for x in found)


def test_low_precision_runs_a_wide_lattice(case: Case) -> None:
    tensors = [x.to(torch.bfloat16) for x in inputs(case)]
    losses, found = gradients(case, tensors, TARGETS, FRAMES, LABELS)
    wide, _ = gradients(case, [x.double() for x in tensors], TARGETS, FRAMES, LABELS)
    assert losses.dtype == torch.float32 and all(x.dtype == torch.bfloat16 for x in found)
    torch.testing.assert_close(losses.double(), wide, rtol=0.02, atol=0.02)
