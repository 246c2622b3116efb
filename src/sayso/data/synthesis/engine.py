"""What a speech engine is, what a voice is, and how a recording of one is made comparable with the others.

Engines differ in rate, level (17 dB apart) and the silence around a sentence, all of which a recogniser would learn as
if they were the voice. ``finish`` therefore trims, pads with seeded random margins and sets the level of the active
speech, so that what remains different is the voice. ``pitched`` moves pitch and formants together by resampling, as a
shorter or longer vocal tract would, for engines that have no such control.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import soxr  # type: ignore[import-untyped]
from numpy.typing import NDArray

from sayso.core.errors import SynthesisError

Floats = NDArray[np.float32]
Role = Literal["train", "valid", "examples"]

SAMPLE_RATE = 16000
LEVEL_DB = -23.0  # RMS of active speech, dBFS
CEILING = 0.95  # peak limit: what is louder is scaled down as a whole, never clipped
ACTIVE_DB = -40.0  # a frame this far under the loudest one is silence
MARGIN_S = (0.1, 0.25)  # silence kept or made on either side
LEAST_S = 0.12  # less active speech than this is a failure of the engine
_FRAME = 160  # 10 ms
_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One voice of one engine. ``id`` is ``engine:name``; ``neural`` tells a voice made from a person's recordings
    from a formant synthesiser's variant; ``role`` is where it may be heard."""

    id: str
    engine: str
    name: str
    speaker: str
    accent: str
    licence: str
    neural: bool
    role: Role


class Engine(Protocol):
    """A way to turn text into speech."""

    name: str

    def missing(self) -> str | None:
        """None when it can speak, else one line: what is missing and how to install it."""

    def voices(self) -> tuple[Voice, ...]:
        """The voices it can use now; empty when the engine is missing."""

    def speak(self, text: str, voice: Voice, *, rate: float = 1.0, pitch: float = 1.0) -> Floats:
        """(n,) at 16 kHz as the engine gives it (see ``finish``). ``rate`` 2 is twice as fast, ``pitch`` 2 an octave
        up. Raises ``SynthesisError``."""


def call(command: list[str], text: str | None = None) -> bytes:
    """Standard output of a program that was given ``text``; ``SynthesisError`` names the program and its last words."""
    try:
        done = subprocess.run(
            command, input=None if text is None else text.encode(), capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise SynthesisError(f"{command[0]}: not found; install it or leave this engine out") from None
    except OSError as error:
        raise SynthesisError(f"{command[0]}: cannot be run ({error})") from None
    except subprocess.TimeoutExpired:
        raise SynthesisError(f"{command[0]}: said nothing for {_TIMEOUT_S:.0f} s; is the text very long?") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise SynthesisError(f"{command[0]}: failed with status {done.returncode}: {words[-1] if words else 'silent'}")
    return done.stdout


def wave(data: bytes, program: str) -> tuple[Floats, int]:
    """Samples and rate of a 16-bit mono WAV from a pipe, whose length fields say nothing.

    Raises ``SynthesisError``.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise SynthesisError(f"{program}: gave {len(data)} bytes that are not a WAV")
    at, rate = 12, 0
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8
        if kind == b"fmt ":
            coding, channels = (int.from_bytes(data[at + i : at + i + 2], "little") for i in (0, 2))
            rate = int.from_bytes(data[at + 4 : at + 8], "little")
            if (coding, channels, data[at + 14]) != (1, 1, 16):
                raise SynthesisError(f"{program}: gave a WAV that is not 16-bit mono PCM")
        elif kind == b"data":
            rest = (len(data) - at) // 2 * 2
            body = data[at : at + (min(size, rest) or rest)]  # a program that cannot go back leaves 0 there, or 2**32
            return np.frombuffer(body, "<i2").astype(np.float32) / np.float32(32768.0), rate
        at += size + size % 2
    raise SynthesisError(f"{program}: gave a WAV without samples")


def pitched(samples: Floats, sample_rate: int, pitch: float = 1.0) -> Floats:
    """To 16 kHz, as if recorded at ``sample_rate * pitch``: pitch and formants rise by ``pitch``, length shrinks by
    it."""
    source = sample_rate * pitch
    if source == SAMPLE_RATE or not len(samples):
        return samples
    resampled: Floats = soxr.resample(samples, source, SAMPLE_RATE)
    return resampled.astype(np.float32, copy=False)


def active(samples: Floats) -> NDArray[np.bool_]:
    """(frames,) of 10 ms, rounded up: True where the energy is within 40 dB of the loudest frame."""
    frames = -(-len(samples) // _FRAME)
    padded = np.zeros(frames * _FRAME, np.float64)
    padded[: len(samples)] = samples
    energy = (padded.reshape(frames, _FRAME) ** 2).mean(axis=1)
    if not frames or energy.max() <= 1e-10:
        return np.zeros(frames, np.bool_)
    return np.asarray(energy > energy.max() * 10 ** (ACTIVE_DB / 10))


def level_db(samples: Floats) -> float:
    """RMS of the active frames in dBFS; -inf for silence."""
    mask = np.repeat(active(samples), _FRAME)[: len(samples)]
    if not mask.any():
        return -np.inf
    return float(10 * np.log10((samples[mask].astype(np.float64) ** 2).mean()))


def finish(samples: Floats, rng: np.random.Generator) -> Floats:
    """Trimmed to seeded margins of 0.1 to 0.25 s (zeros where the engine left less) at -23 dBFS of active speech.

    The peak stays under 0.95: a very peaky voice ends up quieter. Raises ``SynthesisError`` when there is hardly any
    speech.
    """
    if not np.isfinite(samples).all():
        raise SynthesisError("the engine gave NaN or infinite samples")
    where = np.flatnonzero(active(samples))
    if len(where) * _FRAME < LEAST_S * SAMPLE_RATE:
        raise SynthesisError(f"the engine gave {len(where) * _FRAME / SAMPLE_RATE:.2f} s of speech: too little")
    first, last = int(where[0]) * _FRAME, min(len(samples), (int(where[-1]) + 1) * _FRAME)
    before, after = (round(margin * SAMPLE_RATE) for margin in rng.uniform(*MARGIN_S, size=2))
    body = samples[max(0, first - before) : last + after]
    front = max(0, before - first)
    back = before + (last - first) + after - front - len(body)
    level = level_db(samples[first:last])
    gain = min(10 ** ((LEVEL_DB - level) / 20), CEILING / float(np.abs(body).max()))
    return np.pad(body * np.float32(gain), (front, back))
