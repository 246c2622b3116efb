"""From tags to slots and from the words of a slot to its value, where no grammar decides: the table of what is said for
which value, and the nearest entry for words that were misheard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import extractOne

from sayso.core.result import Slot
from sayso.text.normalise import normalise

Forms = Mapping[str, Mapping[str, str]]  # slot to its spoken forms to their values


class SpokenValues:
    """``alike`` is how near words must be to a known form (normalised Levenshtein similarity) to mean its value; words
    further away stand for themselves, as in an open slot."""

    def __init__(self, forms: Forms, alike: float = 0.75) -> None:
        self.forms, self.alike = forms, alike

    def slot(self, name: str, said: str) -> Slot:
        """The slot that these normalised words fill; a name without a table takes them as they are."""
        forms = self.forms.get(name, {})
        if said in forms:
            return Slot(name=name, value=forms[said], text=said)
        near = extractOne(said, list(forms), scorer=Levenshtein.normalized_similarity, score_cutoff=self.alike)
        return Slot(name=name, value=said if near is None else forms[near[0]], text=said)


def spoken_forms(slots: Iterable[Slot]) -> dict[str, dict[str, str]]:
    """What is said for which value in these labels: their words, and the values spelled out; the first of equal words
    counts."""
    found: dict[str, dict[str, str]] = {}
    for slot in slots:
        forms = found.setdefault(slot.name, {})
        for said in (normalise(slot.text), normalise(slot.value)):
            if said:
                forms.setdefault(said, slot.value)
    return found


def tag_spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Slots of a BIO sequence: the name, the first word and the one after the last; an ``I`` that no ``B`` or ``I`` of
    its slot precedes begins one."""
    spans: list[tuple[str, int, int]] = []
    before = ""
    for place, tag in enumerate(tags):
        name = tag[2:]
        if name and (tag.startswith("B-") or before != name):
            spans.append((name, place, place + 1))
        elif name:
            spans[-1] = (name, spans[-1][1], place + 1)
        before = name
    return spans
