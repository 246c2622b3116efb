"""A validation part cut once, by hash, from what may train.

Whether an item validates depends on its corpus and its key alone (the speaker where known, else the sentence as
written), so a speaker or sentence never lies on both sides, adding data moves nobody, and no list needs keeping.
``cut_both`` keeps speakers and sentences apart at once. Where every speaker says the same sentences that costs the
recordings in which one lies on this side and the other on that: they are left out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

from lhotse import CutSet, MonoCut  # type: ignore[import-untyped]

from sayso.text.disfluency import fluent

VALID_PER_MILLE = 35


def is_valid(corpus: str, key: str, per_mille: int = VALID_PER_MILLE) -> bool:
    """Whether ``key`` of ``corpus`` belongs to the validation part."""
    return int(hashlib.sha256((corpus + key).encode()).hexdigest(), 16) % 1000 < per_mille


def split_key(cut: MonoCut) -> tuple[str, str]:
    """Corpus and speaker, else sentence as the corpus writes it, else the cut's id."""
    spoken = cut.supervisions[0] if cut.supervisions else None
    custom = (spoken.custom or {}) if spoken is not None else {}
    corpus = custom.get("source") or ""
    if spoken is None:
        return corpus, cut.id
    return corpus, spoken.speaker or custom.get("written") or spoken.text or cut.id


def cut_valid(cuts: Iterable[MonoCut], per_mille: int = VALID_PER_MILLE) -> tuple[CutSet, CutSet]:
    """(train, valid), each in the order of ``cuts``; valid may be empty where there are few speakers."""
    parts: tuple[list[MonoCut], list[MonoCut]] = ([], [])
    for cut in cuts:
        parts[is_valid(*split_key(cut), per_mille)].append(cut)
    return CutSet.from_cuts(parts[0]), CutSet.from_cuts(parts[1])


def cut_both(cuts: Iterable[MonoCut], per_mille: int = VALID_PER_MILLE) -> tuple[CutSet, CutSet, int]:
    """(train, valid, left out): no speaker and no sentence of valid is in train.

    Speakers, and sentences as they were meant (``fluent``), are drawn at the rate at which, were they independent,
    valid is ``per_mille`` of what is kept. Where one of the two is unknown the other decides; where both are, the id.
    """
    valid, train = math.sqrt(per_mille), math.sqrt(1000 - per_mille)
    rate = round(1000 * valid / (valid + train))
    parts: tuple[list[MonoCut], list[MonoCut]] = ([], [])
    left_out = 0
    for cut in cuts:
        sides = {is_valid(corpus, key, rate) for corpus, key in _both_keys(cut)}
        if len(sides) == 1:
            parts[sides.pop()].append(cut)
        else:
            left_out += 1
    return CutSet.from_cuts(parts[0]), CutSet.from_cuts(parts[1]), left_out


def _both_keys(cut: MonoCut) -> list[tuple[str, str]]:
    """What must lie on one side; a sentence whatever its corpus."""
    spoken = cut.supervisions[0] if cut.supervisions else None
    keys = []
    if spoken is not None and spoken.speaker:
        keys.append(((spoken.custom or {}).get("source") or "", f"speaker {spoken.speaker}"))
    if spoken is not None and spoken.text:
        keys.append(("", f"sentence {fluent(spoken.text)}"))
    return keys or [("", f"id {cut.id}")]
