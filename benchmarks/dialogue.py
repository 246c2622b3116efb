"""Dialogues whose last turn means something only after those before it: with their context and without.

    python benchmarks/dialogue.py [--bundle home] [--dialogues FILE] [--role valid] [--keep FOLDER] [--voice ID]

``text`` is the oracle: the words as they are written, by the domain's grammar and ``nlu/context.py`` alone. ``voice``
is the bundle: every turn is spoken by each voice of ``--role`` and heard by a session, whose history is what the
session itself understood (``predicted``), or the oracle's for all turns but the last (``gold``). ``without`` hears the
last turn alone. A turn is right when intent and all slot values are; a question back is understood, as everywhere.
``unrelated`` is the drop of commands that stand alone when they come after a turn of another kind (points, paired).
``transcript`` on stderr is one dialogue with a question, as it was heard. Intervals are 95% bootstraps over dialogues.
Settings were chosen with ``dialogues/home_tune.txt`` and voices of training. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
from _lines import emit, progress
from numpy.typing import NDArray

from sayso.core.result import Result
from sayso.data.synthesis import ENGINES, Role, Voice, voices
from sayso.data.synthesis.engine import finish
from sayso.evaluation.bootstrap import Estimate, ratio
from sayso.nlu.cascade import Matcher, answer, cascade
from sayso.nlu.context import History, Turn, in_context, remember, schema_of
from sayso.runtime.load import load
from sayso.runtime.model import Model

BENCH = "dialogue"
FILE = Path(__file__).parent / "dialogues" / "home.txt"
Floats = NDArray[np.float32]
Meaning = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Dialogue:
    """What is said, and what the last turn means."""

    turns: tuple[str, ...]
    meaning: Meaning


def read(file: Path) -> list[Dialogue]:
    """The dialogues of a file."""
    found = []
    for line in file.read_text().splitlines():
        if line and not line.startswith("#"):
            said, _, meant = line.partition(" -> ")
            intent, _, rest = meant.partition(" ")
            slots = {name: value.strip('"') for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', rest)}
            found.append(Dialogue(tuple(said.split(" / ")), (intent, frozenset(slots.items()))))
    return found


def meaning(result: Result) -> Meaning | None:
    """What a result means; None after a rejection."""
    if result.intent is None:
        return None
    return result.intent.name, frozenset((slot.name, slot.value) for slot in result.slots)


class Reader:
    """Understands text as the domain's grammar does, with its risks."""

    def __init__(self, model: Model) -> None:
        assert model.engine.automaton is not None
        self._matcher = Matcher(model.engine.automaton, model.engine.tokenizer)
        manners = {spec.name: (spec.risk, spec.clarify) for spec in model.manifest.intents}
        self.schema = schema_of(model.engine.automaton, manners)

    def alone(self, text: str) -> Result:
        """``text`` by itself."""
        found = answer([(text, 0.0)], cascade([(text, 0.0)], self._matcher))
        risky = found.intent is not None and self.schema.manners[found.intent.name][0] == "confirm"
        return found.model_copy(update={"decision": "clarify", "prompt": "?"}) if risky else found

    def after(self, turns: Sequence[str]) -> tuple[Result, History]:
        """The last of ``turns``, and the history before it."""
        history: History = ()
        result, before = Result(), history
        for text in turns:
            before, result = history, in_context(self.alone(text), history, self.schema)
            history = remember(history, result)
        return result, before


class Mouth:
    """Speaks with one voice; what was spoken is kept in ``folder``."""

    def __init__(self, voice: Voice, folder: Path) -> None:
        self._voice, self._folder = voice, folder

    def __call__(self, text: str) -> Floats:
        """Samples at 16 kHz."""
        name = hashlib.sha256(f"{self._voice.id} {text}".encode()).hexdigest()[:16]
        path = self._folder / f"{name}.wav"
        if not path.exists():
            raw = ENGINES[self._voice.engine].speak(text, self._voice)
            sf.write(path, finish(raw, np.random.default_rng(int(name, 16))), 16000, subtype="PCM_16")
        return np.asarray(sf.read(path, dtype="float32")[0])


@dataclass
class Tally:
    """Right or wrong, dialogue by dialogue: the last turn with predicted history, with gold history and alone, and what
    an unrelated turn before it gave the first turn (1 right now, 0 as before, -1 wrong now)."""

    predicted: list[bool]
    gold: list[bool]
    without: list[bool]
    gains: list[int]


