"""Sentences times voices into a folder of FLAC files and a Lhotse manifest that carries their meaning.

Voices are drawn per sentence by systematic sampling (Madow 1949): every voice is heard exactly in proportion to its
weight in expectation, and the draws for one sentence are as different as the weights allow. What is drawn depends only
on the seed, the sentence and its repetition, and a file is named by everything that shaped it, so that a run that was
interrupted, or got more sentences, makes only what is missing. The manifest is written by hand, line by line as Lhotse
would, because that needs no more than ``json``.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import soundfile as sf  # type: ignore[import-untyped]
from pydantic import Field, field_validator

from sayso.core.config import Config
from sayso.core.errors import DataError, SaysoError, SynthesisError
from sayso.core.files import whole
from sayso.core.result import Slot
from sayso.data.synthesis import ENGINES, Role, Voice, voices
from sayso.data.synthesis.engine import SAMPLE_RATE, finish
from sayso.text.normalise import normalise

Progress = Callable[[int, int], None]

MANIFEST = "cuts.jsonl.gz"
_FORMAT = 1  # part of every file's name: raise it when the same request would sound different
_CHUNK = 8  # sentences per task: what Ctrl-C waits for
_log = logging.getLogger("sayso.data")


class Spoken(Protocol):
    """A sentence and what it means; ``nlu``'s sampled utterances are such."""

    @property
    def text(self) -> str:
        """The words."""

    @property
    def intent(self) -> str | None:
        """Its intent; None when it must be rejected."""

    @property
    def slots(self) -> Sequence[Slot]:
        """Its slots, in any order."""


@dataclass(frozen=True)
class Sentence:
    """The plainest ``Spoken``: by default words without a meaning, for negatives."""

    text: str
    intent: str | None = None
    slots: tuple[Slot, ...] = ()


def read_sentences(path: Path, n: int, seed: int) -> list[Sentence]:
    """``n`` different lines of a text file, in the order that ``seed`` draws, spelled as the recogniser spells."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as sentences ({error}); give a text file with one a line") from None
    texts = sorted({text for line in lines if (text := normalise(line))})
    order = np.random.default_rng(seed).permutation(len(texts))[:n]
    return [Sentence(texts[i]) for i in order]


class SynthConfig(Config):
    """How sentences are spoken.

    ``rate`` and ``pitch`` are ranges drawn log-uniformly per recording. ``weights`` are per voice, by engine (0 leaves
    it out, 1 where not named); all voices that were not made from people's recordings get at most ``formant_share``
    together where there are others.
    """

    kind: Literal["synthesis"] = "synthesis"
    engines: tuple[str, ...] | None = None
    voices_each: int = Field(default=2, ge=1)
    rate: tuple[float, float] = (0.85, 1.2)
    pitch: tuple[float, float] = (0.94, 1.06)
    weights: dict[str, float] = Field(
        default={"hibari": 4.0, "flite": 3.0, "festival": 2.0, "piper": 4.0, "kokoro": 0.5, "espeak-ng": 1.0}
    )
    formant_share: float = Field(default=0.4, ge=0, le=1)
    processes: int = Field(default=2, ge=1)
    seed: int = Field(default=0, ge=0)

    @field_validator("rate", "pitch")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0.5 <= value[0] <= value[1] <= 2.0:
            raise ValueError("a range is two numbers from 0.5 to 2.0, the smaller first")
        return value


@dataclass(frozen=True)
class Job:
    """One recording to make: ``index`` of its sentence, and everything that shapes the sound."""

    index: int
    text: str
    voice: Voice
    rate: float
    pitch: float
    name: str


@dataclass(frozen=True)
class _Done:
    samples: int = 0
    problem: str = ""


def shares(found: Sequence[Voice], config: SynthConfig) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(voices,) probabilities that sum to 1. Raises ``SynthesisError`` when every weight is 0."""
    weights = np.array([config.weights.get(voice.engine, 1.0) for voice in found], np.float64)
    formant = np.array([not voice.neural for voice in found])
    if (weights < 0).any() or not weights.sum():
        raise SynthesisError(f"weights {config.weights} leave no voice; give one installed engine a positive weight")
    weights /= weights.sum()
    share = float(weights[formant].sum())
    if config.formant_share < share < 1:
        weights[formant] *= config.formant_share / share
        weights[~formant] *= (1 - config.formant_share) / (1 - share)
    return weights


def plan(utterances: Sequence[Spoken], found: Sequence[Voice], config: SynthConfig) -> list[Job]:
    """The recordings to make, ``voices_each`` per sentence, in the order of the sentences."""
    weights = shares(found, config)
    seen: Counter[str] = Counter()
    jobs: list[Job] = []
    for index, utterance in enumerate(utterances):
        seen[utterance.text] += 1
        rng = np.random.default_rng(_number(config.seed, utterance.text, seen[utterance.text]))
        order = rng.permutation(len(found))
        points = (np.arange(config.voices_each) + rng.random()) / config.voices_each
        picks = np.minimum(np.searchsorted(np.cumsum(weights[order]), points, side="right"), len(found) - 1)
        for copy, pick in enumerate(picks):
            voice = found[int(order[pick])]
            rate, pitch = (float(np.exp(rng.uniform(*np.log(span)))) for span in (config.rate, config.pitch))
            key = (_FORMAT, config.seed, utterance.text, seen[utterance.text], copy, voice.id, rate, pitch)
            name = f"{voice.id.replace(':', '-').replace('+', '-')}-{_number(*key):016x}"
            jobs.append(Job(index, utterance.text, voice, rate, pitch, name))
    return jobs


