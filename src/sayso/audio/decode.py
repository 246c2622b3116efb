"""Recordings of any kind in, mono float32 in [-1, 1] at one rate out.

libsndfile (through ``soundfile``) decodes wav, flac, ogg and mp3; channels are averaged; ``soxr`` resamples as a
stream. Files are read in small pieces of a fixed size, so an hour costs no more memory than a second and the cutting
asked for by the caller never changes a sample: ``read`` is the concatenation of ``blocks``, bit for bit.

A recording that was cut off gives what is there, with a warning in the log; only when nothing can be decoded is it an
error. Silence, clipping and very short recordings are legal audio. What makes no sense (not audio, no channels, no
rate, NaN) raises one ``AudioError`` that names the file, what was found, what is legal and what to do.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf  # type: ignore[import-untyped]
import soxr  # type: ignore[import-untyped]
from numpy.typing import ArrayLike, NDArray

from sayso.core.errors import AudioError

Floats = NDArray[np.float32]

LOWEST_HZ, HIGHEST_HZ = 1_000, 1_000_000  # outside, a header is damaged rather than a microphone unusual
MOST_CHANNELS = 1024  # libsndfile's own limit
LOUDEST = 64.0  # float audio may pass 1.0 a little; beyond this it is integers that were never scaled
_READ_FRAMES = 8192
_UNKNOWN = (
    2**62
)  # libsndfile's frame count of a file whose header does not say (a FLAC written to a pipe) is above this
_ENDLESS = 0x7FFFF000  # a wav written to a pipe promises about this much or more
_FORMATS = "wav, flac, ogg or mp3"
_CONVERT = "convert it, e.g. ffmpeg -i INPUT -ar 16000 -ac 1 out.wav"
_FULL_SCALE = {"int8": (0.0, 128.0), "uint8": (128.0, 128.0), "int16": (0.0, 32768.0), "int32": (0.0, 2147483648.0)}

_log = logging.getLogger("sayso.audio")


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What a file's header says, before any mixing down or resampling; ``duration_s`` of a cut-off mp3 is the
    promise."""

    duration_s: float
    sample_rate: int
    channels: int


def info(path: str | Path) -> AudioInfo:
    """Length, rate and channels, decoding only where the header does not say; ``AudioError`` as ``blocks``."""
    with _open(path) as file:
        rate, channels = file.samplerate, file.channels
        frames = file.frames if file.frames < _UNKNOWN else sum(map(len, _frames(file, path)))
        return AudioInfo(duration_s=frames / rate, sample_rate=rate, channels=channels)


def read(path: str | Path, sample_rate: int = 16000, max_s: float | None = None) -> Floats:
    """A whole recording, or its first ``max_s`` seconds: (n,) in [-1, 1].

    Equals ``np.concatenate(list(blocks(path)))`` exactly. Raises ``AudioError``.
    """
    limit = None if max_s is None else max(0, round(max_s * sample_rate))
    pieces: list[Floats] = [
        np.zeros(0, np.float32)
    ]  # what is shorter than half a sample of the new rate leaves nothing
    have = 0
    for piece in _decoded(path, sample_rate):
        pieces.append(piece)
        have += len(piece)
        if limit is not None and have >= limit:
            break
    return np.concatenate(pieces)[:limit]


def blocks(path: str | Path, sample_rate: int = 16000, block_s: float = 0.5) -> Iterator[Floats]:
    """The recording in blocks of ``block_s`` seconds (the last may be shorter), at constant memory.

    Raises ``AudioError`` at the first ``next`` for a file that is missing, a folder, unreadable, empty or not audio,
    and later where NaN or infinite samples turn up.
    """
    size = max(1, round(block_s * sample_rate))
    waiting: list[Floats] = []
    have = 0
    for piece in _decoded(path, sample_rate):
        waiting.append(piece)
        have += len(piece)
        if have >= size:
            joined = np.concatenate(waiting)
            whole = have - have % size
            for start in range(0, whole, size):
                yield joined[start : start + size]
            waiting, have = [joined[whole:]], have - whole
    if have:
        yield np.concatenate(waiting)


def from_samples(samples: ArrayLike, sample_rate: int, target: int = 16000) -> Floats:
    """Samples that are already in memory: (n,) or (n, channels), float or integer of known full scale, to (n,) at
    ``target``.

    The same path as ``read``: mean over channels, soxr, clipped to [-1, 1]. Raises ``AudioError`` for other shapes
    and types, no samples, an impossible rate, NaN or infinity.
    """
    where = "samples"
    _check_rate(sample_rate, where)
    array = np.asarray(samples)
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= MOST_CHANNELS):
        raise AudioError(
            f"{where}: found an array of shape {array.shape}; legal is (n,) or (n, channels) with 1 to {MOST_CHANNELS} "
            "channels, which come last; reshape or transpose it"
        )
    if not array.size:
        raise AudioError(f"{where}: found no samples; legal is one or more; check what recorded them")
    if array.dtype.name in _FULL_SCALE:
        offset, scale = _FULL_SCALE[array.dtype.name]
        array = (array.astype(np.float64) - offset) / scale
    elif array.dtype.kind != "f":
        raise AudioError(
            f"{where}: found the type {array.dtype}; legal is float in [-1, 1] or {', '.join(_FULL_SCALE)}; "
            "convert with astype"
        )
    mono = _mix_down(array if array.ndim == 2 else array[:, None], where, 0, sample_rate)
    if sample_rate == target:
        return _clip(mono)
    resampler = soxr.ResampleStream(sample_rate, target, 1, "float32")
    return _clip(resampler.resample_chunk(mono, last=True))


