"""A stream inside an engine, without one: what the voice detector hears, and what becomes of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import sayso
from sayso.audio.vad import HOP, Vad
from sayso.core.result import Result
from sayso.serving.live import Live
from sayso.serving.wire import Kind, Opening

Speech = dict[str, NDArray[np.float32]]


def play(live: Live, sound: NDArray[np.float32], packet: int) -> list[Result]:
    """Final results."""
    found = []
    for start in range(0, len(sound) + packet, packet):
        live.put(sound[start : start + packet], 0.0)
        if start >= len(sound):
            live.end(0.0)
        while live.wants or live.ready or live.due:
            if live.wants:
                live.take()
            live.settle()
            while live.ready and live.stream is not None:
                live.model.step_many([live.stream])
            if live.due and (saying := live.finish()) is not None:
                assert saying.kind is Kind.RESULT
                found.append(saying.said.result)
    return found


@pytest.mark.parametrize("packet", [160, 700, 1600, 16000])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_what_the_server_ends_is_detected_once(
    home: sayso.Model, speech: Speech, monkeypatch: pytest.MonkeyPatch, packet: int, rate: int
) -> None:
    """Every hop goes through the network once, whoever asks; the speech and noise of a stream are as where it is
    detected there, but for the hops' beginnings."""
    hops = []
    hear = Vad._hear
    monkeypatch.setattr(Vad, "_hear", lambda self, hop: hops.append(1) or hear(self, hop))
    pause, rng = np.zeros(24000, np.float32), np.random.default_rng(0)
    first, second = speech["turn-on-the-kitchen-lights"], speech["lock-the-front-door"]
    sound = np.concatenate([pause, first, pause, second, pause])
    sound = np.repeat(sound + rng.normal(0, 1e-4, len(sound)).astype(np.float32), rate // 16000)
    found = play(Live(Opening(edition=1, sample_rate=rate, endpoint="always"), home), sound, packet)
    assert [result.text for result in found] == ["turn on the kitchen lights", "lock the front door"]
    assert len(hops) == pytest.approx(len(sound) / (rate // 16000) // HOP, abs=2)  # the resampler's last samples stay


def test_speech_and_noise_are_measured_on_the_same_hops(home: sayso.Model, speech: Speech) -> None:
    sound = speech["turn-on-the-kitchen-lights"]
    alone, led = home.stream(), home.stream()
    for stream, known in ((alone, None), (led, Vad())):
        for start in range(0, len(sound), 700):
            piece = sound[start : start + 700]
            stream.feed(piece, None if known is None else known.accept(piece))
    measured = [(stream._activity.speech_s, stream._activity.snr_db) for stream in (alone, led) if stream._activity]
    assert len(measured) == 2 and measured[0] == measured[1] and measured[0][0] > 0.5
