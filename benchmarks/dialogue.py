"""Dialogues whose last turn means something only after those before it: with their context and without.

    python benchmarks/dialogue.py [--bundle home] [--dialogues FILE] [--role valid] [--keep FOLDER] [--voice ID]

``text`` is the oracle: the words as they are written, by the domain's grammar and ``nlu/context.py`` alone. ``voice``
is the bundle: every turn is spoken by each voice of ``--role`` and heard by a session, whose history is what the
session itself understood (``predicted``), or the oracle's for all turns but the last (``gold``). ``without`` hears the
last turn alone. A turn is right when intent and all slot values are; a question back is understood, as everywhere.
``unrelated`` is the drop of commands that stand alone when they come after a turn of another kind (points, paired).
``transcript`` on stderr is one dialogue with a question, as it was heard. Intervals are 95% bootstraps over dialogues.
Ctrl-C gives figures of what was heard so far. Settings were chosen with ``dialogues/home_tune.txt`` and voices of
training. One JSON line per figure.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _lines import emit, progress
from _mouth import Mouth
from numpy.typing import NDArray

from sayso.core.result import Result
from sayso.data.synthesis import Role, voices
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


@dataclass
class Tally:
    """Right or wrong, dialogue by dialogue: the last turn with predicted history, with gold history and alone; and what
    an unrelated turn before it gave a first turn (1 right now, 0 as before, -1 wrong now)."""

    predicted: list[bool]
    gold: list[bool]
    without: list[bool]
    gains: list[int]


def heard(
    model: Model, dialogues: Sequence[Dialogue], say: Callable[[str], Floats], reader: Reader, tally: Tally
) -> None:
    """Every dialogue by one voice into ``tally``. What must come out equal is heard once: a first turn is one alone,
    and a history that was predicted rightly is the gold one."""
    firsts = []
    for number, dialogue in enumerate(dialogues):
        session, results = model.session(), []
        gold = reader.after(dialogue.turns)[1]
        for text in dialogue.turns:
            before = session.history
            results.append(session.understand(say(text)))
        last, found = say(dialogue.turns[-1]), results[-1]
        same = [(t.intent, values(t)) for t in before] == [(t.intent, values(t)) for t in gold]
        if not same:
            session.history = gold
        informed = found if same else session.understand(last)
        alone = model.understand(last)
        for row, result in ((tally.predicted, found), (tally.gold, informed), (tally.without, alone)):
            row.append(meaning(result) == dialogue.meaning)
        firsts.append(meaning(results[0]))
        if not tally.predicted[-1]:
            print(dialogue.turns, "heard", found.text, found.decision, found.reason, meaning(found), file=sys.stderr)
        progress(number + 1, len(dialogues))
    for number, dialogue in enumerate(dialogues):
        text, other = dialogue.turns[0], dialogues[(number + len(dialogues) // 2) % len(dialogues)].turns[0]
        session = model.session()
        session.history = reader.after([other, text])[1]
        wanted, now = meaning(reader.alone(text)), meaning(session.understand(say(text)))
        tally.gains.append(int(now == wanted) - int(firsts[number] == wanted))
        if tally.gains[-1]:
            print("after", other, ":", text, firsts[number], now, file=sys.stderr)


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
    order = np.random.default_rng(0).permutation(len(dialogues))  # a run that is stopped has seen some of everything
    dialogues = [dialogues[i] for i in order]
    total = Tally([], [], [], [])
    with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
        place = arguments.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for voice in found:
            say = Mouth(voice, place)
            print(f"transcript, {voice.id}:", file=sys.stderr)
            transcript(model, say, ["unlock the front door", "no the back door", "yes"])
            before = len(total.predicted)
            heard(model, dialogues, say, reader, total)
            emit(BENCH, f"{voice.id}/predicted", "accuracy", share(total.predicted[before:]))
    emit(BENCH, "voice", "dialogues", len(total.without))
    for case in ("predicted", "gold", "without"):
        emit(BENCH, f"voice/{case}", "accuracy", share(getattr(total, case)))
    emit(BENCH, "voice/unrelated", "commands", len(total.gains))
    emit(BENCH, "voice/unrelated", "points", ratio([100.0 * gain for gain in total.gains], np.ones(len(total.gains))))


if __name__ == "__main__":
    main()
