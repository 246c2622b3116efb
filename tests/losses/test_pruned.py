"""The pruned transducer loss: exact within its band, bands that hang together, and the simple joiner behind them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from sayso.losses import transducer_loss, transducer_loss_pruned, transducer_loss_simple
from sayso.losses.lattice import lattice_loss, point_scores
from sayso.losses.pruned import pruning_bounds
from sayso.losses.transducer import next_labels

SIZES = (torch.tensor([9, 6, 1, 8]), torch.tensor([6, 0, 3, 2]))


def sides() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(8)
    enc = torch.randn(4, 9, 5, generator=generator, dtype=torch.float64).requires_grad_()
    pred = torch.randn(4, 7, 5, generator=generator, dtype=torch.float64).requires_grad_()
    out = (2 * torch.randn(5, 6, generator=generator, dtype=torch.float64)).requires_grad_()
    return enc, pred, out, torch.randint(1, 6, (4, 6), generator=generator)


def test_simple_is_the_exact_loss_of_the_sum() -> None:
    torch.manual_seed(0)
    am = (3 * torch.randn(4, 9, 6, dtype=torch.float64)).requires_grad_()
    lm = (3 * torch.randn(4, 7, 6, dtype=torch.float64)).requires_grad_()
    targets = sides()[3]
    simple = transducer_loss_simple(am, lm, targets, *SIZES, blank=0, reduction="none")
    exact = transducer_loss(am[:, :, None] + lm[:, None], targets, *SIZES, reduction="none")
    torch.testing.assert_close(simple, exact)
    each = torch.rand(4, dtype=torch.float64)
    one, two = (torch.autograd.grad((each * loss).sum(), (am, lm)) for loss in (exact, simple))
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("seed", range(20))
def test_bands_hang_together(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    frames, labels = torch.randint(1, 12, (16,), generator=generator), torch.randint(0, 15, (16,), generator=generator)
    visits = torch.rand(16, 12, 16, generator=generator) ** 4
    for band in (2, 3, 5, 16, 40):
        starts, width = pruning_bounds(visits, frames, labels, band)
        needed = max(-(-u // t) + 1 for t, u in zip(frames.tolist(), labels.tolist(), strict=True))
        assert width == min(max(band, needed), 16)
        for row, (t, u) in enumerate(zip(frames.tolist(), labels.tolist(), strict=True)):
            begins = starts[row].tolist()
            assert begins[0] == 0 and begins[t - 1] == max(0, u + 1 - width)
            steps = [b - a for a, b in itertools.pairwise(begins[:t])]
            assert all(0 <= step < width for step in steps), begins
        assert bool((starts[:, :, None] + torch.arange(width) < 16).all())


def test_bands_follow_the_paths_where_they_may() -> None:
    visits = torch.zeros(1, 8, 9)
    for t, u in enumerate((0, 1, 1, 3, 4, 6, 7, 8)):
        visits[0, t, u] = 1.0
    starts, width = pruning_bounds(visits, torch.tensor([8]), torch.tensor([8]), 3)
    seen = (starts[0, :, None] + torch.arange(width)).tolist()
    assert all(u in window for u, window in zip((0, 1, 1, 3, 4, 6, 7, 8), seen, strict=True))


def in_band(starts: Tensor, width: int, positions: int) -> Tensor:
    u = torch.arange(positions)
    return (u >= starts[..., None]) & (u < starts[..., None] + width)


def within(logits: Tensor, targets: Tensor, row: int, seen: Tensor) -> Tensor:
    """-log of the summed probability of all paths of one row that meet no point outside ``seen`` (T,P)."""
    frames, labels = int(SIZES[0][row]), int(SIZES[1][row])
    log_probs = logits[row].log_softmax(-1)
    found = []
    waiting = [(0, 0, torch.zeros((), dtype=logits.dtype))]
    while waiting:
        t, u, score = waiting.pop()
        if t == frames:
            found += [score] if u == labels else []
        elif seen[t, u]:
            waiting.append((t + 1, u, score + log_probs[t, u, 0]))
            if u < labels:
                waiting.append((t, u + 1, score + log_probs[t, u, targets[row, u]]))
    return -torch.logsumexp(torch.stack(found), 0)


@pytest.mark.parametrize("band", [2, 3, 4])
@pytest.mark.parametrize("given", [False, True])
def test_exact_within_the_band(band: int, given: bool) -> None:
    enc, pred, out, targets = sides()
    torch.manual_seed(band)
    am, lm = 2 * torch.randn(4, 9, 6, dtype=torch.float64), 2 * torch.randn(4, 7, 6, dtype=torch.float64)
    options: dict[str, Any] = {"simple": (am, lm)} if given else {}
    if not given:
        am, lm = torch.tanh(enc) @ out, torch.tanh(pred) @ out
    scores = point_scores(am[:, :, None] + lm[:, None], next_labels(targets)[:, None].expand(4, 9, 7), 0)
    visits = lattice_loss(scores, *SIZES)[1].sum(-1)
    starts, width = pruning_bounds(visits, *SIZES, band)
    seen = in_band(starts, width, 7)
    logits = torch.tanh(enc[:, :, None] + pred[:, None]) @ out
    want = torch.stack([within(logits, targets, row, seen[row]) for row in range(4)])
    got = transducer_loss_pruned(
        enc, pred, lambda e, p: torch.tanh(e + p) @ out, targets, *SIZES, band, reduction="none", **options
    )
    torch.testing.assert_close(got, want)
    assert width == 4 or float((got - transducer_loss(logits, targets, *SIZES, reduction="none")).max()) > 1e-3
    one, two = (torch.autograd.grad(loss.sum(), (enc, pred, out), retain_graph=True) for loss in (want, got))
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("fastemit_lambda", [0.0, 0.3])
def test_a_band_of_all_labels_is_the_exact_loss(fastemit_lambda: float) -> None:
    enc, pred, out, targets = sides()
    logits = torch.tanh(enc[:, :, None] + pred[:, None]) @ out
    exact = transducer_loss(logits, targets, *SIZES, reduction="sum", fastemit_lambda=fastemit_lambda)

    def outer(e: Tensor, p: Tensor) -> Tensor:
        return torch.tanh(e[:, :, None] + p[:, None]) @ out  # as the joiners of models are

    for join in (lambda e, p: torch.tanh(e + p) @ out, outer):
        for band in (7, 50):
            pruned = transducer_loss_pruned(
                enc, pred, join, targets, *SIZES, band, reduction="sum", fastemit_lambda=fastemit_lambda
            )
            torch.testing.assert_close(pruned, exact)
            one, two = (torch.autograd.grad(loss, (enc, pred, out), retain_graph=True) for loss in (exact, pruned))
            torch.testing.assert_close(one, two)


def test_the_simple_joiner_learns_when_asked_to() -> None:
    enc, pred, out, targets = sides()
    am = torch.randn(4, 9, 6, dtype=torch.float64, requires_grad=True)
    lm = torch.randn(4, 7, 6, dtype=torch.float64, requires_grad=True)

    def loss(scale: float) -> Tensor:
        return transducer_loss_pruned(
            enc, pred, lambda e, p: (e + p) @ out, targets, *SIZES, 3, simple=(am, lm), simple_scale=scale
        )

    simple = transducer_loss_simple(am, lm, targets, *SIZES)
    torch.testing.assert_close(loss(0.5) - loss(0.0), 0.5 * simple)
    got = torch.autograd.grad(loss(0.5), (am, lm))
    want = torch.autograd.grad(0.5 * simple, (am, lm))
    torch.testing.assert_close(got, want)
    assert torch.autograd.grad(loss(0.0), (enc, am), allow_unused=True)[1] is None


def test_padding_is_never_read_and_contradiction_stays_finite() -> None:
    enc, pred, out, targets = sides()
    with torch.no_grad():
        for row, (t, u) in enumerate(zip(*(x.tolist() for x in SIZES), strict=True)):
            enc[row, t:], pred[row, u + 1 :] = torch.nan, torch.nan
    loss = transducer_loss_pruned(enc, pred, lambda e, p: (e + p) @ out, targets, *SIZES, 3, simple_scale=1.0)
    for gradient in torch.autograd.grad(loss, (enc, pred, out)):
        assert torch.isfinite(gradient).all() and bool(gradient.any())
    am, lm = torch.zeros(4, 9, 6), torch.zeros(4, 7, 6)
    am[..., 1], lm[..., 2] = 500.0, 500.0
    am.requires_grad_()
    simple = transducer_loss_simple(am, lm, targets, *SIZES)
    simple.backward()
    assert torch.isfinite(simple) and am.grad is not None and torch.isfinite(am.grad).all()


def test_wrong_words_are_named() -> None:
    enc, pred, out, targets = sides()
    with pytest.raises(ValueError, match="band must be 2 or more"):
        transducer_loss_pruned(enc, pred, lambda e, p: (e + p) @ out, targets, *SIZES, 1)
    with pytest.raises(ValueError, match="simple must be"):
        transducer_loss_pruned(enc, pred, lambda e, p: (e + p) @ out, targets, *SIZES, 3, simple=(enc[:, :2], pred))
    with pytest.raises(ValueError, match="simple must be"):
        transducer_loss_simple(enc, pred[:, :, :3], targets, *SIZES)
