"""CTC, attention, streaming attention, transducer, hybrid: one encoder, the same data and steps, heads of one size.

    sayso bench tradeoffs    (or: python benchmarks/tradeoffs.py [--minutes 20 | --steps N] [--corpus NAME …] [--long
    10])

Every system has the same encoder and hears the same batches, by the real loop, with one seed: CTC alone in the first
part of the run (`--hear`), then its own loss beside CTC's; CTC goes on alone. With `--init` the encoder is that of a
checkpoint and stays as it is, and all heads but CTC's and that for phones are new: a small machine can learn heads in
minutes, and no encoder. The heads of the others (decoder, or
predictor and joiner) are made as wide as gives the transducer's number of parameters, within 3%; CTC has none. Steps
are `--steps`, or as many as the CTC system takes in `--minutes` on this machine. Then each is exported in fp32 and
decodes on the floor, one core, chunk by chunk: dev sets of real people, and the same recordings concatenated, `--long`
at a time. `attention-alone` is no training of its own: it is `attention` with nothing of CTC in its beam.

The hybrid's language model has the weight, and its words the bonus, that are best on `--tune` recordings of `valid`,
unless they are given.

`wer`; `rtf`, processor time of everything per second of sound; `first_s`, from the beginning of the first word, where
CTC aligns it, until any text is there; `final_s`, from the last sample until the final text. The clock of both is
live: a packet of 100 ms cannot be heard before it was said. A decoder that hears everything first has no text before.
`long_wer` and what it is to `wer`; `parameters` of encoder and CTC head, and of the rest; `mb`, what of the bundle is
in use. Ratios are to CTC on the same utterances; intervals are 95% bootstraps over utterances (of the long form: over
concatenations), of one training run each. One JSON line per figure on stdout, the table on stderr and in `--out`.
A folder given again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from _lines import emit
from _probe import one_core
from _systems import HYBRID, REFERENCE, SYSTEMS, begun, export, sized, trunk_of, used_mb, words_of
from _wer import SETS, Floats, recordings, valid_recordings
from encoders import Plan, planned, taken, training_options

from sayso.core.errors import DataError
from sayso.decoding.align import align
from sayso.decoding.hybrid import HybridConfig
from sayso.evaluation.bootstrap import Estimate, general, ratio
from sayso.evaluation.metrics import word_errors
from sayso.models.assembly import load_checkpoint
from sayso.runtime.engine import Chunk, Engine
from sayso.runtime.model import Model
from sayso.runtime.settings import FreeConfig, LanguageModelConfig

BENCH = "tradeoffs"
PACKET, RATE = 1600, 16000
WEIGHTS, BONUSES = (0.6, 0.4, 0.8, 1.0), (1.0, 0.0, 2.0, 4.0)  # of the hybrid; the first where nothing can choose
COLUMNS = ("wer", "rtf", "first_s", "final_s", "long_wer", "long_ratio", "head_parameters", "mb")


@dataclass
class Heard:
    """What a system made of recordings: word errors and words, processor seconds, latencies (NaN: no text)."""

    errors: list[float] = field(default_factory=list)
    words: list[float] = field(default_factory=list)
    busy_s: list[float] = field(default_factory=list)
    audio_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    final_s: list[float] = field(default_factory=list)


def train(plan: Plan, name: str, model: dict[str, Any], hear: float, init: Path | None, run: str | None = None) -> Path:
    """The run folder, called as the system or ``run``; from ``init`` on only what is not the encoder learns."""
    weights, run = SYSTEMS[name].weights, run or name
    if init is not None:
        start = begun(model, init, plan.out / f"{run}-init", plan.training["seed"])
        return plan.train(run, model, start, weights=weights, freeze=["encoder."])
    alone = {key: 1.0 if key == "ctc" else 0.0 for key in weights if key in ("ctc", "transducer", "decoder")}
    alone = {} if name == HYBRID else alone
    stages = [
        {"name": "hear", "share": hear, "weights": alone},
        {"name": "own", "share": 1 - hear},
    ]
    return plan.train(run, model, weights=weights, stages=stages)


def trained(
    plan: Plan, models: dict[str, tuple[dict[str, Any], int]], hear: float, init: Path | None
) -> dict[str, Path]:
    """The run folder of every system; those that read another's run differently train that one, once."""
    runs = {name: SYSTEMS[name].run or name for name in models}
    its = {run: models[name][0] for name, run in runs.items()}
    folders = {run: train(plan, run, model, hear, init) for run, model in its.items()}
    return {name: folders[run] for name, run in runs.items()}


