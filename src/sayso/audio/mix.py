"""Speech and noise at a given signal-to-noise ratio, defined as the published figures define it.

``mean`` is the ratio of mean powers over the whole recording: pauses in the speech count. ``peak2048`` is the ratio
of the largest energies of 2048-sample frames, the definition of the Picovoice speech-to-intent benchmark, so that
figures beside its published ones mean the same. The noise starts at a seeded random place and is looped where it is
shorter than the speech; the mix is scaled to a peak of 0.5, so that no condition clips.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sayso.core.errors import AudioError, UsageError, nearest

Floats = NDArray[np.float32]
Kind = Literal["mean", "peak2048"]

FRAME = 2048
PEAK = 0.5


def mix(speech: Floats, noise: Floats, snr_db: float, kind: Kind, rng: np.random.Generator) -> Floats:
    """Speech (n,) with noise of any length at ``snr_db``: (n,) with a peak of 0.5.

    The ratio refers to the stretch of noise that is really mixed in. Raises ``AudioError`` where speech or noise is
    empty or silent (no ratio exists), ``UsageError`` for an unknown kind or a ratio that is not finite.
    """
    first, second = parts(speech, noise, snr_db, kind, rng)
    return first + second


def parts(speech: Floats, noise: Floats, snr_db: float, kind: Kind, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """The two addends of ``mix``, both scaled: whoever trains a separator wants them apart."""
    if not np.isfinite(snr_db):
        raise UsageError(f"snr {snr_db}: legal is a finite number of dB, such as 15")
    if not len(speech) or not len(noise):
        raise AudioError(
            "mix: found speech or noise without samples; legal is one sample or more; choose another recording"
        )
    stretch = excerpt(noise, len(speech), rng).astype(np.float64)
    voice = np.asarray(speech, np.float64)
    stretch = stretch * 10.0 ** ((measure_snr(voice, stretch, kind) - snr_db) / 20)
    peak = float(np.abs(voice + stretch).max())
    scale = PEAK / peak if peak > 0 else 1.0  # zero only where the noise cancels the speech exactly
    return (voice * scale).astype(np.float32), (stretch * scale).astype(np.float32)


def excerpt(noise: Floats, length: int, rng: np.random.Generator) -> Floats:
    """``length`` samples of noise from a random place; no seam unless the noise is shorter than that, then looped."""
    if len(noise) >= length:
        start = int(rng.integers(len(noise) - length + 1))
        return noise[start : start + length]
    start = int(rng.integers(len(noise)))
    return np.take(noise, np.arange(start, start + length), mode="wrap")


def measure_snr(speech: NDArray[np.floating], noise: NDArray[np.floating], kind: Kind) -> float:
    """Ratio in dB of two recordings as they stand.

    Raises ``AudioError`` when either is silent, ``UsageError`` for an unknown kind.
    """
    ratio = []
    for name, samples in (("speech", speech), ("noise", noise)):
        strength = _strength(np.asarray(samples, np.float64), kind)
        if not strength > 0:
            raise AudioError(f"mix: found silent {name}, so no signal-to-noise ratio exists; choose another recording")
        ratio.append(strength)
    return float(10 * np.log10(ratio[0] / ratio[1]))


def _strength(samples: NDArray[np.float64], kind: Kind) -> float:
    if not len(samples):
        return 0.0
    if kind == "mean":
        return float(np.mean(samples**2))
    if kind == "peak2048":
        # the last frame may be short; its energy is a sum, so the missing samples count as zeros
        return float(np.add.reduceat(samples**2, np.arange(0, len(samples), FRAME)).max())
    raise UsageError(f"snr kind {kind!r}: {nearest(str(kind), get_args(Kind))}")
