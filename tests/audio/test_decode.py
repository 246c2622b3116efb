"""Decoding: equal to named references, the same in blocks as whole, constant memory, one clear error per bad file."""

from __future__ import annotations

import logging
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from sayso.audio import decode
from sayso.core.errors import AudioError

Array = np.ndarray


def _tone(seconds: float, rate: int, channels: int = 1) -> Array:
    """A different mixture of tones and noise on every channel, (n, channels) below 0.5."""
    rng = np.random.default_rng(channels)
    time = np.arange(round(seconds * rate)) / rate
    tones = np.stack([0.3 * np.sin(2 * np.pi * (200 + 170 * channel) * time) for channel in range(channels)], axis=1)
    return tones + 0.1 * rng.uniform(-1, 1, tones.shape)


def _wav(rate: int, channels: int, data: bytes = b"\0" * 3200, *, bits: int = 16) -> bytes:
    """A PCM wav file with whatever header one likes."""
    width = channels * bits // 8
    body = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * width % 2**32, width, bits)
    return (
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + body + b"data" + struct.pack("<I", len(data)) + data
    )


KINDS = [
    ("wav", "WAV", "PCM_16", 16000, 1),
    ("wav", "WAV", "PCM_U8", 8000, 1),
    ("wav", "WAV", "PCM_24", 48000, 2),
    ("wav", "WAV", "FLOAT", 44100, 1),
    ("wav", "WAV", "DOUBLE", 96000, 1),
    ("wav", "WAV", "PCM_16", 22050, 8),
    ("wav", "WAV", "PCM_16", 16000, 12),
    ("wav", "WAV", "ULAW", 8000, 1),
    ("flac", "FLAC", "PCM_24", 44100, 2),
    ("ogg", "OGG", "VORBIS", 44100, 2),
    ("ogg", "OGG", "OPUS", 48000, 1),
    ("mp3", "MP3", "MPEG_LAYER_III", 44100, 2),
]


@pytest.mark.parametrize(("ending", "form", "subtype", "rate", "channels"), KINDS)
def test_equals_libsndfile_mean_soxr(
    tmp_path: Path, ending: str, form: str, subtype: str, rate: int, channels: int
) -> None:
    path = tmp_path / f"a.{ending}"
    sf.write(path, _tone(2.3, rate, channels), rate, format=form, subtype=subtype)
    whole, _ = sf.read(path, dtype="float32", always_2d=True)
    expected = soxr.resample(whole.mean(axis=1, dtype=np.float64).astype(np.float32), rate, 16000)
    got = decode.read(path)
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, np.clip(expected, -1, 1), atol=1e-6)
    assert decode.info(path) == decode.AudioInfo(duration_s=len(whole) / rate, sample_rate=rate, channels=channels)
    rng = np.random.default_rng(7)
    for block_s in (1 / 16000, *rng.uniform(0.001, 3.0, 3)):
        if block_s < 0.001 and rate != 16000:
            continue
        pieces = list(decode.blocks(path, block_s=float(block_s)))
        size = max(1, round(block_s * 16000))
        assert all(len(piece) == size for piece in pieces[:-1])
        assert 0 < len(pieces[-1]) <= size
        np.testing.assert_array_equal(np.concatenate(pieces), got)


def test_tone_survives_resampling(tmp_path: Path) -> None:
    time = np.arange(48000 * 2) / 48000
    sf.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * time), 48000, subtype="FLOAT")
    got = decode.read(tmp_path / "a.wav")
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(32000) / 16000)
    np.testing.assert_allclose(got[800:-800], expected[800:-800], atol=1e-3)


