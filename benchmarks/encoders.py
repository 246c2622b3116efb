"""Encoders at equal size and equal steps: LSTM, Transformer, Conformer, and the Conformer without its convolution.

    python benchmarks/encoders.py [--minutes 20 | --steps N] [--corpus commonvoice-v1 --phones runs/phones] [--out DIR]

Small CTC models differ in the encoder alone. Its feed-forward width (the LSTM's number of cells) is set so that
encoders have the Conformer's number of parameters within 3%. Each is trained by the real loop with the same seed, data
and steps: as many steps as the Conformer takes in `--minutes` on this machine, measured first, or `--steps`. WER is
greedy CTC over dev sets of real people in the streaming context, and a ratio to the Conformer on the same utterances;
intervals are 95% bootstraps over utterances, of one training run each. `valid_wer` is on held-out parts of the
corpus; `ctc_nats_per_token`, the CTC loss there, tells encoders apart before they write words. `ms_per_step` is
training time. With `--predictors`, transducers that differ in the prediction network alone
(every one in the table, the stateless one as the reference) are trained the same way; `nats_per_token` is their
transducer loss on the dev sets, `transducer_wer` what their greedy search reads there. A folder given again goes on
where it stopped. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _lines import emit
from _wer import SETS, Floats, checkpoint, dev_set, encoded, greedy_edits
from torch import Tensor

from sayso.core.config import parse
from sayso.evaluation.bootstrap import ratio
from sayso.losses import ctc_loss, transducer_loss
from sayso.models.assembly import ModelConfig, SpeechModel, load_checkpoint, save_checkpoint
from sayso.models.predictors import PREDICTORS
from sayso.models.streaming import Context
from sayso.text.tokenizer import Tokenizer
from sayso.training.greedy import Reader
from sayso.training.progress import to_stderr
from sayso.training.recipe import LossWeights, Recipe
from sayso.training.run import run
from sayso.training.transducing import transducer_greedy

BENCH, REFERENCE, STATELESS = "encoders", "conformer", "stateless"
WITHIN = 0.03
PROBE_STEPS = 30
SMALL = {"channels": 96, "width": 144, "dropout": 0.0}
ATTENTION = {**SMALL, "layers": 4, "heads": 4}
# settings, and the one that makes the size equal
CASES: dict[str, tuple[dict[str, Any], str]] = {
    REFERENCE: ({"kind": "conformer", **ATTENTION, "feedforward": 384}, "feedforward"),
    "conformer without convolution": ({"kind": "conformer", **ATTENTION, "convolution": False}, "feedforward"),
    "transformer": ({"kind": "transformer", **ATTENTION, "layers": 6}, "feedforward"),
    "lstm": ({"kind": "lstm", **SMALL, "layers": 4}, "hidden"),
}
Dev = dict[str, tuple[list[str], list[Floats]]]
Surprise = Callable[[SpeechModel, Tensor, Tensor], float]


@dataclass(frozen=True)
class Plan:
    """What all runs of a comparison have in common."""

    data: dict[str, Any]
    training: dict[str, Any]
    vocab: int
    out: Path

    def train(self, name: str, model: dict[str, Any], init: Path | None = None, **training: Any) -> Path:
        """Train by the real loop; the run folder. With ``init`` the model is that checkpoint's."""
        settings = {
            "name": name,
            **({"model": {"vocab": self.vocab, **model}} if init is None else {"init": str(init)}),
            "data": self.data,
            "training": {**self.training, **training},
        }
        folder = self.out / name.replace(" ", "-")
        return run(parse(Recipe, settings, where="benchmarks/encoders.py"), folder, to_stderr)


def parameters(settings: dict[str, Any]) -> int:
    """Parameters of the encoder with these settings."""
    config = parse(ModelConfig, {"encoder": settings}, where="benchmarks/encoders.py").encoder
    return sum(p.numel() for p in config.build().parameters())


def sized(settings: dict[str, Any], knob: str, target: int) -> dict[str, Any]:
    """``settings`` with ``knob`` such that the encoder has ``target`` parameters within 3%; size is linear in it."""
    few, many = (parameters({**settings, knob: value}) for value in (64, 128))
    value = round(64 + (target - few) * 64 / (many - few))
    chosen = {**settings, knob: value}
    if value < 8 or abs(parameters(chosen) / target - 1) > WITHIN:
        raise SystemExit(f"{settings['kind']}: no {knob} gives {target} parameters; change its layers or width")
    return chosen


def taken(folder: Path) -> tuple[int, float]:
    """Steps and seconds of a run."""
    state = json.loads((folder / "state" / "state.json").read_text())
    return int(state["step"]), float(state["seconds"])


def valid_wer(folder: Path) -> float | None:
    """The newest validation of a run; None where it had nothing held out."""
    file = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return next((row["valid_wer"] for row in reversed(rows) if "valid_wer" in row), None)


