"""Augmentation drawn anew for every batch, in the features: SpecAugment (Park et al. 2019), tempo, vocal tracts, level
and noise.

In log-mel energies what sounds at once adds up as energies do, so that noise hides there what it would hide in the
recording; only that waves may cancel each other is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sayso.data.augment import LEAST_TALKERS, MOST_TALKERS
from sayso.training.recipe import SpecAugmentConfig

Floats = NDArray[np.float32]
_MEL = (np.log1p(40 / 700), np.log1p(7800 / 700))  # about where the middles of the mel bands lie
_BURSTS_PER_FRAME, _BURST_FRAMES, _BETWEEN_BURSTS = (0.005, 0.04), (2.0, 20.0), 0.01
_WARP, _TILT = 0.15, 1.5  # of recorded noise: of its bands, and in natural logs of energy at either end
_GRAIN_HZ = 1100.0  # of 700 + f: a band that wide has one value of its own in a window of 25 ms


@dataclass(frozen=True)
class Around:
    """What may sound beside a clip, as log-mel energies (T,F): recorded ``noises``, and other clips as ``talkers``."""

    noises: Sequence[Floats] = ()
    talkers: Sequence[Floats] = ()


_NOTHING = Around()


def augment(
    features: Floats, config: SpecAugmentConfig, rng: np.random.Generator, views: int = 1, around: Around = _NOTHING
) -> list[Floats]:
    """(T,F) to ``views`` versions (T',F): all of one tempo, each with its own vocal-tract warp, level, noise and masks
    (at its mean). Where ``around`` lacks what the config asks for, noise is coloured."""
    stretch = 1.0 + rng.uniform(-config.tempo, config.tempo)
    times = np.linspace(0, len(features) - 1, max(8, round(len(features) * stretch)))
    x = _interpolate(features.astype(np.float32), times)
    return [_view(x, config, rng, around) for _ in range(views)]


def augment_samples(
    samples: Floats, config: SpecAugmentConfig, rng: np.random.Generator, views: int = 1, around: Around = _NOTHING
) -> list[Floats]:
    """Likewise of samples (T,160): one speed, and for each view a level and stretches of silence. What acts on mel
    bands has no say here, nor has what is ``around``."""
    wave, stretch = samples.reshape(-1), 1.0 + rng.uniform(-config.tempo, config.tempo)
    rows = max(8, round(len(samples) * stretch))
    times = np.linspace(0, len(wave) - 1, rows * samples.shape[1])
    fast = np.interp(times, np.arange(len(wave)), wave).astype(np.float32).reshape(rows, -1)
    found = []
    for _ in range(views):
        x = fast * np.float32(np.exp(rng.uniform(-config.level, config.level) / 2))  # of energy: half in amplitude
        _hide(x, config, rng, 0.0)
        found.append(x)
    return found


def _hide(x: Floats, config: SpecAugmentConfig, rng: np.random.Generator, fill: float) -> None:
    """``fill`` in place of stretches of rows, in place."""
    budget = int(len(x) * config.time_share)
    while budget > 0:
        width = int(rng.integers(1, config.time_width + 1))
        start = int(rng.integers(0, max(1, len(x) - width)))
        x[start : start + width] = fill
        budget -= width


def _view(x: Floats, config: SpecAugmentConfig, rng: np.random.Generator, around: Around) -> Floats:
    mels = x.shape[1]
    x = _warped(x, config.vocal_tract, rng)
    x = np.ascontiguousarray(x + rng.uniform(-config.level, config.level), dtype=np.float32)
    if config.noise > 0 and rng.random() < config.noise:  # no draw where there is none: older runs stay what they were
        x = _noisy(x, config, rng, around)
    fill = float(x.mean())
    for _ in range(config.frequency_masks):
        width = int(rng.integers(0, config.frequency_width + 1))
        start = int(rng.integers(0, mels - width + 1))
        x[:, start : start + width] = fill
    _hide(x, config, rng, fill)
    return x


def _noisy(x: Floats, config: SpecAugmentConfig, rng: np.random.Generator, around: Around) -> Floats:
    """With one of the noises that the config asks for."""
    kind = rng.random() if config.recorded or config.babble else 1.0
    if kind < config.recorded and around.noises:
        noise = _recorded(around.noises[int(rng.integers(len(around.noises)))], len(x), rng)
        return mixed(x, noise, rng.uniform(*config.noise_db))
    if config.recorded <= kind < config.recorded + config.babble and len(around.talkers) >= LEAST_TALKERS:
        return mixed(x, babble(around.talkers, len(x), rng, config.vocal_tract), rng.uniform(*config.noise_db))
    clatter = config.clatter > 0 and rng.random() < config.clatter
    return with_noise(x, rng.uniform(*config.noise_db), rng, clatter=clatter)


def _recorded(noise: Floats, frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Energies (frames,F) from a random place of a recorded noise on, as if from a thing of another size and through
    another microphone: there are few recordings, and what is heard often is known by heart."""
    x = _warped(_excerpt(noise, frames, rng), _WARP, rng)
    return np.exp(x.astype(np.float64) + np.linspace(-1, 1, x.shape[1]) * rng.uniform(-_TILT, _TILT))


def babble(
    talkers: Sequence[Floats], frames: int, rng: np.random.Generator, vocal_tract: float = 0.0
) -> NDArray[np.float64]:
    """Energies (frames,F) of three to six of ``talkers``, at equal mean power, each from a random place on."""
    count = min(len(talkers), int(rng.integers(LEAST_TALKERS, MOST_TALKERS + 1)))
    total = np.zeros((frames, talkers[0].shape[1]))
    for number in rng.permutation(len(talkers))[:count]:
        voice = np.exp(_warped(_excerpt(talkers[number], frames, rng), vocal_tract, rng).astype(np.float64))
        total += voice / (voice / _raised(voice.shape[1])).sum()
    return total


def _excerpt(x: Floats, frames: int, rng: np.random.Generator) -> Floats:
    """(frames,F) from a random place on, from the beginning again at the end."""
    places = (int(rng.integers(len(x))) + np.arange(frames)) % len(x)
    return x[places].astype(np.float32)


def _warped(x: Floats, most: float, rng: np.random.Generator) -> Floats:
    """(T,F) with its bands stretched or squeezed by up to ``most``."""
    mels = x.shape[1]
    bins = np.clip(np.arange(mels) * (1.0 + rng.uniform(-most, most)), 0, mels - 1)
    return _interpolate(x.T, bins).T


def _hz(mels: int) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 700 * (np.exp(np.linspace(*_MEL, mels)) - 1)
    return found


def _raised(mels: int) -> NDArray[np.float64]:
    """(F,): how much more of its energy a band has behind the features' pre-emphasis."""
    found: NDArray[np.float64] = np.abs(1 - 0.97 * np.exp(-2j * np.pi * _hz(mels) / 16000)) ** 2
    return found


def mixed(x: Floats, noise: NDArray[np.float64], snr_db: float) -> Floats:
    """Log-mel energies (T,F) with a noise of energies (T,F), its mean power ``snr_db`` below that of the sound; powers
    are those before the features' pre-emphasis. A noise without power leaves the sound as it is."""
    power, raised = np.exp(x.astype(np.float64)), _raised(x.shape[1])
    total = (noise / raised).sum()
    if not total > 0:
        return x
    noisy: Floats = np.log(power + noise * ((power / raised).sum() / total * 10 ** (-snr_db / 10))).astype(np.float32)
    return noisy


def with_noise(
    x: Floats, snr_db: float, rng: np.random.Generator, slope: float | None = None, *, clatter: bool = False
) -> Floats:
    """Log-mel energies (T,F) with a coloured noise, its mean power ``snr_db`` below that of the sound.

    Its spectrum falls as 1/f**``slope`` (None: drawn from 0 to 2) with a bump or two, and it swells; or it clatters, as
    dishes and doors do: bursts that begin at once and die away, each of its own colour.
    """
    frames, mels = x.shape
    hz, raised = _hz(mels), _raised(mels)
    width = 700 + hz  # of a mel band: what white noise sends through it

    def colour() -> tuple[NDArray[np.float64], float]:
        falls = rng.uniform(0, 2) if slope is None else slope
        bump, phase = rng.uniform(0, 1), rng.uniform(0, 2 * np.pi)
        bumps = np.exp(bump * np.sin(np.linspace(0, 3 * np.pi, mels) + phase))
        return width * raised * hz**-falls * bumps, phase

    bands, phase = colour()
    swell = np.exp(rng.uniform(0, 1) * np.sin(np.arange(frames) * rng.uniform(0.005, 0.1) + phase))
    level = bands * swell[:, None]
    if clatter:
        level *= _BETWEEN_BURSTS / level.mean()
        for start in rng.integers(0, frames, 1 + rng.poisson(rng.uniform(*_BURSTS_PER_FRAME) * frames)):
            bands, _ = colour()
            fade = np.exp(-np.arange(frames - start) / rng.uniform(*_BURST_FRAMES) + rng.normal())
            level[start:] += fade[:, None] * bands / bands.mean()
    grains = np.maximum(1.0, width / _GRAIN_HZ)  # independent values in a band: few crackle, many hiss
    return mixed(x, level * rng.standard_gamma(grains, (frames, mels)) / grains, snr_db)


def _interpolate(x: Floats, positions: NDArray[np.float64]) -> Floats:
    low = np.floor(positions).astype(np.int64)
    high = np.minimum(low + 1, len(x) - 1)
    share = (positions - low).astype(np.float32)[:, None]
    return x[low] * (1 - share) + x[high] * share