def test_max_s_caps(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", _tone(3.0, 44100), 44100)
    whole = decode.read(tmp_path / "a.wav")
    np.testing.assert_array_equal(decode.read(tmp_path / "a.wav", max_s=1.25), whole[:20000])
    np.testing.assert_array_equal(decode.read(tmp_path / "a.wav", max_s=99.0), whole)
    assert decode.read(tmp_path / "a.wav", max_s=0).shape == (0,)


def test_silent_clipped_and_short_are_legal(tmp_path: Path) -> None:
    sf.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    assert not decode.read(tmp_path / "silent.wav").any()
    sf.write(tmp_path / "clipped.wav", np.sign(_tone(1.0, 16000)) * 5, 16000, subtype="FLOAT")
    assert np.abs(decode.read(tmp_path / "clipped.wav")).max() == 1.0
    sf.write(tmp_path / "short.wav", _tone(0.05, 16000), 16000)
    assert decode.read(tmp_path / "short.wav").shape == (800,)
    sf.write(tmp_path / "nothing.wav", np.array([0.25]), 192000, subtype="FLOAT")  # a twelfth of a sample at 16 kHz
    assert decode.read(tmp_path / "nothing.wav").shape == (0,)
    assert list(decode.blocks(tmp_path / "nothing.wav")) == []
    sf.write(tmp_path / "one.wav", np.array([0.25]), 16000, subtype="FLOAT")
    np.testing.assert_array_equal(decode.read(tmp_path / "one.wav"), np.float32([0.25]))


BAD_BYTES = {
    "empty.wav": (b"", "0 bytes"),
    "text.wav": (b"this is a letter, not a recording\n" * 40, "not audio"),
    "page.mp3": (b"<!doctype html><html></html>\n" * 40, "not audio"),
    "zero_rate.wav": (_wav(0, 1), "rate"),
    "no_channels.wav": (_wav(16000, 0), "channel"),
    "one_hz.wav": (_wav(1, 1), "sample rate of 1 Hz"),
    "gigahertz.wav": (_wav(10**9, 1), "sample rate of 1000000000 Hz"),
    "no_data.wav": (_wav(16000, 1, b""), "no samples"),
    "only_header.wav": (_wav(16000, 1)[:44], "no samples"),
    "half_header.wav": (_wav(16000, 1)[:30], "damaged"),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_bad_bytes_give_one_teaching_error(tmp_path: Path, name: str) -> None:
    content, found = BAD_BYTES[name]
    (tmp_path / name).write_bytes(content)
    _refused(tmp_path / name, found)


def _refused(path: Path, found: str) -> None:
    """Both ways in fail alike: the message names the path, what was found and what is legal, on one line."""
    for call in (lambda: decode.read(path), lambda: next(decode.blocks(path))):
        with pytest.raises(AudioError) as caught:
            call()
        message = str(caught.value)
        assert message.startswith(f"{path}: found ")
        assert found in message
        assert "legal" in message
        assert message.count(";") >= 2  # found; legal; what to do
        assert "\n" not in message
        assert caught.value.__cause__ is None
        assert caught.value.exit_code == 1


def test_missing_folder_pipe_and_impossible_paths(tmp_path: Path) -> None:
    _refused(tmp_path / "missing.wav", "no such file")
    (tmp_path / "file").write_bytes(b"x")
    _refused(tmp_path / "file" / "below.wav", "no such file")
    (tmp_path / "folder.wav").mkdir()
    _refused(tmp_path / "folder.wav", "a folder")
    os.mkfifo(tmp_path / "pipe.wav")
    _refused(tmp_path / "pipe.wav", "a pipe")
    _refused(tmp_path / ("x" * 400), "cannot be opened")
    with pytest.raises(AudioError, match="legal"):
        decode.read("nul\0byte.wav")


def test_no_read_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    path.write_bytes(_wav(16000, 1))
    path.chmod(0)
    if os.geteuid() != 0:
        _refused(path, "may not be read")
        return
    os.seteuid(65534)  # root may read everything, so somebody else asks
    try:
        _refused(path, "may not be read")
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("value", "found"),
    [(np.nan, "a NaN sample at 1.000 s"), (-np.inf, "an infinite sample at 1.000 s"), (3e4, "out-of-range (30000)")],
)
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_impossible_samples(tmp_path: Path, value: float, found: str, subtype: str) -> None:
    samples = _tone(2.0, 22050, 2)
    samples[22050, 1] = value
    sf.write(tmp_path / "a.wav", samples, 22050, subtype=subtype)
    with pytest.raises(AudioError) as caught:
        decode.read(tmp_path / "a.wav")
    assert found in str(caught.value)
    assert str(tmp_path / "a.wav") in str(caught.value)


def test_a_cut_wav_gives_what_is_there(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", _tone(2.0, 16000), 16000)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: 44 + 2 * 10_000 + 1])  # in the middle of a sample, too
    np.testing.assert_array_equal(decode.read(tmp_path / "cut.wav"), decode.read(tmp_path / "a.wav")[:10_000])


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3"])
def test_cut_files_give_what_is_there_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str) -> None:
    sf.write(tmp_path / f"a.{ending}", _tone(4.0, 16000), 16000)
    whole, content = decode.read(tmp_path / f"a.{ending}"), (tmp_path / f"a.{ending}").read_bytes()
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(content[: len(content) // 2])
    with caplog.at_level(logging.WARNING, logger="sayso.audio"):
        got = decode.read(cut)
    assert 8_000 <= len(got) < len(whole)
    np.testing.assert_allclose(got[:8000], whole[:8000], atol=1e-6)
    assert str(cut) in caplog.text
    assert caplog.text.count("cut off") == 1


def test_a_flac_written_to_a_pipe_says_no_length(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.flac"
    sf.write(path, _tone(2.0, 16000), 16000)
    whole, content = decode.read(path), bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that count samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    np.testing.assert_array_equal(decode.read(path), whole)
    assert decode.info(path).duration_s == 2.0
    assert not caplog.records


def test_a_wav_written_to_a_pipe_says_no_length(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, _tone(1.0, 16000), 16000)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(decode.read(path)) == 16000
    assert not caplog.records


def test_a_file_cut_to_nothing_is_an_error(tmp_path: Path) -> None:
    for ending in ("flac", "mp3", "ogg"):
        sf.write(tmp_path / f"a.{ending}", _tone(1.0, 16000), 16000)
        content = (tmp_path / f"a.{ending}").read_bytes()
        (tmp_path / f"cut.{ending}").write_bytes(content[:60])
        _refused(tmp_path / f"cut.{ending}", "damaged")


@pytest.mark.slow
def test_an_hour_needs_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    quiet = np.zeros(8000 * 60, np.int16)
    quiet[::8000] = 1000
    for name, minutes in (("minute.flac", 1), ("hour.flac", 60)):
        with sf.SoundFile(tmp_path / name, "w", 8000, 1, subtype="PCM_16") as file:
            for _ in range(minutes):
                file.write(quiet)
    code = (
        "import resource, sys; from sayso.audio import decode\n"
        "for name in sys.argv[1:]:\n"
        "    n = sum(map(len, decode.blocks(name)))\n"
        "    print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "minute.flac"), str(tmp_path / "hour.flac")]
    lines = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split("\n")
    (short, before_kib), (long, after_kib) = (map(int, line.split()) for line in lines[:2])
    assert (short, long) == (16000 * 60, 16000 * 3600)
    assert after_kib - before_kib < 4096


def test_from_samples_equals_read(tmp_path: Path) -> None:
    stereo = _tone(1.0, 44100, 2)
    sf.write(tmp_path / "a.wav", stereo, 44100, subtype="PCM_16")
    integers, _ = sf.read(tmp_path / "a.wav", dtype="int16")
    got = decode.from_samples(integers, 44100)
    np.testing.assert_allclose(got, decode.read(tmp_path / "a.wav"), atol=1e-6)
    mono = stereo[:, 0].astype(np.float32)
    np.testing.assert_array_equal(decode.from_samples(mono, 16000), mono)
    np.testing.assert_allclose(decode.from_samples(list(map(float, mono[:100])), 16000), mono[:100], atol=1e-7)
    assert decode.from_samples(np.array([0, 128, 255], np.uint8), 16000)[1] == 0.0
    assert decode.from_samples(np.array([2**31 - 1, -(2**31)], np.int32), 16000)[1] == -1.0


@pytest.mark.parametrize(
    ("samples", "rate", "found"),
    [
        (np.zeros((2, 3, 4)), 16000, r"shape \(2, 3, 4\)"),
        (np.zeros((1, 16000)), 16000, r"shape \(1, 16000\)"),
        (np.zeros((10, 0)), 16000, "shape"),
        (np.float32(0.5), 16000, r"shape \(\)"),
        (np.zeros(0), 16000, "no samples"),
        (np.zeros(10, complex), 16000, "complex"),
        (np.array(["a", "b"]), 16000, "type"),
        (np.zeros(10, np.int64), 16000, "int64"),
        (np.array([0.0, np.nan]), 16000, "NaN"),
        (np.array([0.0, np.inf]), 16000, "infinite"),
        (np.array([0.0, 12000.0]), 16000, "out-of-range"),
        (np.zeros(10), 0, "rate of 0 Hz"),
        (np.zeros(10), -8000, "rate of -8000 Hz"),
    ],
)
def test_from_samples_refuses(samples: Array, rate: int, found: str) -> None:
    with pytest.raises(AudioError, match=found) as caught:
        decode.from_samples(samples, rate)
    assert "legal" in str(caught.value)
