"""The exact RNN-T loss without its logits: O(B·T·U) memory, whatever the vocabulary.

The lattice needs two log-probabilities a point, and the gradient of a point's logits needs its occupancy and its
logits, nothing else. So the joiner runs over tiles of the lattice: once to read the two log-probabilities and forget
the rest, and, when all occupancies are known, once more to turn them into gradients. The second run leaves out the
points that no path to speak of takes (together below one rounding error of all there is), which usually are most.

Shapes: ``B`` batch, ``T`` frames, ``U`` labels, ``P`` = U + 1 positions, ``V`` vocabulary, ``J`` joiner input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import Node, saved_tensors_hooks
from torch.nn import functional

from sayso.losses.ctc import Reduction, reduce
from sayso.losses.lattice import lattice_loss, logit_gradient, point_scores, score_gradient, solve_lattice
from sayso.losses.transducer import check_labels, check_lattice, next_labels

Join = Callable[[Tensor, Tensor], Tensor]
TILE_BYTES = 20 << 20  # of a tile's activations, and in the second run of what it adds to the gradients of weights
LIVE_FRAMES = 16  # of a tile in the second run: the shorter, the closer tiles follow the paths


class FastEmit(TypedDict, total=False):
    """``fastemit_lambda`` (default 0), as in ``transducer_loss``."""

    fastemit_lambda: float


def transducer_loss_lean(
    enc: Tensor,
    pred: Tensor,
    join: Join,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
    **options: Unpack[FastEmit],
) -> Tensor:
    """``transducer_loss`` of the logits that ``join`` makes of enc (B,T,J) and pred (B,U+1,J), with their gradients.

    ``join(enc_tile, pred_tile) -> logits`` is a pure function of tiles that broadcast against each other, (1,t,1,J)
    and (1,1,u,J) to (1,t,u,V); it meets each point more than once. Tensors that it holds get their gradients too;
    where one of these was itself computed from others, autograd walks tile by tile, which is slower. Padding of
    ``enc`` and ``pred`` is never read. ValueError on shapes that do not fit.
    """
    fastemit_lambda = _fastemit_lambda(**options)
    check_sides(enc, pred)
    check_lattice(torch.Size([*enc.shape[:2], pred.shape[1]]), targets, logit_lengths, target_lengths)
    vocab, held = _look_into(join, enc, pred)
    check_labels(vocab, targets, target_lengths, blank)
    # a point holds some two vectors of the vocabulary's size at a time and two of the joiner's width
    points = max(1, TILE_BYTES // (8 * (vocab + enc.shape[2])))
    tiles = _Tiles(join, next_labels(targets), logit_lengths, target_lengths, blank, points)
    if held is None:
        loss, _ = lattice_loss(tiles.scores(enc, pred), logit_lengths, target_lengths, fastemit_lambda)
    else:
        loss = _Lean.apply(tiles, fastemit_lambda, enc, pred, *held)  # type: ignore[no-untyped-call]
    return reduce(loss, reduction)


def _fastemit_lambda(fastemit_lambda: float = 0.0) -> float:
    """The option; TypeError for one that there is not."""
    return fastemit_lambda


def check_sides(enc: Tensor, pred: Tensor) -> None:
    """ValueError unless the two sides of a joiner are (B,T,J) and (B,U+1,J)."""
    if enc.dim() != 3 or pred.dim() != 3 or enc.shape[0] != pred.shape[0]:
        raise ValueError(f"enc must be (B,T,J) and pred (B,U+1,J); got {list(enc.shape)}, {list(pred.shape)}")


@dataclass(frozen=True)
class _Tiles:
    """The lattices of a batch, a tile at a time."""

    join: Join
    labels: Tensor  # (B,P) the label that leads on from each position
    frames: Tensor
    targets: Tensor  # their number (B,)
    blank: int
    points: int  # of a tile, at most

    def logits(self, enc: Tensor, pred: Tensor) -> Tensor:
        """(t,J) and (u,J) to (t,u,V)."""
        joined = self.join(enc[None, :, None], pred[None, None])
        if joined.numel() != len(enc) * len(pred) * joined.shape[-1]:
            raise ValueError(
                f"join must turn tiles {[1, len(enc), 1, enc.shape[1]]} and {[1, 1, len(pred), pred.shape[1]]} into "
                f"{[1, len(enc), len(pred), 'V']}; got {list(joined.shape)}"
            )
        return joined.reshape(len(enc), len(pred), -1)

    def scores(self, enc: Tensor, pred: Tensor) -> Tensor:
        """Point scores (B,T,P,2), zero outside a row's own lattice; in a graph that keeps nothing of a tile."""
        rows = []
        size, positions = enc.shape[1], pred.shape[1]
        for row, (t, u) in enumerate(zip(self.frames.tolist(), (self.targets + 1).tolist(), strict=True)):
            most = max(1, self.points // u)
            across = [
                torch.cat([_forgetful(self._tile, e, *p) for p in self._columns(pred[row, :u], row)], 1)
                for e in torch.split(enc[row, :t], most)
            ]
            rows.append(functional.pad(torch.cat(across), (0, 0, 0, positions - u, 0, size - t)))
        return torch.stack(rows)

    def _columns(self, pred: Tensor, row: int) -> Iterator[tuple[Tensor, Tensor]]:
        labels = self.labels[row, : len(pred)]
        return zip(torch.split(pred, self.points), torch.split(labels, self.points), strict=True)

    def _tile(self, enc: Tensor, pred: Tensor, labels: Tensor) -> Tensor:
        return point_scores(self.logits(enc, pred), labels.expand(len(enc), -1), self.blank)

    def live(self, occupancy: Tensor, points: int) -> Iterator[tuple[int, slice, slice]]:
        """Tiles (row, frames, positions) that cover all points but those whose occupancies (B,T,P,2) sum to nothing."""
        visits = occupancy.sum(-1)
        floor = torch.finfo(visits.dtype).eps * visits.mean((1, 2), keepdim=True)
        alive = functional.pad(visits > floor, (0, 0, 0, -visits.shape[1] % LIVE_FRAMES))
        columns = alive.reshape(len(alive), -1, LIVE_FRAMES, alive.shape[2]).any(2).int()  # (B,T/LIVE_FRAMES,P)
        first, last = columns.argmax(2).tolist(), columns.flip(2).argmax(2).tolist()
        for row, chunk in columns.any(2).nonzero().tolist():
            begin, end = first[row][chunk], occupancy.shape[2] - last[row][chunk]
            frames = slice(chunk * LIVE_FRAMES, min((chunk + 1) * LIVE_FRAMES, int(self.frames[row])))
            width = max(1, points // LIVE_FRAMES)
            for u in range(begin, end, width):
                yield row, frames, slice(u, min(u + width, end))


class _Lean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tiles: _Tiles, fastemit_lambda: float, enc: Tensor, pred: Tensor, *held: Tensor) -> Tensor:
        with _no_cast_cache(enc):
            loss, occupancy = solve_lattice(tiles.scores(enc, pred), tiles.frames, tiles.targets)
        ctx.save_for_backward(loss, occupancy, enc, pred, *held)
        ctx.tiles, ctx.fastemit_lambda, ctx.casting = tiles, fastemit_lambda, _no_cast_cache(enc)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        loss, occupancy, enc, pred, *held = ctx.saved_tensors
        tiles: _Tiles = ctx.tiles
        earned = score_gradient(loss, occupancy, gradient, ctx.fastemit_lambda)
        sums = [torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32)) for x in (enc, pred, *held)]
        # a tile's share of the weights' gradients stands beside their sum
        taken = 2 * sum(x.numel() * x.element_size() for x in sums[2:]) / TILE_BYTES
        for row, t, u in tiles.live(occupancy, int(tiles.points * max(0.25, 1 - taken))):
            e, p = enc[row, t].detach().requires_grad_(), pred[row, u].detach().requires_grad_()
            labels = tiles.labels[row, u].expand(len(e), -1)
            with torch.enable_grad(), ctx.casting:
                share: Tensor = _Share.apply(  # type: ignore[no-untyped-call]
                    tiles.logits(e, p), labels, earned[row, t, u], tiles.blank
                )
            found = torch.autograd.grad(share, (e, p, *held), allow_unused=True)
            for total, part in zip((sums[0][row, t], sums[1][row, u], *sums[2:]), found, strict=True):
                if part is not None:
                    total += part
        return None, None, *(total.to(x.dtype) for total, x in zip(sums, (enc, pred, *held), strict=True))


