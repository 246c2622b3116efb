"""Augmentation against definitions: ratios measured, decay integrated, durations counted."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from sayso.audio.mix import measure_snr
from sayso.core.errors import DataError
from sayso.data import augment as a
from sayso.data.augment import AugmentConfig, Floats

BUSY = AugmentConfig(speed_p=1, warp_p=1, room_p=1, noise_p=1, band_p=1, clip_p=1, codec_p=1, simulated_rooms=1)


def _speech(n: int = 16000, seed: int = 0) -> Floats:
    """Harmonics of 120 Hz under a formant at 1 kHz, swelling like syllables."""
    t = np.arange(n) / a.RATE
    partials = np.arange(1, 60) * 120.0
    weights = np.exp(-(((partials - 1000) / 400) ** 2)) + 0.01
    phases = np.random.default_rng(seed).uniform(0, 6.28, len(partials))
    wave = (weights[:, None] * np.sin(2 * np.pi * partials[:, None] * t + phases[:, None])).sum(0)
    return np.asarray(0.05 * wave * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * t)), np.float32)


def _centroid(x: Floats) -> float:
    power = np.abs(np.fft.rfft(x)) ** 2
    return float((power * np.arange(len(power))).sum() / power.sum() * a.RATE / len(x))


@pytest.mark.parametrize("factor", [0.9, 0.97, 1.0, 1.1, 1.37])
@pytest.mark.parametrize("n", [1, 333, 16000, 50001])
def test_speed_keeps_its_promise_on_duration(factor: float, n: int) -> None:
    assert len(a.speed(_speech(n), factor)) == max(1, round(n / factor))


def test_speed_moves_a_tone() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / a.RATE).astype(np.float32)
    assert _centroid(a.speed(tone, 1.1)) == pytest.approx(1100, rel=0.01)


def test_warp_moves_formants_and_not_pitch() -> None:
    x = _speech(32000)
    up, down = a.warp(x, 1.12), a.warp(x, 0.88)
    assert len(up) == len(x)
    assert _centroid(down) < _centroid(x) * 0.97 < _centroid(x) * 1.03 < _centroid(up)
    spectrum = np.abs(np.fft.rfft(up[8000:24000]))  # 1 Hz per bin: energy stays on multiples of 120 Hz
    on = sum(spectrum[k * 120 - 6 : k * 120 + 7].max() for k in range(5, 15))
    off = sum(spectrum[k * 120 + 54 : k * 120 + 67].max() for k in range(5, 15))
    assert on > 10 * off


def test_warp_rebuilds_what_it_does_not_change() -> None:
    x = _speech()
    assert np.abs(a.warp(x, 1.0 + 1e-7) - x).max() < 1e-3


@pytest.mark.parametrize("snr", [-3.0, 3.0, 12.5, 25.0])
def test_noise_is_as_loud_as_asked(snr: float) -> None:
    x, rng = _speech(), np.random.default_rng(1)
    for noise in (a.coloured(16000, rng), a.coloured(5000, rng), a.coloured(90000, rng)):
        assert abs(measure_snr(x, a.add_noise(x, noise, snr, rng) - x, "mean") - snr) < 0.1


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_coloured_noise_has_its_slope(slope: float) -> None:
    power = np.abs(np.fft.rfft(a.coloured(160000, np.random.default_rng(2), slope))) ** 2
    octaves = [np.log2(power[10 * f : 20 * f].mean()) for f in (100, 200, 400, 800, 1600)]
    assert np.polyfit(range(5), octaves, 1)[0] == pytest.approx(-slope, abs=0.1)


def test_babble_needs_three_voices() -> None:
    rng = np.random.default_rng(3)
    assert len(a.babble([_speech(seed=i) for i in range(3)], 20000, rng)) == 20000
    with pytest.raises(DataError, match="3 or more"):
        a.babble([_speech(), _speech(), np.zeros(9, np.float32)], 100, rng)


@pytest.mark.parametrize("rt60", [0.25, 0.4])
def test_a_simulated_room_decays_as_asked(rt60: float) -> None:
    pytest.importorskip("pyroomacoustics")
    response = a.simulate_room(rt60, (4.5, 3.5, 2.5), np.random.default_rng(4)).astype(np.float64)
    assert response[0] == 1 and len(response) <= a.LONGEST_ROOM
    energy = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] / np.sum(response**2))  # Schroeder, by hand
    at = [int(np.argmax(energy < level)) / a.RATE for level in (-5, -25)]
    assert 3 * (at[1] - at[0]) == pytest.approx(rt60, rel=0.1)


def test_reverberation_time_of_a_known_decay() -> None:
    for rt60 in (0.15, 0.3, 0.6):
        decay = np.exp(-np.log(1000) * np.arange(int(rt60 * a.RATE)) / (rt60 * a.RATE)).astype(np.float32)
        assert a.reverberation_time(decay) == pytest.approx(rt60, rel=0.02)


def test_a_room_that_is_too_small_for_its_reverberation_is_said_and_made_larger() -> None:
    with pytest.raises(DataError, match=r"no reverberation of 0\.7 s .* needs more room"):
        a.simulate_room(0.7, (2.5, 2.5, 2.3), np.random.default_rng(0))
    found = [a.simulate_rooms(1, np.random.default_rng(seed), (0.5, 0.5))[0] for seed in range(30)]
    assert [a.reverberation_time(room) for room in found] == pytest.approx([0.5] * 30, rel=0.1)


@pytest.mark.parametrize("rt60", [0.2, 0.3, 0.45])
def test_every_simulated_room_decays_as_drawn(rt60: float) -> None:
    pytest.importorskip("pyroomacoustics")
    rng = np.random.default_rng(1)
    sizes = [(rng.uniform(2.5, 7), rng.uniform(2.5, 7), rng.uniform(2.3, 3.2)) for _ in range(4)]
    found = [a.reverberation_time(a.simulate_room(rt60, size, rng)) for size in sizes]
    assert found == pytest.approx([rt60] * 4, rel=0.1)


@pytest.mark.parametrize("snr", [0.0, 10.0, 20.0])
def test_babble_is_as_loud_as_asked_and_of_three_talkers_or_more(snr: float) -> None:
    talkers = [np.roll(_speech(20000, seed), 500 * seed) * (seed + 1) for seed in range(5)]
    only = AugmentConfig(
        speed_p=0, warp_p=0, room_p=0, noise_p=1, band_p=0, clip_p=0, level=(0, 0), second_noise=0, babble=1,
        snr=(snr, snr),
    )  # fmt: skip
    x, chain = _speech(), only.build(talkers=talkers)
    for seed in range(4):
        heard = chain.apply(x, np.random.default_rng(seed))
        assert abs(measure_snr(x, heard - x, "mean") - snr) < 0.1
    mixed = a.babble([np.eye(1, 64, k, dtype=np.float32)[0] for k in (3, 17, 40)], 64, np.random.default_rng(0))
    assert np.count_nonzero(mixed) == 3 and len(set(mixed[mixed > 0].tolist())) == 1  # all heard, all as loud
    with pytest.raises(DataError, match="name 2 speakers"):
        only.build(talkers=talkers[:2])


@pytest.mark.parametrize("name", a.CODECS)
@pytest.mark.parametrize("n", [1, 161, 24001])
def test_a_codec_keeps_length_time_and_words(name: str, n: int) -> None:
    x = a.band(_speech(n), 300, 3000)
    heard = a.codec(x, name)
    assert heard.shape == x.shape and heard.dtype == np.float32 and np.isfinite(heard).all()
    if n > 1000:
        lags = [float(np.dot(x[400:-400], np.roll(heard, lag)[400:-400])) for lag in range(-80, 81)]
        assert abs(int(np.argmax(lags)) - 80) <= 2
        assert np.corrcoef(x[400:-400], heard[400:-400])[0, 1] > 0.9
        assert np.abs(heard - x).max() > 1e-4  # and something is lost


def test_the_telephone_ends_at_4_khz_and_companding_is_g711() -> None:
    noise = a.coloured(32000, np.random.default_rng(3), 0.0)
    power = np.abs(np.fft.rfft(a.codec(noise, "ulaw"))) ** 2
    assert power[2 * 4300 :].sum() < 1e-3 * power.sum()
    tone = (0.5 * np.sin(2 * np.pi * 1017.3 * np.arange(16000) / a.RATE)).astype(np.float32)
    narrow = soxr.resample(soxr.resample(tone, 16000, 8000), 8000, 16000)
    ratio = 10 * np.log10(np.mean(narrow**2) / np.mean((a.codec(tone, "ulaw") - narrow) ** 2))
    assert 34 < ratio < 42  # eight bits, mu = 255: about 38 dB whatever the level (Jayant and Noll 1984)
    with pytest.raises(DataError, match="did you mean 'ulaw'"):
        a.codec(tone, "mulaw")


def test_what_is_off_leaves_old_banks_alone() -> None:
    plain = AugmentConfig()
    assert not {"babble", "codec_p", "codecs"} & set(plain.settings())
    assert {"babble", "codecs"} <= set(AugmentConfig(babble=0.1, codec_p=0.2).settings())
    old, new = (c.build().apply(_speech(), np.random.default_rng(9)) for c in
                (AugmentConfig(room_p=0), AugmentConfig(room_p=0, codecs=("gsm",))))  # fmt: skip
    assert old.tobytes() == new.tobytes()


def test_convolving_keeps_time_and_loudness() -> None:
    x = np.zeros(16000, np.float32)
    x[5000] = 0.5
    response = np.concatenate([np.zeros(300), [1.0], 0.3 * np.exp(-np.arange(3000) / 400)]).astype(np.float32)
    wet = a.convolve(x, response)
    assert int(np.argmax(np.abs(wet))) == 5000 and np.abs(wet[:4990]).max() < 1e-5
    assert np.mean(wet**2) == pytest.approx(np.mean(x**2), rel=1e-3)


def test_band_cuts_where_it_says() -> None:
    noise = a.coloured(64000, np.random.default_rng(5), 0.0)
    ratio = np.abs(np.fft.rfft(a.band(noise, 200, 4000))) ** 2 / np.abs(np.fft.rfft(noise)) ** 2
    decibel = [10 * np.log10(np.median(ratio[4 * f - 40 : 4 * f + 40])) for f in (50, 200, 1000, 4000, 7000)]
    assert decibel[0] < -20 and decibel[4] < -15
    assert decibel[1:4] == pytest.approx([-3, 0, -3], abs=0.6)


def test_level_and_clip() -> None:
    x = _speech()
    assert np.allclose(a.level(x, 6.0206), 2 * x, rtol=1e-4)
    assert np.abs(a.clip(a.level(x, 60))).max() == 1


def test_same_seed_same_bytes_another_seed_other() -> None:
    pytest.importorskip("pyroomacoustics")
    chain = BUSY.build([a.coloured(8000, np.random.default_rng(0))])
    first, again, other = (chain.apply(_speech(), np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert first.tobytes() == again.tobytes() != other.tobytes()
    assert first.dtype == np.float32 and np.abs(first).max() <= 1


@pytest.mark.parametrize("n", [0, 1, 100, 800, 16000])
def test_silence_and_short_clips_do_not_crash(n: int) -> None:
    pytest.importorskip("pyroomacoustics")
    chain = BUSY.build()
    for seed in range(5):
        silent = chain.apply(np.zeros(n, np.float32), np.random.default_rng(seed))
        assert np.abs(silent).max(initial=0) < 1e-6
        assert np.isfinite(chain.apply(_speech(n), np.random.default_rng(seed))).all()


def test_ranges_must_be_ordered() -> None:
    with pytest.raises(ValueError, match="snr"):
        AugmentConfig(snr=(20, 3))
    with pytest.raises(ValueError, match="speed"):
        AugmentConfig(speed=(0.0, 1.0))
