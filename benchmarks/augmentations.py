"""What every augmentation is good for: one checkpoint trained on with each alone, with none and with all, then spoilt.

    python benchmarks/augmentations.py [--init models/base] [--steps 300] [--limit 60] [--only none noise] [--out DIR]

All are trained on from `--init` by the real loop, with one seed, the same recordings of people and the same steps; they
differ in what is done to the recordings. `none` hears them as they are; `masks`, `warps` (tempo and vocal tract),
`level`, `noise` (coloured, half of it in bursts), `recorded` (the corpora's noises), `babble` (other clips of the
batch) and `rooms` (a second version of every recording: rooms, bands, codecs) change one thing; `all` everything. Then
they hear the spoilt recordings of `degraded.py`: `wer` is greedy CTC's in the stream, for each of its groups of spoils
the errors to those of `none` on the same sounds. What the checkpoint has heard before is in all of them, so that
`none` has forgotten rather than never learnt; with `--init` a checkpoint that heard little, it says more. Intervals are
95% bootstraps over recordings, of one training each. One JSON line per figure, `table.md` in `--out`. A folder given
again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _lines import ROOT, emit, progress
from _wer import SETS, Floats, ctc_errors, recordings, valid_recordings
from degraded import spoils
from encoders import Plan, going_on, taken, training_options
from numpy.typing import NDArray

from sayso.audio.features import FeatureConfig, fbank
from sayso.evaluation.bootstrap import Estimate, ratio
from sayso.models.assembly import load_checkpoint

Heard = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
BENCH, REFERENCE = "augmentations", "none"
OFF = {"frequency_masks": 0, "time_share": 0.0, "tempo": 0.0, "vocal_tract": 0.0, "level": 0.0, "noise": 0.0}
DB = {"noise": 0.5, "noise_db": [0.0, 22.0]}
SPECS: dict[str, dict[str, Any]] = {
    REFERENCE: {},
    "masks": {"frequency_masks": 2, "frequency_width": 16, "time_share": 0.12},
    "warps": {"tempo": 0.1, "vocal_tract": 0.1},
    "level": {"level": 1.5},
    "noise": {**DB, "clatter": 0.5},
    "recorded": {**DB, "recorded": 1.0},
    "babble": {**DB, "babble": 1.0},
    "rooms": {},
    "all": {},
}
ROOMS = {"noise_p": 0.0, "speed_p": 0.0, "warp_p": 0.0, "room_p": 0.8, "band_p": 0.5, "codec_p": 0.3}
SPECS["all"] = {key: value for spec in SPECS.values() for key, value in spec.items()}
SPECS["all"] |= {"recorded": 0.4, "babble": 0.25, "clatter": 0.5}
# groups of what ``degraded.py`` does, by how its names begin
GROUPS = {
    "unspoilt": ("clean",),
    "coloured noise": ("coloured",),
    "dishes": ("dishes",),
    "other talkers": ("babble",),
    "rooms": ("room",),
    "bands and codecs": ("300", "GSM", "Opus"),
    "level": ("20 dB",),
    "speed": ("0.8", "1.25"),
    "vocal tract": ("vocal",),
}


def train(plan: Plan, name: str, init: Path) -> Path:
    """The run folder of one row."""
    data = plan.data
    if name in ("rooms", "all"):
        data = {"train": [{**source, "copies": 1, "augment": ROOMS} for source in data["train"]]}
    return replace(plan, data=data).train(name, {}, init, spec={**OFF, **SPECS[name]})


def hear(folder: Path, sounds: dict[str, list[Floats]], texts: list[str]) -> Heard:
    """Errors and words of every recording, by group of spoils."""
    model, tokenizer = load_checkpoint(folder / "model")
    settings, context = FeatureConfig(mels=model.config.encoder.mels), model.encoder.default_context
    # of a recording all spoils of a group together: an interval is over recordings
    found = {group: (np.zeros(len(texts)), np.zeros(len(texts))) for group in GROUPS}
    for number, (name, clips) in enumerate(sounds.items()):
        edits = ctc_errors(model, tokenizer, (texts, [fbank(x, settings) for x in clips]), context)
        group = next(group for group, begins in GROUPS.items() if name.startswith(begins))
        found[group][0][:] += [item.errors for item in edits]
        found[group][1][:] += [item.length for item in edits]
        progress(number + 1, len(sounds))
    return found


def table(rows: dict[str, dict[str, Estimate | None]]) -> str:
    """Markdown: a row for every augmentation; errors to those of ``none``, of that itself the word error rate."""
    lines = ["| trained with | " + " | ".join(GROUPS) + " |", "|---|" + "---|" * len(GROUPS)]
    for name, figures in rows.items():
        cells = [
            "" if figure is None else f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
            for figure in (figures[group] for group in GROUPS)
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train all rows, spoil, hear and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", type=Path, default=ROOT / "models" / "base", help="a checkpoint folder")
    parser.add_argument("--only", nargs="+", choices=SPECS, default=list(SPECS), help="besides 'none'")
    training_options(parser, limit=60)
    parser.set_defaults(corpus=["commonvoice-v1"], longest_s=8.0, rate=6e-4, steps=300)
    parser.add_argument("--valid", action="store_true", help="judge on validation parts, not on dev")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-augmentations"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    plan = going_on(options, warmup=50)
    folders = {name: train(plan, name, options.init) for name in SPECS if name in (REFERENCE, *options.only)}
    found = valid_recordings(options.limit) if options.valid else recordings(SETS[0], options.limit, options.seed)
    if not found:
        return
    sounds = {
        name: [spoil(x, np.random.default_rng((options.seed, i))) for i, (_, x) in enumerate(found)]
        for name, spoil in spoils([samples for _, samples in found]).items()
    }
    rows: dict[str, dict[str, Estimate | None]] = {}
    its: Heard = {}
    for name, folder in folders.items():
        emit(BENCH, name, "steps", float(taken(folder)[0]))
        heard = hear(folder, sounds, [text for text, _ in found])
        its = its or heard
        rows[name] = {}
        for group, (errors, words) in heard.items():
            emit(BENCH, f"{name}/{group}", "wer", ratio(errors, words))
            against = ratio(errors, its[group][0]) if name != REFERENCE else ratio(errors, words)
            rows[name][group] = against
            if name != REFERENCE:
                emit(BENCH, f"{name}/{group}", "wer", against, REFERENCE)
    shown = table(rows)
    (options.out / "table.md").write_text(shown)
    print(shown, file=sys.stderr)


if __name__ == "__main__":
    main()
