"""One clip at a time: what it says, where its sound is, and how that is read and changed.

Shape letters: ``n`` samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayso.audio.decode import read
from sayso.audio.features import FeatureConfig
from sayso.core.result import Slot
from sayso.data.augment import AugmentConfig, Augmenter, load_noises, load_rooms
from sayso.data.manifest import to_example, written_tree

POOL = 64  # speakers that babble is drawn from


@dataclass(frozen=True, kw_only=True)
class ClipMeta:
    """What one clip of a bank says; ``duration`` in seconds before augmentation, ``id`` its cut's."""

    id: str
    text: str
    intent: str | None
    slots: tuple[Slot, ...]
    speaker: str | None
    source: str | None
    duration: float
    negative: bool
    tree: str | None = None  # written, where the meaning is more than an intent with slots


@dataclass(frozen=True)
class Job:
    """Where the sound of a cut is: all that a worker needs."""

    id: str
    audio: str
    start: float
    duration: float
    partial: bool


def clip_meta(cut: Any) -> ClipMeta:
    """What a cut says."""
    return meta_of(clip_row(cut))


def meta_of(row: dict[str, Any]) -> ClipMeta:
    """The inverse of ``clip_row``."""
    return ClipMeta(**{**row, "slots": tuple(Slot(**slot) for slot in row["slots"])})


def clip_row(cut: Any) -> dict[str, Any]:
    """What a cut says, as JSON holds it."""
    example = to_example(cut)
    return {
        "id": cut.id,
        "text": example.text or "",
        "intent": example.intent,
        "slots": [slot.model_dump(include={"name", "value", "text"}) for slot in example.slots or ()],
        "speaker": example.speaker,
        "source": example.source,
        "duration": float(cut.duration),
        "negative": example.negative,
        "tree": written_tree(cut),
    }


def talkers_of(cuts: Iterable[Any], root: Path | None) -> tuple[str, ...]:
    """A recording of each of at most ``POOL`` speakers, chosen by hash."""
    found: dict[tuple[str | None, str], tuple[bytes, str]] = {}
    for cut in cuts:
        example = to_example(cut)
        if example.speaker is not None:
            rank = (hashlib.sha256(cut.id.encode()).digest(), job_of(cut, root).audio)
            key = (example.source, example.speaker)
            found[key] = min(rank, found.get(key, rank))
    return tuple(audio for _, audio in sorted(found.values())[:POOL])


def job_of(cut: Any, root: Path | None) -> Job:
    """Where the sound of a cut is; relative paths are below ``root``."""
    audio = Path(to_example(cut).audio)
    if root is not None and not audio.is_absolute():
        audio = root / audio
    partial = cut.start > 0 or cut.duration < cut.recording.duration - 1e-3
    return Job(cut.id, str(audio), float(cut.start), float(cut.duration), partial)


def augmenter_of(settings: AugmentConfig, root: Path | None, talkers: Sequence[str]) -> Augmenter:
    """With the noises and rooms of ``root`` and the recordings that babble is made of."""
    rate = FeatureConfig().sample_rate
    return settings.build(load_noises(root), load_rooms(root), [read(path, rate) for path in talkers])


def sound_of(job: Job, augmenter: Augmenter | None, seed: int) -> NDArray[np.float32]:
    """Samples (n,) at 16 kHz, changed by ``augmenter``; ``AudioError`` where they cannot be read."""
    rate = FeatureConfig().sample_rate
    samples = read(job.audio, rate, max_s=job.start + job.duration if job.partial else None)[round(job.start * rate) :]
    if augmenter is None:
        return samples
    key = int.from_bytes(hashlib.sha256(job.id.encode()).digest()[:8], "little")
    return augmenter.apply(samples, np.random.default_rng((seed, key)))
