"""What ``sayso bundle update`` does to a shipped bundle: a new intent from sentences alone, and the old ones beside it.

    python benchmarks/update.py --domain domains/home.yaml [--bundle home] [--new 30] [--old 60] [--teach]

The bundle is first given its domain file (one that was built since carries it), then ``SENTENCES`` of an intent that
nobody trained. ``--new`` sentences of it, and ``--old`` of the old domain, are drawn, spoken by voices that training
never heard, and heard before and after; ``voices`` names them. ``new`` is right when the intent and all slots are
(before it must be rejected); ``drop`` is paired, in points of old commands with intent right. Seconds of the update,
whether every network's hash is as before, and whether rolling back gives the same bytes. Ctrl-C gives figures of what
was heard so far. With ``--teach`` the intent head then learns the intent from synthetic speech (``sayso bundle
teach``), and a third bundle is heard beside the two: ``head`` is its first choice at the last chunk, without the
grammar. One JSON line per figure; intervals are 95% bootstraps.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from _lines import emit, progress
from _mouth import Floats, Mouth

from sayso.core.bundle import read_bundle, resolve
from sayso.core.result import Result
from sayso.data.synthesis import voices
from sayso.evaluation.bootstrap import Estimate, ratio
from sayso.nlu.carried import carry, read_carried, with_sentences
from sayso.nlu.domain import load_domain
from sayso.nlu.sample import Utterance, sample
from sayso.operations.update import Change, Head, rollback_bundle, update_bundle
from sayso.runtime.load import load
from sayso.runtime.model import Model

BENCH = "update"
NEW = "water_plants"
SENTENCES = (
    "<polite>water the (plants|flowers) [in the {area}]<please>",
    "<polite>water the {area} (plants|flowers)<please>",
    "<polite>give the (plants|flowers) [in the {area}] some water<please>",
    "the (plants|flowers) in the {area} are thirsty",
    "the (plants|flowers) in the {area} (look|are) dry",
    "it's time to water the {area}",
    "I think the {area} needs watering",
)


def right(utterance: Utterance, result: Result, slots: bool) -> bool:
    """Whether the intent, and with ``slots`` all of them, are right."""
    intent = None if result.intent is None else result.intent.name
    wanted = {(slot.name, slot.value) for slot in utterance.slots}
    return intent == utterance.intent and (not slots or {(s.name, s.value) for s in result.slots} == wanted)


def contents(folder: Path) -> dict[str, bytes]:
    """All files."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def updated(arguments: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """The bundle with its domain file, and that with the new intent; what happened to their bytes."""
    old, new = folder / "old.bundle", folder / "new.bundle"
    update_bundle(resolve(arguments.bundle), Change(domain=arguments.domain), out=old)
    began = time.perf_counter()
    written = update_bundle(
        old, Change(sentences={NEW: SENTENCES}), out=new, say=lambda line: print(line, file=sys.stderr)
    )
    emit(BENCH, "update", "seconds", time.perf_counter() - began)
    before = read_bundle(old).manifest
    same = [written.files[spec.file] == before.files[spec.file] for spec in before.graphs.values()]
    emit(BENCH, "update", "networks with the same hash", sum(same) / len(same))
    for role in ("encoder", "intent"):
        if role in written.graphs:
            print(f"{role} {written.files[written.graphs[role].file]}", file=sys.stderr)
    print(f"bundle {before.sha256} -> {written.sha256}", file=sys.stderr)
    rollback_bundle(new, out=folder / "back.bundle")
    emit(BENCH, "rollback", "files of the same bytes", float(contents(folder / "back.bundle") == contents(old)))
    return old, new


def taught(updated: Path, folder: Path) -> Path:
    """The updated bundle with an intent head that learnt the intent."""
    from sayso.build.teach import TeachConfig, spoken, teach

    opened, config, began = read_bundle(updated), TeachConfig(), time.perf_counter()

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    graph, classes = teach(opened, spoken(opened, config, 0, say), config, say)
    out = folder / "taught.bundle"
    written = update_bundle(updated, Change(head=Head(graph, classes)), out=out, say=say)
    emit(BENCH, "teach", "seconds", time.perf_counter() - began)
    before = opened.manifest
    same = [written.files[spec.file] == before.files[spec.file] for spec in before.graphs.values()]
    emit(BENCH, "teach", "networks with the same hash", sum(same) / len(same))
    encoder = before.graphs["encoder"].file
    emit(BENCH, "teach", "encoder of the same hash", float(written.files[encoder] == before.files[encoder]))
    return out


def choice(model: Model, samples: Floats) -> str | None:
    """What the intent head thinks of all but what the last chunk lacks; None: nothing of the domain, or no head."""
    stream = model.stream()
    first = stream.accept(samples).alternatives
    return first[0].intent if first else None


def share(rows: Sequence[bool]) -> Estimate | None:
    """With its interval."""
    return ratio([float(row) for row in rows], np.ones(len(rows)))


def main() -> None:
    """Update, speak, hear before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="home", help="folder, zip, or home")
    parser.add_argument("--domain", type=Path, required=True, help="the domain file that the bundle was built from")
    parser.add_argument("--new", type=int, default=30)
    parser.add_argument("--old", type=int, default=60)
    parser.add_argument("--voice", action="append", help="only these, by id")
    parser.add_argument("--keep", type=Path, help="folder of recordings that stays")
    parser.add_argument("--teach", action="store_true", help="let the intent head learn the intent too")
    arguments = parser.parse_args()
    source, carried = carry(arguments.domain)
    grown = read_carried(source, with_sentences(source, carried, NEW, SENTENCES))
    templates = [number for number, template in enumerate(grown.templates) if template.intent == NEW]
    fresh = sample(grown, arguments.new, seed=11, only_templates=templates)
    known = sample(load_domain(arguments.domain), arguments.old, seed=12)
    new_rows: list[tuple[bool, ...]] = []
    old_rows: list[tuple[bool, ...]] = []
    heads: dict[str, list[tuple[bool, ...]]] = {"new intent": [], "old intents": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = list(updated(arguments, folder))
        if arguments.teach:
            paths.append(taught(paths[1], folder))
        models = [load(path) for path in paths]
        place = arguments.keep or folder / "speech"
        place.mkdir(parents=True, exist_ok=True)
        found = voices("valid", ("flite", "espeak-ng"))
        mouths = [Mouth(voice, place) for voice in found if voice.id in (arguments.voice or [voice.id])]
        with suppress(KeyboardInterrupt):
            for number, utterance in enumerate(fresh):
                samples = mouths[number % len(mouths)](utterance.text)
                results = [model.understand(samples, 16000) for model in models[1:]]
                new_rows.append(tuple(right(utterance, result, slots=True) for result in results))
                heads["new intent"].append(tuple(choice(model, samples) == NEW for model in models))
                if not all(new_rows[-1]):
                    heard = [(result.text, result.decision, result.intent) for result in results]
                    print("new:", utterance.text, "heard", heard, file=sys.stderr)
                progress(number + 1, len(fresh))
            for number, utterance in enumerate(known):
                samples = mouths[number % len(mouths)](utterance.text)
                row = tuple(right(utterance, m.understand(samples, 16000), slots=False) for m in models)
                old_rows.append(row)
                heads["old intents"].append(tuple(choice(model, samples) == utterance.intent for model in models))
                if len(set(row)) > 1:
                    print("old:", utterance.text, row, file=sys.stderr)
                progress(number + 1, len(known))
    emit(BENCH, "new intent", "utterances", len(new_rows))
    cases = ("before", "after", "taught")[: len(models)]
    for case, column in zip(cases[1:], zip(*new_rows, strict=True), strict=True):
        emit(BENCH, f"new intent/{case}", "right", share(column))
    emit(BENCH, "old intents", "utterances", len(old_rows))
    for number, case in enumerate(cases):
        emit(BENCH, f"old intents/{case}", "intent accuracy", share([row[number] for row in old_rows]))
        drop = [100.0 * (int(row[0]) - int(row[number])) for row in old_rows]
        if number:
            emit(BENCH, f"old intents/{case}", "drop in points", ratio(drop, np.ones(len(drop))))
        for kind, rows in heads.items():
            emit(BENCH, f"{kind}/{case}", "head", share([row[number] for row in rows]))


if __name__ == "__main__":
    main()
