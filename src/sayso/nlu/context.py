"""What an utterance means after the ones before it: ellipsis, corrections, references and what is carried over.

"What's the weather in Paris", "and tomorrow?"; "turn on the kitchen lights", "no, the bedroom"; "make it warmer". Pure
functions over what the domain knows (which slots an intent takes, which values a slot has) and the last few turns, so
that a session is only its history and costs the same after a thousand turns. Only two things change what an utterance
means: it meant nothing alone, and all its words are values and words of reference; or it refers back with a pronoun and
leaves out a slot that a turn just before it filled. Whatever else was said before is of no consequence. The acts are
those that follow-up questions are made of (Dahlbäck & Jönsson 1989; carry-over of slots: Naik et al. 2018).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sayso.core.result import Frame, Intent, Result, Slot
from sayso.nlu import reference as ref
from sayso.nlu.context_schema import ContextSchema as ContextSchema
from sayso.nlu.context_schema import Value
from sayso.nlu.context_schema import schema_of as schema_of
from sayso.nlu.policy import PolicyConfig, Risk, Situation, decide

TURNS = 4  # that are remembered
LONGEST_VALUE = 8  # words
SOURCE = "context"  # of a slot that an earlier turn filled


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


def refused(text: str, history: History) -> bool:
    """Whether ``text`` says no to an open question."""
    return bool(history) and history[-1].open and tuple(text.split()) in ref.REFUSALS


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
    if not _refers_back(words):
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


def _refers_back(words: tuple[str, ...]) -> bool:
    """Whether a pronoun is said that stands for something: "turn it off", but not "will it rain"."""
    return any(
        word in ref.PRONOUNS and not (word == "it" and ref.EXPLETIVE & {*words[max(0, at - 1) : at + 2]})
        for at, word in enumerate(words)
    )


def _refers(slot: Slot, schema: ContextSchema) -> bool:
    """Whether a pronoun may stand for a slot: for a thing or a place that has a name, not for a level or a number."""
    return not all(value.replace(".", "").replace("-", "").isdigit() for value in schema.lists.get(slot.name, ("x",)))


def _agreed(words: tuple[str, ...], history: History, schema: ContextSchema) -> Turn | None:
    """ "yes" to a question: what was asked about is meant."""
    last = history[-1]
    agrees = last.open and words[0] in ref.AGREEING and all(word in ref.YES for word in words)
    return replace(last, slots=_from_before(last.slots), open=False, asked="", offered=()) if agrees else None


def _repeated(words: tuple[str, ...], history: History, schema: ContextSchema) -> Turn | None:
    """ "again": the last turn once more."""
    said = tuple(word for word in words if word != "please")
    return replace(history[-1], slots=_from_before(history[-1].slots)) if said in ref.AGAIN else None


def _chosen(words: tuple[str, ...], history: History, schema: ContextSchema) -> Turn | None:
    """ "the second one", "number two", of what the system named."""
    last = history[-1]
    if not last.offered or last.asked is None:
        return None
    said = [
        word for word in _after(words, (*ref.NEGATIONS, *ref.FOLLOWING)) if word not in ref.FILLERS or word == "one"
    ]
    place: int | None = None
    if len(said) >= 2 and said[0] == "number" and said[1] in ref.NUMBERS and len(said) == 2:
        place = ref.NUMBERS[said[1]]
    elif said and said[0] in ref.ORDER and said[1:] in ([], ["one"]):
        place = ref.ORDER[said[0]]
    if place is None or not -len(last.offered) <= place < len(last.offered):
        return None
    return _with(last, Slot(name=last.asked, value=last.offered[place], text=" ".join(words), source=SOURCE))


def _other(words: tuple[str, ...], history: History, schema: ContextSchema) -> Turn | None:
    """ "the other one": of two that were offered, that a slot has, or that were spoken of last."""
    said = [word for word in _after(words, (*ref.NEGATIONS, *ref.FOLLOWING)) if word not in ref.FILLERS]
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
    rest = _after(words, (*ref.NEGATIONS, *ref.CORRECTIONS, *ref.FOLLOWING))
    marked = len(rest) < len(words) or any(words[-len(end) :] == end for end in ref.AFTERTHOUGHTS)
    if not marked and not history[-1].open and history[-1].asked is None:
        return None
    for turn in reversed(history):
        changed: Turn | None = turn
        mentions = _mentions(rest, turn, schema)
        for text, readings in mentions:
            slot = _fitting(turn, text, readings, schema)
            changed = None if slot is None or changed is None else _with(changed, slot)
        if mentions and changed is not None:
            return changed
    return None


def _fitting(turn: Turn, text: str, readings: Iterable[Value], schema: ContextSchema) -> Slot | None:
    """The slot of ``turn`` that a mention fills: the one that was asked for, one that it has, the only one it takes."""
    fitting = list(readings)
    held = {slot.name for slot in turn.slots}
    for names in ({turn.asked}, held):
        narrowed = [value for value in fitting if value.slot in names]
        fitting = narrowed or fitting
    if len({(value.slot, value.value) for value in fitting}) != 1:
        return None
    return Slot(name=fitting[0].slot, value=fitting[0].value, text=text, source=fitting[0].source)


def _mentions(words: tuple[str, ...], turn: Turn, schema: ContextSchema) -> list[tuple[str, tuple[Value, ...]]]:
    """Values of the turn's slots that are said, the longest first at each place; [] where any other word is said that
    means something. A word that the domain says behind some of the readings only ("minutes") leaves no others."""
    takes = schema.takes.get(turn.intent, frozenset())
    found: list[tuple[str, tuple[Value, ...]]] = []
    at = 0
    while at < len(words):
        for length in range(min(LONGEST_VALUE, len(words) - at), 0, -1):
            text = " ".join(words[at : at + length])
            readings = tuple(value for value in schema.values.get(text, ()) if value.slot in takes)
            if not readings:
                continue
            unit = words[at + length] if at + length < len(words) else ""
            measured = tuple(v for v in readings if unit in schema.units.get((turn.intent, v.slot), ()))
            if not measured and ref.FILLERS.issuperset(words[at : at + length]):
                continue  # "the red one": only before a unit is it a number
            found.append((text, measured or readings))
            at += length + bool(measured)
            break
        else:
            if words[at] not in ref.FILLERS:
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