class _Share(torch.autograd.Function):
    """A number whose gradient is that of the loss, as far as a tile's logits bear it; its value means nothing."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, earned: Tensor, blank: int) -> Tensor:
        ctx.save_for_backward(logits, labels, earned)
        ctx.blank = blank
        return earned.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None, None, None]:
        logits, labels, earned = ctx.saved_tensors
        return logit_gradient(logits, labels, earned, ctx.blank), None, None, None


def _look_into(join: Join, enc: Tensor, pred: Tensor) -> tuple[int, tuple[Tensor, ...] | None]:
    """Vocabulary of ``join`` and the leaf tensors it holds that want a gradient; None if it holds computed ones.

    Seen on one point: what the graphs of two calls share was there before them.
    """
    with _no_cast_cache(enc):
        one, two = (join(enc[:1, :1, None].detach(), pred[:1, None, :1].detach()) for _ in range(2))
    shared = _graph(one) & _graph(two)
    leaves = [node.variable for node in shared if hasattr(node, "variable")]
    return one.shape[-1], tuple(leaves) if len(leaves) == len(shared) else None


def _graph(x: Tensor) -> set[Node]:
    nodes: set[Node] = set()
    waiting = [] if x.grad_fn is None else [x.grad_fn]
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes.add(node)
            waiting += [before for before, _ in node.next_functions if before is not None]
    return nodes


def _forgetful(run: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """``run(*inputs)`` in a graph that keeps nothing for its gradient, but runs again to have it.

    As ``torch.utils.checkpoint`` without reentry, which loads torch's compiler on its first call.
    """
    kept: list[Tensor] = []
    count = 0
    casting = _no_cast_cache(inputs[0])

    def number(_: Tensor) -> int:
        nonlocal count
        count += 1
        return count - 1

    def again(index: int) -> Tensor:
        if not kept:
            with torch.enable_grad(), casting, saved_tensors_hooks(lambda x: kept.append(x.detach()), _never):
                run(*inputs)
        return kept[index]

    with casting, saved_tensors_hooks(number, again):
        return run(*inputs)


def _never(_: None) -> Tensor:
    raise RuntimeError("a graph made to see what it keeps has no gradient of its own")


def _no_cast_cache(x: Tensor) -> AbstractContextManager[None]:
    """Autocast as it is now, but casting weights anew: a copy cached without a graph would lose their gradient."""
    kind = x.device.type
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    manager: AbstractContextManager[None] = torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False)
    return manager
