"""Recordings as other mouths, rooms, microphones and kitchens would have made them.

Every effect is a pure function of float32 samples (n,) at 16 kHz and, where it draws anything, of a generator that is
passed in; ``Augmenter`` chains them as ``AugmentConfig`` says. Speed perturbation after Ko et al. 2015; the
vocal-tract warp moves the cepstrally smoothed envelope under unchanged harmonics; simulated rooms are shoe boxes by
the image method (Allen & Berkley 1979) whose decay is then corrected to the reverberation time asked for, because
Sabine's formula alone misses it by up to a third.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import scipy.fft  # type: ignore[import-untyped]
import scipy.signal  # type: ignore[import-untyped]
import soundfile  # type: ignore[import-untyped]
import soxr  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sayso.audio.decode import read
from sayso.audio.mix import excerpt, measure_snr
from sayso.core.config import Config
from sayso.core.errors import DataError, nearest, require

Floats = NDArray[np.float32]
Range = tuple[float, float]

RATE = 16000
NOISES = "noise", "*.flac"  # in the corpora's folder
LEAST_TALKERS, MOST_TALKERS = 3, 6  # that babble is made of
LONGEST_ROOM = int(0.4 * RATE)
_MOST_RAISED, _LARGER = 20.0, 5  # nats at the end of a response; how often a room that is too small is made larger
_WINDOW, _HOP, _LIFTER = 512, 128, 32  # a lifter of 2 ms keeps formants and drops the pitch of voices up to 500 Hz
CODECS = {
    "ulaw": ("WAV", "ULAW", 8000),
    "alaw": ("WAV", "ALAW", 8000),
    "gsm": ("WAV", "GSM610", 8000),
    "opus": ("OGG", "OPUS", RATE),
    "vorbis": ("OGG", "VORBIS", RATE),
}
_QUIET = 1e-10  # mean power (-100 dB) below which a recording counts as silent and no ratio exists


def speed(samples: Floats, factor: float) -> Floats:
    """Faster (``factor`` > 1) with the pitch rising along: (round(n / factor),), at least one sample."""
    if not 0.25 <= factor <= 4:
        raise DataError(f"speed: factor {factor} is outside the legal 0.25 to 4")
    if not len(samples):
        return samples
    length = max(1, round(len(samples) / factor))
    changed = np.asarray(soxr.resample(samples, RATE * factor, RATE, quality="MQ"), np.float32)[:length]
    return np.pad(changed, (0, length - len(changed)))


def warp(samples: Floats, factor: float) -> Floats:
    """A shorter vocal tract (``factor`` > 1 moves formants up by it), same pitch, same duration: (n,)."""
    if not 0.5 <= factor <= 2:
        raise DataError(f"warp: factor {factor} is outside the legal 0.5 to 2")
    n = len(samples)
    if n < _HOP or factor == 1:
        return samples
    window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    frames = -(-(n + _WINDOW) // _HOP)
    padded = np.zeros(frames * _HOP + _WINDOW, np.float32)
    padded[_WINDOW : _WINDOW + n] = samples
    pieces = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    spectrum = scipy.fft.rfft(pieces * window, axis=1)
    log_magnitude = np.log(np.abs(spectrum) + np.float32(1e-6))
    cepstrum = scipy.fft.irfft(log_magnitude, axis=1)
    cepstrum[:, _LIFTER : _WINDOW - _LIFTER + 1] = 0
    envelope = scipy.fft.rfft(cepstrum, axis=1).real
    positions = np.minimum(np.arange(envelope.shape[1]) / factor, envelope.shape[1] - 1)
    low = np.minimum(positions.astype(np.int64), envelope.shape[1] - 2)
    share = (positions - low).astype(np.float32)
    moved = envelope[:, low] * (1 - share) + envelope[:, low + 1] * share
    gain = np.exp(np.clip(moved - envelope, -3.5, 3.5))  # +-30 dB: between words the envelope of nothing means nothing
    pieces = scipy.fft.irfft(spectrum * gain, axis=1) * window
    parts = pieces.reshape(len(pieces), _WINDOW // _HOP, _HOP)
    result = np.zeros((len(pieces) + _WINDOW // _HOP - 1, _HOP), np.float32)
    for i in range(_WINDOW // _HOP):
        result[i : i + len(pieces)] += parts[:, i]
    scale = _HOP / float(np.sum(window.astype(np.float64) ** 2))
    return _finish(result.reshape(-1)[_WINDOW : _WINDOW + n] * np.float32(scale))


def convolve(samples: Floats, response: Floats) -> Floats:
    """``samples`` in the room of an impulse response: (n,) of the same mean power, not later than before.

    The response's largest sample is its direct path and lands on time 0; what comes before it is dropped, and so is
    all after 0.4 s.
    """
    if not len(samples):
        return samples
    response = _direct(response)
    wet = scipy.signal.oaconvolve(samples, response)[: len(samples)]
    before, after = _power(samples), _power(wet)
    return _finish(wet * np.float32(np.sqrt(before / after))) if after > 0 else samples


def _direct(response: Floats) -> Floats:
    if not len(response) or not np.any(response):
        raise DataError("convolve: the impulse response is empty or silent; leave that file out of rooms/")
    return response[int(np.argmax(np.abs(response))) :][:LONGEST_ROOM]


def reverberation_time(response: Floats) -> float:
    """RT60 in seconds from the -5 to -25 dB stretch of Schroeder's backward integral (ISO 3382, T20)."""
    energy = np.cumsum(np.asarray(response, np.float64)[::-1] ** 2)[::-1]
    level = 10 * np.log10(energy / energy[0] + 1e-20)
    first, last = int(np.argmax(level < -5)), int(np.argmax(level < -25))
    if last - first < 8:
        raise DataError("reverberation_time: the response does not decay by 25 dB")
    slope = np.polyfit(np.arange(first, last) / RATE, level[first:last], 1)[0]
    return float(-60 / slope)


