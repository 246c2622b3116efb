"""A validation part cut once, by hash, from what may train.

Whether an item validates depends on its corpus and its key alone (the speaker where known, else the sentence as
written), so a speaker or sentence never lies on both sides, adding data moves nobody, and no list needs keeping.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from lhotse import CutSet, MonoCut  # type: ignore[import-untyped]

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
