"""Feature banks: the log-mel frames of many recordings in one memory-mapped file, made once.

Reading, augmenting and extracting cost more than a small model's training step, so they are done before training by
several processes and kept as float16 (an error of 0.01 of a natural-log energy at most). What a clip becomes depends
on the seed and its id alone, never on how many processes there were. A bank is a folder ``frames.npy`` (N, 80),
``clips.jsonl`` and ``bank.json``, written under a temporary name and renamed when complete.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile as sf  # type: ignore[import-untyped]
from numpy.typing import NDArray

from sayso.audio.features import FeatureConfig, fbank
from sayso.core.errors import AudioError, DataError
from sayso.core.files import whole
from sayso.data.augment import NOISES, AugmentConfig, Augmenter, Floats, load_noises, noise_files
from sayso.data.clips import ClipMeta as ClipMeta
from sayso.data.clips import Job, augmenter_of, clip_row, job_of, meta_of, sound_of, talkers_of
from sayso.data.manifest import to_example, written_tree

Half = NDArray[np.float16]
Progress = Callable[[int, int], None]

VERSION = 1
_log = logging.getLogger("sayso.data")


@dataclass(frozen=True)
class _Setup:
    """What a worker is told once."""

    augment: AugmentConfig | None
    seed: int
    corpora: Path | None
    features: FeatureConfig
    talkers: tuple[str, ...] = ()


class FeatureBank:
    """Frames and meanings of an ordered set of clips, read from disk as they are touched."""

    def __init__(
        self, path: Path, frames: Half, starts: NDArray[np.int64], clips: list[ClipMeta], about: dict[str, Any]
    ) -> None:
        """Use ``open`` or ``build``; ``starts`` (n+1,) are the rows of ``frames`` at which clips begin."""
        self.path, self._frames, self._starts, self._clips = path, frames, starts, clips
        self.fingerprint: str = about["fingerprint"]
        self.skipped: tuple[str, ...] = tuple(about["skipped"])  # why a clip is not here, one message each

    def __len__(self) -> int:
        return len(self._clips)

    def features(self, i: int) -> Half:
        """Frames (T, 80) of clip ``i``: a view of the file."""
        return self._frames[self._starts[i] : self._starts[i + 1]]

    def frames(self, i: int) -> int:
        """T of clip ``i``, without touching its frames."""
        return int(self._starts[i + 1] - self._starts[i])

    def meta(self, i: int) -> ClipMeta:
        """What clip ``i`` says."""
        return self._clips[i]

    @staticmethod
    def open(path: str | Path) -> FeatureBank:
        """Open a bank; ``DataError`` where it is missing, damaged or of another version."""
        folder = Path(path)
        try:
            about = json.loads((folder / "bank.json").read_text(encoding="utf-8"))
            if about["version"] != VERSION:
                raise DataError(
                    f"{folder}: a bank of version {about['version']}, not {VERSION}; delete it, it is remade"
                )
            frames = np.load(folder / "frames.npy", mmap_mode="r")
            rows = [json.loads(line) for line in (folder / "clips.jsonl").read_text(encoding="utf-8").splitlines()]
            starts = np.cumsum([0, *(row.pop("frames") for row in rows)])
            clips = [meta_of(row) for row in rows]
        except FileNotFoundError as error:
            raise DataError(f"{folder}: no such feature bank ({error.filename} is missing)") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: a damaged feature bank ({error}); delete it, it is remade") from None
        if starts[-1] != len(frames):
            raise DataError(f"{folder}: {len(frames)} frames, its clips need {starts[-1]}; delete it, it is remade")
        return FeatureBank(folder, frames, starts, clips, about)

    @staticmethod
    def build(  # one settings object would only rename these
        cuts: Iterable[Any],
        path: str | Path,
        *,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        processes: int = 2,
        progress: Progress | None = None,
        root: Path | None = None,
    ) -> FeatureBank:
        """Make the bank of ``cuts`` (one augmented version each with ``augment``) at ``path``, replacing what is there.

        ``root`` is the corpora folder: its noises and rooms are mixed in. A clip that cannot be read is left out and
        reported (``skipped``, log); ``DataError`` only when none is left. ``progress(done, of)`` is called as clips
        are done.
        """
        chosen = list(cuts)
        if not chosen:
            raise DataError(f"{path}: there are no cuts to make features of; check the split and its filters")
        talkers = talkers_of(chosen, root) if augment is not None and augment.babble else ()
        setup = _Setup(augment, seed, root, FeatureConfig(), talkers)
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as fresh:
            fresh.mkdir()
            skipped = _write(chosen, fresh, setup, processes, progress)
            about = {"version": VERSION, "fingerprint": fingerprint(chosen, augment, seed, root), "skipped": skipped}
            (fresh / "bank.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
            if len(skipped) == len(chosen):
                raise DataError(f"none of {len(chosen)} clips can be read; the first: {skipped[0]}")
        if skipped:
            _log.warning("%s: left out %d of %d clips; the first: %s", target, len(skipped), len(chosen), skipped[0])
        return FeatureBank.open(target)


def cached(
    cuts: Iterable[Any],
    folder: str | Path,
    *,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    processes: int = 2,
    progress: Progress | None = None,
    root: Path | None = None,
) -> FeatureBank:
    """The bank of these cuts under ``folder``, named by its fingerprint: opened if there, else built."""
    chosen = list(cuts)
    path = Path(folder) / fingerprint(chosen, augment, seed, root)[:20]
    if (path / "bank.json").exists():
        try:
            return FeatureBank.open(path)
        except DataError as error:
            _log.warning("%s", error)
    return FeatureBank.build(
        chosen, path, augment=augment, seed=seed, processes=processes, progress=progress, root=root
    )


def fingerprint(cuts: Iterable[Any], augment: AugmentConfig | None, seed: int, root: Path | None) -> str:
    """What a bank is made of, as a SHA-256: cuts (ids, durations, what they say), settings, seed and noise files."""
    digest = hashlib.sha256()
    settings: list[Any] = [VERSION, FeatureConfig().model_dump()]
    if augment is not None:
        extra = _sizes(root) if root is not None else []
        settings += [augment.settings(), seed, extra]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for cut in cuts:
        row = [cut.id, cut.start, cut.duration, to_example(cut).model_dump(exclude={"audio", "frames", "custom"})]
        tree = written_tree(cut)
        row += [] if tree is None else [tree]  # banks older than trees stay what they were
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


def noise_features(root: Path | None) -> list[Floats]:
    """Log-mel energies (T,F) of the recorded noises that may train, as ``load_noises`` finds them; none of those that
    are shorter than a frame."""
    return [frames for frames in (fbank(noise) for noise in load_noises(root)) if len(frames)]


def noises_described(root: Path) -> dict[str, Any]:
    """How many recorded noises there are, their hours, and a SHA-256 of their files."""
    files = noise_files(root, *NOISES)
    content = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()
    hours = round(sum(sf.info(file).duration for file in files) / 3600, 4)
    return {"clips": len(files), "hours": hours, "sha256": content}


def _sizes(root: Path) -> list[tuple[str, int]]:
    files = [*noise_files(root, *NOISES), *noise_files(root, "rooms", "*.wav")]
    return [(file.name, file.stat().st_size) for file in files]


def _write(cuts: list[Any], folder: Path, setup: _Setup, processes: int, progress: Progress | None) -> list[str]:
    """Frames and clips of all cuts into ``folder``; returns why clips were left out."""
    skipped: list[str] = []
    total = 0
    with (folder / "frames.npy").open("wb") as frames, (folder / "clips.jsonl").open("w", encoding="utf-8") as clips:
        _header(frames, 0, setup.features.mels)
        body = frames.tell()
        for done, (cut, made) in enumerate(zip(cuts, _results(cuts, setup, processes), strict=True), 1):
            if isinstance(made, str):
                skipped.append(made)
            else:
                frames.write(made.tobytes())
                clips.write(json.dumps({**clip_row(cut), "frames": len(made)}, ensure_ascii=False) + "\n")
                total += len(made)
            if progress is not None:
                progress(done, len(cuts))
        frames.seek(0)
        _header(frames, total, setup.features.mels)  # numpy leaves room for the first axis to grow
        assert frames.tell() == body
    return skipped


def _header(file: IO[bytes], frames: int, mels: int) -> None:
    header = {"descr": "<f2", "fortran_order": False, "shape": (frames, mels)}
    np.lib.format.write_array_header_1_0(file, header)


def _results(cuts: list[Any], setup: _Setup, processes: int) -> Iterator[Half | str]:
    """The features of each cut in order, or why there are none."""
    jobs = [job_of(cut, setup.corpora) for cut in cuts]
    if processes <= 1:
        _prepare(setup)
        yield from map(_extract, jobs)
        return
    context = multiprocessing.get_context("spawn")  # forking a process that holds torch threads may deadlock
    with _one_thread(), ProcessPoolExecutor(processes, context, _prepare, (setup,)) as pool:
        try:
            pieces = [jobs[i : i + 16] for i in range(0, len(jobs), 16)]  # per message; results come back in order
            yield from chain.from_iterable(pool.map(_extract_all, pieces))
        except BrokenProcessPool:
            raise DataError(
                "a process that makes features ended early (out of memory, or the calling script lacks "
                "'if __name__ == \"__main__\"'); use processes=1"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Children inherit one numerical thread each: processes are the parallelism here."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_setup: _Setup
_augmenter: Augmenter | None = None


def _prepare(setup: _Setup) -> None:
    """Once per process: noises and rooms are read here rather than sent."""
    global _setup, _augmenter
    _setup = setup
    _augmenter = None if setup.augment is None else augmenter_of(setup.augment, setup.corpora, setup.talkers)


def _extract_all(jobs: Iterable[Job]) -> list[Half | str]:
    return [_extract(job) for job in jobs]


def _extract(job: Job) -> Half | str:
    try:
        samples = sound_of(job, _augmenter, _setup.seed)
    except AudioError as error:
        return str(error)
    features = fbank(samples, _setup.features)
    if not len(features):
        return f"{job.audio}: {len(samples) / _setup.features.sample_rate:.3f} s is shorter than one frame"
    return features.astype(np.float16)