def heard(model: Model, dialogues: Sequence[Dialogue], say: Callable[[str], Floats], reader: Reader) -> Tally:
    """Every dialogue by one voice. What must come out equal is heard once: a first turn is one alone, and a history
    that was predicted rightly is the gold one."""
    tally = Tally([], [], [], [])
    for number, dialogue in enumerate(dialogues):
        session, first = model.session(), None
        gold = reader.after(dialogue.turns)[1]
        for text in dialogue.turns:
            before = session.history
            result = session.understand(say(text))
            first = result if first is None else first
        assert first is not None
        tally.predicted.append(meaning(result) == dialogue.meaning)
        if [(t.intent, values(t)) for t in before] != [(t.intent, values(t)) for t in gold]:
            session.history = gold
            tally.gold.append(meaning(session.understand(say(dialogue.turns[-1]))) == dialogue.meaning)
        else:
            tally.gold.append(tally.predicted[-1])
        tally.without.append(meaning(model.understand(say(dialogue.turns[-1]))) == dialogue.meaning)
        if not tally.predicted[-1]:
            print(
                dialogue.turns, "heard", result.text, result.decision, result.reason, meaning(result), file=sys.stderr
            )
        other = dialogues[(number + len(dialogues) // 2) % len(dialogues)].turns[0]
        session = model.session()
        session.history = reader.after([other, dialogue.turns[0]])[1]
        wanted, now = meaning(reader.alone(dialogue.turns[0])), meaning(session.understand(say(dialogue.turns[0])))
        tally.gains.append(int(now == wanted) - int(meaning(first) == wanted))
        if tally.gains[-1]:
            print("after", other, ":", dialogue.turns[0], meaning(first), now, file=sys.stderr)
        progress(number + 1, len(dialogues))
    return tally


def values(turn: Turn) -> set[tuple[str, str]]:
    """Slots of a turn."""
    return {(slot.name, slot.value) for slot in turn.slots}


def transcript(model: Model, say: Callable[[str], Floats], turns: Sequence[str]) -> None:
    """A dialogue as it was heard."""
    session = model.session()
    for text in turns:
        result = session.understand(say(text))
        slots = ", ".join(f"{slot.name}={slot.value} ({slot.source})" for slot in result.slots)
        meant = "-" if result.intent is None else f"{result.intent.name} {slots}"
        print(f"  said    {text}\n  heard   {result.text}\n  means   {meant}", file=sys.stderr)
        print(f"  {result.decision:7} {result.reason or ''}{result.prompt or ''}", file=sys.stderr)


def share(rows: Sequence[bool]) -> Estimate | None:
    """With its interval."""
    return ratio([float(row) for row in rows], np.ones(len(rows)))


def main() -> None:
    """By text, then by voice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="home", help="folder, zip, or home")
    parser.add_argument("--dialogues", type=Path, default=FILE)
    parser.add_argument("--role", default="valid", choices=("valid", "train"), help="whose voices")
    parser.add_argument("--voice", action="append", help="only these, by id")
    parser.add_argument("--limit", type=int, help="so many dialogues")
    parser.add_argument("--keep", type=Path, help="folder of recordings that stays")
    arguments = parser.parse_args()
    model = load(arguments.bundle)
    dialogues, reader = read(arguments.dialogues)[: arguments.limit], Reader(model)
    after = [meaning(reader.after(d.turns)[0]) == d.meaning for d in dialogues]
    for dialogue, right in zip(dialogues, after, strict=True):
        if not right:
            print("text:", dialogue, meaning(reader.after(dialogue.turns)[0]), file=sys.stderr)
    emit(BENCH, "text/with", "accuracy", share(after))
    emit(BENCH, "text/without", "accuracy", share([meaning(reader.alone(d.turns[-1])) == d.meaning for d in dialogues]))
    role: Role = arguments.role
    found = voices(role, ("flite", "espeak-ng"))
    found = [voice for voice in found if voice.id in (arguments.voice or [voice.id])]
    total = Tally([], [], [], [])
    with tempfile.TemporaryDirectory() as folder:
        place = arguments.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for voice in found:
            say = Mouth(voice, place)
            mine = heard(model, dialogues, say, reader)
            emit(BENCH, f"{voice.id}/predicted", "accuracy", share(mine.predicted))
            for name in ("predicted", "gold", "without", "gains"):
                getattr(total, name).extend(getattr(mine, name))
            print(f"transcript, {voice.id}:", file=sys.stderr)
            transcript(model, say, ["unlock the front door", "no the back door", "yes"])
    for case in ("predicted", "gold", "without"):
        emit(BENCH, f"voice/{case}", "accuracy", share(getattr(total, case)))
    emit(BENCH, "voice/unrelated", "points", ratio([100.0 * gain for gain in total.gains], np.ones(len(total.gains))))


if __name__ == "__main__":
    main()