def onset(engine: Engine, text: str, samples: Floats) -> float:
    """When the first word begins, by CTC's alignment; NaN where there is none."""
    tokens = engine.tokenizer.encode(text)
    features = engine.features.build()
    heard = np.concatenate([features.accept(samples), features.finish()])
    state, rows = engine.start(), []
    for start in range(0, len(heard), engine.chunk):
        (chunk,) = engine.step([state], [Chunk(features=heard[start : start + engine.chunk])])
        rows.append(chunk.log_probs)
    try:
        found = align(np.concatenate(rows), tokens)
    except (DataError, ValueError):
        return float("nan")
    return found.frames[0] * engine.ctc_frame_s if found.frames else float("nan")


def listen(model: Model, text: str, samples: Floats, begins_s: float, heard: Heard) -> None:
    """Play one recording as from a microphone, and add what came of it."""
    stream, late = model.stream(), model.engine.parser is not None
    now, first, began_cpu = 0.0, float("nan"), time.process_time()
    for start in range(0, len(samples), PACKET):
        packet = samples[start : start + PACKET]
        began, now = time.perf_counter(), max(now, (start + len(packet)) / RATE)
        partial = stream.accept(packet)
        now += time.perf_counter() - began
        if partial.text and np.isnan(first) and not late:  # before a decoder at the end it is CTC that speaks
            first = now
    began = time.perf_counter()
    result = stream.finish()
    now += time.perf_counter() - began
    edits = word_errors(text, result.text)
    heard.errors.append(float(edits.errors))
    heard.words.append(float(edits.length))
    heard.busy_s.append(time.process_time() - began_cpu)
    heard.audio_s.append(len(samples) / RATE)
    heard.first_s.append((first if not np.isnan(first) else now if result.text else float("nan")) - begins_s)
    heard.final_s.append(now - len(samples) / RATE)


def joined(found: Sequence[tuple[str, Floats]], times: int) -> list[tuple[str, Floats]]:
    """Recordings one after the other, ``times`` at once; what is left over is left out."""
    groups = [found[i : i + times] for i in range(0, len(found) - times + 1, times)]
    return [(" ".join(text for text, _ in g), np.concatenate([samples for _, samples in g])) for g in groups]


def mean(values: Sequence[float]) -> Estimate | None:
    """Of those that are known."""
    known = [value for value in values if not np.isnan(value)]
    return general(lambda index: float(np.mean(np.asarray(known)[index])), len(known))


def judge(name: str, model: Model, sets: dict[str, tuple[list[tuple[str, Floats]], list[float]]], times: int,
          against: dict[str, Heard]) -> dict[str, dict[str, Estimate | None]]:  # fmt: skip
    """All figures of one system by dev set, printed; ``against`` are the reference's errors, by set."""
    found: dict[str, dict[str, Estimate | None]] = {}
    for dev, (clips, begins) in sets.items():
        short, long = Heard(), Heard()
        for (text, samples), begin in zip(clips, begins, strict=True):
            listen(model, text, samples, begin, short)
        for text, samples in joined(clips, times):
            listen(model, text, samples, float("nan"), long)
        place = dev.split("/")[0]
        figures = {
            "wer": ratio(short.errors, short.words),
            "rtf": ratio(short.busy_s, short.audio_s),
            "first_s": mean(short.first_s),
            "final_s": mean(short.final_s),
            "long_wer": ratio(long.errors, long.words),
        }
        for metric, figure in figures.items():
            emit(BENCH, f"{name}/{place}", metric, figure)
        for key, each in ((place, short), (f"{place} long", long)):
            if name == REFERENCE:
                against[key] = each
            elif key in against:
                metric = "long_wer" if key.endswith("long") else "wer"
                emit(BENCH, f"{name}/{place}", metric, ratio(each.errors, against[key].errors), REFERENCE)
        wer, far = figures["wer"], figures["long_wer"]
        if wer and far and wer["value"]:
            figures["long_ratio"] = {key: far[key] / wer["value"] for key in ("value", "low", "high")}  # type: ignore[assignment,literal-required]
            emit(BENCH, f"{name}/{place}", "long_wer", figures["long_ratio"], "wer")
        found[place] = figures
    return found


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row for each system and dev set, after what is known of its kind."""
    head = ("system", "set", "labels depend on each other", "a label listens to", "streams", *COLUMNS)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for key, figures in rows.items():
        name, _, dev = key.partition("/")
        system = SYSTEMS[name]
        cells = [name, dev, system.labels, system.listens, "no" if system.listens == "everything" else "yes"]
        for column in COLUMNS:
            figure = figures.get(column)
            if isinstance(figure, dict):
                cells.append(f"{figure['value']:.3g} ({figure['low']:.3g} to {figure['high']:.3g})")
            else:
                cells.append("" if figure is None else f"{figure:.4g}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def with_words(words: str, weight: float, bonus: float) -> FreeConfig:
    """How the hybrid reads."""
    return FreeConfig(search=HybridConfig(bonus=bonus), lm=LanguageModelConfig(file=words, weight=weight))


def tuned(folder: Path, words: str, longest: float, options: argparse.Namespace) -> tuple[float, float]:
    """The language model's weight and the bonus of a word: as given, else those that are best on ``valid``."""
    pairs = list(product([options.lm_weight] if options.lm_weight is not None else WEIGHTS,
                         [options.word_bonus] if options.word_bonus is not None else BONUSES))  # fmt: skip
    clips = valid_recordings(options.tune) if options.tune and len(pairs) > 1 else []
    if not clips:
        return pairs[0]
    found: dict[tuple[float, float], float] = {}
    for weight, bonus in pairs:
        bundle = export(HYBRID, folder, options.out / "tuned.bundle", longest, with_words(words, weight, bonus))
        model, heard = Model(bundle), Heard()
        for text, samples in clips:
            listen(model, text, samples, 0.0, heard)
        figure = ratio(heard.errors, heard.words)
        if figure is not None:
            found[weight, bonus] = figure["value"]
            emit(BENCH, f"{HYBRID}/valid, weight {weight:g}, bonus {bonus:g}", "wer", figure)
    return min(found, key=lambda pair: found[pair]) if found else pairs[0]


