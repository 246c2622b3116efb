"""What a build needs: how much of its network adapts, how much it speaks to itself, how much real speech it replays.

    python benchmarks/people.py --out runs/people
    python benchmarks/builds.py [--minutes 5] [--cases "no replay" ...] [--out runs/bench-builds]

The domain of `people.py`, real people of the `valid` parts, is built once for every case, with the same seed, voices
and minutes of training; the default first. Recorded dishes are kept from all builds: they are the noise that the people
are heard in, at 15 and 6 dB (ratio of the largest energies of 2048-sample frames) and without it. `acceptance` is the
share of commands whose meaning is right and accepted, and a ratio to the default on the same recordings; `not_refused`
the share of other sentences that are not refused. Intervals are 95% bootstraps over recordings, of one build each. A
folder given again goes on where it stopped. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _lines import corpora, emit, progress, skip

from sayso.build.config import BuildConfig
from sayso.build.line import build
from sayso.core.config import override, parse
from sayso.evaluation import metrics
from sayso.evaluation.bootstrap import ratio
from sayso.evaluation.examples import read_examples
from sayso.evaluation.predict import NoiseCondition, Run
from sayso.runtime.load import load
from sayso.runtime.model import Model

BENCH, REFERENCE = "builds", "default"
NOISES, DISHES = "noise", "doing_the_dishes.flac"
CASES: dict[str, list[str]] = {
    REFERENCE: [],
    # one clip of each: what calibrates and what is spoken come from the same corpora, and stay
    "no replay": ["replay=" + json.dumps([{**replay.model_dump(), "clips": 1} for replay in BuildConfig().replay])],
    "replay in noise too": [
        "replay=" + json.dumps([{**replay.model_dump(), "copies": 1} for replay in BuildConfig().replay])
    ],
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


def heard(model: Model, data: Path, noise: NoiseCondition | None) -> dict[str, tuple[bool, bool]]:
    """For each recording whether it is of the domain, and whether it was refused or, of the domain, right and
    accepted."""
    run = Run(lambda samples, rate: model.understand(samples, rate), read_examples(data), noise, progress)
    found = {}
    for example, result in run:
        right = metrics.command_right(example, result) and result.decision == "accept"
        found[example.audio] = (True, right) if example.intent is not None else (False, result.decision == "reject")
    for failure in run.failures:
        skip(failure.audio, failure.message)
    return found


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
    noises = {"clean": None} | {
        f"{snr:g}dB": NoiseCondition(file=str(dishes.resolve()), snr_db=snr, snr_kind="peak2048") for snr in (15.0, 6.0)
    }
    # a work folder of its own: the one of other builds may hold what was trained with the dishes
    shared = [f"work={options.out / 'work'}", *options.set]
    domain = options.people / "domain.yaml"
    its: dict[str, dict[str, tuple[bool, bool]]] = {}
    for name in [REFERENCE, *(name for name in options.cases if name != REFERENCE)]:
        settings = override(BuildConfig().model_dump(mode="json"), [*shared, *CASES[name]])
        about = json.dumps([settings, options.minutes, domain.read_text(encoding="utf-8")], sort_keys=True)
        bundle = options.out / f"{name.replace(' ', '-')}-{hashlib.sha256(about.encode()).hexdigest()[:10]}.bundle"
        if not bundle.exists():
            config = parse(BuildConfig, settings, where="benchmarks/builds.py")
            build(domain, bundle, minutes=options.minutes, config=config)
        model = load(str(bundle))
        for condition, noise in noises.items():
            mine = heard(model, options.people / "labels.jsonl", noise)
            commands = [audio for audio, (inside, _) in mine.items() if inside]
            others = [not refused for inside, refused in mine.values() if not inside]
            right = [mine[audio][1] for audio in commands]
            emit(BENCH, f"{name}/{condition}", "acceptance", ratio(right, np.ones(len(right))))
            emit(BENCH, f"{name}/{condition}", "not_refused", ratio(others, np.ones(len(others))))
            if name == REFERENCE:
                its[condition] = mine
            else:
                before = [its[condition][audio][1] for audio in commands]
                emit(BENCH, f"{name}/{condition}", "acceptance", ratio(right, before), REFERENCE)


if __name__ == "__main__":
    main()