def simulate_room(rt60: float, size: tuple[float, float, float], rng: np.random.Generator) -> Floats:
    """Impulse response of a shoe box ``size`` metres large with reverberation time ``rt60`` s; talker and microphone
    0.5 to 3 m apart at random places. (m,) with m <= 0.4 s, largest sample 1 at time 0."""
    pra = require("pyroomacoustics", extra="train", purpose="simulating rooms")
    try:
        absorption, order = pra.inverse_sabine(rt60, size)
    except ValueError:
        raise DataError(f"a room of {size} m cannot have a reverberation time of {rt60} s; make it longer") from None
    talker = np.array([rng.uniform(0.4, side - 0.4) for side in size])
    for _ in range(50):
        microphone = np.array([rng.uniform(0.3, side - 0.3) for side in size])
        if 0.5 <= np.linalg.norm(talker - microphone) <= 3:
            break
    room = pra.ShoeBox(size, fs=RATE, materials=pra.Material(absorption), max_order=min(int(order), 22))
    room.add_source(talker)
    room.add_microphone(microphone)
    room.compute_rir()
    response = _direct(np.asarray(room.rir[0][0], np.float32))
    raised = 0.0
    for turn in range(30):  # the direct path is part of the fit, so one correction is not enough, and three mostly are
        try:
            measured = reverberation_time(response)
        except DataError:
            measured = np.inf
        if (turn >= 3 and abs(measured / rt60 - 1) < 0.05) or raised > _MOST_RAISED:
            break
        rate = np.log(1000) * (1 / rt60 - 1 / measured)  # 60 dB = a factor of 1000
        raised -= rate * len(response) / RATE
        response = response * np.exp(-rate * np.arange(len(response)) / RATE).astype(np.float32)
    if not abs(measured / rt60 - 1) < 0.1:
        raise DataError(f"no reverberation of {rt60} s came about in a room of {size} m; a long one needs more room")
    return np.asarray(response / response[0], np.float32)


