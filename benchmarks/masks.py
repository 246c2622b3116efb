"""One checkpoint under the whole family of attention masks: what looking ahead buys, and what history costs.

    python benchmarks/masks.py [--model RUN_OR_CHECKPOINT] [--steps 1500 --out FOLDER] [--stream-minutes 10]

The checkpoint (`--model`, default `models/base`; with `--steps` its encoder and CTC are trained on first by the real
loop, with chunks of the whole family drawn anew for each batch) hears dev sets of real people through chunk masks with
a look-ahead of 0, 160, 320 and 640 ms and of everything, without look-ahead but with all history, and through a window
of one frame to the right per layer.
WER is greedy CTC, and a ratio to everything visible on the same utterances; 95% bootstraps over utterances.
`lookahead_ms` is what the masks promise; `wait_ms` how long the worst frame of a real stream waited for sound behind
its own 80 ms; `latency_ms` that and the processor time of its step (95th percentile). Then a stream of noise runs for
`--stream-minutes` of audio on one thread: `us_per_frame` is processor time, `slope_us_per_minute` how it grows with the
position (least squares, interval over steps; `r2` beside it), `state_mb` the caches at the end and
`resident_growth_mb` what the process grew by from the first minute on. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _lines import ROOT, emit, skip
from _wer import SETS, checkpoint, ctc_errors, dev_set
from numpy.typing import NDArray

from sayso.core.config import parse
from sayso.evaluation.bootstrap import general, ratio
from sayso.models.assembly import load_checkpoint
from sayso.models.encoders import Encoder
from sayso.models.streaming import Context, State
from sayso.models.subsampling import FACTOR
from sayso.training.progress import to_stderr
from sayso.training.recipe import Recipe
from sayso.training.run import run

BENCH, EVERYTHING = "masks", "full"
AHEAD_MS = (0, 160, 320, 640)
FRAME_MS = 80
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Heard:
    """One stream: processor seconds of each step, the audio (minutes) before it, the worst wait, memory."""

    seconds: Doubles
    minutes: Doubles
    wait_ms: float
    state_mb: float
    growth_mb: float | None


def family(left: int) -> dict[str, Context]:
    """Ways of looking by name, everything first: the others are compared to it."""
    chunks = {f"{ms} ms": Context(ms // FRAME_MS + 1, left) for ms in AHEAD_MS}
    return {
        EVERYTHING: Context(),
        **chunks,
        "0 ms, full history": Context(1),
        "sliding, 1 frame a layer": Context(1, left, 1),
    }


@torch.no_grad()
def stream(encoder: Encoder[State], context: Context, minutes: float, packet: int, seed: int = 0) -> Heard:
    """Noise for so long in packets of ``packet`` frames (whole chunks)."""
    generator = torch.Generator().manual_seed(seed)
    state, size, mels = encoder.init_state(1, context), FACTOR * packet, len(encoder.mean)
    steps = max(2, round(minutes * 60_000 / (FRAME_MS * packet)))
    seconds, wait, ready, early = np.zeros(steps), 0, 0, None
    for number in range(steps):
        x, length = torch.randn(1, size, mels, generator=generator), torch.tensor([size])
        began = time.process_time()
        _, counts, state = encoder.step(x, length, state, context, final=number == steps - 1)
        seconds[number] = time.process_time() - began
        if int(counts):
            wait = max(wait, (number + 1) * packet - (ready + 1))
        ready += int(counts)
        if early is None and (number + 1) * packet * FRAME_MS >= 60_000:
            early = resident_mb()
    now = resident_mb()
    size_mb = sum(tensor.nbytes for tensor in state.named().values()) / 1e6
    growth = None if early is None or now is None else now - early
    return Heard(seconds, np.arange(steps) * packet * FRAME_MS / 60_000, wait * FRAME_MS, size_mb, growth)


def resident_mb() -> float | None:
    """Memory of this process at present; None where the system does not say."""
    table = Path("/proc/self/statm")
    return int(table.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if table.exists() else None


def slope(x: Doubles, y: Doubles) -> tuple[float, float]:
    """Least squares: slope, and the share of the variance that it explains."""
    across, up = x - x.mean(), y - y.mean()
    found = float(across @ up / (across @ across))
    return found, float(found**2 * (across @ across) / max(float(up @ up), 1e-30))


def cost(case: str, heard: Heard, packet: int) -> None:
    """Figures of a long stream. Its first steps prepare kernels and are left out; medians of groups of steps, because
    other work on the machine is no cost of the model."""
    skipped = min(20, len(heard.seconds) // 4)
    groups = min(200, len(heard.seconds) - skipped)
    y = np.array([np.median(part) for part in np.array_split(heard.seconds[skipped:], groups)]) * 1e6 / packet
    x = np.array([part.mean() for part in np.array_split(heard.minutes[skipped:], groups)])
    emit(BENCH, case, "us_per_frame", general(lambda index: float(y[index].mean()), groups))
    emit(BENCH, case, "slope_us_per_minute", general(lambda index: slope(x[index], y[index])[0], groups))
    emit(BENCH, case, "r2", slope(x, y)[1])
    emit(BENCH, case, "state_mb", heard.state_mb)
    emit(BENCH, case, "resident_growth_mb", heard.growth_mb)


def train(options: argparse.Namespace) -> Path:
    """One checkpoint for all masks: the given one trained on with chunks of the whole family."""
    source = {"longest_s": options.longest_s, "clips": options.clips}
    settings = {
        "name": "bench-masks",
        "init": str(options.model),
        "data": {"train": [{"corpus": name, **source} for name in options.corpus]},
        "training": {
            "steps": options.steps, "batch_seconds": 60.0, "rate": 3e-4, "warmup": 50, "seed": options.seed,
            "threads": options.threads, "validate_every": 10_000,
            "chunks": [0, *(ms // FRAME_MS + 1 for ms in AHEAD_MS)], "left_frames": options.left_frames,
            "weights": {"ctc": 1.0, "transducer": 0.0},
            "spec": {"frequency_masks": 1, "time_share": 0.04, "tempo": 0.1, "vocal_tract": 0.08, "level": 1.5},
        },
    }  # fmt: skip
    return run(parse(Recipe, settings, where="benchmarks/masks.py"), options.out, to_stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge and time every way of looking, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "base", help="a run folder or a checkpoint")
    parser.add_argument("--steps", type=int, help="train --model so many steps further, in --out, and judge that")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-masks"))
    corpora = ["librispeech-tc5", "commonvoice-v1"]
    parser.add_argument("--corpus", nargs="+", default=corpora, help="folders under SAYSO_CORPORA to train on")
    parser.add_argument("--longest-s", type=float, default=15.0, help="leave longer recordings out of the training")
    parser.add_argument("--clips", type=int, help="train on so many recordings")
    parser.add_argument("--left-frames", type=int, default=32, help="limited history, in frames of 80 ms")
    parser.add_argument("--stream-minutes", type=float, default=10.0, help="audio of the long streams")
    parser.add_argument("--limit", type=int, default=200, help="a seeded sample of N utterances of each dev set")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    model, tokenizer = load_checkpoint(checkpoint(options.model if options.steps is None else train(options)))
    torch.set_num_threads(options.threads)
    ways = family(options.left_frames)
    for name in SETS:
        dev = dev_set(name, model.config.encoder.mels, options.limit, options.seed)
        errors: dict[str, list[int]] = {}
        for case, context in ways.items() if dev is not None else ():
            edits = ctc_errors(model, tokenizer, dev, context)
            errors[case] = [e.errors for e in edits]
            place = f"{case}/{name.split('/')[0]}"
            emit(BENCH, place, "wer", ratio(errors[case], [e.length for e in edits]))
            if case != EVERYTHING:
                emit(BENCH, place, "wer", ratio(errors[case], errors[EVERYTHING]), EVERYTHING)
    torch.set_num_threads(1)
    for case, context in ways.items():
        emit(BENCH, case, "lookahead_ms", model.encoder.lookahead_ms(context))
        emit(BENCH, case, "receptive_field_ms", model.encoder.receptive_field_ms(context))
        if context.chunk_frames is None:
            skip(case, "everything visible is no stream")
            continue
        heard = stream(model.encoder, context, options.stream_minutes, context.chunk_frames, options.seed)
        emit(BENCH, case, "wait_ms", heard.wait_ms)
        emit(BENCH, case, "latency_ms", heard.wait_ms + 1000 * float(np.quantile(heard.seconds, 0.95)))
        cost(case, heard, context.chunk_frames)


if __name__ == "__main__":
    main()
