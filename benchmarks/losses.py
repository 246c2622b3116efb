"""Time and memory of the transducer losses, forward and backward, each in a process of its own, on one core.

    sayso bench losses        (or: python benchmarks/losses.py [--vocab 64 512 4096] [--repeats 5])

B = 4 rows of T = 200 frames and U = 40 labels, encoder and prediction states of width 256, the joiner
``linear(tanh(enc + pred))``, fp32, random inputs at which paths spread widely (a trained model's are narrower, which
speeds up ``lean``). A step goes from encoder and prediction states to the gradients of both and of all weights.

    full      all logits, ``transducer_loss``
    lean      ``transducer_loss_lean``
    pruned    ``transducer_loss_pruned`` with a band of 5, a simple joiner of two projections trained beside it
    autograd  all logits, log-softmax, and the recursion over diagonals, differentiated by autograd
    fast_rnnt its simple and pruned loss, with the same band, joiner and projections, where it is installed

``cpu_s`` is the median processor time of a step, which other work on the machine does not lengthen, ``wall_s`` the
clock's; the first step of a process is left out. ``peak_mb`` is exact: the running sum over every allocation and
release of torch's allocator during one step (torch.profiler), at its highest; inputs and weights, there before, do not
count, all gradients do. ``weights_mb`` of it are the gradients of weights, which no loss can do without and which grow
with V. ``rss_mb`` is by how much the process's high-water mark rose in all steps, what the system saw: it counts what
libraries keep and what lies between the pieces. Ratios are to ``full`` at the same V; ``grown`` is a loss's peak less
``weights_mb``, to that at the smallest V. Intervals are 95% bootstraps over steps. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _lines import emit, skip
from _probe import one_core, peak_mb

from sayso.evaluation.bootstrap import Estimate, general

BENCH = "losses"
BATCH, FRAMES, LABELS, WIDTH, BAND = 4, 200, 40, 256, 5
CASES = ("full", "lean", "pruned", "autograd", "fast_rnnt")


def prepare(case: str, vocab: int) -> tuple[Callable[[], Any], list[Any]]:
    """A step of one case, and its weights."""
    import torch
    from torch.nn import Linear

    from sayso.losses import transducer_loss, transducer_loss_lean, transducer_loss_pruned

    torch.set_num_threads(1)
    torch.manual_seed(0)
    enc, pred = torch.randn(BATCH, FRAMES, WIDTH), torch.randn(BATCH, LABELS + 1, WIDTH)
    enc.requires_grad_(), pred.requires_grad_()
    sizes = torch.randint(1, vocab, (BATCH, LABELS)), torch.full((BATCH,), FRAMES), torch.full((BATCH,), LABELS)
    out, am, lm = (Linear(WIDTH, vocab) for _ in range(3))
    simple = case in ("pruned", "fast_rnnt")

    def join(e: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return out(torch.tanh(e + p))

    losses = {
        "full": lambda: transducer_loss(join(enc[:, :, None], pred[:, None]), *sizes),
        "lean": lambda: transducer_loss_lean(enc, pred, join, *sizes),
        "pruned": lambda: transducer_loss_pruned(
            enc, pred, join, *sizes, BAND, simple=(am(enc), lm(pred)), simple_scale=0.5
        ),
        "autograd": lambda: by_autograd(join(enc[:, :, None], pred[:, None]), sizes[0]),
        "fast_rnnt": lambda: by_fast_rnnt(enc, pred, (am(enc), lm(pred)), join, sizes[0]),
    }
    weights = [x for layer in ((out, am, lm) if simple else (out,)) for x in layer.parameters()]

    def step() -> None:
        for x in (enc, pred, *weights):
            x.grad = None
        losses[case]().backward()

    return step, weights


def by_autograd(logits: Any, targets: Any) -> Any:
    """Mean loss of full rows, every operation left to autograd."""
    import torch
    from torch.nn.functional import pad

    log_probs = logits.log_softmax(-1)
    blank = log_probs[..., 0]
    label = log_probs[:, :, :-1].gather(3, targets[:, None, :, None].expand(-1, logits.shape[1], -1, -1))[..., 0]
    low, frames, positions = -1e30, logits.shape[1], logits.shape[2]
    alpha = pad(blank.new_zeros(len(targets), 1), (0, positions - 1), value=low)
    u = torch.arange(positions)
    for n in range(1, frames + positions - 1):
        t = n - u
        stays = blank[:, (t - 1).clamp(0, frames - 1), u].masked_fill((t < 1) | (t >= frames), low)
        moves = label[:, t[1:].clamp(0, frames - 1), u[:-1]].masked_fill((t[1:] < 0) | (t[1:] >= frames), low)
        alpha = torch.logaddexp(alpha + stays, pad(alpha[:, :-1] + moves, (1, 0), value=low))
    return -(alpha[:, -1] + blank[:, -1, -1]).mean()


def by_fast_rnnt(enc: Any, pred: Any, sides: tuple[Any, Any], join: Callable[..., Any], targets: Any) -> Any:
    """Mean pruned loss and half the simple one."""
    import fast_rnnt
    import torch

    am, lm = sides
    within = torch.tensor([[0, 0, LABELS, FRAMES]]).expand(BATCH, -1).contiguous()
    simple, (px, py) = fast_rnnt.rnnt_loss_simple(lm, am, targets, 0, within, reduction="mean", return_grad=True)
    ranges = fast_rnnt.get_rnnt_prune_ranges(px, py, within, BAND)
    enc_band, pred_band = fast_rnnt.do_rnnt_pruning(enc, pred, ranges)
    pruned = fast_rnnt.rnnt_loss_pruned(join(enc_band, pred_band), targets, ranges, 0, within, reduction="mean")
    return pruned + 0.5 * simple


def measure(case: str, vocab: int, repeats: int) -> dict[str, Any]:
    """One case in this process."""
    import torch

    one_core()
    step, weights = prepare(case, vocab)
    before = peak_mb()
    step()
    wall, busy = [], []
    for _ in range(repeats):
        began, used = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - began)
        busy.append(time.process_time() - used)
    rose = peak_mb() - before
    for x in weights:
        x.grad = None
    with torch.profiler.profile(profile_memory=True) as profile:
        step()
    now = highest = 0
    found = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(found, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    kept = sum(x.numel() * x.element_size() for x in weights)
    return {"cpu_s": busy, "wall_s": wall, "peak_mb": highest / 1e6, "weights_mb": kept / 1e6, "rss_mb": rose}


def median(values: list[float], to: list[float] | None = None) -> Estimate | None:
    """Median with its interval, as a share of another if that is given."""
    mine, other = np.array(values), None if to is None else np.array(to)
    if other is None:
        return general(lambda index: float(np.median(mine[index])), len(mine))
    return general(lambda index: float(np.median(mine[index]) / np.median(other[index])), min(len(mine), len(other)))


def main() -> None:
    """Every case and vocabulary in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, nargs="+", default=[64, 512, 4096])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("CASE", "V"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], int(arguments.one[1]), arguments.repeats)))
        return
    smallest: dict[str, float] = {}
    for vocab in sorted(arguments.vocab):
        full: dict[str, Any] | None = None
        for case in arguments.cases:
            if case == "fast_rnnt" and importlib.util.find_spec("fast_rnnt") is None:
                skip(f"fast_rnnt at V={vocab}", "it is not installed")
                continue
            command = [sys.executable, __file__, "--one", case, str(vocab), "--repeats", str(arguments.repeats)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                skip(f"{case} at V={vocab}", (done.stderr.strip().splitlines() or ["no message"])[-1])
                continue
            row = json.loads(done.stdout.splitlines()[-1])
            full = row if case == "full" else full
            smallest.setdefault(case, row["peak_mb"] - row["weights_mb"])
            report(f"{case}/V={vocab}", row, full, smallest[case])


def report(name: str, row: dict[str, Any], full: dict[str, Any] | None, smallest: float) -> None:
    """The lines of one case."""
    for metric in ("cpu_s", "wall_s"):
        emit(BENCH, name, metric, median(row[metric]))
    for metric in ("peak_mb", "weights_mb", "rss_mb"):
        emit(BENCH, name, metric, row[metric])
    emit(BENCH, name, "grown", (row["peak_mb"] - row["weights_mb"]) / smallest, "smallest V")
    if full is not None and full is not row:
        emit(BENCH, name, "cpu_ratio", median(row["cpu_s"], full["cpu_s"]), "full")
        emit(BENCH, name, "peak_ratio", row["peak_mb"] / full["peak_mb"], "full")


if __name__ == "__main__":
    main()