def compare(plan: Plan, options: argparse.Namespace) -> None:
    """Train, export, judge and print every system."""
    trunk = trunk_of(options.vocab, options.init)
    models = {name: sized(name, trunk) for name in options.systems}
    if "steps" not in plan.training:
        probe = Plan(plan.data, {**plan.training, "steps": 30}, plan.vocab, plan.out)
        steps, seconds = taken(train(probe, REFERENCE, models[REFERENCE][0], options.hear, options.init, "probe"))
        plan.training["steps"] = max(30, round(options.minutes * 60 * steps / seconds))
    folders = trained(plan, models, options.hear, options.init)
    if options.train_only:
        return
    one_core()
    clips = {name: recordings(name, options.limit, options.seed) for name in SETS}
    longest = max((len(s) / RATE for found in clips.values() for _, s in found or []), default=10.0) * options.long
    free = {name: SYSTEMS[name].free for name in folders}
    if HYBRID in free:
        words = words_of(plan.data, options.out / "lm.npz")
        free[HYBRID] = with_words(words, *tuned(folders[HYBRID], words, longest, options))
    bundles = {
        name: export(name, folder, options.out / f"{name}.bundle", longest, free[name])
        for name, folder in folders.items()
    }
    ear = Model(bundles[REFERENCE]).engine
    sets = {
        name: (found, [onset(ear, text, samples) for text, samples in found])
        for name, found in clips.items()
        if found is not None
    }
    rows: dict[str, dict[str, Any]] = {}
    against: dict[str, Heard] = {}
    for name, bundle in bundles.items():
        steps, seconds = taken(folders[name])
        model, _ = load_checkpoint(folders[name] / "model")
        trunk = sum(p.numel() for part in (model.encoder, model.ctc) for p in part.parameters())
        fixed = {"head_parameters": float(models[name][1]), "mb": used_mb(bundle, name)}
        about = {"parameters": float(trunk), "steps": float(steps), "ms_per_step": 1000 * seconds / steps}
        for metric, value in {**about, **fixed}.items():
            emit(BENCH, name, metric, value)
        for dev, figures in judge(name, Model(bundle), sets, options.long, against).items():
            rows[f"{name}/{dev}"] = {**figures, **fixed}
    shown = table(rows)
    (options.out / "table.md").write_text(shown)
    print(shown, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="of CTC's training; sets the steps of all")
    parser.add_argument("--hear", type=float, default=0.4, help="share of the steps that all train CTC alone")
    parser.add_argument("--init", type=Path, help="a checkpoint whose encoder all have, as it is")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "auto"))
    training_options(parser, limit=100)
    parser.add_argument("--long", type=int, default=10, help="recordings in one of the long form")
    parser.add_argument("--lm-weight", type=float, help="of the hybrid's language model")
    parser.add_argument("--word-bonus", type=float, help="of the hybrid, for every word")
    parser.add_argument("--tune", type=int, default=60, help="recordings of `valid` that choose both")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--train-only", action="store_true", help="train, judge another time")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-tradeoffs"))
    options = parser.parse_args(arguments)
    options.systems = [name for name in SYSTEMS if name in options.systems or name == REFERENCE]
    compare(planned(options, precision=options.precision), options)


if __name__ == "__main__":
    main()
