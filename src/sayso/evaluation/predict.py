"""Running a model over examples, clean or in noise, and keeping what it said.

The model is any callable from samples to a Result, so that a bundle, a server or a baseline is judged by the same
code. Noise is drawn from a seed and the example's place in the list: the same condition is the same sound for every
model, whatever order or subset is worked on. A recording that cannot be read is a failure to report, and the others
are still done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from sayso.audio import decode
from sayso.audio.mix import mix
from sayso.core.config import Config
from sayso.core.errors import AudioError, DataError
from sayso.core.files import write_text
from sayso.core.result import Example, Result
from sayso.evaluation.evaluate import Pair
from sayso.evaluation.examples import json_rows

Floats = NDArray[np.float32]
Understand = Callable[[Floats, int], Result]
Progress = Callable[[int, int], None]
SAMPLE_RATE = 16000


class NoiseCondition(Config):
    """One noisy condition: ``file`` is mixed in at ``snr_db`` (see ``audio.mix`` for the two kinds of SNR)."""

    kind: Literal["noise"] = "noise"
    file: str
    snr_db: float = Field(allow_inf_nan=False)
    snr_kind: Literal["mean", "peak2048"] = "mean"
    seed: int = Field(default=0, ge=0)

    @property
    def name(self) -> str:
        """For tables: ``kitchen-noise-dev at 15 dB (peak2048)``."""
        return f"{Path(self.file).stem} at {self.snr_db:g} dB ({self.snr_kind})"


@dataclass(frozen=True)
class Failure:
    """A recording that could not be judged, and the message that says why."""

    audio: str
    message: str


@dataclass
class Run:
    """One pass over ``examples``: iterate to work; ``failures`` fills up meanwhile.

    ``progress(done, total)`` is called after each example. A missing noise file raises ``AudioError`` at once, a
    missing example does not. ``timing`` that the model left open (length, real-time factor) is measured here.
    """

    understand: Understand
    examples: Sequence[Example]
    noise: NoiseCondition | None = None
    progress: Progress | None = None
    failures: list[Failure] = field(default_factory=list)

    def __iter__(self) -> Iterator[Pair]:
        background = self._background()
        for index, example in enumerate(self.examples):
            try:
                result = _timed(self.understand, self._samples(index, background))
            except AudioError as error:
                self.failures.append(Failure(example.audio, str(error)))
            else:
                yield example, result
            if self.progress is not None:
                self.progress(index + 1, len(self.examples))

    def heard(self, example: Example) -> tuple[Floats, int]:
        """What the model heard of one of ``examples`` (N,), and its rate: the recording, or its mixture with noise."""
        index = next(index for index, other in enumerate(self.examples) if other is example)
        return self._samples(index, self._background()), SAMPLE_RATE

    def _background(self) -> Floats | None:
        return None if self.noise is None else decode.read(self.noise.file, SAMPLE_RATE)

    def _samples(self, index: int, background: Floats | None) -> Floats:
        samples = decode.read(self.examples[index].audio, SAMPLE_RATE)
        if self.noise is None or background is None:
            return samples
        rng = np.random.default_rng([self.noise.seed, index])
        return mix(samples, background, self.noise.snr_db, self.noise.snr_kind, rng)


def write_predictions(path: str | Path, pairs: Iterable[Pair]) -> Path:
    """JSON lines ``{"audio", "expected": Example without audio, "result": Result}``; the file appears when complete."""
    return write_text(path, (_line(example, result) for example, result in pairs))


def read_predictions(path: str | Path, examples: Sequence[Example]) -> tuple[list[Pair], dict[str, list[Result]]]:
    """What was understood of ``examples``, whoever did: lines ``{"audio", "result"}`` as ``write_predictions`` writes
    them, the audio as those of ``examples`` or relative to the file; of several talkers a line each.

    Returns pairs with the first result of every recording, and all of them by audio (a talker counts once).
    ``DataError`` for a line that is none, and for a recording without any.
    """
    file = Path(path)
    names = {Path(example.audio).resolve(): example.audio for example in examples}
    heard: dict[str, dict[int, Result]] = {}
    for line, row in json_rows(file):
        try:
            result = Result.model_validate(row.get("result"))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(["result", *map(str, first["loc"])])
            raise DataError(f"{file}:{line}: '{place}': {first['msg']}; --predictions writes such lines") from None
        if not isinstance(row.get("audio"), str):
            raise DataError(f"{file}:{line}: 'audio' must name the recording, found {row.get('audio')!r}")
        places = (Path(row["audio"]).resolve(), (file.parent / row["audio"]).resolve())
        for audio in {names[place] for place in places if place in names}:
            heard.setdefault(audio, {}).setdefault(result.talker, result)
    missing = [audio for audio in names.values() if audio not in heard]
    if missing:
        raise DataError(
            f"{file}: says nothing of {len(missing)} recordings, {missing[0]} among them; every one needs a line"
        )
    streams = {audio: [found[talker] for talker in sorted(found)] for audio, found in heard.items()}
    return [(example, streams[names[Path(example.audio).resolve()]][0]) for example in examples], streams


def _line(example: Example, result: Result) -> str:
    hidden = {"audio"} if example.custom else {"audio", "custom"}
    expected = example.model_dump_json(exclude=hidden, exclude_none=True)
    audio = Example(audio=example.audio).model_dump_json(include={"audio"})
    return f'{audio[:-1]},"expected":{expected},"result":{result.model_dump_json()}}}\n'


def _timed(understand: Understand, samples: Floats) -> Result:
    begin = time.perf_counter()
    result = understand(samples, SAMPLE_RATE)
    wall_s, audio_s = time.perf_counter() - begin, samples.size / SAMPLE_RATE
    if result.timing.rtf is not None:
        return result
    timing = result.timing.model_copy(update={"audio_s": audio_s, "rtf": wall_s / audio_s})
    return result.model_copy(update={"timing": timing})
