"""A network with a part of the base's layers, and what the whole base teaches it of every frame's tokens.

    python benchmarks/teach.py --checkpoint models/base --corpus commonvoice-v1 --longest 8 --out runs/told
    python benchmarks/teach.py --shifted runs/told --corpus commonvoice-v1 --out runs/told-shifted
    python benchmarks/distil.py [--layers 2] [--steps 1500] [--told runs/told --shifted runs/told-shifted] [--out DIR]
    python benchmarks/teach.py --checkpoint models/base --encoded --corpus commonvoice-v1 --longest 8 --out runs/lent
    python benchmarks/teach.py --shifted runs/lent --corpus commonvoice-v1 --out runs/lent-shifted
    python benchmarks/distil.py --transducer [...]

The student is the first layers of `--init` with its heads (`sizes.py`), trained by the real loop with one seed, the
same recordings, noise and steps: by transcripts `alone`; with the loss `distil` beside them, at temperature 1 and 2,
from what the base made of the unspoilt recordings; without transcripts, by that alone; and, as a control, from what
the base said half a recording later. With `--transducer` the transducer is taught point by point of its lattice
(`distil_transducer`): beside its own loss, three times as much of it, in the place of that loss, and, as a control, by
frames of half a recording later; CTC learns from transcripts in all rows. `wer` is greedy CTC's (`transducer_wer` the
transducer's greedy search's) on dev sets of real people in the streaming context, and a ratio to the first row on the
same recordings. Intervals are 95% bootstraps over recordings, of one training each. One JSON line per figure. A folder
given again goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from _lines import ROOT, emit
from encoders import Dev, Plan, compare, dev_sets, going_on, judge, rows, training_options
from sizes import begun

from sayso.data.teacher import read_teacher
from sayso.models.assembly import load_checkpoint
from sayso.training.transducing import transducer_greedy

BENCH, REFERENCE = "distil", "alone"
NOISE = {"noise": 0.3, "noise_db": [0.0, 22.0], "clatter": 0.5}


def distil(plan: Plan, dev: Dev, options: argparse.Namespace) -> None:
    """Judge the teacher; train and judge every row."""
    for folder in (options.told, options.shifted):
        for name in options.corpus:
            read_teacher(str(folder / name))
    start = begun(options.init, options.layers, options.out / "init")
    by, metric = (transducer_greedy, "transducer_wer") if options.transducer else (None, "wer")
    for name, model in (("student", start), ("teacher", options.init)):
        encoder = load_checkpoint(model)[0].encoder
        emit(BENCH, name, "encoder_parameters", float(sum(p.numel() for p in encoder.parameters())))
    compare("teacher", REFERENCE, metric, judge(options.init, dev, by), None, BENCH)
    told: dict[str, Any] = {"distil_transducer" if options.transducer else "distil": options.weight}
    cases: dict[str, tuple[dict[str, Any], Path | None]]
    if options.transducer:
        plan.training["weights"] |= {"transducer": 0.7, "transducer_share": 0.4}
        cases = {
            REFERENCE: ({}, None),
            "distil": (told, options.told),
            "distil, three times": ({name: 3 * weight for name, weight in told.items()}, options.told),
            "distil alone": (told | {"transducer": 0.0}, options.told),
            "shifted": (told, options.shifted),
        }
    else:
        cases = {
            REFERENCE: ({}, None),
            "distil": (told, options.told),
            "distil at 2": (told | {"distil_temperature": 2.0}, options.told),
            "distil alone": (told | {"ctc": 0.0, "intermediate": 0.0, "phone_ctc": 0.0}, options.told),
            "shifted": (told, options.shifted),
        }

    def train(name: str) -> Path:
        changed, folder = cases[name]
        sources = plan.data["train"]
        if folder is not None:
            sources = [source | {"teacher": str(folder / source["corpus"])} for source in sources]
        weights = plan.training["weights"] | changed
        return replace(plan, data={"train": sources}).train(name, {}, start, weights=weights)

    rows({name: partial(train, name) for name in cases}, dev, BENCH, by, metric)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", type=Path, default=ROOT / "models" / "base")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--weight", type=float, help="of the teacher's loss (3, for --transducer 0.03)")
    parser.add_argument("--transducer", action="store_true", help="teach the transducer, not CTC")
    parser.add_argument("--told", type=Path, help="what teach.py wrote (runs/told, for --transducer runs/lent)")
    parser.add_argument("--shifted", type=Path, help="its control (the same with -shifted)")
    training_options(parser, limit=100)
    parser.set_defaults(steps=1500, corpus=["commonvoice-v1"], longest_s=8.0)
    parser.add_argument("--out", type=Path, help="of the runs (runs/bench-distil, for --transducer runs/bench-lattice)")
    options = parser.parse_args(arguments)
    weight, told, out = (0.03, "lent", "lattice") if options.transducer else (3.0, "told", "distil")
    options.weight = weight if options.weight is None else options.weight
    options.told = options.told or Path("runs") / told
    options.shifted = options.shifted or Path("runs") / f"{told}-shifted"
    options.out = options.out or Path("runs") / f"bench-{out}"
    plan = going_on(options)
    plan.training["spec"] |= NOISE
    distil(plan, dev_sets(options), options)


if __name__ == "__main__":
    main()