def simulate_rooms(n: int, rng: np.random.Generator, rt60: Range = (0.15, 0.5)) -> list[Floats]:
    """``n`` rooms of 2.5 to 7 m, or larger, with reverberation times uniform in ``rt60``, as impulse responses."""
    rooms = []
    for _ in range(n):
        size = (rng.uniform(2.5, 7), rng.uniform(2.5, 7), rng.uniform(2.3, 3.2))
        # the driest a box can be (all walls absorbing) bounds what may be asked for
        dry = 0.161 * float(np.prod(size)) / (2 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2]))
        wanted = max(rng.uniform(*rt60), dry * 1.05)
        for turn in range(_LARGER + 1):
            try:
                rooms.append(simulate_room(wanted, size, rng))
                break
            except DataError:  # of the reflections of a small room only the first are there
                if turn == _LARGER:
                    raise
                more = 1.2 if wanted > 2 * dry else 1.0  # a dry one needs other places in it
                size = (more * size[0], more * size[1], more * size[2])
    return rooms


@lru_cache(maxsize=4)
def room_bank(n: int, seed: int, rt60: Range = (0.15, 0.5)) -> tuple[Floats, ...]:
    """``simulate_rooms`` made once per process."""
    return tuple(simulate_rooms(n, np.random.default_rng(seed), rt60))


