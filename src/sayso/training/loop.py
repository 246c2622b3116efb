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
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from numpy.typing import NDArray

from sayso.core.errors import ConfigError, nearest
from sayso.core.files import aside, whole
from sayso.evaluation.metrics import word_errors
from sayso.models.assembly import SpeechModel, save_checkpoint
from sayso.text.tokenizer import Tokenizer
from sayso.training.augment import Around, augment, augment_samples
from sayso.training.batches import Batcher, Floats, Item, collate
from sayso.training.checkpoint import Average, load_state, save_state
from sayso.training.clipping import Clipper
from sayso.training.curriculum import Curriculum, ranks_of
from sayso.training.difficulty import clip_losses, lengths, noisiness
from sayso.training.greedy import Reader, greedy_errors, intents_right, phone_errors
from sayso.training.noise import noisy
from sayso.training.objective import Aids, Objective
from sayso.training.parsing import decoder_greedy
from sayso.training.progress import Means
from sayso.training.recipe import TrainingConfig
from sayso.training.sequence import SequenceLoss
from sayso.training.teaching import taught_width
from sayso.training.transducing import transducer_greedy

Say = Callable[[str], None]


@dataclass
class Corpus:
    """Training items with their weights, validation items, how to get an item's features, the share of synthetic speech
    in a batch (None: as it comes), the classes that each intent label may mean (L,C) (None: labels are classes),
    recorded noises as log-mel energies, and the teacher whose encoded frames items hold."""

    train: list[Item]
    weights: list[float]
    valid: list[Item]
    features: Callable[[Item], Floats]
    synthetic_share: float | None = None
    members: NDArray[np.bool_] | None = None
    noises: Sequence[Floats] = ()
    lender: SpeechModel | None = None


@dataclass
class Progress:
    """What the loop remembers between checkpoints; ``begun`` has the first step of every stage so far."""

    step: int = 0
    best: float = math.inf
    seconds: float = 0.0
    begun: list[int] = field(default_factory=lambda: [0])
    means: Means = field(default_factory=Means)


