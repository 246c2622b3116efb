"""The training loop: Lightning Fabric for devices and precision, everything else plain.

Warm-up and cosine rate, global-norm clipping, moving average of weights, validation by greedy WER, a run folder with
config, metrics as JSON lines, curves as a picture, and checkpoints from which a killed run takes the identical next
step.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from torch import Tensor

from sayso.core.errors import ConfigError
from sayso.core.files import aside
from sayso.decoding.greedy import CtcGreedy
from sayso.evaluation.metrics import word_errors
from sayso.models.assembly import SpeechModel, save_checkpoint
from sayso.text.tokenizer import Tokenizer
from sayso.training.batches import Batcher, Floats, Item, augment, collate
from sayso.training.checkpoint import Average, load_state, save_state
from sayso.training.objective import Objective
from sayso.training.recipe import TrainingConfig
from sayso.training.transducing import transducer_greedy

Say = Callable[[str], None]


@dataclass
class Corpus:
    """Training items with their weights, validation items, and how to get an item's features."""

    train: list[Item]
    weights: list[float]
    valid: list[Item]
    features: Callable[[Item], Floats]


@dataclass
class Progress:
    """What the loop remembers between checkpoints."""

    step: int = 0
    best: float = math.inf
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)


class Trainer:
    """One run in ``folder``; ``fit`` trains to the end or to Ctrl-C and leaves the averaged model in
    ``folder/model``."""

    def __init__(
        self, model: SpeechModel, tokenizer: Tokenizer, corpus: Corpus, config: TrainingConfig, folder: Path, say: Say
    ) -> None:
        torch.set_num_threads(config.threads)
        self.fabric = lightning_fabric.Fabric(
            accelerator="auto", devices=1, precision="bf16-mixed" if config.precision == "bf16" else "32-true"
        )
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(config.freeze) if config.freeze else True)
        self.raw, self.tokenizer, self.corpus, self.config = model, tokenizer, corpus, config
        self.folder, self.say = folder, say
        width = next((item.teacher.shape[1] for item in corpus.train if item.teacher is not None), 0)
        if config.weights.teacher > 0 and not width:
            raise ConfigError(
                "training.weights.teacher needs a source with 'teacher': a folder of a teacher's features"
            )
        self.whole = Objective(model, config.weights, config.transducer, width, config.weighting)
        apart = list(self.whole.weighting.parameters())
        learnt = [p for p in self.whole.parameters() if p.requires_grad and not any(p is other for other in apart)]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in learnt if p.dim() > 1], "weight_decay": config.decay},
            {"params": [p for p in learnt if p.dim() <= 1], "weight_decay": 0.0},
        ]
        if apart:
            groups.append({"params": apart, "weight_decay": 0.0, "own_rate": self.whole.weighting.rate})
        optimiser = torch.optim.AdamW(
            groups,
            lr=config.rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.model, self.optimiser = self.fabric.setup(self.whole, optimiser)
        self.average = Average(model, config.ema)
        self.views = 2 if config.weights.consistency > 0 else 1
        self.batcher = Batcher(corpus.train, corpus.weights, config.batch_seconds / self.views, config.seed)
        self.progress = Progress()

    def fit(self) -> Path:
        """Train; returns the folder of the averaged model. Resumes where ``folder/state`` left off."""
        self._resume()
        began = time.monotonic() - self.progress.seconds
        try:
            while not self._finished():
                cycle = self._cycle()
                self._step()
                self.progress.seconds = time.monotonic() - began
                self._report(over=self.config.cycles > 1 and self._cycle() > cycle)
        except KeyboardInterrupt:
            ends = self.average.count
            self.say(f"interrupted: keeping {f'the mean of {ends} ends of cycles' if ends else 'the weights so far'}")
        self._checkpoint()
        self.validate()
        return self.folder / "model"

    def _finished(self) -> bool:
        late = self.config.minutes is not None and self.progress.seconds >= self.config.minutes * 60
        return late or self.progress.step >= self.config.steps

    def _share(self) -> float:
        """How much of the run is done, by steps or by time."""
        share = self.progress.step / self.config.steps
        if self.config.minutes is not None:
            share = max(share, self.progress.seconds / (self.config.minutes * 60))
        return min(1.0, share)

    def _cycle(self) -> int:
        """How many cycles of the rate are over."""
        return int(self._share() * self.config.cycles)

    def _rate(self) -> float:
        warm = min(1.0, (self.progress.step + 1) / self.config.warmup)
        place = self._share() * self.config.cycles
        cosine = 0.5 * (1 + math.cos(math.pi * (place - min(int(place), self.config.cycles - 1))))
        return self.config.rate * warm * (self.config.final_rate + (1 - self.config.final_rate) * cosine)

    def _step(self) -> None:
        c, step = self.config, self.progress.step
        torch.manual_seed(c.seed * 1_000_003 + step)
        rng = np.random.default_rng((c.seed, 2, step))
        for group in self.optimiser.param_groups:
            group["lr"] = group.get("own_rate") or self._rate()
        self.raw.train()
        for part in range(c.accumulate):
            items = self.batcher.plan(step * c.accumulate + part)
            heard = [augment(self.corpus.features(item), c.spec, rng, self.views) for item in items]
            rows = [view for views in heard for view in views]
            chunk = int(rng.choice(c.chunks))
            batch = collate(rows, [item for item in items for _ in range(self.views)])
            losses = self.model(batch, (chunk, c.left_frames), self._share())
            self.fabric.backward(losses["total"] / c.accumulate)
            for name, value in losses.items():
                self.progress.sums[name] = self.progress.sums.get(name, 0.0) + float(value.detach()) / c.accumulate
        norm = self.fabric.clip_gradients(self.model, self.optimiser, max_norm=c.clip, error_if_nonfinite=False)
        healthy = bool(torch.isfinite(norm)) if isinstance(norm, Tensor) else True
        if healthy:
            self.optimiser.step()
        self.progress.sums["skipped"] = self.progress.sums.get("skipped", 0.0) + float(not healthy)
        self.optimiser.zero_grad()
        self.progress.step += 1
        self.average.update(self.raw, self.progress.step)

    def _report(self, *, over: bool = False) -> None:
        """Lines, validations and checkpoints that are due; ``over``: a cycle just ended, and its end is kept first."""
        step = self.progress.step
        if over:
            self.average.end()
        if step % 50 == 0:
            means = {k: round(v / 50, 4) for k, v in self.progress.sums.items()}
            self.progress.sums = {}
            self._log({"step": step, "seconds": round(self.progress.seconds, 1), "rate": self._rate(), **means})
            self.say(f"step {step}  {100 * self._share():.0f}%  " + "  ".join(f"{k} {v:.3f}" for k, v in means.items()))
        if over or step % self.config.checkpoint_every == 0:
            self._checkpoint()
        if over:
            self.say(f"cycle {self._cycle()} of {self.config.cycles} is over")
        if over or step % self.config.validate_every == 0:
            self.validate(ends=False)

    def validate(self, *, ends: bool = True) -> float:
        """Greedy WER of the averaged weights (of the mean of ``ends`` where there are any) on ``valid``, in the
        streaming context: by CTC, or by the transducer where that weighs more."""
        items = self.corpus.valid[: self.config.validate_clips]
        if not items:
            return math.nan
        weights, given = self.config.weights, (self.tokenizer, items, self.corpus.features)
        with self.average.applied(self.raw, ends=ends):
            errors, words = greedy_errors(self.raw, *given, transducer=weights.transducer > weights.ctc)
        wer = errors / max(1, words)
        mean = {"ends": self.average.count} if ends and self.average.count else {}
        row = {"step": self.progress.step, "seconds": round(self.progress.seconds, 1), "valid_wer": round(wer, 4)}
        self._log({**row, **mean})
        of = f", mean of {self.average.count} ends" if mean else ""
        self.say(f"step {self.progress.step}  valid WER {wer:.3f} ({len(items)} clips{of})")
        self.progress.best = min(self.progress.best, wer)
        return wer

    def _checkpoint(self) -> None:
        extra = {
            "seconds": self.progress.seconds,
            "best": self.progress.best if math.isfinite(self.progress.best) else None,
        }
        save_state(self.folder / "state", self.progress.step, self.whole, self.average, self.optimiser, extra)
        with self.average.applied(self.raw, ends=True):
            save_checkpoint(self.raw, self.tokenizer, self.folder / "model")

    def _resume(self) -> None:
        state = self.folder / "state"
        if state.exists() or aside(state).exists():
            found = load_state(state, self.whole, self.average, self.optimiser)
            self.progress = Progress(found["step"], found["best"] or math.inf, found["seconds"])
            self.say(f"resuming {self.folder} at step {self.progress.step}")

    def _log(self, row: dict[str, Any]) -> None:
        """A line of ``metrics.jsonl``; when it was written goes to ``timing.jsonl``, so that equal runs make equal
        metrics, byte for byte."""
        timing = {name: row[name] for name in ("step", "seconds")}
        for name, line in (("metrics", {k: v for k, v in row.items() if k != "seconds"}), ("timing", timing)):
            with (self.folder / f"{name}.jsonl").open("a") as stream:
                stream.write(json.dumps(line) + "\n")


@torch.no_grad()
def greedy_errors(
    model: SpeechModel,
    tokenizer: Tokenizer,
    items: Sequence[Item],
    features: Callable[[Item], Floats],
    *,
    transducer: bool = False,
) -> tuple[int, int]:
    """Word errors and reference words of greedy CTC, or of the greedy ``transducer``, over ``items`` in the model's
    streaming context."""
    model.eval()
    errors = words = 0
    order = sorted(items, key=lambda item: item.frames)
    for start in range(0, len(order), 16):
        group = order[start : start + 16]
        batch = collate([features(item) for item in group], group)
        encoded, frames = model.encoder(batch.features, batch.lengths)
        heard = transducer_greedy(model, encoded, frames) if transducer else _ctc_greedy(model, encoded, frames)
        for tokens, item in zip(heard, group, strict=True):
            edits = word_errors(tokenizer.decode(item.tokens), tokenizer.decode(tokens))
            errors, words = errors + edits.errors, words + edits.length
    return errors, words


def _ctc_greedy(model: SpeechModel, encoded: Tensor, lengths: Tensor) -> list[list[int]]:
    """Tokens of every row of encoder frames (B,T,D)."""
    decoder, log_probs, rows = CtcGreedy(), model.ctc(encoded).numpy(), lengths * model.ctc.rate
    return [decoder.step(decoder.start(), log_probs[row, :n]).tokens for row, n in enumerate(rows.tolist())]
