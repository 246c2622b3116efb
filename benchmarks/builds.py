"""What a build needs: how much of its network adapts, how much it speaks to itself, how much real speech it replays.

    python benchmarks/people.py --out runs/people
    python benchmarks/builds.py [--minutes 5] [--cases "no replay" ...] [--out runs/bench-builds]

The domain of `people.py`, real people of the `valid` parts, is built once for every case, with the same seed, voices
and minutes of training; the default first. Recorded dishes are kept from all builds: they are the noise that the people
are heard in, three draws each at 15 and 6 dB (ratio of the largest energies of 2048-sample frames), and without it.
`command_acceptance` is the share of hearings of commands whose meaning is right and that are not refused, `first_right`
that of those whose best guess is right, refused or not, both also as a ratio to the default on the same ones;
`not_refused` the share of other sentences that are not refused. Intervals are 95% bootstraps over recordings, of one
build each. A folder given again goes on where it stopped. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from _lines import corpora, emit, progress, skip

from sayso.build.config import BuildConfig
from sayso.build.line import build
from sayso.core.config import override, parse
from sayso.core.result import Alternative, Example, Result
from sayso.evaluation import metrics
from sayso.evaluation.bootstrap import ratio
from sayso.evaluation.examples import read_examples
from sayso.evaluation.predict import NoiseCondition, Run
from sayso.runtime.load import load
from sayso.runtime.model import Model

BENCH, REFERENCE, ALONE, DRAWS = "builds", "default", "graph alone", 3
NOISES, DISHES = "noise", "doing_the_dishes.flac"
CASES: dict[str, list[str]] = {
    REFERENCE: [],
    ALONE: [],  # nothing is trained
    # one clip of each: what calibrates and what is spoken come from the same corpora, and stay
    "no replay": ["replay=" + json.dumps([{**replay.model_dump(), "clips": 1} for replay in BuildConfig().replay])],
    "replay in noise too": [
        "replay=" + json.dumps([{**replay.model_dump(), "copies": 1} for replay in BuildConfig().replay])
    ],
    "a third of the rate": ["training.rate=2.3e-4"],
    "a quarter of the sentences": ["sentences_per_minute=62"],
    "three times the sentences": ["sentences_per_minute=750"],
    "upper half": [
        'training.freeze=["encoder.subsampling.", "encoder.layers.0.", "encoder.layers.1.", "encoder.layers.2."]'
    ],
    "heads alone": ['training.freeze=["encoder."]'],
}


def without_dishes(folder: Path) -> None:
    """Let everything that reads the corpora find links to all of them but the dishes."""
    (folder / NOISES).mkdir(parents=True, exist_ok=True)
    for kept in [*corpora().iterdir(), *(corpora() / NOISES).iterdir()]:
        link = folder / (NOISES if kept.parent.name == NOISES else "") / kept.name
        if kept.name not in (NOISES, DISHES) and not link.is_symlink():
            link.symlink_to(kept.resolve())
    os.environ["SAYSO_CORPORA"] = str(folder.resolve())


@dataclass
class Heard:
    """One recording in all draws of one noise: ``right`` as the metric of commands says, ``first`` where the best guess
    is, refused or not; ``kept``: how often it was not refused."""

    command: bool
    draws: int = 0
    right: int = 0
    first: int = 0
    kept: int = 0


def first_right(example: Example, result: Result) -> bool:
    """Whether the best guess has the right meaning; that of a refused command stands in the alternatives."""
    if result.intent is not None:
        return metrics.command_right(example, result)
    guess = next(iter(result.alternatives), Alternative(text=""))
    return guess.intent == example.intent and metrics.same_slots(example.slots or (), guess.slots)


def heard(model: Model, data: Path, noises: Sequence[NoiseCondition | None]) -> dict[str, Heard]:
    """What comes of each recording, by its path."""
    found: dict[str, Heard] = {}
    for noise in noises:
        run = Run(lambda samples, rate: model.understand(samples, rate), read_examples(data), noise, progress)
        for example, result in run:
            row = found.setdefault(example.audio, Heard(command=example.intent is not None))
            row.draws += 1
            row.kept += result.decision != "reject"
            if row.command:
                row.right += metrics.command_right(example, result)
                row.first += first_right(example, result)
        for failure in run.failures:
            skip(failure.audio, failure.message)
    return found


def report(case: str, mine: dict[str, Heard], its: dict[str, Heard] | None) -> None:
    """The figures of one case in one noise, beside those of the default."""
    commands = [name for name, row in mine.items() if row.command]
    others = [row for row in mine.values() if not row.command]
    for metric, count in (("command_acceptance", attrgetter("right")), ("first_right", attrgetter("first"))):
        found = [count(mine[name]) for name in commands]
        emit(BENCH, case, metric, ratio(found, [mine[name].draws for name in commands]))
        if its is not None:
            emit(BENCH, case, metric, ratio(found, [count(its[name]) for name in commands]), REFERENCE)
    emit(BENCH, case, "not_refused", ratio([row.kept for row in others], [row.draws for row in others]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Build and judge every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=Path, default=Path("runs/people"), help="what people.py wrote")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES), metavar="CASE")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of all builds")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-builds"))
    options = parser.parse_args(arguments)
    dishes = corpora() / NOISES / DISHES
    if not dishes.exists() or not (options.people / "domain.yaml").exists():
        parser.exit(0, f"{dishes} or {options.people}/domain.yaml: not here, skipped; people.py writes the latter\n")
    without_dishes(options.out / "corpora")
    noises: dict[str, list[NoiseCondition | None]] = {"clean": [None]}
    for snr in (15.0, 6.0):
        once = NoiseCondition(file=str(dishes.resolve()), snr_db=snr, snr_kind="peak2048")
        noises[f"{snr:g}dB"] = [once.model_copy(update={"seed": draw}) for draw in range(DRAWS)]
    # a work folder of its own: the one of other builds may hold what was trained with the dishes
    shared = [f"work={options.out / 'work'}", *options.set]
    domain = options.people / "domain.yaml"
    its: dict[str, dict[str, Heard]] = {}
    for name in [REFERENCE, *(name for name in options.cases if name != REFERENCE)]:
        settings = override(BuildConfig().model_dump(mode="json"), [*shared, *CASES[name]])
        about = json.dumps([settings, options.minutes, domain.read_text(encoding="utf-8")], sort_keys=True)
        bundle = options.out / f"{name.replace(' ', '-')}-{hashlib.sha256(about.encode()).hexdigest()[:10]}.bundle"
        if not bundle.exists():
            config = parse(BuildConfig, settings, where="benchmarks/builds.py")
            build(domain, bundle, minutes=0.0 if name == ALONE else options.minutes, config=config)
        model = load(str(bundle))
        for condition, draws in noises.items():
            mine = heard(model, options.people / "labels.jsonl", draws)
            report(f"{name}/{condition}", mine, None if name == REFERENCE else its[condition])
            if name == REFERENCE:
                its[condition] = mine


if __name__ == "__main__":
    main()