class Trainer:
    """One run in ``folder``, from where ``folder/state`` left off; ``fit`` trains to the end or to Ctrl-C.

    The averaged model is left in ``folder/model``.
    """

    def __init__(
        self, model: SpeechModel, tokenizer: Tokenizer, corpus: Corpus, config: TrainingConfig, folder: Path, say: Say
    ) -> None:
        torch.set_num_threads(config.threads)
        self.fabric = lightning_fabric.Fabric(
            accelerator="auto", devices=1, precision="bf16-mixed" if _in_bf16(config) else "32-true"
        )
        _check_names(model, config)
        self.fixed = tuple(f"encoder.{name}" for name in model.encoder.frozen)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith((*self.fixed, *config.freeze)))
        self.raw, self.tokenizer, self.corpus, self.config = model, tokenizer, corpus, config
        self.folder, self.say = folder, say
        weights = config.at_most()
        width = taught_width(model, corpus.train, corpus.lender, weights)
        if weights.decoder > 0 and (model.decoder is None or not any(item.tree for item in corpus.train)):
            raise ConfigError(
                "training.weights.decoder needs a model with a 'decoder', and clips that say what model.trees allows"
            )
        members = None if corpus.members is None else torch.from_numpy(corpus.members)
        lender = None if corpus.lender is None else corpus.lender.to(self.fabric.device)
        judge = SequenceLoss(config.sequence, self._word_errors)
        aids = Aids(judge, members, config.label_smoothing, lender=lender)
        self.whole = Objective(model, weights, config.transducer, width, config.weighting, aids, config.masked)
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
        _, self.optimiser = self.fabric.setup(self.whole, optimiser)
        self.average = Average(model, config.ema)
        self.clipper = Clipper(config.clip, config.autoclip)
        self.progress = Progress()
        self._resume()
        self._enter()

    def _word_errors(self, reference: Sequence[int], hypothesis: Sequence[int]) -> float:
        return word_errors(self.tokenizer.decode(reference), self.tokenizer.decode(hypothesis)).errors

    def fit(self) -> Path:
        """Train; returns the folder of the averaged model."""
        began = time.monotonic() - self.progress.seconds
        try:
            while not self._finished():
                self._move_on()
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

    def _move_on(self) -> None:
        """Into the next stage, where it is due; where that was is a part of the state, since time is not repeatable."""
        while len(self.progress.begun) <= self.config.stage_at(self._share()):
            self.progress.begun.append(self.progress.step)
            self._enter()

    def _enter(self) -> None:
        """The present stage: what is learnt from what."""
        c, stage, begun = self.config, len(self.progress.begun) - 1, self.progress.begun[-1]
        self.now = c.during(stage)
        for name, parameter in self.raw.named_parameters():
            parameter.requires_grad_(not name.startswith((*self.fixed, *self.now.freeze)))
        self.whole.enter(self.now.weights)
        self.views = 2 if self.now.weights.consistency > 0 else 1
        self.batcher = Batcher(
            self.corpus.train,
            self.corpus.weights,
            c.batch_seconds / self.views,
            c.seed,
            curriculum=self._curriculum(stage),
            synthetic_share=self.corpus.synthetic_share,
            part=stage,
        )
        if c.stages and self.progress.step == begun:
            name = c.stages[stage].name
            self._log({"step": begun, "seconds": round(self.progress.seconds, 1), "stage": name})
            self.say(f"step {begun}  stage {stage + 1} of {len(c.stages)}: {name}")

    def _curriculum(self, stage: int) -> Curriculum | None:
        """That of the stage; losses of clips are measured when it begins and kept, for they will not be the same."""
        config, items, features = self.now.curriculum, self.corpus.train, self.corpus.features
        if config is None:
            return None
        if config.by == "loss":
            file = self.folder / f"difficulty-{stage}.npy"
            if self.progress.step == self.progress.begun[-1]:
                with self.average.applied(self.raw), whole(file) as fresh, fresh.open("wb") as stream:
                    np.save(stream, clip_losses(self.raw, items, features))
            try:
                difficulty = np.load(file)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"{file}: how hard clips were when the stage began cannot be read ({error}); delete "
                    f"{self.folder / 'state'} to start anew"
                ) from None
        else:
            difficulty = lengths(items) if config.by == "length" else noisiness(items, features)
        apart = None if self.corpus.synthetic_share is None else np.asarray([item.synthetic for item in items])
        return Curriculum(config, ranks_of(difficulty, apart))

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
        with self._noise():
            self._gradients(rng)
        clipped = self.clipper(weight for group in self.optimiser.param_groups for weight in group["params"])
        if clipped.finite:
            self.optimiser.step()
        said = {"norm": clipped.norm, "clipped": float(clipped.cut), "skipped": float(not clipped.finite)}
        said |= {"limit": clipped.limit} if c.autoclip else {}
        for name, value in said.items():
            self.progress.means.add(name, value)
        self.optimiser.zero_grad()
        self.progress.step += 1
        self.average.update(self.raw, self.progress.step)

    def _noise(self) -> AbstractContextManager[None]:
        """Noise on the weights for one step, where that is due."""
        noise, step = self.config.weight_noise, self.progress.step
        if noise.std == 0 or step < noise.after:
            return nullcontext()
        named = [(name, weight) for name, weight in self.raw.named_parameters() if weight.requires_grad]
        chosen = [weight for name, weight in named if not noise.only or name.startswith(noise.only)]
        return noisy(chosen, noise.std, self.config.seed * 1_000_003 + step)

    def _gradients(self, rng: np.random.Generator) -> None:
        """Of all parts of this step's batch."""
        c, step = self.config, self.progress.step
        for part in range(c.accumulate):
            items = self.batcher.plan((step - self.progress.begun[-1]) * c.accumulate + part)
            change = augment if self.raw.encoder.config.hears == "features" else augment_samples
            clips = [self.corpus.features(item) for item in items]
            heard = []
            for number, clip in enumerate(clips):
                around = Around(self.corpus.noises, clips[:number] + clips[number + 1 :])
                heard.append(change(clip, c.spec, rng, self.views, around))
            rows = [view for views in heard for view in views]
            chunk = int(rng.choice(c.chunks))
            batch = collate(rows, [item for item in items for _ in range(self.views)]).to(self.fabric.device)
            with self.fabric.autocast():  # not through Fabric's wrapper, which would round features to bf16; a
                # second device would need it, for its gradients
                losses = self.whole(batch, (chunk, c.left_frames), self._share())
            if losses["total"].requires_grad:  # not where a stage learns what none of the clips brings
                self.fabric.backward(losses["total"] / c.accumulate)
            for name, value in losses.items():
                self.progress.means.add(name, float(value.detach()))

    def _report(self, *, over: bool = False) -> None:
        """Lines, validations and checkpoints that are due; ``over``: a cycle just ended, and its end is kept first."""
        step = self.progress.step
        if over:
            self.average.end()
        if step % 50 == 0:
            means = self.progress.means.take()
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
        streaming context: by CTC, or by the transducer or a decoder of transcripts where that weighs more; and the
        share of intents that the head has right. NaN where nothing of ``valid`` has a transcript."""
        items = self.corpus.valid[: self.config.validate_clips]
        if not items:
            return math.nan
        given = (self.tokenizer, items, self.corpus.features)
        with self.average.applied(self.raw, ends=ends):
            errors, words = greedy_errors(self.raw, *given, by=self._judge())
            wrong, phones = phone_errors(self.raw, items, self.corpus.features)
            right, meant = intents_right(self.raw, items, self.corpus.features, self.corpus.members)
        wer = errors / words if words else math.nan  # none where no clip has a transcript
        mean = {"ends": self.average.count} if ends and self.average.count else {}
        row = {"step": self.progress.step, "seconds": round(self.progress.seconds, 1)}
        row |= {"valid_wer": round(wer, 4)} if words else {}
        row |= {"valid_per": round(wrong / phones, 4)} if phones else {}
        row |= {"valid_intent": round(right / meant, 4)} if meant else {}
        self._log({**row, **mean})
        of = f", mean of {self.average.count} ends" if mean else ""
        heard = [f"WER {wer:.3f}"] if words else []
        heard += [f"phone error rate {wrong / phones:.3f}"] if phones else []
        heard += [f"{right / meant:.3f} of intents right"] if meant else []
        self.say(f"step {self.progress.step}  valid {', '.join(heard)} ({len(items)} clips{of})")
        if words:
            self.progress.best = min(self.progress.best, wer)
        return wer

    def _judge(self) -> Reader | None:
        """Who reads at a validation; None: CTC."""
        weights, writes = self.now.weights, self.raw.decoder is not None and not self.raw.config.trees.intents
        if writes and weights.decoder > max(weights.ctc, weights.transducer):
            return decoder_greedy
        return transducer_greedy if max(weights.transducer, weights.distil_transducer) > weights.ctc else None

    def _checkpoint(self) -> None:
        extra = {
            "seconds": self.progress.seconds,
            "best": self.progress.best if math.isfinite(self.progress.best) else None,
            "begun": self.progress.begun,
            "norms": self.clipper.history,
        }
        save_state(self.folder / "state", self.progress.step, self.whole, self.average, self.optimiser, extra)
        with self.average.applied(self.raw, ends=True):
            save_checkpoint(self.raw, self.tokenizer, self.folder / "model")

    def _resume(self) -> None:
        state = self.folder / "state"
        if state.exists() or aside(state).exists():
            found = load_state(state, self.whole, self.average, self.optimiser)
            begun = found.get("begun", [0])  # runs that were begun before there were stages have none
            self.progress = Progress(found["step"], found["best"] or math.inf, found["seconds"], begun)
            self.clipper.history = found.get("norms", [])
            self.say(f"resuming {self.folder} at step {self.progress.step}")

    def _log(self, row: dict[str, Any]) -> None:
        """A line of ``metrics.jsonl``; when it was written goes to ``timing.jsonl``, so that equal runs make equal
        metrics, byte for byte."""
        timing = {name: row[name] for name in ("step", "seconds")}
        for name, line in (("metrics", {k: v for k, v in row.items() if k != "seconds"}), ("timing", timing)):
            with (self.folder / f"{name}.jsonl").open("a") as stream:
                stream.write(json.dumps(line) + "\n")


def _in_bf16(config: TrainingConfig) -> bool:
    """Whether matrices are multiplied in bf16. A processor without instructions for it does so on one core, by hand,
    at a fraction of its speed in fp32."""
    if config.precision != "auto":
        return config.precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _check_names(model: SpeechModel, config: TrainingConfig) -> None:
    """Every beginning of a name that stages and noise choose parameters by is that of one."""
    names = [name for name, _ in model.named_parameters()]
    given = [(f"stage '{stage.name}': freeze", start) for stage in config.stages for start in stage.freeze]
    for where, start in [*given, *(("training.weight_noise.only", start) for start in config.weight_noise.only)]:
        if not any(name.startswith(start) for name in names):
            parts = {".".join(name.split(".")[:depth]) for name in names for depth in (1, 2)}
            raise ConfigError(f"{where}: no parameter's name begins with '{start}'; {nearest(start, parts)}")
