"""The microphone as a stream of blocks, through PortAudio (``sounddevice``, in the ``mic`` extra).

Many devices cannot record at 16 kHz; then they record at their own rate and soxr resamples as a stream, exactly as for
files. Blocks that the operating system dropped are logged, not hidden.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from types import ModuleType

import numpy as np
import soxr  # type: ignore[import-untyped]
from numpy.typing import NDArray

from sayso.core.errors import AudioError, require

Floats = NDArray[np.float32]

_REMEDY = "plug one in, choose it as the system's default input, or give a recording to 'sayso understand'"
_log = logging.getLogger("sayso.audio")


def record(sample_rate: int = 16000, block_s: float = 0.1) -> Generator[Floats, None, None]:
    """Blocks (n,) of about ``block_s`` seconds in [-1, 1] from the default input, until the caller stops iterating.

    Raises ``MissingExtra`` without ``sounddevice``; ``AudioError`` at the first ``next`` without PortAudio or an
    input device, and later when the device goes away.
    """
    sd = _sounddevice()
    try:
        device_rate = _device_rate(sd, sample_rate)
        resampler = None
        if device_rate != sample_rate:
            resampler = soxr.ResampleStream(device_rate, sample_rate, 1, "float32")
        with sd.InputStream(samplerate=device_rate, channels=1, dtype="float32") as stream:
            while True:
                frames, dropped = stream.read(max(1, round(block_s * device_rate)))
                if dropped:
                    _log.warning("microphone: samples were lost because they were not taken in time")
                mono: Floats = np.ascontiguousarray(frames[:, 0])
                yield np.clip(mono if resampler is None else resampler.resample_chunk(mono), -1.0, 1.0)
    except (sd.PortAudioError, ValueError) as error:
        raise AudioError(f"microphone: found no usable input device ({error}); legal is any input; {_REMEDY}") from None


def _sounddevice() -> ModuleType:
    try:
        return require("sounddevice", extra="mic", purpose="the microphone")
    except OSError as error:  # the package is there, the C library is not
        raise AudioError(
            f"microphone: found no PortAudio ({error}); legal is an installed PortAudio library; on Debian or Ubuntu: "
            "apt-get install libportaudio2"
        ) from None


def _device_rate(sd: ModuleType, sample_rate: int) -> int:
    """``sample_rate`` where the device can do it, else the device's own."""
    device = sd.query_devices(kind="input")
    try:
        sd.check_input_settings(samplerate=sample_rate, channels=1, dtype="float32")
    except sd.PortAudioError:
        return round(float(device["default_samplerate"]))
    return sample_rate
