"""What an utterance means after the ones before it: ellipsis, corrections, references and what is carried over.

"What's the weather in Paris", "and tomorrow?"; "turn on the kitchen lights", "no, the bedroom"; "make it warmer". Pure
functions over what the domain knows (which slots an intent takes, which values a slot has) and the last few turns, so
that a session is only its history and costs the same after a thousand turns. Only two things change what an utterance
means: it meant nothing alone, and all its words are values and words of reference; or it refers back with a pronoun and
leaves out a slot that a turn just before it filled. Whatever else was said before is of no consequence. The acts are
those that follow-up questions are made of (Dahlbäck & Jönsson 1989; carry-over of slots: Naik et al. 2018).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sayso.core.automaton import Automaton
from sayso.core.result import Frame, Intent, Result, Slot
from sayso.nlu.policy import PolicyConfig, Risk, Situation, decide

TURNS = 4  # that are remembered
LONGEST_VALUE = 8  # words
SOURCE = "context"  # of a slot that an earlier turn filled

_NEGATIONS = (("no",), ("nope",), ("not",), ("wrong",))
_CORRECTIONS = (("i", "meant"), ("i", "mean"), ("i", "said"), ("actually",), ("sorry",), ("rather",), ("make", "that"))
_FOLLOWING = (
    ("and",),
    ("what", "about"),
    ("how", "about"),
    ("also",),
    ("now",),
    ("then",),
    ("but",),
    ("or",),
    ("okay",),
)
_FILLERS = frozenset(
    {
        "the",
        "in",
        "on",
        "for",
        "at",
        "to",
        "of",
        "my",
        "please",
        "too",
        "as",
        "well",
        "instead",
        "one",
        "a",
        "with",
        "it",
    }
)
_YES = frozenset({"yes", "yeah", "yep", "sure", "right", "correct", "exactly", "ok", "okay", "please", "do", "it", "go",
                  "ahead", "that's"})  # fmt: skip
_AGREEING = frozenset({"yes", "yeah", "yep", "sure", "correct", "exactly", "right", "okay", "ok"})
_PRONOUNS = frozenset({"it", "there", "that", "them", "this", "those", "its", "him", "her"})
_ORDER = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "last": -1, "latter": -1, "former": 0}
_NUMBERS = {"one": 0, "two": 1, "three": 2, "four": 3, "five": 4}
_AGAIN = (("again",), ("once", "more"), ("one", "more", "time"), ("the", "same", "again"), ("same", "again"),
          ("do", "it", "again"), ("do", "that", "again"), ("repeat", "that"))  # fmt: skip


@dataclass(frozen=True)
class Value:
    """One way to say a slot's value."""

    slot: str
    value: str
    source: str