def judge(folder: Path, dev: Dev, by: Reader | None = None) -> dict[str, tuple[list[float], list[float]]]:
    """Errors and words of each utterance, by dev set, as read ``by`` greedy CTC or by someone else, of a run or a
    checkpoint."""
    model, tokenizer = load_checkpoint(checkpoint(folder))
    context = model.encoder.default_context
    found = {}
    for name, recordings in dev.items():
        edits = greedy_edits(model, tokenizer, recordings, context, by)
        found[name] = ([float(e.errors) for e in edits], [float(e.length) for e in edits])
    return found


def renewed(init: Path, folder: Path, kept: tuple[str, ...], seed: int, tokenizer: Tokenizer | None = None) -> Path:
    """The checkpoint with new weights, but for those whose names begin with one of ``kept``, and with another tokenizer
    where one is given; the folder that it is in then."""
    trained, its = load_checkpoint(init)
    torch.manual_seed(seed)
    model = trained.config.model_copy(update={"vocab": (tokenizer or its).size}).build()
    weights = {name: value for name, value in trained.state_dict().items() if name.startswith(kept)}
    model.load_state_dict(weights, strict=False)
    save_checkpoint(model, tokenizer or its, folder)
    return folder


def rows(
    runs: Mapping[str, Callable[[], Path]], dev: Dev, bench: str, by: Reader | None = None, metric: str = "wer"
) -> None:
    """Train and judge every row (read ``by`` greedy CTC or someone else), and compare its word errors with those of the
    first."""
    reference, its = next(iter(runs)), None
    for name, train in runs.items():
        folder = train()
        emit(bench, name, "steps", float(taken(folder)[0]))
        mine = judge(folder, dev, by)
        compare(name, reference, metric, mine, its, bench)
        its = its or mine


def compare(case: str, reference: str, metric: str, mine: Any, its: Any, bench: str = BENCH) -> None:
    """A figure for each dev set, and what it is to the reference's."""
    for name, (costs, counts) in mine.items():
        place = f"{case}/{name.split('/')[0]}"
        emit(bench, place, metric, ratio(costs, counts))
        if its is not None:
            emit(bench, place, metric, ratio(costs, its[name][0]), reference)


def encoders(plan: Plan, dev: Dev, minutes: float) -> None:
    """Train and judge every case; without steps in the plan, first see how many ``minutes`` hold."""
    reference = CASES[REFERENCE][0]
    if "steps" not in plan.training:
        steps, seconds = taken(plan.train("probe", {"encoder": reference}, steps=PROBE_STEPS))
        plan.training["steps"] = max(PROBE_STEPS, round(minutes * 60 * steps / seconds))
        print(f"{minutes} minutes hold {plan.training['steps']} steps of the reference", file=sys.stderr)
    target = parameters(reference)
    found: dict[str, Any] = {}
    nats: dict[str, Any] = {}
    for name, (settings, knob) in CASES.items():
        chosen = sized(settings, knob, target)
        folder = plan.train(name, {"encoder": chosen})
        steps, seconds = taken(folder)
        emit(BENCH, name, "parameters", float(parameters(chosen)))
        emit(BENCH, name, "steps", float(steps))
        emit(BENCH, name, "ms_per_step", 1000 * seconds / steps)
        emit(BENCH, name, "valid_wer", valid_wer(folder))
        loaded = load_checkpoint(folder / "model")
        found[name] = judge(folder, dev)
        nats[name] = {dev_name: surprise(*loaded, recordings, by_ctc) for dev_name, recordings in dev.items()}
        for metric, figures in (("wer", found), ("ctc_nats_per_token", nats)):
            compare(name, REFERENCE, metric, figures[name], None if name == REFERENCE else figures[REFERENCE])


@torch.no_grad()
def surprise(
    model: SpeechModel,
    tokenizer: Tokenizer,
    dev: tuple[list[str], list[Floats]],
    loss_of: Surprise,
    context: Context | None = None,
) -> tuple[list[float], list[float]]:
    """Nats and tokens of each utterance under a loss, in the model's own streaming context unless one is given; what
    cannot be spelled, or has no path, is left out."""
    texts, features = dev
    nats, counts = [0.0] * len(texts), [0.0] * len(texts)
    for group, frames, sizes in encoded(model, features, context or model.encoder.default_context):
        for row, index in enumerate(group):
            tokens = torch.tensor([tokenizer.encode(texts[index])], dtype=torch.int64)
            if not tokens.shape[1]:
                continue
            loss = loss_of(model, frames[row : row + 1, : sizes[row]], tokens)
            if math.isfinite(loss):
                nats[index], counts[index] = loss, float(tokens.shape[1])
    return nats, counts


