"""Size against accuracy: the base with fewer and with more layers, trained on for the same time, or the same steps.

    python benchmarks/sizes.py [--init models/base] [--layers 4 6 9 24] [--minutes 10 | --steps N] [--limit 100]
        [--corpus commonvoice-v1 librispeech-tc5] [--out DIR]

Fewer layers are the checkpoint's first ones, more begin as identities (`models/growth.py`). All
are trained by the real loop with one seed: CTC of pieces, of phones where the checkpoint has a head for them, and both
again in the middle. With `--minutes` every size has the same time on this machine, which is what a user has, and the
small one takes more steps; with `--steps` the same steps. Then greedy CTC on dev sets of real people in the streaming
context, `wer` and `nats_per_token`, and ratios to the size of `--init` on the same recordings. `encoder_mb` is the
encoder's graph in int8; `rtf_cpu` (processor time) and `peak_mb` are of a bundle that is loaded and hears the examples
on one core, in a process of its own. Intervals are 95% bootstraps over recordings, of one training each; `size.png` in
`--out` is the curve. One JSON line per figure. A folder given again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from _lines import ROOT, emit
from _wer import Floats
from encoders import Dev, Plan, by_ctc, compare, dev_sets, going_on, judge, surprise, taken, training_options
from floor import probe

from sayso.audio import decode
from sayso.core.bundle import read_bundle
from sayso.core.config import parse
from sayso.core.errors import require
from sayso.core.files import whole
from sayso.data.manifest import audio_path
from sayso.decoding.ctc_beam import CtcBeamConfig
from sayso.export.bundle import ExportConfig, export_bundle
from sayso.models.assembly import SpeechModel, load_checkpoint, save_checkpoint
from sayso.models.growth import with_layers
from sayso.runtime.settings import FreeConfig
from sayso.text.tokenizer import Tokenizer
from sayso.training.data import read_parts
from sayso.training.recipe import DataConfig

BENCH, SCALES = "sizes", 40  # recordings of training that fix int8 scales


def begun(init: Path, layers: int, folder: Path) -> Path:
    """The checkpoint with so many layers."""
    model, tokenizer = load_checkpoint(init)
    save_checkpoint(with_layers(model, layers), tokenizer, folder)
    return folder


def floor(model: SpeechModel, tokenizer: Tokenizer, out: Path, clips: Sequence[Floats]) -> dict[str, Any]:
    """Megabytes, speed and memory of the int8 bundle of a checkpoint, its scales fixed by ``clips``."""
    settings = ExportConfig(name=out.stem, int8=True, free=FreeConfig(search=CtcBeamConfig()), stream={"vad": False})
    files = sorted(str(file) for file in (ROOT / "examples").glob("*.flac"))
    export_bundle(model, tokenizer, None, out, settings, clips=clips)
    bundle = read_bundle(out)
    found: dict[str, Any] = {"encoder_mb": len(bundle.file(bundle.manifest.graphs["encoder"].file)) / 1e6}
    row = probe(sys.executable, "sayso", str(out), *files)
    if row is not None:
        _, busy, audio = zip(*row["files"], strict=True)
        found |= {"rtf_cpu": sum(busy) / sum(audio), "peak_mb": row["peak_mb"]}
    return found


def draw(rows: dict[int, dict[str, float]], out: Path) -> None:
    """Word errors over millions of parameters."""
    figure = require("matplotlib.figure", extra="train", purpose="drawing curves").Figure(figsize=(7, 4))
    axes = figure.subplots()
    sizes = sorted(rows, key=lambda layers: rows[layers]["parameters"])
    millions = [rows[n]["parameters"] / 1e6 for n in sizes]
    for name in sorted({key for row in rows.values() for key in row if key != "parameters"}):
        axes.plot(millions, [rows[n][name] for n in sizes], "o-", label=name)
    axes.set_xlabel("parameters of the encoder, millions")
    axes.set_ylabel("word error rate, greedy CTC")
    axes.set_xscale("log")
    axes.set_xticks(millions, [f"{size:.1f}" for size in millions])
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    with whole(out / "size.png") as fresh:
        figure.savefig(fresh, dpi=110, format="png")


def sizes(plan: Plan, dev: Dev, options: argparse.Namespace) -> None:
    """Train, judge and weigh every size, that of the checkpoint first."""
    train = read_parts(parse(DataConfig, plan.data, where="benchmarks/sizes.py"))[0].train
    clips = [decode.read(audio_path(cut)) for cut in islice(train, SCALES)]
    own = load_checkpoint(options.init)[0].config.encoder.layers
    length = {"steps": options.steps} if options.steps else {"minutes": options.minutes, "steps": 1_000_000}
    found: dict[int, Any] = {}
    nats: dict[int, Any] = {}
    rows: dict[int, dict[str, float]] = {}
    for layers in sorted({own, *options.layers}, key=lambda n: (n != own, n)):
        name = f"{layers} layers"
        folder = plan.train(name, {}, begun(options.init, layers, options.out / f"{layers}-init"), **length)
        steps, seconds = taken(folder)
        model, tokenizer = load_checkpoint(folder / "model")
        count = float(sum(p.numel() for p in model.encoder.parameters()))
        told = {"parameters": count, "steps": float(steps), "ms_per_step": 1000 * seconds / steps}
        for metric, value in (told | floor(model, tokenizer, options.out / f"{layers}.bundle", clips)).items():
            emit(BENCH, name, metric, value)
        found[layers] = judge(folder, dev)
        nats[layers] = {place: surprise(model, tokenizer, recordings, by_ctc) for place, recordings in dev.items()}
        for metric, figures in (("wer", found), ("nats_per_token", nats)):
            against = None if layers == own else figures[own]
            compare(name, f"{own} layers", metric, figures[layers], against, BENCH)
        rows[layers] = {place.split("/")[0]: sum(e) / sum(n) for place, (e, n) in found[layers].items()}
        rows[layers]["parameters"] = count
    draw(rows, options.out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, train all sizes and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", type=Path, default=ROOT / "models" / "base", help="a checkpoint folder")
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 6, 9, 24])
    parser.add_argument("--minutes", type=float, default=10.0, help="of every training")
    training_options(parser, limit=100)
    parser.set_defaults(corpus=["commonvoice-v1"], longest_s=10.0, rate=6e-4)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-sizes"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    sizes(going_on(options), dev_sets(options), options)


if __name__ == "__main__":
    main()
