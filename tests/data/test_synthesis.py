"""Engines and voices: roles that never overlap, what rate and pitch do to the sound, equal loudness."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from sayso.core.errors import SynthesisError
from sayso.data.synthesis import ENGINES, Voice, espeak, festival, flite, hibari, kokoro, piper, voices
from sayso.data.synthesis.engine import Floats, finish, level_db, pitched, wave

ALL = espeak.VOICES + festival.VOICES + flite.VOICES + hibari.VOICES + piper.VOICES + kokoro.VOICES
TEXT = "please turn on the kitchen lights"
ONE = {
    "espeak-ng": espeak.VOICES[0],
    "flite": flite.VOICES[1],
    "festival": festival.VOICES[0],
    "hibari": hibari.VOICES[0],
    "piper": piper.VOICES[0],
    "kokoro": kokoro.VOICES[5],
}


def speak(voice: Voice, rate: float = 1.0, pitch: float = 1.0, text: str = TEXT) -> Floats:
    problem = ENGINES[voice.engine].missing()
    if problem:
        pytest.skip(problem)
    return ENGINES[voice.engine].speak(text, voice, rate=rate, pitch=pitch)


def speech_s(samples: Floats) -> float:
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    return float(loud[-1] - loud[0]) / 16000


def fundamental(samples: Floats) -> float:
    """Median over 50 ms frames of the strongest autocorrelation lag between 60 and 400 Hz."""
    found = []
    for start in range(0, len(samples) - 800, 400):
        frame = samples[start : start + 800].astype(np.float64)
        if (frame**2).mean() < 0.1 * (samples**2).mean():
            continue
        spectrum = np.abs(np.fft.rfft(frame, 2048)) ** 2
        lags = np.fft.irfft(spectrum)[40:267]
        found.append(16000 / (40 + int(np.argmax(lags))))
    return float(np.median(found))


def test_ids_are_unique_and_no_speaker_has_two_roles() -> None:
    assert len({voice.id for voice in ALL}) == len(ALL)
    assert all(voice.id == f"{voice.engine}:{voice.name}" for voice in ALL)
    roles: dict[str, set[str]] = {}
    for voice in ALL:
        roles.setdefault(voice.speaker, set()).add(voice.role)
    assert all(len(found) == 1 for found in roles.values()), roles
    assert [voice.id for voice in ALL if voice.role == "examples"] == ["flite:slt"]


def test_espeak_accents_of_valid_are_not_trained_on() -> None:
    accents = {role: {v.accent for v in espeak.VOICES if v.role == role} for role in ("train", "valid")}
    assert len(accents["valid"]) == 2 and not accents["train"] & accents["valid"]


@pytest.mark.parametrize("name", ONE)
def test_rate_shortens_by_its_factor(name: str) -> None:
    slow, fast = speech_s(speak(ONE[name], rate=0.85)), speech_s(speak(ONE[name], rate=1.1))
    assert fast > 0.8
    assert slow / fast == pytest.approx(1.1 / 0.85, rel=0.08)


@pytest.mark.parametrize("name", ONE)
def test_pitch_moves_the_fundamental_and_not_the_length(name: str) -> None:
    low, high = speak(ONE[name], pitch=0.9), speak(ONE[name], pitch=1.1)
    assert fundamental(high) / fundamental(low) == pytest.approx(1.1 / 0.9, rel=0.08)
    assert speech_s(high) == pytest.approx(speech_s(low), rel=0.08)


@pytest.mark.parametrize("name", ONE)
def test_the_same_request_gives_the_same_samples(name: str) -> None:
    np.testing.assert_array_equal(speak(ONE[name]), speak(ONE[name]))


def test_text_that_looks_like_an_option_is_spoken() -> None:
    for voice in ONE.values():
        if not ENGINES[voice.engine].missing():
            assert speech_s(speak(voice, text="--version of the lights")) > 0.5


def test_every_espeak_voice_sounds_different() -> None:
    """An unknown accent or variant would silently give the default voice."""
    text = "dance to the bath song at the bar before thirty hot thoughts"
    sounds = {speak(voice, text=text).tobytes() for voice in espeak.VOICES}
    assert len(sounds) == len(espeak.VOICES)
    for plain in {voice.name.partition("+")[0] for voice in espeak.VOICES}:
        assert speak(replace(espeak.VOICES[0], name=plain), text=text).tobytes() not in sounds


def test_finish_gives_equal_level_and_margins() -> None:
    rng = np.random.default_rng(0)
    speech = (0.01 * np.sin(np.arange(16000) * 0.3)).astype(np.float32)
    for gain in (0.03, 1.0, 60.0):
        given = np.concatenate([np.zeros(30000, np.float32), gain * speech, np.zeros(160, np.float32)])
        out = finish(given, rng)
        assert level_db(out) == pytest.approx(-23.0, abs=0.1)
        loud = np.flatnonzero(np.abs(out) > 1e-4)
        for margin in (loud[0], len(out) - loud[-1]):
            assert 0.09 * 16000 <= margin <= 0.26 * 16000
        assert out.dtype == np.float32


def test_finish_limits_the_peak() -> None:
    clicks = np.zeros(16000, np.float32)
    clicks[::160] = 1.0  # crest factor 22 dB: -23 dBFS would need a peak of 0.9; noise makes it fit
    clicks[::1600] = 3.0
    assert np.abs(finish(clicks, np.random.default_rng(0))).max() <= 0.9501


def test_finish_refuses_silence_and_nan() -> None:
    for bad in (np.zeros(16000), np.zeros(0), np.full(16000, np.nan), np.ones(300)):
        with pytest.raises(SynthesisError):
            finish(bad.astype(np.float32), np.random.default_rng(0))


def test_pitched_moves_a_tone() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(24000) / 24000).astype(np.float32)
    moved = pitched(tone, 24000, 1.1)
    assert len(moved) == pytest.approx(16000 / 1.1, abs=2)
    peak = np.argmax(np.abs(np.fft.rfft(moved * np.hanning(len(moved))))) * 16000 / len(moved)
    assert peak == pytest.approx(484, abs=2)


@pytest.mark.parametrize("data", [b"", b"RIFF", b"RIFF1234WAVEfmt ", b"not a wav at all"])
def test_wave_refuses_what_is_not_one(data: bytes) -> None:
    with pytest.raises(SynthesisError, match="flite"):
        wave(data, "flite")


def test_missing_engines_are_skipped_and_none_is_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    with caplog.at_level(logging.WARNING, "sayso.data"), pytest.raises(SynthesisError, match=r"apt install espeak-ng"):
        voices(engines=["espeak-ng", "flite"])
    assert "going on without flite" in caplog.text


def test_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(SynthesisError, match=r"did you mean 'espeak-ng'"):
        voices(engines=["espeak"])


def test_an_engine_without_a_voice_of_the_role_is_an_error() -> None:
    if ENGINES["espeak-ng"].missing():
        pytest.skip("espeak-ng is not installed")
    assert {voice.id for voice in voices("valid", ["espeak-ng"])} == {v.id for v in espeak.VOICES if v.role == "valid"}
    with pytest.raises(SynthesisError, match="examples"):
        voices("examples", ["espeak-ng"])
