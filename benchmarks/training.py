"""How fast training is: seconds of speech per second, where the time goes, and how near the processor's peak that is.

    python benchmarks/training.py [--seconds 70] [--steps 8] [--threads 2]

A Conformer-transducer of 10 M parameters takes real steps (features as the recipes make them, of random clips as long
as people's; augmentation, losses, clipping, optimiser, averaging) in bf16 and in fp32. `loader` is the share of a step
spent on making batches. `encoder_peak_share` is the encoder's arithmetic (PyTorch's own flop counter, forward
and backward) per second of its own time over what large matrix products reach on this machine in the same run and
precision. `share` rows split the time of profiled steps by kernel. One JSON line per figure; intervals are 95%
bootstraps over steps.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _lines import emit
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from sayso.evaluation.bootstrap import ratio
from sayso.models.assembly import ModelConfig
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.streaming import Context
from sayso.text.tokenizer import train_tokenizer
from sayso.training.augment import augment
from sayso.training.batches import Item, collate
from sayso.training.loop import Corpus, Trainer
from sayso.training.recipe import LossWeights, TrainingConfig

BENCH = "training"
KINDS = {"matrix products": ("mm", "linear", "matmul"), "convolutions": ("conv",), "norms": ("norm",)}


def corpus(clips: int, seed: int = 0) -> Corpus:
    """Clips between 2 and 12 s with four tokens a second; the network does not know that nothing is said in them."""
    rng = np.random.default_rng(seed)
    items, features = [], {}
    for index in range(clips):
        frames = int(rng.uniform(200, 1200))
        tokens = tuple(int(token) for token in rng.integers(2, 256, frames // 25))
        items.append(Item(0, index, frames, tokens))
        features[index] = rng.normal(9, 3, (frames, 80)).astype(np.float32)
    return Corpus(items, [1.0] * clips, [], lambda item: features[item.index])


def trainer(precision: str, seconds: float, threads: int, folder: Path) -> Trainer:
    """The real loop, before its first step."""
    letters = ["abcdefghijklmnopqrstuvwxyz' the quick brown fox jumps over the lazy dog"] * 4
    tokenizer = train_tokenizer(letters, folder / "t.model", vocab=40)
    torch.manual_seed(0)
    model = ModelConfig(vocab=256, encoder=ConformerConfig(layers=8, dropout=0.0)).build()
    config = TrainingConfig.model_validate(
        {"precision": precision, "batch_seconds": seconds, "threads": threads, "chunks": [4], "weights": LossWeights()}
    )
    return Trainer(model, tokenizer, corpus(400), config, folder, lambda _: None)


def step_times(train: Trainer, steps: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds per step, seconds of it spent on the batch, and seconds of speech in it."""
    whole, loading, speech = [], [], []
    for number in range(steps + 2):
        began = time.perf_counter()
        items = train.batcher.plan(train.progress.step)
        rng = np.random.default_rng(number)
        collate([augment(train.corpus.features(item), train.config.spec, rng)[0] for item in items], items)
        made = time.perf_counter() - began
        began = time.perf_counter()
        train._step()
        if number >= 2:  # kernels are prepared in the first steps
            whole.append(time.perf_counter() - began)
            loading.append(made)
            speech.append(sum(item.frames for item in items) / 100)
    return whole, loading, speech


def seconds_of(work: Callable[[], object], least: float = 1.0) -> float:
    """Mean seconds of ``work`` over at least ``least`` seconds, after one warm run."""
    work()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < least:
        work()
        count += 1
    return (time.perf_counter() - began) / count


def peak(kind: torch.dtype) -> float:
    """Flops per second of large matrix products."""
    a, b = torch.randn(2048, 2048).to(kind), torch.randn(2048, 2048).to(kind)
    return 2 * 2048**3 / seconds_of(lambda: a @ b)


def encoder_rate(train: Trainer, kind: torch.dtype, seconds: float) -> float:
    """Flops per second of the encoder alone, forward and backward."""
    clip = torch.randn(14, int(seconds * 100 / 14) // 8 * 8, 80) * 3 + 9
    lengths, encoder = torch.full((14,), clip.shape[1]), train.raw.encoder

    def both() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=kind is torch.bfloat16):
            encoder(clip, lengths, Context(4, 32))[0].float().square().mean().backward()  # type: ignore[no-untyped-call]
        encoder.zero_grad()

    counter = FlopCounterMode(display=False)
    with counter:
        both()
    return float(counter.get_total_flops()) / seconds_of(both, 3.0)


def kernels(train: Trainer) -> dict[str, float]:
    """The share of profiled time in each kind of kernel."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        for _ in range(2):
            train._step()
    shares: dict[str, float] = {}
    rows: Any = record.key_averages()
    for row in rows:
        kind = next((k for k, names in KINDS.items() if any(name in row.key.lower() for name in names)), "other")
        shares[kind] = shares.get(kind, 0.0) + row.self_cpu_time_total
    total = sum(shares.values())
    return {kind: value / total for kind, value in shares.items()}


def main() -> None:
    """Measure both precisions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=70.0, help="speech in a batch")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    for name, kind in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with tempfile.TemporaryDirectory() as folder:
            train = trainer(name, options.seconds, options.threads, Path(folder))
            emit(BENCH, name, "parameters", float(sum(p.numel() for p in train.raw.parameters())))
            whole, loading, speech = step_times(train, options.steps)
            emit(BENCH, name, "speech_s_per_s", ratio(speech, whole))
            emit(BENCH, name, "loader", ratio(loading, whole), "step")
            emit(BENCH, name, "encoder_peak_share", encoder_rate(train, kind, options.seconds) / peak(kind), "peak")
            for part, share in sorted(kernels(train).items(), key=lambda item: -item[1]):
                emit(BENCH, name, f"share: {part}", share, "step")


if __name__ == "__main__":
    main()
