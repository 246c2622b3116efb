"""A user's own list, too long for the graph, found by what was heard of it: contacts, devices, songs, up to 100,000.

A recogniser that does not know a name writes something that sounds like it. So entries are compared by their sound (a
phonetic key) and by their letters: both as hashed n-grams, of which a cosine is taken with all entries at once over
inverted lists (sparse vectors, McNamee & Mayfield 2004; the asymmetric weights let the list change without touching a
vector), and what is nearest is ranked by edit distance over every text of an n-best list. The answer may also be that
the list does not hold it (Wang et al. 2023 call this the "not in the base" option): below a threshold, and where the
second entry is nearly as near. In a long list something is always near, but is one of many; what was really said stands
out (the ratio test of Lowe 2004). Entries come and go between two requests: new ones stand in a small segment of their
own, and segments are joined when they have grown alike (O'Neil et al. 1996).
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from sayso.core.config import Config
from sayso.core.errors import DataError, DomainError
from sayso.core.files import whole
from sayso.nlu.grams import Floats, Grams, query
from sayso.nlu.phonetic import Phonetic, SpokenKey
from sayso.text.normalise import normalise

Texts = Sequence[tuple[str, float]]  # texts and their log scores, best first
Entry = str | tuple[str, str]  # as spoken, or (spoken, value)
Pair = tuple[str, str]
FORMAT = 1
_JOINED_BELOW = 256  # entries; smaller segments are joined with the one before them at once


class RetrievalConfig(Config):
    """How entries are compared. ``sound``: weight of the phonetic key beside the letters, 0 to 1. ``edit``: weight of
    the edit distance beside the cosine. ``candidates``: entries that are ranked by it. ``threshold``: least score of an
    answer; below, the list does not hold what was said. ``ratio``: the most that an answer's distance (one less its
    score) may be of that of the nearest entry with another text and value; 1 asks for no lead. ``fall``: score lost per
    unit of log probability that a text of the n-best lies below the best one."""

    sound: float = Field(default=0.4, ge=0, le=1)
    edit: float = Field(default=0.8, ge=0, le=1)
    candidates: int = Field(default=128, ge=1)
    threshold: float = Field(default=0.5, ge=0, le=1)
    ratio: float = Field(default=0.7, ge=0, le=1)  # most right less wrong answers: benchmarks/retrieval.py --tune
    fall: float = Field(default=0.02, ge=0)
    texts: int = Field(default=8, ge=1)  # of an n-best list that are looked at


@dataclass(frozen=True)
class Found:
    """An entry that may be meant. ``score`` is 1 for the very words; ``heard`` is the nearest text of the
    n-best."""

    text: str
    value: str
    score: float
    heard: str


class ListIndex:
    """Entries that can be found by what was heard of them; adding and removing takes effect at once.

    Not to be changed by two threads at a time; searching changes nothing.
    """

    def __init__(
        self, entries: Iterable[Entry] = (), *, phonetic: Phonetic | None = None, config: RetrievalConfig | None = None
    ) -> None:
        self.phonetic: Phonetic = SpokenKey() if phonetic is None else phonetic
        self.config = RetrievalConfig() if config is None else config
        self._entries: dict[Pair, None] = {}
        self._named: dict[str, set[Pair]] = {}  # by text and by value
        self._segments: list[_Segment] = []
        self.add(entries)

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    def __contains__(self, entry: Entry) -> bool:
        """Whether an entry of this text or value, or this very pair, is there."""
        pair = None if isinstance(entry, str) else (normalise(entry[0]), entry[1])
        return pair in self._entries if pair is not None else bool(self._pairs(str(entry)))

    def add(self, entries: Iterable[Entry]) -> int:
        """Add values, or (spoken, value) pairs; those that are there already do not count. How many are new.

        Raises ``DomainError`` for one that cannot be spoken; then none is added.
        """
        pairs: dict[Pair, None] = {}
        for entry in entries:
            spoken, value = (entry, entry) if isinstance(entry, str) else entry
            text = normalise(spoken)
            if not text:
                raise DomainError(f"list entry '{spoken}' has no spoken words; give words that can be spoken")
            pairs[text, value] = None
        fresh = [pair for pair in pairs if pair not in self._entries]
        for pair in fresh:
            self._entries[pair] = None
            for name in set(pair):
                self._named.setdefault(name, set()).add(pair)
        if fresh:
            self._push(_Segment.build(fresh, [self.phonetic.key(text) for text, _ in fresh]))
        return len(fresh)

    def remove(self, entries: Iterable[Entry]) -> int:
        """Remove entries by their spoken text, by their value, or as pairs; those that are not there are passed over.
        How many went."""
        gone: dict[Pair, None] = {}
        for entry in entries:
            named = self._pairs(entry) if isinstance(entry, str) else {(normalise(entry[0]), entry[1])}
            gone.update(dict.fromkeys(pair for pair in named if pair in self._entries))
        for pair in gone:
            del self._entries[pair]
            for name in set(pair):
                self._named[name].discard(pair)
                if not self._named[name]:
                    del self._named[name]
        if sum(len(segment.pairs) for segment in self._segments) > 2 * len(self._entries) + _JOINED_BELOW:
            self._join(0)
        return len(gone)

    def find(self, heard: str | Texts, k: int = 5) -> list[Found]:
        """The ``k`` entries nearest to normalised text, or to an n-best list of texts with log scores; the best first,
        each entry once. Equal scores stay in the order in which they were added."""
        return self.look(heard, k)[0]

    def best(self, heard: str | Texts) -> Found | None:
        """The nearest entry; None where the list does not hold what was heard, or nothing tells which is meant."""
        found, known = self.look(heard, 1)
        return found[0] if known else None

    def look(self, heard: str | Texts, k: int = 5) -> tuple[list[Found], bool]:
        """What ``find`` finds, and whether the first of it is what was said (``threshold`` and ``ratio``)."""
        texts = self._texts(heard)
        if not texts or not self._entries or k < 1:
            return [], False
        pairs, keys, cosines = self._candidates(texts)
        if not pairs:
            return [], False
        best, nearest = self._ranked(texts, pairs, keys, cosines)
        order = np.argsort(-best, kind="stable")
        found = []
        for place in order[:k]:
            text, value = pairs[place]
            found.append(Found(text, value, round(min(1.0, float(best[place])), 6), texts[int(nearest[place])][0]))
        text, value = pairs[order[0]]
        others = (float(best[place]) for place in order[1:] if text != pairs[place][0] and value != pairs[place][1])
        return found, self._stands_out(found[0].score, next(others, 0.0))

    def _stands_out(self, first: float, second: float) -> bool:
        return first >= self.config.threshold and 1 - first <= self.config.ratio * (1 - min(1.0, second))

    def save(self, path: Path | str) -> None:
        """Write everything to one file; ``ListIndex.load`` reads it."""
        self._join(0)
        segment = self._segments[0] if self._segments else _Segment.build([], [])
        columns = ([t for t, _ in segment.pairs], [v for _, v in segment.pairs], segment.keys)
        about = {"format": FORMAT, "phonetic": self.phonetic.name, "config": self.config.model_dump(mode="json")}
        arrays: dict[str, NDArray[Any]] = {"about": _packed(json.dumps(about))}
        arrays |= {
            name: _packed(json.dumps(column, ensure_ascii=False))
            for name, column in zip(_COLUMNS, columns, strict=True)
        }
        for field, grams in (("letters", segment.letters), ("sounds", segment.sounds)):
            arrays |= {f"{field}/{name}": getattr(grams, name) for name in _ARRAYS}
        with whole(Path(path)) as fresh, fresh.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @staticmethod
    def load(path: Path | str, *, phonetic: Phonetic | None = None) -> ListIndex:
        """Inverse of ``save``. Raises ``DataError`` for a file that is missing, damaged or made with other keys."""
        try:
            with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
                arrays: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}
            about = json.loads(arrays["about"].tobytes())
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']}, this release reads {FORMAT}")
            index = ListIndex(phonetic=phonetic, config=RetrievalConfig(**about["config"]))
            texts, values, keys = (json.loads(arrays[name].tobytes()) for name in _COLUMNS)
            pairs = list(zip(texts, values, strict=True))
            fields = [Grams(**{name: arrays[f"{field}/{name}"] for name in _ARRAYS}) for field in ("letters", "sounds")]
            for grams in fields:
                grams.check(len(pairs))
            segment = _Segment(pairs, list(map(str, keys)), *fields)
        except OSError as error:
            raise DataError(f"{path}: no list index here ({error.strerror})") from None
        except (ValueError, KeyError, TypeError, EOFError, ValidationError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{path}: not a list index ({error}); make it again from its list") from None
        if about["phonetic"] != index.phonetic.name:
            raise DataError(
                f"{path}: made with keys '{about['phonetic']}', this program has '{index.phonetic.name}'; "
                "make it again from its list"
            )
        index._entries = dict.fromkeys(pairs)
        for pair in pairs:
            for name in set(pair):
                index._named.setdefault(name, set()).add(pair)
        index._segments = [segment] if pairs else []
        return index

    def _pairs(self, name: str) -> set[Pair]:
        return self._named.get(name, set()) or self._named.get(normalise(name), set())

    def _push(self, segment: _Segment) -> None:
        """Add a segment, and join the last ones while they are alike: so there are few, however entries came."""
        self._segments.append(segment)
        first = len(self._segments) - 1
        size = len(segment.pairs)
        while first and len(self._segments[first - 1].pairs) <= max(2 * size, _JOINED_BELOW):
            first -= 1
            size += len(self._segments[first].pairs)
        if first < len(self._segments) - 1:
            self._join(first)

    def _join(self, first: int) -> None:
        """One segment of those from ``first`` on, without what was removed."""
        kept: dict[Pair, str] = {}
        for segment in self._segments[first:]:
            kept.update({p: k for p, k in zip(segment.pairs, segment.keys, strict=True) if p in self._entries})
        joined = [_Segment.build(list(kept), list(kept.values()))] if kept else []
        self._segments = [*self._segments[:first], *joined]

    def _texts(self, heard: str | Texts) -> list[tuple[str, float]]:
        texts = [(heard, 0.0)] if isinstance(heard, str) else list(heard)
        return [(text, score) for text, score in texts if text.strip()][: self.config.texts]

    def _candidates(self, texts: Sequence[tuple[str, float]]) -> tuple[list[Pair], list[str], Floats]:
        """Entries with the highest cosines, their keys and these cosines."""
        config = self.config
        top = max(score for _, score in texts)
        shares = np.array([math.exp(score - top) for _, score in texts])
        size = sum(len(segment.pairs) for segment in self._segments)
        queries = [
            (field, weight, query(strings, shares / shares.sum(), [getattr(s, field) for s in self._segments], size))
            for field, weight, strings in (
                ("letters", 1 - config.sound, [text for text, _ in texts]),
                ("sounds", config.sound, [self.phonetic.key(text) for text, _ in texts]),
            )
            if weight
        ]
        found: dict[Pair, tuple[str, float]] = {}
        for segment in self._segments:
            cosines = np.zeros(len(segment.pairs))
            for field, weight, (buckets, weights) in queries:
                cosines += weight * getattr(segment, field).cosines(buckets, weights, len(segment.pairs))
            for place in self._highest(segment, cosines):
                found.setdefault(segment.pairs[place], (segment.keys[place], float(cosines[place])))
        pairs = list(found)
        return pairs, [key for key, _ in found.values()], np.array([c for _, c in found.values()], np.float32)

    def _highest(self, segment: _Segment, cosines: NDArray[np.float64]) -> list[int]:
        """Rows of the highest cosines that are still in the list; more are looked at where many were removed."""
        wanted, count = self.config.candidates, len(cosines)
        many = wanted
        while True:
            rows = np.arange(count) if many >= count else np.argpartition(-cosines, many - 1)[:many]
            alive = [int(row) for row in np.sort(rows) if segment.pairs[row] in self._entries]
            if len(alive) >= min(wanted, count) or many >= count:
                return alive
            many *= 4

    def _ranked(
        self, texts: Sequence[tuple[str, float]], pairs: Sequence[Pair], keys: Sequence[str], cosines: Floats
    ) -> tuple[Floats, NDArray[np.intp]]:
        """Each candidate's score, and which of the texts it has it from."""
        config = self.config
        similar = np.zeros((len(texts), len(pairs)), np.float32)
        if config.edit:
            heard = [text for text, _ in texts]
            compare = Levenshtein.normalized_similarity
            if config.sound < 1:
                similar += (1 - config.sound) * cdist(heard, [t for t, _ in pairs], scorer=compare, dtype=np.float32)
            if config.sound:
                said = [self.phonetic.key(text) for text in heard]
                similar += config.sound * cdist(said, keys, scorer=compare, dtype=np.float32)
        top = max(score for _, score in texts)
        falls = np.array([config.fall * (top - score) for _, score in texts], np.float32)
        scores = config.edit * (similar - falls[:, None]) + (1 - config.edit) * cosines[None]
        very = np.array([[text == entry for entry, _ in pairs] for text, _ in texts])
        scores = np.where(very, 1 - falls[:, None], scores)
        nearest = scores.argmax(axis=0)
        return scores[nearest, np.arange(len(pairs))], nearest


