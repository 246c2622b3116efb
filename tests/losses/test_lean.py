"""The lean transducer loss is the exact one, in value and in every gradient, and never holds the logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sayso.losses import lean, transducer_loss, transducer_loss_lean
from sayso.losses.lean import Join

SIZES = (torch.tensor([21, 9, 1, 17]), torch.tensor([5, 0, 3, 1]))


def sides(scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(8)
    enc = scale * torch.randn(4, 21, 6, generator=generator, dtype=torch.float64)
    pred = scale * torch.randn(4, 6, 6, generator=generator, dtype=torch.float64)
    return enc.requires_grad_(), pred.requires_grad_(), torch.randint(1, 7, (4, 5), generator=generator)


def weights() -> list[Tensor]:
    generator = torch.Generator().manual_seed(9)
    shapes = ((6, 7), (7,), (6,))
    return [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]


def gated(held: list[Tensor]) -> Join:
    out, bias, gate = held
    return lambda e, p: torch.tanh(e + p) * torch.sigmoid(gate * e * p) @ out + bias


def compare(join: Join, wanted: list[Tensor], **options: Any) -> None:
    """Gradients of enc, pred and ``wanted`` by both losses."""
    enc, pred, targets = sides()
    each = torch.rand(4, dtype=torch.float64)
    exact = transducer_loss(join(enc[:, :, None], pred[:, None]), targets, *SIZES, reduction="none", **options)
    found = transducer_loss_lean(enc, pred, join, targets, *SIZES, reduction="none", **options)
    torch.testing.assert_close(found, exact)
    one, two = (
        torch.autograd.grad((each * loss).sum(), (enc, pred, *wanted), retain_graph=True) for loss in (exact, found)
    )
    for a, b in zip(one, two, strict=True):
        assert bool(a.any())
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("tile_bytes", "frames"), [(1, 1), (700, 3), (3000, 16), (1 << 20, 64)])
@pytest.mark.parametrize("fastemit_lambda", [0.0, 0.3])
def test_equals_the_exact_loss_whatever_the_tiles(
    tile_bytes: int, frames: int, fastemit_lambda: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean, "TILE_BYTES", tile_bytes)
    monkeypatch.setattr(lean, "LIVE_FRAMES", frames)
    held = weights()
    compare(gated(held), held, fastemit_lambda=fastemit_lambda)


def test_what_join_holds_may_be_computed_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "TILE_BYTES", 1500)
    held = weights()
    out = held[0] * 2 + held[2][:, None]
    compare(gated([out, held[1], held[2]]), [*held, out])


def test_a_module_may_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "TILE_BYTES", 1500)
    torch.manual_seed(0)
    inner, out = nn.Linear(6, 5).double(), nn.Linear(5, 7).double()

    class Outer(nn.Module):
        """As the joiners of models are: it lays frames across positions itself."""

        def forward(self, e: Tensor, p: Tensor) -> Tensor:
            result: Tensor = out(torch.tanh(inner(e)[:, :, None] + inner(p)[:, None]))
            return result

    enc, pred, targets = sides()
    exact = transducer_loss(Outer()(enc, pred), targets, *SIZES)
    found = transducer_loss_lean(enc, pred, Outer(), targets, *SIZES)
    wanted = (enc, pred, *inner.parameters(), *out.parameters())
    for a, b in zip(torch.autograd.grad(exact, wanted), torch.autograd.grad(found, wanted), strict=True):
        torch.testing.assert_close(a, b)


def test_points_that_no_path_takes_are_left_out_unnoticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "LIVE_FRAMES", 3)
    enc, pred, targets = sides(30.0)
    out = torch.randn(6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 5
    out.requires_grad_()
    calls: list[int] = []

    def join(e: Tensor, p: Tensor) -> Tensor:
        calls.append(e.numel() * p.numel() // 36)
        return torch.tanh(e + p) @ out

    exact = transducer_loss(join(enc[:, :, None], pred[:, None]), targets, *SIZES)
    wanted = torch.autograd.grad(exact, (enc, pred, out))
    calls.clear()
    loss = transducer_loss_lean(enc, pred, join, targets, *SIZES)
    first = sum(calls)
    calls.clear()
    for a, b in zip(wanted, torch.autograd.grad(loss, (enc, pred, out)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12 * float(a.abs().max()))
    assert sum(calls) < 0.8 * first


class _Largest(TorchDispatchMode):
    """The most elements that any tensor made meanwhile had."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.most = max([self.most, *(x.numel() for x in tree_leaves(result) if isinstance(x, Tensor))])
        return result


@pytest.mark.parametrize("computed", [False, True])
def test_nothing_grows_with_frames_labels_and_vocabulary_at_once(
    computed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean, "TILE_BYTES", 8 * 300 * 16)  # tiles of 15 points
    torch.manual_seed(0)
    enc, pred = torch.randn(2, 30, 4, requires_grad=True), torch.randn(2, 6, 4, requires_grad=True)
    leaf = torch.randn(4, 300, requires_grad=True)
    out = leaf * 1.0 if computed else leaf
    sizes = (torch.randint(1, 300, (2, 5)), torch.tensor([30, 30]), torch.tensor([5, 5]))
    with _Largest() as seen:
        transducer_loss_lean(enc, pred, lambda e, p: torch.tanh(e + p) @ out, *sizes).backward()
    assert 0 < seen.most <= 16 * 6 * 300 < enc.shape[1] * pred.shape[1] * 300
    assert leaf.grad is not None and bool(leaf.grad.any())


