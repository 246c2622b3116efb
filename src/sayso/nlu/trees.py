"""Meanings as trees of words: read, written, compared, and as the frames of a result.

The written form is that of TOP (Gupta et al. 2018): ``[IN:NAME words [SL:NAME words ] ]``, where a slot may hold
intents again and several intents may stand side by side. Decoupled trees (Aghajanyan et al. 2020) keep the words of
slots only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from sayso.core.errors import DataError
from sayso.core.result import Frame, Intent, Slot
from sayso.core.trees import CLOSE, INTENT, SLOT, TreeSchema


@dataclass(frozen=True)
class Tree:
    """``[label parts ]``; the label is ``IN:`` or ``SL:`` and a name, parts are words and trees."""

    label: str
    parts: tuple[str | Tree, ...] = ()

    @property
    def name(self) -> str:
        """The label without its kind."""
        return self.label[3:]

    @property
    def is_intent(self) -> bool:
        """Whether it is an intent rather than a slot."""
        return self.label.startswith("IN:")


Parts = tuple[str | Tree, ...]


def read_trees(text: str) -> Parts:
    """The words and trees of a written meaning; ``DataError`` says where it is not one."""
    open_: list[tuple[str, list[str | Tree]]] = [("", [])]
    for number, piece in enumerate(text.split(), 1):
        if piece.startswith((INTENT, SLOT)) and len(piece) > len(INTENT):
            open_.append((piece[1:], []))
        elif piece == CLOSE:
            if len(open_) == 1:
                raise DataError(f"'{text}': ']' number {number} of its pieces closes nothing")
            label, parts = open_.pop()
            open_[-1][1].append(Tree(label, tuple(parts)))
        elif "[" in piece or "]" in piece:
            raise DataError(f"'{text}': '{piece}' is no word; legal are '[IN:NAME', '[SL:NAME' and ']' between spaces")
        else:
            open_[-1][1].append(piece)
    if len(open_) > 1:
        raise DataError(f"'{text}': '[{open_[-1][0]}' is never closed; add ' ]'")
    return tuple(open_[0][1])


def write_trees(parts: Iterable[str | Tree]) -> str:
    """Inverse of ``read_trees``."""
    return " ".join(
        part if isinstance(part, str) else " ".join(filter(None, (f"[{part.label}", write_trees(part.parts), CLOSE)))
        for part in parts
    )


def words(parts: Iterable[str | Tree]) -> list[str]:
    """All words, in the order they were spoken."""
    return [word for part in parts for word in ([part] if isinstance(part, str) else words(part.parts))]


def decoupled(parts: Iterable[str | Tree]) -> Parts:
    """Without the words that no slot holds."""
    return _spoken_in_slots(parts, inside=False)


def canonical(parts: Iterable[str | Tree]) -> Parts:
    """Decoupled, with siblings sorted behind the words of their parent: two meanings are one exactly if these are
    equal."""
    return _sorted(decoupled(parts))


def skeleton(parts: Iterable[str | Tree]) -> Parts:
    """``canonical`` without any words: what a tree match compares."""
    return _sorted(tuple(Tree(part.label, skeleton(part.parts)) for part in parts if isinstance(part, Tree)))


def respelled(parts: Iterable[str | Tree], spell: Callable[[str], str]) -> Parts:
    """With words as ``spell`` writes them; it is given all that stand side by side at once."""
    found: list[str | Tree] = []
    for is_word, run in groupby(parts, key=lambda part: isinstance(part, str)):
        if is_word:
            found += spell(" ".join(part for part in run if isinstance(part, str))).split()
        else:
            found += [Tree(part.label, respelled(part.parts, spell)) for part in run if isinstance(part, Tree)]
    return tuple(found)


def flat_tree(text: str, intent: str, slots: Sequence[Slot]) -> Parts:
    """One intent around all of ``text``, with those of its slots that are spoken in it.

    Slots are looked for in order; one that is not found, or not spoken at all, is left out.
    """
    said = text.split()
    parts: list[str | Tree] = []
    done = 0
    for slot, start, end in sorted(spoken_slots(said, slots), key=lambda found: found[1]):
        parts += [*said[done:start], Tree(f"SL:{slot.name}", tuple(said[start:end]))]
        done = end
    return (Tree(f"IN:{intent}", (*parts, *said[done:])),)


def spoken_slots(said: Sequence[str], slots: Iterable[Slot]) -> list[tuple[Slot, int, int]]:
    """Each slot whose words are among ``said``, with its first word and the one after its last; no word is taken
    twice, and equal words are taken in order."""
    found: list[tuple[Slot, int, int]] = []
    free = [True] * len(said)
    taken = 0
    for slot in slots:
        spoken = slot.text.split()
        if not spoken:
            continue
        for start in (*range(taken, len(said)), *range(taken)):
            end = start + len(spoken)
            if list(said[start:end]) == spoken and all(free[start:end]):
                free[start:end] = [False] * len(spoken)
                found.append((slot, start, end))
                taken = end
                break
    return found


def frames_of(parts: Iterable[str | Tree], times: Sequence[tuple[float, float]] = ()) -> tuple[Frame, ...]:
    """Frames of a result: every intent before those inside its slots, which name it as ``parent``.

    A slot's ``value`` is its words, or what is written inside it where that holds intents. ``times`` are start and end
    of all ``words`` in seconds; without them slots have none.
    """
    frames: list[Frame] = []
    _collect(parts, None, frames, times)
    return tuple(frames)


def trees_of(frames: Sequence[Frame]) -> Parts:
    """The decoupled trees that these frames stand for: inverse of ``frames_of`` up to words outside slots."""
    return tuple(
        Tree(f"IN:{frame.intent.name}", tuple(Tree(f"SL:{slot.name}", _held(slot)) for slot in frame.slots))
        for frame in frames
        if frame.parent is None
    )


def schema_of(meanings: Iterable[Parts], base: TreeSchema | None = None) -> TreeSchema:
    """The smallest schema, ``base`` included, that allows all ``meanings``; its form is that of ``base``."""
    base = base or TreeSchema()
    intents = {name: dict.fromkeys(slots) for name, slots in base.intents.items()}
    nested = {name: dict.fromkeys(inside) for name, inside in base.nested.items()}

    def see(parts: Parts, above: Tree | None) -> None:
        for part in parts:
            if isinstance(part, str):
                continue
            if part.is_intent:
                intents.setdefault(part.name, {})
                if above is not None:
                    nested.setdefault(above.name, {})[part.name] = None
            elif above is not None and above.is_intent:
                intents[above.name][part.name] = None
            see(part.parts, part)

    for parts in meanings:
        see(parts, None)
    return TreeSchema(
        intents={name: tuple(slots) for name, slots in intents.items()},
        nested={name: tuple(inside) for name, inside in nested.items()},
        form=base.form,
    )


def _spoken_in_slots(parts: Iterable[str | Tree], *, inside: bool) -> Parts:
    return tuple(
        part if isinstance(part, str) else Tree(part.label, _spoken_in_slots(part.parts, inside=not part.is_intent))
        for part in parts
        if inside or isinstance(part, Tree)
    )


def _sorted(parts: Parts) -> Parts:
    spoken = [part for part in parts if isinstance(part, str)]
    trees = [Tree(part.label, _sorted(part.parts)) for part in parts if isinstance(part, Tree)]
    return (*spoken, *sorted(trees, key=lambda tree: write_trees([tree])))


def _collect(
    parts: Iterable[str | Tree], parent: int | None, frames: list[Frame], times: Sequence[tuple[float, float]]
) -> None:
    """Add the frames of ``parts``; ``times`` are those of their words."""
    for part in parts:
        count = len(words([part]))
        mine, times = times[:count], times[count:]
        if isinstance(part, Tree) and part.is_intent:
            frames.append(Frame(intent=Intent(name=part.name), slots=tuple(_slots(part, mine)), parent=parent))
            _collect(part.parts, len(frames) - 1, frames, mine)
        elif isinstance(part, Tree):
            _collect(part.parts, parent, frames, mine)


def _slots(intent: Tree, times: Sequence[tuple[float, float]]) -> Iterator[Slot]:
    for part in intent.parts:
        spoken = words([part])
        mine, times = times[: len(spoken)], times[len(spoken) :]
        if isinstance(part, Tree):
            text = " ".join(spoken)
            holds = any(isinstance(inner, Tree) for inner in part.parts)
            value = write_trees(_spoken_in_slots(part.parts, inside=True)) if holds else text
            start, end = (mine[0][0], mine[-1][1]) if mine else (None, None)
            yield Slot(name=part.name, value=value, text=text, start=start, end=end)


def _held(slot: Slot) -> Parts:
    return read_trees(slot.value) if INTENT in slot.value else tuple((slot.text or slot.value).split())
