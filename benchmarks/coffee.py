"""Real people ordering coffee: command acceptance of a bundle, clean and in kitchen noise.

    python benchmarks/coffee.py --bundle coffee.bundle [--jobs 2] [--limit 20]
    python benchmarks/coffee.py --bundle coffee.bundle --domain coffee.yaml --beside pocketsphinx whisper-tiny.en \
        whisper=FOLDER [--whisper-python PY]

Every recording of ``coffee-dev`` in the corpora, clean and mixed with its kitchen noise at 15 and 6 dB (ratio of the
largest energies of 2048-sample frames, seeded, as the published figures define it). A command is accepted when the
intent and every slot value are exactly right; the interval is a 95% bootstrap over recordings. Beside it: the share
rejected, the share understood wrongly (a meaning that is not the right one), that of it which is accepted without
asking back, and real-time factor. Noise is compared with clean on the same recordings, as a ratio. Nothing may be tuned
on these figures. One JSON line per figure.

``--beside`` runs open systems on the same mixtures in the same run, each on one core in a process of its own: the
closed grammar of ``--domain`` in PocketSphinx, and Whisper tiny.en or any weights in CTranslate2's form, told the words
of the lists, its text taken for the nearest sentence of the grammar (``_nearest.py``). They refuse nothing. Then
``peak_mb`` is the memory of whoever recognises, and acceptance is also a ratio of Sayso's to theirs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from _lines import corpora, emit, progress, skip
from _others import Other, PocketSphinx, Whisper
from _probe import peak_mb

from sayso.evaluation import metrics
from sayso.evaluation.bootstrap import BootstrapConfig, ratio
from sayso.evaluation.evaluate import Pair
from sayso.evaluation.examples import read_examples
from sayso.evaluation.predict import NoiseCondition, Run, Understand, write_predictions
from sayso.nlu.domain import load_domain
from sayso.runtime.load import load

BENCH, OWN, GRAMMAR = "coffee", "sayso", "pocketsphinx"
LABELS, NOISE = "labels.jsonl", "kitchen-noise-dev.flac"


@dataclass(frozen=True)
class Task:
    """What every condition shares."""

    bundle: str
    data: Path
    limit: int | None
    seed: int
    predictions: Path | None
    domain: Path | None = None
    whisper_python: str = sys.executable


@dataclass(frozen=True)
class Heard:
    """What a system made of all recordings in one condition, and the peak of its memory."""

    pairs: list[Pair]
    peak_mb: float


def label(system: str) -> str:
    """A system's name in figures: weights by the name of their folder."""
    kind, _, folder = system.partition("=")
    return f"{kind}-{Path(folder).name}" if folder else kind


def name(snr_db: float | None) -> str:
    """The case of a figure."""
    return "clean" if snr_db is None else f"{snr_db:g}dB"


@contextmanager
def listening(task: Task, system: str) -> Iterator[Understand | Other]:
    """A system by its name: ``sayso``, ``pocketsphinx``, ``whisper-tiny.en`` or ``whisper=FOLDER``."""
    if system == OWN:
        model = load(task.bundle)
        yield lambda samples, rate: model.understand(samples, rate)
        return
    if task.domain is None:
        raise SystemExit("--beside needs --domain: the file that the bundle was built from")
    domain = load_domain(task.domain)
    if system == GRAMMAR:
        yield PocketSphinx(domain)
        return
    weights = system.partition("=")[2] or "tiny.en"
    with Whisper(domain, task.whisper_python, weights) as whisper:
        yield whisper


def hear(task: Task, system: str, snr_db: float | None) -> Heard:
    """All recordings in one condition; files that cannot be read are reported and left out."""
    examples = read_examples(task.data / LABELS)[: task.limit]
    noise = None
    if snr_db is not None:
        noise = NoiseCondition(file=str(task.data / NOISE), snr_db=snr_db, snr_kind="peak2048", seed=task.seed)
    with listening(task, system) as understand:
        run = Run(understand, examples, noise, progress)
        pairs = list(run)
        peak = understand.peak_mb if isinstance(understand, Other) else peak_mb()
    for failure in run.failures:
        skip(failure.audio, failure.message)
    if task.predictions is not None:
        name_of = name(snr_db) if system == OWN else f"{label(system)}-{name(snr_db)}"
        write_predictions(task.predictions / f"{name_of}.jsonl", pairs)
    return Heard(pairs, peak)


def report(case: str, pairs: list[Pair], clean: dict[str, bool], seed: int) -> None:
    """The figures of one condition; ``clean`` says by recording what was right there (empty: this is clean)."""
    bootstrap = BootstrapConfig(seed=seed)
    right = [metrics.command_right(*pair) for pair in pairs]
    rejected = [result.decision == "reject" for _, result in pairs]
    asked = [result.decision == "clarify" for _, result in pairs]
    wrong = [not ok and not no for ok, no in zip(right, rejected, strict=True)]
    rows = {"command_acceptance": right, "rejection_rate": rejected, "wrong_rate": wrong, "clarify_rate": asked}
    rows["wrongly_accepted_rate"] = [
        not ok and result.decision == "accept" for ok, (_, result) in zip(right, pairs, strict=True)
    ]
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
    parser.add_argument("--beside", nargs="*", default=[], metavar="SYSTEM", help="open systems, named as above")
    parser.add_argument("--domain", type=Path, help="what the bundle was built from, for --beside")
    parser.add_argument("--whisper-python", default=sys.executable, metavar="PY", help="one with faster_whisper")
    parser.add_argument("--predictions", type=Path, metavar="FOLDER", help="write what was understood, for inspection")
    arguments = parser.parse_args()
    folder = corpora() / "coffee-dev"
    if not (folder / LABELS).exists():
        parser.exit(0, f"{folder}: not here, skipped; SAYSO_CORPORA names the folder of corpora\n")
    if arguments.predictions is not None:
        arguments.predictions.mkdir(parents=True, exist_ok=True)
    task = Task(
        arguments.bundle,
        folder,
        arguments.limit,
        arguments.seed,
        arguments.predictions,
        arguments.domain,
        arguments.whisper_python,
    )
    work = [(system, snr_db) for snr_db in (None, *arguments.snr) for system in (OWN, *arguments.beside)]
    right: dict[tuple[str, float | None], dict[str, bool]] = {}
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        for (system, snr_db), heard in zip(
            work, pool.map(hear, [task] * len(work), *zip(*work, strict=True)), strict=True
        ):
            case = name(snr_db) if system == OWN else f"{label(system)}/{name(snr_db)}"
            right[system, snr_db] = {
                example.audio: metrics.command_right(example, result) for example, result in heard.pairs
            }
            report(case, heard.pairs, right[system, None] if snr_db is not None else {}, arguments.seed)
            emit(BENCH, case, "peak_mb", heard.peak_mb)
            if system != OWN:
                ours, theirs = right[OWN, snr_db], right[system, snr_db]
                both = sorted(set(ours) & set(theirs))
                figure = ratio([ours[a] for a in both], [theirs[a] for a in both], BootstrapConfig(seed=arguments.seed))
                emit(BENCH, name(snr_db), "command_acceptance", figure, label(system))


if __name__ == "__main__":
    main()