def synthesise(
    utterances: Sequence[Spoken],
    out: Path,
    *,
    role: Role,
    config: SynthConfig,
    domain: str,
    negative: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Speak ``utterances`` with the voices of ``role`` into ``out/audio/*.flac``; returns ``out/cuts.jsonl.gz``.

    ``negative`` drops the meanings. Recordings that are already there are kept. A sentence that an engine cannot speak
    is left out, with one warning per engine. Ctrl-C keeps what is done and raises ``KeyboardInterrupt``: run it again
    to go on. With more than one process the caller's main module must be importable (as ``multiprocessing`` asks).
    Raises ``SynthesisError`` when no voice is installed or nothing at all could be spoken.
    """
    if not utterances:
        raise SynthesisError("no sentences to speak; sample some from the domain first")
    jobs = plan(utterances, voices(role, config.engines), config)
    folder = out / "audio"
    folder.mkdir(parents=True, exist_ok=True)
    done: dict[int, _Done] = {}
    for number, result in _run(jobs, folder, min(config.processes, -(-len(jobs) // _CHUNK))):
        done[number] = result
        if progress is not None:
            progress(len(done), len(jobs))
    _report(jobs, done)
    lines = []
    for number, job in enumerate(jobs):
        if done[number].samples:
            lines.append(_cut(job, utterances[job.index], done[number].samples, domain, negative))
    path = out / MANIFEST
    with whole(path) as fresh, fresh.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        packed.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    return path


def _run(jobs: Sequence[Job], folder: Path, processes: int) -> Iterator[tuple[int, _Done]]:
    """(number of the job, what came of it) in any order."""
    if processes <= 1:
        for number, job in enumerate(jobs):
            yield number, _make(job, folder)
        return
    chunks = [range(start, min(start + _CHUNK, len(jobs))) for start in range(0, len(jobs), _CHUNK)]
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"), initializer=_quiet)
    try:
        waiting: dict[Future[list[_Done]], range] = {
            pool.submit(_make_all, [jobs[number] for number in chunk], folder): chunk for chunk in chunks
        }
        while waiting:
            ready, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ready:
                yield from zip(waiting.pop(future), future.result(), strict=True)
    except BrokenProcessPool:
        raise SynthesisError(
            f"a synthesis process ended at once (out of memory?); recordings in {folder} are kept: run it again, with "
            "processes=1 to see why"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _quiet() -> None:
    """Ctrl-C reaches the whole process group: the parent alone decides, workers finish their sentence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _make_all(jobs: Sequence[Job], folder: Path) -> list[_Done]:
    return [_make(job, folder) for job in jobs]


def _make(job: Job, folder: Path) -> _Done:
    path = folder / f"{job.name}.flac"
    have = _length(path)
    if have:
        return _Done(samples=have)
    try:
        raw = ENGINES[job.voice.engine].speak(job.text, job.voice, rate=job.rate, pitch=job.pitch)
        samples = finish(raw, np.random.default_rng(_number(job.name)))
    except SaysoError as error:
        return _Done(problem=f"{job.text!r}: {error}")
    with whole(path) as fresh:
        sf.write(fresh, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return _Done(samples=len(samples))


def _length(path: Path) -> int:
    """Samples of a recording that is already there; 0 where there is none, or something damaged."""
    try:
        return int(sf.info(path).frames)
    except (sf.LibsndfileError, OSError):
        return 0


def _report(jobs: Sequence[Job], done: dict[int, _Done]) -> None:
    problems: dict[str, list[str]] = {}
    for number, job in enumerate(jobs):
        if not done[number].samples:
            problems.setdefault(job.voice.engine, []).append(done[number].problem)
    if sum(map(len, problems.values())) == len(jobs):
        engine, first = next((engine, found[0]) for engine, found in problems.items())
        raise SynthesisError(f"not one of {len(jobs)} recordings could be made; {engine} on {first}")
    for engine, found in problems.items():
        _log.warning("%s: %d of %d recordings left out; first: %s", engine, len(found), len(jobs), found[0])


def _number(*key: object) -> int:
    """64 bits that depend on nothing but ``key``."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big")


def _cut(job: Job, utterance: Spoken, samples: int, domain: str, negative: bool) -> dict[str, Any]:
    """One line as Lhotse's ``MonoCut.to_dict`` writes it; the path is relative to the manifest's folder."""
    duration = samples / SAMPLE_RATE
    slots = [] if negative else [{"name": s.name, "value": s.value, "text": s.text} for s in utterance.slots]
    recording = {
        "id": job.name,
        "sources": [{"type": "file", "channels": [0], "source": f"audio/{job.name}.flac"}],
        "sampling_rate": SAMPLE_RATE,
        "num_samples": samples,
        "duration": duration,
        "channel_ids": [0],
    }
    supervision = {
        "id": job.name,
        "recording_id": job.name,
        "start": 0.0,
        "duration": duration,
        "channel": 0,
        "text": utterance.text,
        "language": "en",
        "speaker": job.voice.id,
        "custom": {
            "intent": None if negative else utterance.intent,
            "slots": slots,
            "domain": domain,
            "source": f"synthesis:{job.voice.id}",
        },
    }
    return {
        "id": job.name,
        "start": 0.0,
        "duration": duration,
        "channel": 0,
        "supervisions": [supervision],
        "recording": recording,
        "type": "MonoCut",
    }
