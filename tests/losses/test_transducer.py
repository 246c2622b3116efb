"""The RNN-T loss against enumeration of all paths, finite differences, and its promises about padding and -inf."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from sayso.losses import transducer_loss
from sayso.losses.alignment import alignment_band


def enumerate_paths(log_probs: Tensor, target: list[int], blank: int) -> float:
    """-log of the summed probability of every alignment of one (T,U+1,V) lattice."""
    frames, labels = log_probs.shape[0], len(target)
    scores = []
    for where in itertools.combinations(range(frames + labels - 1), labels):  # the last step is always a blank
        t = u = 0
        score = 0.0
        for step in range(frames + labels):
            if step in where:
                score += float(log_probs[t, u, target[u]])
                u += 1
            else:
                score += float(log_probs[t, u, blank])
                t += 1
        scores.append(score)
    return -float(torch.logsumexp(torch.tensor(scores, dtype=torch.float64), 0))


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize(("frames", "labels"), [(1, 0), (1, 3), (4, 0), (2, 1), (5, 3), (3, 4)])
def test_equals_enumeration(frames: int, labels: int, blank: int) -> None:
    generator = torch.Generator().manual_seed(frames * 10 + labels)
    logits = torch.randn(1, frames, labels + 1, 5, generator=generator, dtype=torch.float64)
    options = [v for v in range(5) if v != blank]
    target = [options[int(i)] for i in torch.randint(0, 4, (labels,), generator=generator)]
    got = transducer_loss(
        logits,
        torch.tensor([target], dtype=torch.int64).view(1, labels),
        torch.tensor([frames]),
        torch.tensor([labels]),
        blank,
    )
    assert math.isclose(float(got), enumerate_paths(logits[0].log_softmax(-1), target, blank), rel_tol=1e-9)


def ragged() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 6, 4, 5, generator=generator, dtype=torch.float64)
    targets = torch.randint(1, 5, (4, 3), generator=generator)
    return logits, targets, torch.tensor([6, 4, 1, 5]), torch.tensor([3, 0, 2, 1])


def test_gradient_is_finite_differences_for_ragged_rows() -> None:
    logits, targets, frames, labels = ragged()
    assert torch.autograd.gradcheck(
        lambda x: transducer_loss(x, targets, frames, labels, reduction="none"), (logits.requires_grad_(),)
    )


def test_padding_changes_nothing_and_gets_no_gradient() -> None:
    logits, targets, frames, labels = ragged()
    alone = [
        transducer_loss(logits[b : b + 1, :t, : u + 1], targets[b : b + 1, :u], frames[b : b + 1], labels[b : b + 1])
        for b, (t, u) in enumerate(zip(frames.tolist(), labels.tolist(), strict=True))
    ]
    noisy = logits.clone()
    inside = (torch.arange(6)[None, :, None] < frames[:, None, None]) & (
        torch.arange(4)[None, None] <= labels[:, None, None]
    )
    noisy[~inside] = torch.nan
    noisy.requires_grad_()
    losses = transducer_loss(noisy, targets, frames, labels, reduction="none")
    torch.testing.assert_close(losses, torch.stack(alone))
    losses.sum().backward()
    assert noisy.grad is not None
    assert torch.equal(noisy.grad[~inside], torch.zeros_like(noisy.grad[~inside]))
    assert torch.isfinite(noisy.grad).all()


def test_minus_infinity_never_gives_nan() -> None:
    logits, targets, frames, labels = ragged()
    logits[0, 2, 1, 0] = -torch.inf  # a forbidden blank
    logits[1, 1, 0, 3] = -torch.inf  # a forbidden label off every path
    logits[3, :, 0, targets[3, 0]] = -torch.inf  # the only label can never be said: an impossible target
    logits.requires_grad_()
    losses = transducer_loss(logits, targets, frames, labels, reduction="none")
    assert losses[3] == torch.inf
    assert math.isclose(
        losses[0].item(), enumerate_paths(logits[0].detach().log_softmax(-1), targets[0].tolist(), 0), rel_tol=1e-9
    )
    losses[:3].sum().backward()
    assert logits.grad is not None
    assert not torch.isnan(logits.grad).any()


def test_impossible_target_has_zero_gradient() -> None:
    logits = torch.zeros(1, 2, 2, 3)
    logits[..., 1] = -torch.inf
    logits.requires_grad_()
    transducer_loss(logits, torch.tensor([[1]]), torch.tensor([2]), torch.tensor([1])).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_low_precision_input_runs_a_wide_lattice() -> None:
    logits, targets, frames, labels = ragged()
    short = logits.to(torch.bfloat16)
    got = transducer_loss(short, targets, frames, labels, reduction="none")
    want = transducer_loss(short.double(), targets, frames, labels, reduction="none")
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    assert got.dtype == torch.float32


def test_reductions_and_permutation() -> None:
    logits, targets, frames, labels = ragged()
    each = transducer_loss(logits, targets, frames, labels, reduction="none")
    torch.testing.assert_close(transducer_loss(logits, targets, frames, labels, reduction="sum"), each.sum())
    torch.testing.assert_close(transducer_loss(logits, targets, frames, labels), each.mean())
    order = torch.tensor([2, 0, 3, 1])
    turned = transducer_loss(logits[order], targets[order], frames[order], labels[order], reduction="none")
    torch.testing.assert_close(turned, each[order])


def test_wrong_shapes_are_named() -> None:
    logits, targets, frames, labels = ragged()
    with pytest.raises(ValueError, match=r"targets must be \(B,U\)"):
        transducer_loss(logits, targets[:, :2], frames, labels)
    with pytest.raises(ValueError, match="logit_lengths"):
        transducer_loss(logits, targets, frames * 0, labels)
    with pytest.raises(ValueError, match="other than the blank"):
        transducer_loss(logits, targets * 0, frames, labels)


@pytest.mark.parametrize("blank", [0, 2])
def test_fastemit_is_its_definition(blank: int) -> None:
    """Label log-probabilities earn 1 + lambda times as much (Yu et al. 2021), blanks what they did."""
    logits, targets, frames, labels = ragged()
    targets[targets == blank] = 1 if blank != 1 else 3
    logits.requires_grad_()
    loss = transducer_loss(logits, targets, frames, labels, blank, "sum", 0.4)
    torch.testing.assert_close(loss, transducer_loss(logits, targets, frames, labels, blank, "sum"))
    (got,) = torch.autograd.grad(loss, logits)
    fixed, free = logits.detach().log_softmax(-1), logits.log_softmax(-1)

    def split(blanks: Tensor, others: Tensor) -> Tensor:
        """The loss with the log-probability of the blank read from one tensor and of labels from another."""
        mixed = torch.where(torch.arange(5) == blank, blanks, others)
        rows = zip(mixed, targets, frames.tolist(), labels.tolist(), strict=True)
        return torch.stack([summed(row[:t, : u + 1], target[:u].tolist(), blank) for row, target, t, u in rows]).sum()

    (want,) = torch.autograd.grad(split(free, free) + 0.4 * split(fixed, free), logits)
    torch.testing.assert_close(got, want)


def summed(log_probs: Tensor, target: list[int], blank: int) -> Tensor:
    """The loss of one (T,U+1,V) of log-probabilities that need not sum to one, by autograd through every step."""
    frames, positions = log_probs.shape[:2]
    reach: dict[tuple[int, int], Tensor] = {(0, 0): log_probs.new_zeros(())}
    for t, u in itertools.product(range(frames), range(positions)):
        ways = [reach[t - 1, u] + log_probs[t - 1, u, blank]] if t else []
        ways += [reach[t, u - 1] + log_probs[t, u - 1, target[u - 1]]] if u else []
        if ways:
            reach[t, u] = torch.stack(ways).logsumexp(0)
    return -(reach[frames - 1, positions - 1] + log_probs[frames - 1, positions - 1, blank])


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 2), (0, None), (2, 1)])
def test_restricted_is_the_sum_over_allowed_paths_only(before: int | None, after: int | None) -> None:
    """Alignment-restricted RNN-T (Mahadeokar et al. 2021): every path, those that leave the band struck out."""
    logits, targets, frames, labels = ragged()
    times = torch.tensor([[1, 1, 4], [0, 0, 0], [0, 0, -1], [3, 0, 0]])
    band = alignment_band(times, 6, before, after)
    found = transducer_loss(logits, targets, frames, labels, reduction="none", allowed=band)
    for row, (size, count) in enumerate(zip(frames.tolist(), labels.tolist(), strict=True)):
        log_probs = logits[row, :size, : count + 1].log_softmax(-1)
        for u, t in itertools.product(range(count), range(size)):
            at = int(times[row, u])
            legal = at < 0 or ((before is None or t >= at - before) and (after is None or t <= at + after))
            assert bool(band[row, t, u]) == legal
            log_probs[t, u, targets[row, u]] = log_probs[t, u, targets[row, u]] if legal else -torch.inf
        assert found[row].item() == pytest.approx(
            enumerate_paths(log_probs, targets[row, :count].tolist(), 0), rel=1e-9
        )
    full = transducer_loss(logits, targets, frames, labels, reduction="none")
    assert (found >= full - 1e-12).all() and found[0] > full[0] + 1e-3


def test_a_band_without_end_is_the_full_loss_and_gradients_are_finite_differences() -> None:
    logits, targets, frames, labels = ragged()
    logits.requires_grad_()
    times = torch.tensor([[1, 1, 4], [0, 0, 0], [0, 0, -1], [3, 0, 0]])
    sizes = (targets, frames, labels)
    for reach in (None, 6):
        band = alignment_band(times, 6, reach, reach)
        restricted = transducer_loss(logits, *sizes, reduction="none", allowed=band)
        full = transducer_loss(logits, *sizes, reduction="none")
        torch.testing.assert_close(restricted, full, rtol=0, atol=1e-12)
        (one,), (two,) = (torch.autograd.grad(loss.sum(), logits) for loss in (restricted, full))
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
    band = alignment_band(times, 6, 1, 1)
    assert torch.autograd.gradcheck(lambda x: transducer_loss(x, *sizes, reduction="none", allowed=band), (logits,))
    nowhere = torch.zeros_like(band)
    assert transducer_loss(logits, *sizes, reduction="none", allowed=nowhere).isinf().tolist() == [1, 0, 1, 1]
    with pytest.raises(ValueError, match="allowed must be"):
        transducer_loss(logits, *sizes, allowed=band[:, :5])
