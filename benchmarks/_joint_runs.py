"""The trainings of ``joint.py``: one base recipe, and what every row of a table changes in it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from _joint_data import HELD, relabelled, share_of, spoken, with_custom
from _joint_judge import Court
from _lines import corpora, skip
from lhotse import MonoCut  # type: ignore[import-untyped]

from sayso.core.config import parse
from sayso.data import manifest
from sayso.evaluation.examples import read_examples
from sayso.nlu.domain import load_domain
from sayso.nlu.tree_grammar import domain_trees
from sayso.training.labels import head_config
from sayso.training.progress import to_stderr
from sayso.training.recipe import Recipe
from sayso.training.run import run

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
COARSE = {
    "lights": ("turn_on", "turn_off", "set_brightness", "set_colour"),
    "timers": ("start_timer", "cancel_timer", "set_alarm"),
    "doors": ("lock", "unlock"),
    "blinds": ("open_blinds", "close_blinds"),
    "media": ("play_media", "pause_media", "resume_media", "next_track", "set_volume", "change_volume"),
    "questions": ("get_weather", "get_time", "get_date"),
}
DOMAINS = {  # parts of a home that could each have been a domain of its own
    "lights": COARSE["lights"],
    "timers": COARSE["timers"],
    "doors and blinds": (*COARSE["doors"], *COARSE["blinds"]),
    "media": COARSE["media"],
}
DECODER = {"kind": "transformer", "layers": 2, "width": 192, "feedforward": 512}
_FINE = 0.2
GRID = (0.25, 0.5, 2.0, 4.0)  # what the weights of intents and slots are multiplied by; 1 is row "joint"

# a row's changes to ``training``, beside what ``Workshop._special`` does to model and data
RUNS: dict[str, dict[str, Any]] = {
    "hear": {"weights": {"intent": 0.0, "slots": 0.0}},
    "joint": {},
    "fused": {},
    "coupled": {"weights": {"decoder": 1.0, "slots": 0.0}},
    "decoupled": {"weights": {"decoder": 1.0, "slots": 0.0}},
    "meaning": {"weights": {"ctc": 0.0, "decoder": 1.0, "slots": 0.0}},
    "scheduled": {"weighting": {"kind": "scheduled"}},
    "uncertainty": {"weighting": {"kind": "uncertainty"}},
    "gradnorm": {"weighting": {"kind": "gradnorm"}},
    "dwa": {"weighting": {"kind": "dwa", "every": 40}},
    "stages": {
        "stages": [
            {"name": "acoustic", "share": 2.0, "weights": {"intent": 0.0, "slots": 0.0}},
            {"name": "alignment", "share": 1.0, "weights": {"intent": 0.1, "slots": 0.1}},
            {"name": "semantics", "share": 2.0},
        ]
    },
    "shortest first": {"curriculum": {"kind": "sorted", "by": "length"}},
    "cleanest first": {"curriculum": {"kind": "competence", "by": "noise", "start": 0.3}},
    "surest first": {"curriculum": {"kind": "competence", "by": "loss", "start": 0.3}},
    **{f"fixed x{by:g}": {"weights": {"intent": 0.5 * by, "slots": 0.3 * by}} for by in GRID},
    "label smoothing": {"label_smoothing": 0.1},
    "weight noise": {"weight_noise": {"std": 0.01, "after": 100}},
    "layer dropout": {},
    "rooms and noise": {},
    "fifth": {},
    "phased": {},
    "coarse": {},
    **{f"share {share:g}": {"weights": {"intent": 0.0, "slots": 0.0}} for share in SHARES},
    **{f"without {part}": {"weights": {"intent": 0.0, "slots": 0.0}} for part in DOMAINS},
}


class Workshop:
    """Trains rows by name into ``args.out``, each once."""

    def __init__(self, args: argparse.Namespace, manifests: dict[str, Path]) -> None:
        self.args, self.manifests = args, manifests
        self.domain = load_domain(args.domain)

    def trained(self, name: str, seed: int) -> Path:
        """The run folder of a row; trained, or trained on, where it is not done."""
        folder = self._folder(name, seed)
        if not self.is_trained(name, seed):
            run(parse(Recipe, self.settings(name, seed), where=f"joint.py, row '{name}'"), folder, to_stderr)
            (folder / "done").touch()
        return folder

    def is_trained(self, name: str, seed: int) -> bool:
        """Whether the row's training is done."""
        return (self._folder(name, seed) / "done").exists()

    def _folder(self, name: str, seed: int) -> Path:
        domain = "" if self.args.domain.stem == "home" else f"{self.args.domain.stem}-"
        folder: Path = self.args.out / f"{domain}{name}-{self.args.steps}-s{seed}".replace(" ", "-")
        return folder

    def settings(self, name: str, seed: int) -> dict[str, Any]:
        """The recipe of a row."""
        args, changes = self.args, dict(RUNS[name])
        weights = {"ctc": 0.6, "transducer": 0.0, "intent": 0.5, "slots": 0.3, **changes.pop("weights", {})}
        if "curriculum" in changes and changes["curriculum"]["kind"] == "competence":
            changes["curriculum"] = {**changes["curriculum"], "steps": max(1, args.steps // 2)}
        settings: dict[str, Any] = {
            "name": name,
            "init": str(args.init),
            "model": {"heads": head_config(list(self.domain.intents), list(self.domain.slots)).model_dump()},
            "data": {"train": self._sources(), "cache": str(args.out / "features"), "processes": 1},
            "training": {
                "seed": seed,
                "steps": args.steps,
                "batch_seconds": args.batch_seconds,
                "rate": args.rate,
                "warmup": 40,
                "ema": 0.98,
                "chunks": [4, 8, 0],
                "threads": 1,
                "validate_every": max(1, args.steps // 4),
                "validate_clips": 40,
                "checkpoint_every": 50,
                "weights": weights,
                **changes,
            },
        }
        self._special(name, settings)
        return settings

    def _sources(self, train: Path | None = None) -> list[dict[str, Any]]:
        return [
            {"manifest": str(train or self.manifests["train"])},
            {"manifest": str(self.manifests[HELD[0]]), "split": "valid"},
        ]

    def _special(self, name: str, settings: dict[str, Any]) -> None:
        """What a row changes in model and data."""
        model, data = settings["model"], settings["data"]
        if name == "layer dropout":
            model["encoder"] = {"layer_dropout": 0.1}
        if name == "rooms and noise":
            data["train"][0] |= {"augment": {}, "copies": 1}
        if name == "fused":
            model["heads"]["fusion"] = {}
        if name in ("coupled", "decoupled", "meaning"):
            form = "coupled" if name == "coupled" else "decoupled"
            model |= {"decoder": DECODER, "trees": {**domain_trees(self.domain).model_dump(), "form": form}}
        if name == "meaning":
            data["train"][0]["transcripts"] = False
        if name in ("fifth", "phased", "coarse"):
            data["train"] = self._sources(self._labels(name))
        if name == "phased":
            known = {coarse: [n for n in fine if n in self.domain.intents] for coarse, fine in COARSE.items()}
            data["refinements"] = [{"version": 2, "split": {name: fine for name, fine in known.items() if fine}}]
        if name.startswith("without "):
            part = DOMAINS[name.removeprefix("without ")]
            out = self.args.out / "labels" / f"{name.replace(' ', '-')}.jsonl.gz"
            kept = relabelled(self.manifests["train"], out, lambda cut: None if _intent(cut) in part else cut)
            data["train"] = self._sources(kept)
        if name.startswith("share "):
            self._shared(float(name.removeprefix("share ")), settings)
        if name == "coarse":
            names = dict.fromkeys(coarse_of(intent) for intent in self.domain.intents)
            model["heads"] = head_config(list(names), list(self.domain.slots)).model_dump()
        if name == "hear" or name.startswith(("without ", "share ")):
            model["heads"] = {}  # they learn hearing alone

    def _labels(self, name: str) -> Path:
        """The training speech with a fifth of its intents fine, the others coarse or unknown."""

        def change(cut: MonoCut) -> MonoCut:
            if share_of(cut) < _FINE and name != "coarse":
                return cut
            return with_custom(cut, intent="unlabelled" if name == "fifth" else coarse_of(_intent(cut)))

        return relabelled(self.manifests["train"], self.args.out / "labels" / f"{name}.jsonl.gz", change)

    def _shared(self, share: float, settings: dict[str, Any]) -> None:
        """Orders of coffee by synthetic voices and sentences of real people, mixed at ``share``."""
        made = coffee_speech(self.args)
        settings["data"]["train"] = [
            {"manifest": str(made["train"])},
            {"corpus": "commonvoice-v1", "clips": 2000, "longest_s": 8.0},
            {"manifest": str(made[HELD[0]]), "split": "valid"},
        ]
        settings["data"]["synthetic_share"] = share


def coarse_of(intent: str | None) -> str:
    """The coarse label of an intent; itself where it has none."""
    return next((name for name, fine in COARSE.items() if intent in fine), intent or "")


def _intent(cut: MonoCut) -> str | None:
    return manifest.to_example(cut).intent


def coffee_domain(args: argparse.Namespace) -> Path:
    """The domain file of the coffee machine, imported once."""
    out: Path = args.coffee or args.out / "coffee.yaml"
    if not out.exists():
        source = corpora() / "coffee-dev" / "context.yaml"
        command = ["domain", "import", str(source), "--format", "rhino", "--out", str(out)]
        subprocess.run([sys.executable, "-m", "sayso.cli.main", *command], check=True)
    return out


def coffee_speech(args: argparse.Namespace) -> dict[str, Path]:
    """Synthetic orders by kind."""
    amounts = argparse.Namespace(sentences=args.sentences // 2, each=args.each // 2)
    return spoken(amounts, coffee_domain(args), args.out / "coffee")


def coffee_court(args: argparse.Namespace) -> Court:
    """Real people's orders; none where the corpus is absent. Their noise is measured at the loudest frames, as the
    published figures are."""
    folder = corpora() / "coffee-dev"
    found = read_examples(folder / "labels.jsonl")[: args.limit] if folder.is_dir() else []
    if not found:
        skip("coffee-dev", f"not in {corpora()}")
    return Court(args, coffee_domain(args), {}, found, folder / "kitchen-noise-dev.flac", "peak2048")