class _Sequential(sf.SoundFile):  # type: ignore[misc]
    """A file read from front to back. ``soundfile`` otherwise seeks after every read, which fails near the end of a
    FLAC of unknown length and is not exact in an mp3."""

    def seekable(self) -> bool:
        """Never, so that nothing seeks."""
        return False


def _decoded(path: str | Path, sample_rate: int) -> Iterator[Floats]:
    """Mixed down and resampled, in pieces of whatever length the resampler gives; at least one sample in all."""
    if sample_rate <= 0:
        raise AudioError(f"{path}: asked for a rate of {sample_rate} Hz; legal is a positive rate; use 16000")
    with _open(path) as file:
        resampler = None
        if file.samplerate != sample_rate:
            resampler = soxr.ResampleStream(file.samplerate, sample_rate, 1, "float32")
        done = 0
        for frames in _frames(file, path):
            mono = _mix_down(frames, str(path), done, file.samplerate)
            done += len(mono)
            piece = mono if resampler is None else resampler.resample_chunk(mono)
            if len(piece):
                yield _clip(piece)
        if not done:
            raise AudioError(
                f"{path}: found a header and no samples behind it (empty or cut off); legal is one sample or more; "
                "record or copy it again"
            )
        if done < (promised := _promised(file)):
            _log.warning(
                "%s: cut off: the header promises %d frames and %d are there; going on with those", path, promised, done
            )
        if resampler is not None:
            piece = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            if len(piece):
                yield _clip(piece)


def _promised(file: Any) -> int:
    """Frames that the header promises, 0 where it does not say; of a wav, libsndfile counts what is there instead."""
    chunk = re.search(r"^data : (\d+) \(should be \d+\)", file.extra_info, re.MULTILINE)
    block = re.search(r"Block Align +: (\d+)", file.extra_info)
    if chunk and block and int(chunk[1]) < _ENDLESS:
        return int(chunk[1]) // max(1, int(block[1]))
    return int(file.frames) if file.frames < _UNKNOWN else 0


def _frames(file: Any, path: str | Path) -> Iterator[Floats]:
    """(n, channels) pieces until the end, or until the decoder finds damage after at least one good piece."""
    any_yet = False
    while True:
        try:
            frames: Floats = file.read(_READ_FRAMES, dtype="float32", always_2d=True)
        except sf.LibsndfileError as error:
            if any_yet:
                if not _promised(file):  # otherwise what is missing is counted at the end
                    _log.warning(
                        "%s: damaged or cut off (%s); going on with what came before", path, error.error_string
                    )
                return
            raise AudioError(
                f"{path}: found audio that cannot be decoded ({error.error_string.strip()}): damaged or cut off; "
                f"legal is an intact {_FORMATS} file; record or copy it again"
            ) from None
        if not len(frames):
            return
        any_yet = True
        yield frames


def _open(path: str | Path) -> Any:
    """An open ``SoundFile``; every way in which that can fail becomes one message."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(
                f"{path}: found a folder; legal is one {_FORMATS} file; name the files in it, e.g. {path}/*.wav"
            )
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(
                f"{path}: found a pipe or device; legal is a regular {_FORMATS} file; save it to a file first"
            )
        with open(path, "rb"):
            pass
    except (OSError, ValueError) as error:
        raise AudioError(_refusal(path, error)) from None
    if status.st_size == 0:
        raise AudioError(f"{path}: found an empty file (0 bytes); legal is a {_FORMATS} file; record or copy it again")
    try:
        file = _Sequential(path)
    except (sf.LibsndfileError, TypeError) as error:
        found = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise AudioError(
            f"{path}: found {status.st_size} bytes that are not audio, damaged, or without a legal rate or channel "
            f"count ({found}); legal is {_FORMATS} with {LOWEST_HZ} to {HIGHEST_HZ} Hz and 1 to {MOST_CHANNELS} "
            f"channels; {_CONVERT}"
        ) from None
    try:
        _check_rate(file.samplerate, str(path))
    except AudioError:
        file.close()
        raise
    return file


def _refusal(path: str | Path, error: OSError | ValueError) -> str:
    """What to say when the operating system does not give us the file."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"{path}: found no such file; legal is the path of a {_FORMATS} file; check the spelling and the folder"
    if isinstance(error, PermissionError):
        return (
            f"{path}: found a file that may not be read; legal is one with read permission; try chmod u+r, or its owner"
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{path}: found a path that cannot be opened ({reason}); legal is the path of a {_FORMATS} file; check it"


def _check_rate(sample_rate: int, where: str) -> None:
    if not LOWEST_HZ <= sample_rate <= HIGHEST_HZ:
        raise AudioError(
            f"{where}: found a sample rate of {sample_rate} Hz; legal is {LOWEST_HZ} to {HIGHEST_HZ} Hz; "
            "give the rate it was recorded at"
        )


def _mix_down(frames: NDArray[Any], where: str, before: int, sample_rate: int) -> Floats:
    """Mean over channels of (n, channels); ``before`` frames went before, for the time in the message."""
    peak = np.abs(frames).max(axis=1)
    wrong = ~(peak <= LOUDEST)  # NaN compares false
    if wrong.any():
        first = int(np.argmax(wrong))
        value = float(peak[first])
        what = "a NaN" if np.isnan(value) else "an infinite" if np.isinf(value) else f"an out-of-range ({value:.6g})"
        raise AudioError(
            f"{where}: found {what} sample at {(before + first) / sample_rate:.3f} s; legal are finite samples in "
            "[-1, 1]; divide integers by their full scale, or record or convert it again"
        )
    return np.asarray(frames.mean(axis=1, dtype=np.float64), dtype=np.float32)


def _clip(samples: Floats) -> Floats:
    return np.clip(samples, np.float32(-1.0), np.float32(1.0))
