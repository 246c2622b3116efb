"""Whether data is what it claims to be: readable, not the same twice, and apart where it must be apart.

A model judged on what it trained on looks better than it is. So parts are compared by sound (a hash of the decoded
samples: the same recording in another format is the same), by talker, by sentence and by near sentence (character
Levenshtein similarity; Lee et al. 2022, arXiv:2107.06499, found near duplicates of test data in the common training
sets). Runs on the floor: nothing here needs Lhotse.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from sayso.audio.decode import read
from sayso.core.result import Example
from sayso.text.disfluency import fluent
from sayso.text.normalise import normalise

# What is known of talker and recording: ``accent`` is the dialect, ``device`` the channel, ``style`` read, spontaneous…
TRAITS = ("gender", "age", "accent", "device", "style")
NEAR = 0.9
_ROWS = 512  # sentences compared at once with all others

Kind = Literal["sound", "speaker", "sentence", "near sentence"]


@dataclass(frozen=True)
class Heard:
    """One recording as it is: the hash of its sound, and its length in seconds."""

    sound: str
    duration_s: float


@dataclass(frozen=True)
class Leak:
    """Something of ``second`` that ``first`` has too: recordings of one sound, or what both say or who says it."""

    kind: Kind
    first: str
    second: str


def hear(path: str | Path) -> Heard:
    """Decode a recording; ``AudioError`` where that cannot be done.

    The hash is of 16 kHz mono samples of 16 bits, so that a lossless copy in another format has the same.
    """
    samples = read(path)
    whole = np.clip(np.round(samples * 32768.0), -32768, 32767).astype("<i2")
    return Heard(hashlib.sha256(whole.tobytes()).hexdigest(), len(samples) / 16000)


def content_hash(examples: Iterable[Example]) -> str:
    """sha256 of what a manifest says, in its order: names of recordings, lengths (ms), talkers, texts and meanings.

    The folder does not count, nor does the format: a copy elsewhere, gzipped or not, has the same.
    """
    digest = hashlib.sha256()
    for item in examples:
        slots = None if item.slots is None else [[slot.name, slot.value, slot.text] for slot in item.slots]
        length = None if item.duration_s is None else round(item.duration_s * 1000)
        row = [Path(item.audio).name, length, item.speaker, item.language, item.source, item.text]
        digest.update((json.dumps([*row, item.intent, slots, item.negative], ensure_ascii=False) + "\n").encode())
    return digest.hexdigest()


def repeats(examples: Sequence[Example], sounds: Sequence[str | None]) -> list[tuple[str, str]]:
    """Pairs of recordings of one manifest that sound alike to the last sample; ``sounds`` may hold None."""
    first: dict[str, str] = {}
    found = []
    for example, sound in zip(examples, sounds, strict=True):
        if sound is not None and first.setdefault(sound, example.audio) != example.audio:
            found.append((first[sound], example.audio))
    return found


def leaks(
    first: Sequence[Example],
    second: Sequence[Example],
    sounds: tuple[Sequence[str | None], Sequence[str | None]] | None = None,
    near: float = NEAR,
) -> list[Leak]:
    """What two parts share that should be apart; each sentence of ``second`` once, as the worst that it is.

    Sentences are compared in words as they were meant (``fluent``). A near sentence is at least ``near`` alike
    (1: the same). Talkers of different sources are different people, whatever their names.
    """
    found: list[Leak] = []
    if sounds is not None:
        known = {sound: item.audio for item, sound in zip(first, sounds[0], strict=True) if sound is not None}
        found += [
            Leak("sound", known[s], item.audio) for item, s in zip(second, sounds[1], strict=True) if s and s in known
        ]
    talkers = {(item.source, item.speaker) for item in first if item.speaker}
    shared = dict.fromkeys((i.source, i.speaker) for i in second if i.speaker and (i.source, i.speaker) in talkers)
    found += [Leak("speaker", str(speaker), str(speaker)) for _, speaker in shared]
    ours, theirs = _sentences(first), _sentences(second)
    found += [Leak("sentence", text, text) for text in theirs if text in ours]
    return found + list(_near(list(ours), [text for text in theirs if text not in ours], near))


def _sentences(examples: Iterable[Example]) -> dict[str, None]:
    return dict.fromkeys(text for item in examples if item.text and (text := fluent(item.text)))


def _near(ours: Sequence[str], theirs: Sequence[str], near: float) -> Iterator[Leak]:
    if not ours:
        return
    for start in range(0, len(theirs), _ROWS):
        rows = theirs[start : start + _ROWS]
        alike = cdist(rows, ours, scorer=Levenshtein.normalized_similarity, score_cutoff=near)
        for text, row in zip(rows, alike, strict=True):
            if row.max() >= near:
                yield Leak("near sentence", ours[int(row.argmax())], text)


def odd_labels(examples: Sequence[Example]) -> list[str]:
    """Slots whose spoken words the transcript lacks, as sentences for a person: what a tagger cannot learn."""
    return [
        f"{item.audio}: slot '{slot.name}' is said as '{slot.text}', which '{item.text}' does not hold"
        for item in examples
        for slot in item.slots or ()
        if item.text is not None and slot.text and f" {normalise(slot.text)} " not in f" {normalise(item.text)} "
    ]