@dataclass(frozen=True, kw_only=True)
class ContextSchema:
    """What a domain's turns may refer to: the slots that each intent takes, how values are said, and how risky intents
    are and how one asks about them."""

    takes: Mapping[str, frozenset[str]]
    values: Mapping[str, tuple[Value, ...]]  # by spoken text
    lists: Mapping[str, tuple[str, ...]]  # slot: its different values
    manners: Mapping[str, tuple[Risk, str | None]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What was understood, and what the system asked: ``asked`` is the slot that its question was about, ``offered``
    the values it named, in their order. ``open``: a question that waits for its answer."""

    intent: str
    slots: tuple[Slot, ...] = ()
    asked: str | None = None
    offered: tuple[str, ...] = ()
    open: bool = False


History = tuple[Turn, ...]  # the last one last


def schema_of(automaton: Automaton, manners: Mapping[str, tuple[Risk, str | None]] | None = None) -> ContextSchema:
    """The schema of a compiled domain, with the lists that it has now."""
    values: dict[str, dict[Value, None]] = {}
    lists: dict[str, dict[str, None]] = {}
    for call in automaton.calls:
        if call.list is None:
            continue
        slot_list = automaton.lists[call.list]
        for text, value in zip(slot_list.texts, slot_list.values, strict=True):
            values.setdefault(text, {})[Value(call.slot, value, f"list:{call.list}")] = None
            lists.setdefault(call.slot, {})[value] = None
    return ContextSchema(
        takes=_slots_of_intents(automaton),
        values={text: tuple(found) for text, found in values.items()},
        lists={slot: tuple(found) for slot, found in lists.items()},
        manners=manners or {},
    )


def _slots_of_intents(automaton: Automaton) -> dict[str, frozenset[str]]:
    """Which slots stand on a path to each intent: what may still be meant at each node, from the ends backwards."""
    main, intents = automaton.main, [meaning.intent for meaning in automaton.meanings]
    takes: dict[str, set[str]] = {intent: set() for intent in intents}
    for meaning in automaton.meanings:
        takes[meaning.intent].update(name for name, _ in meaning.slots)
    reach: dict[int, frozenset[int]] = {}
    stack = [int(node) for node in main.entry]
    while stack:
        node = stack[-1]
        following = [int(n) for n in main.succ[main.succ_ptr[node] : main.succ_ptr[node + 1]]]
        waiting = [n for n in following if n not in reach]
        if node in reach or waiting:
            stack.extend(waiting)
            if node in reach:
                stack.pop()
            continue
        ends = {int(m) for m in main.final_out[main.final_ptr[node] : main.final_ptr[node + 1]]}
        reach[stack.pop()] = frozenset(ends.union(*(reach[n] for n in following)))
    for node, meanings in reach.items():
        if main.call[node] >= 0:
            for number in meanings:
                takes[intents[number]].add(automaton.calls[int(main.call[node])].slot)
    return {intent: frozenset(slots) for intent, slots in takes.items()}


def remember(history: History, result: Result, *, asked: str | None = None, offered: Sequence[str] = ()) -> History:
    """The history after a turn: what was refused leaves no trace. ``asked`` and ``offered`` say what the system asked
    back."""
    if result.intent is None:
        return history
    turn = Turn(
        intent=result.intent.name,
        slots=result.slots,
        asked=asked,
        offered=tuple(offered),
        open=result.decision == "clarify",
    )
    return (*history, turn)[-TURNS:]


def in_context(result: Result, history: History, schema: ContextSchema) -> Result:
    """``result`` as it is meant after ``history``; the very same object where that changes nothing.

    ``result`` is what the utterance means alone. Slots that come from earlier turns have the source ``context``.
    """
    if not history or not result.text:
        return result
    words = tuple(result.text.split())
    if result.intent is not None:
        return _carried(result, words, history, schema)
    if result.reason in ("no_speech", "truncated"):
        return result
    for act in (_agreed, _repeated, _chosen, _other, _changed):
        meant = act(words, history, schema)
        if meant is not None:
            return _understood(result, meant, schema)
    return result


def _understood(result: Result, meant: Turn, schema: ContextSchema) -> Result:
    """The result of a meaning; a risky one asks, unless it was just agreed to (``open`` False and ``asked`` empty)."""
    harmless: tuple[Risk, str | None] = ("none", None)
    risk, clarify = schema.manners.get(meant.intent, harmless)
    confirmed = meant.asked == ""
    situation = Situation(intent=meant.intent, slots=meant.slots, risk="none" if confirmed else risk, clarify=clarify)
    decision = decide(situation, PolicyConfig())
    frame = Frame(intent=Intent(name=meant.intent), slots=meant.slots)
    return result.model_copy(
        update={
            "intent": frame.intent,
            "slots": frame.slots,
            "frames": (frame,),
            "decision": decision.decision,
            "reason": decision.reason,
            "prompt": decision.prompt,
        }
    )


def _carried(result: Result, words: tuple[str, ...], history: History, schema: ContextSchema) -> Result:
    """A command that refers back ("make it warmer") takes the slots that it leaves out from the last turn."""
    last = history[-1]
    assert result.intent is not None
    known = {slot.name for slot in result.slots}
    if _PRONOUNS.isdisjoint(words):
        return result
    takes = schema.takes.get(result.intent.name, frozenset())
    # what differs between the two intents on their own account is no reference: only slots that both may have
    shared = takes & schema.takes.get(last.intent, frozenset())
    extra = tuple(
        slot.model_copy(update={"source": SOURCE, "start": None, "end": None, "text": ""})
        for slot in last.slots
        if slot.name in shared and slot.name not in known and slot.source != "template" and _refers(slot, schema)
    )
    if not extra:
        return result
    slots = (*result.slots, *extra)
    frame = result.frames[0].model_copy(update={"slots": slots}) if result.frames else None
    frames = result.frames if frame is None else (frame, *result.frames[1:])
    return result.model_copy(update={"slots": slots, "frames": frames})


def _refers(slot: Slot, schema: ContextSchema) -> bool:
    """Whether a pronoun may stand for a slot: for a thing or a place that has a name, not for a level or a number."""
    return not all(value.replace(".", "").replace("-", "").isdigit() for value in schema.lists.get(slot.name, ("x",)))


def _agreed(words: tuple[str, ...], history: History, schema: ContextSchema) -> Turn | None:
    """ "yes" to a question: what was asked about is meant."""
    last = history[-1]
    agrees = last.open and words[0] in _AGREEING and all(word in _YES for word in words)
    return replace(last, open=False, asked="", offered=()) if agrees else None


def _repeated(words: tuple[str, ...], history: History, schema: ContextSchema) -> Turn | None:
    """ "again": the last turn once more."""
    said = tuple(word for word in words if word != "please")
    return replace(history[-1], slots=_from_before(history[-1].slots)) if said in _AGAIN else None


def _chosen(words: tuple[str, ...], history: History, schema: ContextSchema) -> Turn | None:
    """ "the second one", "number two", of what the system named."""
    last = history[-1]
    if not last.offered or last.asked is None:
        return None
    said = [word for word in _after(words, (*_NEGATIONS, *_FOLLOWING)) if word not in _FILLERS or word == "one"]
    place: int | None = None
    if len(said) >= 2 and said[0] == "number" and said[1] in _NUMBERS and len(said) == 2:
        place = _NUMBERS[said[1]]
    elif said and said[0] in _ORDER and said[1:] in ([], ["one"]):
        place = _ORDER[said[0]]
    if place is None or not -len(last.offered) <= place < len(last.offered):
        return None
    return _with(last, Slot(name=last.asked, value=last.offered[place], text=" ".join(words), source=SOURCE))


def _other(words: tuple[str, ...], history: History, schema: ContextSchema) -> Turn | None:
    """ "the other one": of two that were offered, that a slot has, or that were spoken of last."""
    said = [word for word in _after(words, (*_NEGATIONS, *_FOLLOWING)) if word not in _FILLERS]
    if said != ["other"]:
        return None
    last = history[-1]
    found: list[Slot] = []
    for slot in last.slots:
        offered = last.offered if slot.name == last.asked else ()
        spoken = [s.value for turn in reversed(history) for s in turn.slots if s.name == slot.name]
        for known in (offered, schema.lists.get(slot.name, ()), tuple(dict.fromkeys(spoken))[:2]):
            others = [value for value in known if value != slot.value]
            if len(known) == 2 and len(others) == 1:
                found.append(Slot(name=slot.name, value=others[0], text=" ".join(words), source=SOURCE))
                break
    return _with(last, found[0]) if len(found) == 1 else None


def _changed(words: tuple[str, ...], history: History, schema: ContextSchema) -> Turn | None:
    """ "and tomorrow", "no, the kitchen", "the bedroom too": the last turn that takes such a slot, with the new value.

    The word alone will do after a question that waits for it.
    """
    rest = _after(words, (*_NEGATIONS, *_CORRECTIONS, *_FOLLOWING))
    marked = len(rest) < len(words) or words[-1] in ("too", "instead") or words[-2:] == ("as", "well")
    if not marked and not history[-1].open and history[-1].asked is None:
        return None
    mentions = _mentions(rest, schema)
    if not mentions:
        return None
    for turn in reversed(history):
        changed: Turn | None = turn
        for text, readings in mentions:
            slot = _fitting(turn, text, readings, schema)
            changed = None if slot is None or changed is None else _with(changed, slot)
        if changed is not None:
            return changed
    return None


def _fitting(turn: Turn, text: str, readings: Iterable[Value], schema: ContextSchema) -> Slot | None:
    """The slot of ``turn`` that a mention fills: the one that was asked for, one that it has, the only one it takes."""
    takes = schema.takes.get(turn.intent, frozenset())
    fitting = [value for value in readings if value.slot in takes]
    held = {slot.name for slot in turn.slots}
    for names in ({turn.asked}, held):
        narrowed = [value for value in fitting if value.slot in names]
        fitting = narrowed or fitting
    if len({(value.slot, value.value) for value in fitting}) != 1:
        return None
    return Slot(name=fitting[0].slot, value=fitting[0].value, text=text, source=fitting[0].source)


def _mentions(words: tuple[str, ...], schema: ContextSchema) -> list[tuple[str, tuple[Value, ...]]]:
    """Values that are said, the longest first at each place; [] where any other word is said that means something."""
    found: list[tuple[str, tuple[Value, ...]]] = []
    at = 0
    while at < len(words):
        for length in range(min(LONGEST_VALUE, len(words) - at), 0, -1):
            text = " ".join(words[at : at + length])
            if text in schema.values:
                found.append((text, schema.values[text]))
                at += length
                break
        else:
            if words[at] not in _FILLERS:
                return []
            at += 1
    return found


def _after(words: tuple[str, ...], markers: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """``words`` without the markers that they begin with."""
    while True:
        for marker in markers:
            if words[: len(marker)] == marker and len(words) > len(marker):
                words = words[len(marker) :]
                break
        else:
            return words


def _with(turn: Turn, slot: Slot) -> Turn:
    """The meaning of ``turn`` with one slot filled anew; what it keeps comes from the context."""
    kept = tuple(old for old in _from_before(turn.slots) if old.name != slot.name)
    return Turn(intent=turn.intent, slots=(*kept, slot))


def _from_before(slots: Iterable[Slot]) -> tuple[Slot, ...]:
    """Slots of an earlier turn: nothing of them was said now."""
    return tuple(
        slot
        if slot.source in (SOURCE, "template")
        else slot.model_copy(update={"source": SOURCE, "start": None, "end": None, "text": ""})
        for slot in slots
    )
