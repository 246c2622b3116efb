"""Real people ordering coffee: command acceptance of a bundle, clean and in kitchen noise.

    python benchmarks/coffee.py --bundle coffee.bundle [--jobs 2] [--limit 20]

Every recording of ``coffee-dev`` in the corpora, clean and mixed with its kitchen noise at 15 and 6 dB (ratio of the
largest energies of 2048-sample frames, seeded, as the published figures define it). A command is accepted when the
intent and every slot value are exactly right; the interval is a 95% bootstrap over recordings. Beside it: the share
rejected, the share understood wrongly (a meaning that is not the right one), and real-time factor. Noise is compared
with clean on the same recordings, as a ratio. Nothing may be tuned on these figures. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import functools
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _lines import corpora, emit, progress, skip

from sayso.evaluation import metrics
from sayso.evaluation.bootstrap import BootstrapConfig, ratio
from sayso.evaluation.evaluate import Pair
from sayso.evaluation.examples import read_examples
from sayso.evaluation.predict import NoiseCondition, Run, write_predictions
from sayso.runtime.load import load

BENCH = "coffee"
LABELS, NOISE = "labels.jsonl", "kitchen-noise-dev.flac"


@dataclass(frozen=True)
class Task:
    """What every condition shares."""

    bundle: str
    data: Path
    limit: int | None
    seed: int
    predictions: Path | None


def name(snr_db: float | None) -> str:
    """The case of a figure."""
    return "clean" if snr_db is None else f"{snr_db:g}dB"


def pairs_of(task: Task, snr_db: float | None) -> list[Pair]:
    """All recordings in one condition; files that cannot be read are reported and left out."""
    examples = read_examples(task.data / LABELS)[: task.limit]
    noise = None
    if snr_db is not None:
        noise = NoiseCondition(file=str(task.data / NOISE), snr_db=snr_db, snr_kind="peak2048", seed=task.seed)
    model = load(task.bundle)
    run = Run(lambda samples, rate: model.understand(samples, rate), examples, noise, progress)
    pairs = list(run)
    for failure in run.failures:
        skip(failure.audio, failure.message)
    if task.predictions is not None:
        write_predictions(task.predictions / f"{name(snr_db)}.jsonl", pairs)
    return pairs


def report(case: str, pairs: list[Pair], clean: dict[str, bool], seed: int) -> None:
    """The figures of one condition; ``clean`` says by recording what was right there (empty: this is clean)."""
    bootstrap = BootstrapConfig(seed=seed)
    right = [metrics.command_right(*pair) for pair in pairs]
    rejected = [result.decision == "reject" for _, result in pairs]
    asked = [result.decision == "clarify" for _, result in pairs]
    wrong = [not ok and not no for ok, no in zip(right, rejected, strict=True)]
    rows = {"command_acceptance": right, "rejection_rate": rejected, "wrong_rate": wrong, "clarify_rate": asked}
    rows["intent_accuracy"] = [metrics.intent_right(*pair) for pair in pairs]
    for metric, values in rows.items():
        emit(BENCH, case, metric, ratio(values, np.ones(len(values)), bootstrap))
    if clean:
        before = [clean[example.audio] for example, _ in pairs]
        emit(BENCH, case, "command_acceptance", ratio(right, before, bootstrap), "clean")
    audio = [result.timing.audio_s for _, result in pairs]
    busy = [(result.timing.rtf or 0.0) * result.timing.audio_s for _, result in pairs]
    emit(BENCH, case, "rtf", ratio(busy, audio, bootstrap))


def main() -> None:
    """Understand every condition and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="a bundle built from the imported coffee context")
    parser.add_argument("--snr", type=float, nargs="*", default=[15.0, 6.0], help="noisy conditions in dB")
    parser.add_argument("--limit", type=int, help="only the first N recordings")
    parser.add_argument("--jobs", type=int, default=1, help="conditions at once; more than 1 distorts the rtf")
    parser.add_argument("--seed", type=int, default=0, help="of the noise and of the bootstrap")
    parser.add_argument("--predictions", type=Path, metavar="FOLDER", help="write what was understood, for inspection")
    arguments = parser.parse_args()
    folder = corpora() / "coffee-dev"
    if not (folder / LABELS).exists():
        parser.exit(0, f"{folder}: not here, skipped; SAYSO_CORPORA names the folder of corpora\n")
    if arguments.predictions is not None:
        arguments.predictions.mkdir(parents=True, exist_ok=True)
    task = Task(arguments.bundle, folder, arguments.limit, arguments.seed, arguments.predictions)
    conditions: list[float | None] = [None, *arguments.snr]
    work = functools.partial(pairs_of, task)
    clean: dict[str, bool] = {}
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for snr_db, pairs in zip(conditions, pool.map(work, conditions), strict=True):
            report(name(snr_db), pairs, clean, arguments.seed)
            clean = clean or {example.audio: metrics.command_right(example, result) for example, result in pairs}


if __name__ == "__main__":
    main()