def peak_bytes(frames: int, labels: int, vocab: int) -> int:
    """The most that torch's allocator held above the inputs, forward and backward, of four rows."""
    torch.manual_seed(0)
    enc, pred = torch.randn(4, frames, 32, requires_grad=True), torch.randn(4, labels + 1, 32, requires_grad=True)
    out = torch.randn(32, vocab, requires_grad=True)
    sizes = torch.full((4,), frames), torch.full((4,), labels)
    targets = torch.randint(1, vocab, (4, labels))
    with torch.profiler.profile(profile_memory=True) as profile:
        transducer_loss_lean(enc, pred, lambda e, p: torch.tanh(e + p) @ out, targets, *sizes).backward()
    now = highest = 0
    found = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(found, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


def test_memory_is_that_of_the_lattice_whatever_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """B4 T200 U40; tiles of 1 MiB, which a fixed budget takes beside it."""
    monkeypatch.setattr(lean, "TILE_BYTES", 1 << 20)
    small = peak_bytes(200, 40, 64)
    assert small > 4 * 200 * 41 * 2 * 4, "less than two numbers a point"
    assert peak_bytes(200, 40, 4096) < 1.5 * small < 4 * 200 * 41 * 64 * 4  # as many logits as the smaller V has
    for frames, labels in ((400, 40), (200, 80)):
        assert 1.7 * small < peak_bytes(frames, labels, 64) < 2.3 * small


def test_padding_is_never_read_and_infinite_losses_teach_nothing() -> None:
    enc, pred, targets = sides()
    held = weights()
    with torch.no_grad():
        for row, (t, u) in enumerate(zip(*(x.tolist() for x in SIZES), strict=True)):
            enc[row, t:], pred[row, u + 1 :] = torch.nan, torch.nan
        targets[1] = 6  # row 1 is empty
        targets[0, 0] = 3

    def join(e: Tensor, p: Tensor) -> Tensor:
        logits = gated(held)(e, p)
        return torch.where(torch.arange(7) == 3, -torch.inf, logits)  # row 0 cannot be said

    losses = transducer_loss_lean(enc, pred, join, targets, *SIZES, reduction="none")
    said = [3 not in targets[row, :u].tolist() for row, u in enumerate(SIZES[1].tolist())]
    assert torch.isfinite(losses).tolist() == said and not said[0]
    losses.sum().backward()
    for x in (enc, pred, *held[:2]):
        assert x.grad is not None and torch.isfinite(x.grad).all() and bool(x.grad.any())
    assert enc.grad is not None and not enc.grad[0].any()


@pytest.mark.parametrize("computed", [False, True])
def test_autocast_reaches_the_second_run(computed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "TILE_BYTES", 1500)
    enc, pred, targets = (x.detach().float() if x.is_floating_point() else x for x in sides())
    enc.requires_grad_()
    leaf = weights()[0].detach().float().requires_grad_()
    kinds = set()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = leaf * 1.0 if computed else leaf

        def join(e: Tensor, p: Tensor) -> Tensor:
            logits = torch.tanh(e + p) @ out
            kinds.add(logits.dtype)
            return logits

        exact = transducer_loss(join(enc[:, :, None], pred[:, None]), targets, *SIZES)
        found = transducer_loss_lean(enc, pred, join, targets, *SIZES)
    torch.testing.assert_close(found, exact)
    one = torch.autograd.grad(exact, (enc, leaf), retain_graph=True)
    two = torch.autograd.grad(found, (enc, leaf))
    assert kinds == {torch.bfloat16}
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.02 * float(a.abs().max()))


def test_without_gradients_and_with_wrong_words() -> None:
    enc, pred, targets = sides()
    held = weights()
    with torch.no_grad():
        loss = transducer_loss_lean(enc, pred, gated(held), targets, *SIZES)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, transducer_loss_lean(enc, pred, gated(held), targets, *SIZES).detach())
    with pytest.raises(ValueError, match=r"join must turn tiles .* into"):
        transducer_loss_lean(enc, pred, lambda e, p: e @ held[0], targets, *SIZES)
    with pytest.raises(ValueError, match=r"pred \(B,U\+1,J\)"):
        transducer_loss_lean(enc, pred[:2], gated(held), targets, *SIZES)
    with pytest.raises(ValueError, match="targets must be"):
        transducer_loss_lean(enc, pred[:, :4], gated(held), targets, *SIZES)
    with pytest.raises(TypeError, match="reductoin"):
        transducer_loss_lean(enc, pred, gated(held), targets, *SIZES, reductoin="sum")  # type: ignore[call-arg]
