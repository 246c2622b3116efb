"""How much of Home Assistant's own English sentences the domain layer understands as text.

Loads ``sentences/en`` as it is, with the names, areas and floors of the test fixtures, compiles it, and reads every
sentence of ``tests/en``: a sentence counts as *understood* when some reading exists, *intent* when some reading has the
expected intent, *frame* when one of those also has the expected slots (slots that Home Assistant takes from its
context, such as the area of the speaking device, are not asked for). Prints JSON lines with Wilson intervals. The
corpus is found through ``SAYSO_CORPORA``.

    python benchmarks/home_assistant.py [--misses]
    python benchmarks/home_assistant.py --write runs/ha && sayso build runs/ha --out runs/ha.bundle

``--write`` makes a folder of what ``home`` does not have (fans, vacuum cleaners, valves, heating, persons, lists), with
names of our own: a domain that nobody here wrote the sentences of, to be built as it is.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from sayso.nlu.automaton_io import match
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import load_domain
from sayso.text.normalise import normalise

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
BENCH = "home_assistant"
STRANGE = ("fan", "vacuum", "valve", "climate", "person", "todo")
OWN = {
    "name": [
        "ceiling fan", "desk fan", "attic fan", "water valve", "garden valve", "robot", "little robot", "hoover",
        "anna", "john", "maria", "groceries", "chores", "packing list", "radiator", "heat pump",
    ],
    "area": [
        "kitchen", "bedroom", "living room", "study", "hallway", "garage", "nursery", "cellar", "guest room", "attic",
    ],
    "floor": ["ground floor", "first floor", "basement", "upstairs"],
}  # fmt: skip


class Letters:
    """One token per letter: the corpus is read as text, so no trained tokenizer is needed."""

    pieces: tuple[str, ...] = ("<blk>", "<unk>", *(f"▁{c}" for c in ALPHABET), *ALPHABET, "'")
    sha256 = "letters"

    def encode(self, text: str) -> list[int]:
        """Tokens of normalised text."""
        return [self.pieces.index(("▁" if at == 0 else "") + c) for word in text.split() for at, c in enumerate(word)]


def main() -> int:
    """Print the figures; 2 when the corpus is absent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--misses", action="store_true", help="print sentences without the right reading on stderr")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write a domain to build, and measure nothing")
    options = parser.parse_args()
    corpora = Path(os.environ.get("SAYSO_CORPORA", Path(__file__).parents[2] / "shared" / "data"))
    folder = corpora / "text" / "home-assistant-intents"
    if not folder.is_dir():
        print(f"no Home Assistant sentences at {folder}; set SAYSO_CORPORA", file=sys.stderr)
        return 2
    if options.write is not None:
        write(folder / "sentences" / "en", options.write)
        return 0
    fixtures = yaml.safe_load((folder / "tests" / "en" / "_fixtures.yaml").read_text(encoding="utf-8"))
    keys = {"name": "entities", "area": "areas", "floor": "floors"}
    lists = {slot: _names(fixtures.get(key, [])) for slot, key in keys.items()}
    start = time.perf_counter()
    domain = load_domain(folder / "sentences" / "en", lists=lists)
    loaded = time.perf_counter()
    letters = Letters()
    automaton = compile_domain(domain, letters)
    compiled = time.perf_counter()
    for metric, value in (
        ("load_s", loaded - start),
        ("compile_s", compiled - loaded),
        ("templates", len(domain.templates)),
        ("intents", len(domain.intents)),
        ("nodes", automaton.main.nodes),
        ("edges", len(automaton.main.succ)),
    ):
        _line("compile", metric, value)
    counts: Counter[str] = Counter()
    for sentence, intent, slots, context in _tests(folder / "tests" / "en"):
        counts["n"] += 1
        readings = match(automaton, letters, sentence)
        counts["understood"] += bool(readings)
        right = [found for meaning, found in readings if meaning.intent == intent]
        counts["intent"] += bool(right)
        counts["one_intent"] += len({meaning.intent for meaning, _ in readings}) == 1 and bool(right)
        frame = any(_agrees({s.name: s.value for s in found}, slots, context) for found in right)
        counts["frame"] += frame
        if not right and options.misses:
            print(intent, "|", sentence, file=sys.stderr)
    _line("test sentences", "n", counts["n"])
    for metric in ("understood", "intent", "one_intent", "frame"):
        low, high = _wilson(counts[metric], counts["n"])
        _line("test sentences", metric, counts[metric] / counts["n"], low, high)
    return 0


def write(sentences: Path, out: Path) -> None:
    """A folder that ``sayso build`` takes."""
    out.mkdir(parents=True, exist_ok=True)
    for file in [
        sentences / "_common.yaml",
        *(file for kind in STRANGE for file in sorted(sentences.glob(f"{kind}_*"))),
    ]:
        shutil.copyfile(file, out / file.name)
    lists = {name: {"values": values} for name, values in OWN.items()}
    (out / "names.yaml").write_text(yaml.safe_dump({"language": "en", "lists": lists}), encoding="utf-8")


def _names(entries: list[dict[str, Any]]) -> list[tuple[str, str]]:
    names = []
    for entry in entries:
        for name in (entry["name"], *entry.get("aliases", ())):
            said = str(name).replace("[", "").replace("]", "")
            if normalise(said):
                names.append((said, str(entry["name"])))
    return names


def _tests(folder: Path) -> list[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    tests = []
    for file in sorted(folder.glob("*.yaml")):
        for block in yaml.safe_load(file.read_text(encoding="utf-8")).get("tests", ()):
            intent = block.get("intent")
            if intent:
                context = intent.get("context") or {}
                tests += [(s, intent["name"], intent.get("slots") or {}, context) for s in block["sentences"]]
    return tests


def _agrees(found: dict[str, str], expected: dict[str, Any], context: dict[str, Any]) -> bool:
    """Equal slots, apart from those that the test's context supplies."""
    wanted = {name: _value(value) for name, value in expected.items() if name in found or context.get(name) != value}
    return {name: normalise(value) for name, value in found.items()} == {
        name: normalise(v) for name, v in wanted.items()
    }


def _value(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    share, spread = hits / total, z * z / total
    middle, half = share + spread / 2, z * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def _line(case: str, metric: str, value: float, low: float | None = None, high: float | None = None) -> None:
    line = {"bench": BENCH, "case": case, "metric": metric, "value": value, "ratio_to": None, "low": low, "high": high}
    print(json.dumps(line))


if __name__ == "__main__":
    raise SystemExit(main())
