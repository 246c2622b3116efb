"""What ``sayso bundle update`` does to a shipped bundle: a new intent from sentences alone, and the old ones beside it.

    python benchmarks/update.py --domain domains/home.yaml [--bundle home] [--new 30] [--old 60] [--keep FOLDER]

The bundle is first given its domain file (one that was built since carries it), then ``SENTENCES`` of an intent that
nobody trained. ``--new`` sentences of it, and ``--old`` of the old domain, are drawn, spoken by voices that training
never heard, and heard before and after; ``voices`` names them. ``new`` is right when the intent and all slots are
(before it must be rejected); ``drop`` is paired, in points of old commands with intent right. Seconds of the update,
whether every network's hash is as before, and whether rolling back gives the same bytes. Ctrl-C gives figures of what
was heard so far. One JSON line per figure; intervals are 95% bootstraps.
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
from _mouth import Mouth

from sayso.core.bundle import read_bundle, resolve
from sayso.core.result import Result
from sayso.data.synthesis import voices
from sayso.evaluation.bootstrap import Estimate, ratio
from sayso.nlu.carried import carry, read_carried, with_sentences
from sayso.nlu.domain import load_domain
from sayso.nlu.sample import Utterance, sample
from sayso.operations.update import Change, rollback_bundle, update_bundle
from sayso.runtime.load import load

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
    arguments = parser.parse_args()
    source, carried = carry(arguments.domain)
    grown = read_carried(source, with_sentences(source, carried, NEW, SENTENCES))
    templates = [number for number, template in enumerate(grown.templates) if template.intent == NEW]
    fresh = sample(grown, arguments.new, seed=11, only_templates=templates)
    known = sample(load_domain(arguments.domain), arguments.old, seed=12)
    new_rows: list[bool] = []
    old_rows: list[tuple[bool, bool]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old, new = (load(path) for path in updated(arguments, folder))
        place = arguments.keep or folder / "speech"
        place.mkdir(parents=True, exist_ok=True)
        found = voices("valid", ("flite", "espeak-ng"))
        mouths = [Mouth(voice, place) for voice in found if voice.id in (arguments.voice or [voice.id])]
        with suppress(KeyboardInterrupt):
            for number, utterance in enumerate(fresh):
                result = new.understand(mouths[number % len(mouths)](utterance.text), 16000)
                new_rows.append(right(utterance, result, slots=True))
                if not new_rows[-1]:
                    print("new:", utterance.text, "heard", result.text, result.decision, result.intent, file=sys.stderr)
                progress(number + 1, len(fresh))
            for number, utterance in enumerate(known):
                samples = mouths[number % len(mouths)](utterance.text)
                pair = tuple(right(utterance, m.understand(samples, 16000), slots=False) for m in (old, new))
                old_rows.append((pair[0], pair[1]))
                if pair[0] != pair[1]:
                    print("old:", utterance.text, pair, file=sys.stderr)
                progress(number + 1, len(known))
    emit(BENCH, "new intent", "utterances", len(new_rows))
    emit(BENCH, "new intent", "right", share(new_rows))
    emit(BENCH, "old intents", "utterances", len(old_rows))
    for column, case in enumerate(("before", "after")):
        emit(BENCH, f"old intents/{case}", "intent accuracy", share([row[column] for row in old_rows]))
    drop = [100.0 * (int(before) - int(after)) for before, after in old_rows]
    emit(BENCH, "old intents", "drop in points", ratio(drop, np.ones(len(drop))))


if __name__ == "__main__":
    main()
