"""A whole recording as a stream: read in blocks, so that memory does not grow with its length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayso.audio import decode
from sayso.core.result import Result
from sayso.runtime.stream import Stream, advance

Audio = str | Path | NDArray[Any] | Sequence[float]
_BLOCK_S = 0.5


def through(stream: Stream, samples: Iterable[NDArray[np.float32]]) -> Result:
    """The final result of ``stream`` after all ``samples``; reading stops where the utterance is too long."""
    seen = False
    for block in samples:
        if seen:
            stream.feed(block)
            while stream.ready:
                advance([stream])
        else:  # the first partial is timed, later ones would only cost time
            seen = bool(stream.accept(block).text)
        if stream.truncated:
            break
    return stream.finish()


def blocks(audio: Audio, sample_rate: int | None, target: int) -> Iterator[NDArray[np.float32]]:
    """A path, or samples with their rate (default: ``target``), at ``target`` Hz. Raises ``AudioError``."""
    if isinstance(audio, str | Path):
        yield from decode.blocks(audio, target, _BLOCK_S)
        return
    samples = decode.from_samples(audio, target if sample_rate is None else sample_rate, target)
    size = round(_BLOCK_S * target)
    for start in range(0, len(samples), size):
        yield samples[start : start + size]
