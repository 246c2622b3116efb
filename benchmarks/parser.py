"""The semantic parser on a domain's synthetic speech: what the grammar and CTC are worth.

    sayso data synth domains/home.yaml --out runs/parser-train -n 3000 --engine espeak-ng
    sayso data synth domains/home.yaml --out runs/parser-valid -n 300 --seed 1 --role valid --engine espeak-ng
    python benchmarks/parser.py --train runs/parser-train --valid runs/parser-valid --minutes 20

Trains a decoder on the base checkpoint by the real loop (`--run FOLDER` judges one that was trained), then parses every
recording of `--valid` with and without the grammar, with and without CTC, in one run on the same frames. `exact`: all
intents, slots and their words are right (siblings in any order); `tree`: all labels are; `well_formed`: the output is a
meaning at all. Cuts whose `tree` holds one are judged by it, others by intent and slots; what the transcript does
not speak is left out of both. A ratio is to the same search with the grammar and CTC; intervals are 95% bootstraps over
utterances, of one training run. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _lines import ROOT, emit, progress
from _wer import encoded

from sayso.audio import decode
from sayso.audio.features import FeatureConfig, fbank
from sayso.core.config import override, parse
from sayso.core.errors import DataError
from sayso.core.trees import TreeSchema
from sayso.data import manifest
from sayso.decoding.attention_beam import AttentionBeamConfig
from sayso.evaluation.bootstrap import ratio
from sayso.models.assembly import load_checkpoint
from sayso.nlu.domain import load_domain
from sayso.nlu.tree_grammar import TreeGrammar, domain_trees
from sayso.nlu.trees import Parts, canonical, flat_tree, read_trees, respelled, schema_of, skeleton
from sayso.text.normalise import normalise
from sayso.training import parsing
from sayso.training.progress import to_stderr
from sayso.training.recipe import Recipe
from sayso.training.run import run

BENCH, REFERENCE = "parser", "grammar and ctc"
CASES = {REFERENCE: (True, True), "grammar": (True, False), "ctc": (False, True), "neither": (False, False)}


@dataclass(frozen=True)
class Clip:
    """A recording and what it means."""

    audio: str
    meaning: Parts


def cuts_in(place: Path) -> Path:
    """The manifest of a folder that `sayso data synth` wrote, or the file itself."""
    return place / "cuts.jsonl.gz" if place.is_dir() else place


def clips(place: Path) -> list[Clip]:
    """Recordings whose meaning is known."""
    found = []
    for cut in manifest.read(cuts_in(place)):
        example, tree = manifest.to_example(cut), manifest.written_tree(cut)
        if tree is not None:
            found.append(Clip(example.audio, respelled(read_trees(tree), normalise)))
        elif example.intent is not None:
            slots = [slot.model_copy(update={"text": normalise(slot.text)}) for slot in example.slots or ()]
            found.append(Clip(example.audio, flat_tree(normalise(example.text or ""), example.intent, slots)))
    if not found:
        raise DataError(f"{place}: no recording with an intent or frames")
    return found


def train(args: argparse.Namespace, schema: TreeSchema, out: Path) -> Path:
    """The run folder of a decoder for ``schema``."""
    settings: dict[str, Any] = {
        "name": "parser",
        "init": str(args.init),
        "model": {"decoder": {"kind": "transformer"}, "trees": schema.model_dump()},
        "data": {
            "train": [
                {"manifest": str(cuts_in(args.train))},
                {"manifest": str(cuts_in(args.valid)), "split": "valid"},
            ],
            "cache": str(out / "features"),
        },
        "training": {
            "minutes": args.minutes,
            "rate": 1e-3,
            "warmup": 200,
            "weights": {"ctc": 0.3, "transducer": 0.0, "decoder": 1.0},
        },
    }
    return run(parse(Recipe, override(settings, args.override), where="benchmarks/parser.py"), out / "run", to_stderr)


@torch.no_grad()
def judge(folder: Path, recordings: list[Clip], config: AttentionBeamConfig) -> dict[str, dict[str, list[float]]]:
    """By case and metric, a figure for each recording; seconds of the search among them."""
    model, tokenizer = load_checkpoint(folder / "model")
    grammar = TreeGrammar(model.config.trees, tokenizer.pieces)
    settings = FeatureConfig(mels=model.config.encoder.mels)
    features = [fbank(decode.read(clip.audio), settings) for clip in recordings]
    found: dict[str, dict[str, list[float]]] = {
        case: {metric: [] for metric in ("exact", "tree", "well_formed", "seconds")} for case in CASES
    }
    done = 0
    for group, frames, counts in encoded(model, features, model.encoder.default_context):
        for row, index in enumerate(group):
            gold = canonical(recordings[index].meaning)
            for case, (constrained, listening) in CASES.items():
                began = time.process_time()
                search = config if listening else config.model_copy(update={"ctc": 0.0})
                best = parsing.parse(model, frames[row, : counts[row]], grammar, search, constrained=constrained)[0]
                took = time.process_time() - began
                try:
                    written: Parts | None = grammar.decode(best.tokens)
                except ValueError:
                    written = None
                right = written is not None and canonical(written) == gold
                shape = written is not None and skeleton(written) == skeleton(gold)
                for metric, value in zip(found[case], (right, shape, written is not None, took), strict=True):
                    found[case][metric].append(float(value))
            done += 1
            progress(done, len(features))
    return found


def report(found: dict[str, dict[str, list[float]]]) -> None:
    """The lines."""
    for case, metrics in found.items():
        for metric, values in metrics.items():
            emit(BENCH, case, metric, ratio(values, [1.0] * len(values)))
            if case != REFERENCE:
                emit(BENCH, case, metric, ratio(values, found[REFERENCE][metric]), REFERENCE)


def main() -> None:
    """Train where no run is given, then judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", type=Path, default=ROOT / "domains" / "home.yaml")
    parser.add_argument("--train", type=Path, help="folder or manifest to train on; not needed with --run")
    parser.add_argument("--valid", type=Path, required=True, help="folder or manifest to judge on")
    parser.add_argument("--init", type=Path, default=ROOT / "models" / "base")
    parser.add_argument("--run", type=Path, help="a run folder with a decoder; nothing is trained")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--ctc", type=float, default=0.3, help="weight of CTC where it listens in")
    parser.add_argument("--limit", type=int, help="judge so many recordings")
    parser.add_argument("--out", type=Path, default=Path("runs/parser"))
    parser.add_argument("override", nargs="*", help="key=value of the recipe")
    args = parser.parse_args()
    if args.run is None and args.train is None:
        parser.error("give --train to train on, or --run to judge")
    folder = args.run
    if folder is None:
        schema = schema_of([clip.meaning for clip in clips(args.train)], domain_trees(load_domain(args.domain)))
        folder = train(args, schema, args.out)
    report(judge(folder, clips(args.valid)[: args.limit], AttentionBeamConfig(beam=args.beam, ctc=args.ctc)))


if __name__ == "__main__":
    main()