def band(samples: Floats, low_hz: float, high_hz: float, tilt_db: float = 0.0) -> Floats:
    """A cheap microphone: 12 dB per octave below ``low_hz`` and 24 above ``high_hz``, and ``tilt_db`` per octave
    around 1 kHz, without delay: (n,)."""
    n = len(samples)
    if not n:
        return samples
    size = scipy.fft.next_fast_len(n + 1024, real=True)  # room for the filter to ring instead of wrapping around
    hertz = np.maximum(np.arange(size // 2 + 1) * (RATE / size), 1.0)
    with np.errstate(over="ignore"):
        gain = 1 / np.sqrt((1 + (low_hz / hertz) ** 4) * (1 + (hertz / high_hz) ** 8))
    if tilt_db:
        gain *= 10 ** (tilt_db / 20 * np.clip(np.log2(hertz / 1000), -4, 3))
    return _finish(scipy.fft.irfft(scipy.fft.rfft(samples, size) * gain.astype(np.float32), size)[:n])


def add_noise(samples: Floats, noise: Floats, snr_db: float, rng: np.random.Generator) -> Floats:
    """Noise from a random place (looped if short) at ``snr_db`` of mean powers; the level of the speech stays.

    Silent speech or noise has no ratio: ``samples`` come back as they are.
    """
    if not len(samples) or not len(noise) or _power(samples) < _QUIET:
        return samples
    stretch = excerpt(noise, len(samples), rng)
    if _power(stretch) < _QUIET:
        return samples
    gain = 10 ** ((measure_snr(samples, stretch, "mean") - snr_db) / 20)
    return _finish(samples + stretch * np.float32(gain))


def coloured(n: int, rng: np.random.Generator, slope: float | None = None) -> Floats:
    """Gaussian noise (n,) whose power falls as 1/f**slope (0 white, 1 pink, 2 brown; None: drawn from 0 to 2), mean
    power 0.01."""
    slope = float(rng.uniform(0, 2)) if slope is None else slope
    size = scipy.fft.next_fast_len(max(n, 16), real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(size, np.float32))
    spectrum *= (np.maximum(np.arange(len(spectrum)) * (RATE / size), 30.0) ** (-slope / 2)).astype(np.float32)
    noise = scipy.fft.irfft(spectrum, size)[:n]
    return _finish(noise * np.float32(0.1 / np.sqrt(_power(noise)))) if n else np.zeros(0, np.float32)


def babble(clips: Sequence[Floats], n: int, rng: np.random.Generator) -> Floats:
    """(n,) of people talking at once: every clip at equal power from a random place on, mean power 0.01."""
    voices = [clip for clip in clips if len(clip) and _power(clip) >= _QUIET]
    if len(voices) < LEAST_TALKERS:
        raise DataError(f"babble: found {len(voices)} clips that are not silent; legal is 3 or more; give more speech")
    total = np.zeros(n, np.float32)
    for voice in voices:
        total += excerpt(voice, n, rng) * np.float32(1 / np.sqrt(_power(voice)))
    power = _power(total)
    return _finish(total * np.float32(0.1 / np.sqrt(power))) if power > 0 else total


def level(samples: Floats, gain_db: float) -> Floats:
    """Louder by ``gain_db``; may pass 1.0, which ``clip`` cuts."""
    return _finish(samples * np.float32(10 ** (gain_db / 20)))


def clip(samples: Floats, limit: float = 1.0) -> Floats:
    """An overloaded converter: everything beyond +-``limit`` is cut flat."""
    return np.clip(samples, np.float32(-limit), np.float32(limit))


def codec(samples: Floats, name: str) -> Floats:
    """What is left after a telephone line or a lossy file: (n,), in time with what went in.

    ``ulaw`` and ``alaw`` (ITU-T G.711) and ``gsm`` (GSM 06.10) at 8 kHz; ``opus`` and ``vorbis`` at 16 kHz, as
    libsndfile encodes them by default. Silence stays silence. ``DataError`` for another name.
    """
    if name not in CODECS:
        raise DataError(f"codec '{name}'; {nearest(name, CODECS)}")
    if _power(samples) < _QUIET:
        return samples
    kind, subtype, rate = CODECS[name]
    line = clip(samples if rate == RATE else np.asarray(soxr.resample(samples, RATE, rate), np.float32))
    with io.BytesIO() as file:
        soundfile.write(file, line, rate, format=kind, subtype=subtype)
        file.seek(0)
        heard = soundfile.read(file, dtype="float32")[0]
    if rate != RATE:
        heard = np.asarray(soxr.resample(heard, rate, RATE), np.float32)
    heard = heard[: len(samples)]
    return np.pad(heard, (0, len(samples) - len(heard)))


def _power(samples: Floats) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0


def _finish(samples: NDArray[np.floating]) -> Floats:
    return np.ascontiguousarray(samples, dtype=np.float32)


def load_noises(corpora: Path | None) -> list[Floats]:
    """The noises that may train: ``noise/*.flac`` of the corpora folder, never one named ``*dev*``; [] where absent."""
    return [] if corpora is None else [read(path) for path in noise_files(corpora, *NOISES)]


def load_rooms(corpora: Path | None) -> list[Floats]:
    """The measured impulse responses ``rooms/*.wav`` of the corpora folder, direct path first; [] where absent."""
    return [] if corpora is None else [_direct(read(path)) for path in noise_files(corpora, "rooms", "*.wav")]


def noise_files(corpora: Path, folder: str, pattern: str) -> list[Path]:
    """What ``load_noises`` and ``load_rooms`` read, sorted."""
    return sorted(path for path in (Path(corpora) / folder).glob(pattern) if "dev" not in path.stem.split("-"))


class AugmentConfig(Config):
    """How often (``p`` of each effect) and how much. Ranges are uniform; ``snr`` and ``level`` in dB.

    ``coloured`` is the share of noisy clips that get synthetic noise although recorded noise is at hand;
    ``second_noise`` the share that gets two; ``babble`` the share whose noise is other talkers, at least three at once;
    ``simulated_rooms`` how many simulated rooms join the measured ones; ``codec_p`` how often the recording then goes
    through one of ``codecs``.
    """

    kind: Literal["waveform"] = "waveform"
    speed_p: float = Field(default=0.8, ge=0, le=1)
    speed: Range = (0.9, 1.1)
    warp_p: float = Field(default=0.5, ge=0, le=1)
    warp: Range = (0.88, 1.12)
    room_p: float = Field(default=0.4, ge=0, le=1)
    rt60: Range = (0.15, 0.5)
    simulated_rooms: int = Field(default=16, ge=0)
    noise_p: float = Field(default=0.8, ge=0, le=1)
    snr: Range = (3.0, 25.0)
    coloured: float = Field(default=0.25, ge=0, le=1)
    second_noise: float = Field(default=0.15, ge=0, le=1)
    band_p: float = Field(default=0.35, ge=0, le=1)
    low_hz: Range = (20.0, 250.0)
    high_hz: Range = (3200.0, 7800.0)
    tilt: Range = (-3.0, 3.0)
    level: Range = (-18.0, 4.0)
    clip_p: float = Field(default=0.05, ge=0, le=1)
    babble: float = Field(default=0.0, ge=0, le=1)
    codec_p: float = Field(default=0.0, ge=0, le=1)
    codecs: tuple[Literal["ulaw", "alaw", "gsm", "opus", "vorbis"], ...] = ("ulaw", "alaw", "gsm", "opus", "vorbis")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        bounds: dict[str, Range] = {"speed": (0.25, 4), "warp": (0.5, 2), "rt60": (0.05, 2), "high_hz": (100, 8000)}
        for name in ("speed", "warp", "rt60", "snr", "low_hz", "high_hz", "tilt", "level"):
            low, high = getattr(self, name)
            least, most = bounds.get(name, (-1000.0, 8000.0))
            if not least <= low <= high <= most:
                raise ValueError(f"'{name}' must be [low, high] within {least} to {most}, found {[low, high]}")
        if self.codec_p and not self.codecs:
            raise ValueError(f"'codecs' is empty and 'codec_p' is {self.codec_p}; name some of {', '.join(CODECS)}")
        return self

    def settings(self) -> dict[str, Any]:
        """All values, but none of the effects that came later where they are off: what was made stays what it is."""
        found = self.model_dump()
        if not self.babble:
            del found["babble"]
        if not self.codec_p:
            del found["codec_p"], found["codecs"]
        return found

    def build(
        self, noises: Sequence[Floats] = (), rooms: Sequence[Floats] = (), talkers: Sequence[Floats] = ()
    ) -> Augmenter:
        """With recorded ``noises`` and ``rooms``, and simulated rooms beside them (made once per process).

        ``talkers`` are recordings of different people, for babble; ``DataError`` where it is asked for and there are
        fewer than three.
        """
        if self.babble and len(talkers) < LEAST_TALKERS:
            raise DataError(
                f"augment.babble = {self.babble}: the clips name {len(talkers)} speakers, babble needs "
                f"{LEAST_TALKERS}; add data with speakers, or set it to 0"
            )
        simulated = room_bank(self.simulated_rooms, 0, self.rt60) if self.room_p > 0 else ()
        return Augmenter(self, noises, [*rooms, *simulated], talkers)


class Augmenter:
    """The chain mouth, room, noise, microphone, level, line."""

    def __init__(
        self, config: AugmentConfig, noises: Sequence[Floats], rooms: Sequence[Floats], talkers: Sequence[Floats] = ()
    ) -> None:
        self.config, self.noises, self.rooms, self.talkers = config, noises, rooms, talkers

    def apply(self, samples: Floats, rng: np.random.Generator) -> Floats:
        """(n,) to (n',) in [-1, 1]; n' differs by the speed. Silence stays silence, however short."""
        c = self.config
        if rng.random() < c.speed_p:
            samples = speed(samples, float(rng.uniform(*c.speed)))
        if rng.random() < c.warp_p:
            samples = warp(samples, float(rng.uniform(*c.warp)))
        if self.rooms and rng.random() < c.room_p:
            samples = convolve(samples, self.rooms[int(rng.integers(len(self.rooms)))])
        if rng.random() < c.noise_p:
            snr = float(rng.uniform(*c.snr))
            twice = rng.random() < c.second_noise
            for share in (snr + 3, snr + 3) if twice else (snr,):  # two at half the power each
                samples = add_noise(samples, self._noise(len(samples), rng), share, rng)
        if rng.random() < c.band_p:
            samples = band(
                samples, float(rng.uniform(*c.low_hz)), float(rng.uniform(*c.high_hz)), float(rng.uniform(*c.tilt))
            )
        samples = level(samples, float(rng.uniform(*c.level)))
        limit = 1.0
        if rng.random() < c.clip_p and len(samples):
            limit = min(1.0, float(np.abs(samples).max()) * float(rng.uniform(0.3, 0.9)))
        samples = clip(samples, limit)
        if c.codec_p and rng.random() < c.codec_p:
            samples = clip(codec(samples, c.codecs[int(rng.integers(len(c.codecs)))]))
        return samples

    def _noise(self, n: int, rng: np.random.Generator) -> Floats:
        if self.config.babble and rng.random() < self.config.babble:
            count = min(int(rng.integers(LEAST_TALKERS, MOST_TALKERS + 1)), len(self.talkers))
            return babble([self.talkers[int(i)] for i in rng.choice(len(self.talkers), count, replace=False)], n, rng)
        if not self.noises or rng.random() < self.config.coloured:
            return coloured(n, rng)
        return self.noises[int(rng.integers(len(self.noises)))]