@dataclass(frozen=True)
class Resolved:
    """What an open slot holds after a look at a list: ``value`` is the entry's, or the words where the list does not
    hold them or nothing tells which entry is meant (``known`` False)."""

    text: str
    value: str
    known: bool
    score: float
    found: tuple[Found, ...] = ()


def resolve(texts: Texts, index: ListIndex, *, k: int = 3) -> Resolved:
    """An open slot's n-best list of texts (log scores, best first) against ``index``: the entry that is meant, or the
    best text as it was heard. ``found`` are the ``k`` nearest, for a question back. Empty for no texts."""
    found, known = index.look(texts, k)
    heard = texts[0][0] if texts else ""
    if known:
        return Resolved(found[0].text, found[0].value, True, found[0].score, tuple(found))
    return Resolved(heard, heard, False, found[0].score if found else 0.0, tuple(found))


_COLUMNS = ("texts", "values", "keys")
_ARRAYS = ("ptr", "rows", "weights")


@dataclass(frozen=True)
class _Segment:
    """Entries that were indexed together."""

    pairs: list[Pair]
    keys: list[str]
    letters: Grams
    sounds: Grams

    @staticmethod
    def build(pairs: Sequence[Pair], keys: Sequence[str]) -> _Segment:
        """Index entries and their keys."""
        return _Segment(list(pairs), list(keys), Grams.build([text for text, _ in pairs]), Grams.build(keys))


def _packed(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)
