"""Meaning judged in more ways than right or wrong: how many parts of it, and what shape it has.

SemER counts an utterance's errors as WER counts words, its intent being one more slot (Su et al. 2018, "A re-ranker
scheme for integrating large scale NLU models"; Rao et al. 2020, arXiv:2008.06173). Concept error rate aligns what was
asked for in the order of speech (MEDIA, Bonneau-Maynard et al. 2005). Exact and tree match compare whole meanings,
nested ones too (STOP, Tomasello et al. 2022, arXiv:2207.10643), after putting both into one canonical form. Slots by
span are CoNLL's (Tjong Kim Sang and De Meulder 2003), by name alone SLUE's label-F1 (Shon et al. 2022,
arXiv:2111.10367).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from sayso.core.result import Example, Frame, Intent, Result, Slot
from sayso.evaluation.metrics import EditCounts, F1Counts, edit_counts, understood
from sayso.text.normalise import normalise


def semantic_errors(example: Example, result: Result) -> EditCounts:
    """Edits between the meanings, of ``1 + slots`` units (SemER is their sum over the sum of lengths).

    The intent is one unit, right or substituted; refusing is an intent like the others. A slot of a name that both
    have is a hit or a substitution, of a name that only one has a deletion or an insertion, as many as there are.
    """
    intent, slots = understood(result)
    hit = intent == (None if example.negative else example.intent)
    gold, got = _values(example.slots or ()), _values(slots)
    hits, substitutions, deletions, insertions = int(hit), int(not hit), 0, 0
    for name in gold.keys() | got.keys():
        expected, found = gold.get(name, Counter()), got.get(name, Counter())
        right = (expected & found).total()
        missing, extra = expected.total() - right, found.total() - right
        hits += right
        substitutions += min(missing, extra)
        deletions += max(0, missing - extra)
        insertions += max(0, extra - missing)
    return EditCounts(hits, substitutions, deletions, insertions)


def concept_errors(example: Example, result: Result, *, values: bool = False) -> EditCounts:
    """Edits between the sequences of slot names, or of names and ``values``, in the order in which they were said.

    Where a transcript is missing on either side both are put in the order of the alphabet.
    """
    spoken = bool(example.text and result.text)
    gold = _ordered(example.slots or (), example.text or "", spoken=spoken)
    got = _ordered(understood(result)[1], result.text, spoken=spoken)
    if values:
        return edit_counts([(slot.name, slot.value) for slot in gold], [(slot.name, slot.value) for slot in got])
    return edit_counts([slot.name for slot in gold], [slot.name for slot in got])


def name_counts(example: Example, result: Result) -> F1Counts:
    """Multiset match of slot names, whatever the values."""
    gold, got = (Counter(slot.name for slot in slots) for slots in (example.slots or (), understood(result)[1]))
    return _matched(gold, got)


def span_counts(example: Example, result: Result) -> F1Counts:
    """Multiset match of (name, first word, last word), whatever the values.

    A slot stands at the first place of its words in the text, of equal slots each at a place of its own. Words that
    were recognised stand at those of the expected text that they are aligned with; a slot that begins or ends with an
    inserted word, or whose words are not in its text, is wrong.
    """
    expected, heard = normalise(example.text or "").split(), normalise(result.text).split()
    place: dict[int, int] = {}
    for operation in Levenshtein.opcodes(expected, heard):
        if operation.tag in ("equal", "replace"):
            step = operation.src_start - operation.dest_start
            place |= {word: word + step for word in range(operation.dest_start, operation.dest_end)}
    gold = Counter(_spans(example.slots or (), expected))
    found = _spans(understood(result)[1], heard)
    got = Counter(
        (name, place[first], place[last]) if first in place and last in place else (name, -2, -2)
        for name, first, last in found
    )
    return _matched(gold, got)


def exact_match(example: Example, result: Result) -> bool:
    """All intents, slots and values right, and nested as expected; a negative when it was refused."""
    return canonical(expected_frames(example)) == canonical(understood_frames(result))


def tree_match(example: Example, result: Result) -> bool:
    """All intents and slot names right and nested as expected, whatever the values."""
    return canonical(expected_frames(example), values=False) == canonical(understood_frames(result), values=False)


def canonical(frames: Sequence[Frame], *, values: bool = True) -> tuple[Any, ...]:
    """Nested frames as sorted nested tuples, equal when the meanings are: order and runs of white space do not count.

    ``ValueError`` for a ``parent`` that is no other frame, or a circle of them.
    """
    below: dict[int | None, list[int]] = {}
    for index, frame in enumerate(frames):
        if frame.parent is not None and not 0 <= frame.parent < len(frames):
            raise ValueError(f"frame {index}: parent {frame.parent} is none of {len(frames)} frames")
        below.setdefault(frame.parent, []).append(index)
    seen = 0

    def trees(parent: int | None) -> tuple[Any, ...]:
        nonlocal seen
        found = []
        for index in below.get(parent, ()):
            seen += 1
            slots = sorted((s.name, " ".join(s.value.split()) if values else "") for s in frames[index].slots)
            found.append((frames[index].intent.name, tuple(slots), trees(index)))
        return tuple(sorted(found))

    forest = trees(None)
    if seen < len(frames):
        raise ValueError("frames are their own ancestors; the parent of the outermost must be null")
    return forest


def expected_frames(example: Example) -> tuple[Frame, ...]:
    """The example's frames, its intent and slots as one frame, or none for a negative."""
    if example.frames is not None:
        return example.frames
    if example.intent is None:
        return ()
    return (Frame(intent=Intent(name=example.intent), slots=example.slots or ()),)


def understood_frames(result: Result) -> tuple[Frame, ...]:
    """The frames that count, as ``metrics.understood``: none after a rejection."""
    intent, slots = understood(result)
    if intent is None:
        return ()
    return result.frames or (Frame(intent=Intent(name=intent), slots=slots),)


def _values(slots: Sequence[Slot]) -> dict[str, Counter[str]]:
    table: dict[str, Counter[str]] = {}
    for slot in slots:
        table.setdefault(slot.name, Counter())[slot.value] += 1
    return table


def _matched(gold: Counter[Any], got: Counter[Any]) -> F1Counts:
    right = (gold & got).total()
    return F1Counts(right, got.total() - right, gold.total() - right)


def _spans(slots: Sequence[Slot], words: Sequence[str]) -> list[tuple[str, int, int]]:
    """Name, first and last word of every slot; -1 (never -2) for one whose words are not there."""
    found: list[tuple[str, int, int]] = []
    taken: set[int] = set()
    for slot in slots:
        said = normalise(slot.text or slot.value).split()
        starts = range(len(words) - len(said) + 1) if said else range(0)
        free = (at for at in starts if list(words[at : at + len(said)]) == said and at not in taken)
        start = next(free, None)
        if start is None:
            found.append((slot.name, -1, -1))
            continue
        taken.update(range(start, start + len(said)))
        found.append((slot.name, start, start + len(said) - 1))
    return found


def _ordered(slots: Sequence[Slot], text: str, *, spoken: bool) -> list[Slot]:
    """By start where every slot has one, else by where its words stand in ``text`` (unheard ones last)."""
    if not spoken:
        return sorted(slots, key=lambda slot: (slot.name, slot.value))
    starts = [slot.start for slot in slots]
    if None not in starts:
        return sorted(slots, key=lambda slot: slot.start or 0.0)
    places = [text.find(slot.text or slot.value) for slot in slots]
    return [slots[i] for i in sorted(range(len(slots)), key=lambda i: (places[i] < 0, places[i]))]