def by_ctc(model: SpeechModel, frames: Tensor, tokens: Tensor) -> float:
    """-ln P(tokens (1,U) | frames (1,T,D)) by the CTC head."""
    rows = model.ctc(frames)
    lengths = torch.tensor([rows.shape[1]]), torch.tensor([tokens.shape[1]])
    return float(ctc_loss(rows, tokens, *lengths, reduction="none", zero_infinity=False))


def by_transducer(model: SpeechModel, frames: Tensor, tokens: Tensor) -> float:
    """Likewise by predictor and joiner."""
    logits = model.joiner(frames, model.predictor(tokens))
    lengths = torch.tensor([frames.shape[1]]), torch.tensor([tokens.shape[1]])
    return float(transducer_loss(logits, tokens, *lengths, reduction="none"))


def predictors(plan: Plan, dev: Dev) -> None:
    """Transducers with every prediction network of the table."""
    found: dict[str, Any] = {}
    read: dict[str, Any] = {}
    for kind in sorted(PREDICTORS, key=lambda kind: (kind != STATELESS, kind)):
        model = {"encoder": CASES[REFERENCE][0], "predictor": {"kind": kind}}
        weights = {**plan.training["weights"], "ctc": 0.3, "transducer": 0.7}
        folder = plan.train(f"{kind} predictor", model, weights=weights)
        loaded = load_checkpoint(folder / "model")
        found[kind] = {name: surprise(*loaded, recordings, by_transducer) for name, recordings in dev.items()}
        read[kind] = judge(folder, dev, by=transducer_greedy)
        for metric, figures in (("nats_per_token", found), ("transducer_wer", read)):
            compare(f"{kind} predictor", STATELESS, metric, figures[kind],
                    None if kind == STATELESS else figures[STATELESS])  # fmt: skip


def training_options(parser: argparse.ArgumentParser, limit: int) -> None:
    """Options that comparisons of small trainings share; ``limit`` is the default number of utterances to judge."""
    parser.add_argument("--steps", type=int, help="of every training, instead of --minutes")
    parser.add_argument("--corpus", nargs="+", default=["librispeech-tc5"], help="folders under SAYSO_CORPORA")
    parser.add_argument("--longest-s", type=float, default=5.5, help="leave longer recordings out of the training")
    parser.add_argument("--clips", type=int, help="train on so many recordings of each corpus")
    parser.add_argument("--batch-seconds", type=float, default=40.0)
    parser.add_argument("--vocab", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=limit, help="a seeded sample of N utterances of each dev set")


def planned(options: argparse.Namespace, **training: Any) -> Plan:
    """What all trainings of these options have in common; ``training`` adds to it."""
    source = {"longest_s": options.longest_s, "clips": options.clips}
    shared = {
        "seed": options.seed, "batch_seconds": options.batch_seconds, "rate": options.rate, "warmup": 100,
        "threads": options.threads, "chunks": [0, 4, 8], "validate_every": 10_000,
        "weights": {"ctc": 1.0, "transducer": 0.0},
        "spec": {"frequency_masks": 1, "time_share": 0.02, "tempo": 0.05, "vocal_tract": 0.06, "level": 1.0},
    }  # fmt: skip
    steps = {} if options.steps is None else {"steps": options.steps}
    data = {"train": [{"corpus": name, **source} for name in options.corpus]}
    options.out.mkdir(parents=True, exist_ok=True)
    return Plan(data, {**shared, **training, **steps}, options.vocab, options.out)


def going_on(options: argparse.Namespace, **training: Any) -> Plan:
    """The same for trainings that go on from the checkpoint ``options.init``, whose CTC heads all learn."""
    heads = {"phone_ctc": 1.0} if load_checkpoint(options.init)[0].phones is not None else {}
    weights = LossWeights(ctc=0.7, transducer=0.0, intermediate=0.3, **heads).model_dump()
    return planned(options, precision="auto", chunks=[0, 4, 4, 8], **{"weights": weights, **training})


def dev_sets(options: argparse.Namespace) -> Dev:
    """Those that are here, by name."""
    sets = {name: dev_set(name, 80, options.limit, options.seed) for name in SETS}
    return {name: recordings for name, recordings in sets.items() if recordings is not None}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train all cases and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=20.0, help="of the Conformer's training; sets the steps of all"
    )
    training_options(parser, limit=200)
    parser.add_argument("--phones", type=Path, help="alignments by benchmarks/align.py, taught beside CTC")
    parser.add_argument("--predictors", action="store_true", help="compare prediction networks as well")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-encoders"))
    options = parser.parse_args(arguments)
    plan = planned(options)
    if options.phones is not None:  # without them few thousand steps on real speech stay on blanks, whatever encodes
        plan.training["weights"]["phones"] = 1.0
        for source in plan.data["train"]:
            source["phones"] = str(options.phones / f"{source['corpus']}.jsonl")
    dev = dev_sets(options)
    encoders(plan, dev, options.minutes)
    if options.predictors:
        predictors(plan, dev)


if __name__ == "__main__":
    main()
