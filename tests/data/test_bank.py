"""Feature banks against features made one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("lhotse", reason="lhotse is part of the train extra", exc_type=ImportError)

from sayso.audio.decode import read
from sayso.audio.features import fbank
from sayso.core.errors import DataError
from sayso.core.result import Slot
from sayso.data.augment import AugmentConfig
from sayso.data.features import FeatureBank, cached, fingerprint
from sayso.data.manifest import make_cut, meaning

DRY = AugmentConfig(room_p=0, noise_p=1)
SLOT = Slot(name="area", value="Kitchen", text="kitchen")


def _cuts(folder: Path, n: int = 5) -> list[Any]:
    rng = np.random.default_rng(0)
    cuts = []
    for i in range(n):
        length = 4000 + 1700 * i
        soundfile.write(folder / f"{i}.wav", rng.normal(0, 0.1, length), 16000)
        custom = meaning("light", [SLOT], source="x") if i else meaning(negative=True, source="x")
        cuts.append(make_cut(f"c{i}", folder / f"{i}.wav", f"clip {i}", "s", duration=length / 16000, custom=custom))
    return cuts


def test_frames_are_the_features(tmp_path: Path) -> None:
    cuts = _cuts(tmp_path)
    calls: list[tuple[int, int]] = []
    bank = FeatureBank.build(cuts, tmp_path / "bank", processes=1, progress=lambda *at: calls.append(at))
    assert len(bank) == 5 and calls[-1] == (5, 5)
    for i in range(5):
        expected = fbank(read(tmp_path / f"{i}.wav")).astype(np.float16)
        assert bank.features(i).dtype == np.float16 and np.array_equal(bank.features(i), expected)
        assert bank.frames(i) == len(expected)
    assert bank.meta(0).negative and bank.meta(0).intent is None
    meta = FeatureBank.open(tmp_path / "bank").meta(2)
    assert (meta.text, meta.intent, meta.slots, meta.speaker, meta.source) == ("clip 2", "light", (SLOT,), "s", "x")
    assert meta.duration == cuts[2].duration and not meta.negative


def test_a_part_of_a_recording(tmp_path: Path) -> None:
    cut = _cuts(tmp_path, 1)[0].truncate(offset=0.05, duration=0.15)
    bank = FeatureBank.build([cut], tmp_path / "bank", processes=1)
    assert np.array_equal(bank.features(0), fbank(read(tmp_path / "0.wav")[800:3200]).astype(np.float16))


@pytest.mark.slow
def test_two_processes_make_the_same_bank(tmp_path: Path) -> None:
    cuts = _cuts(tmp_path)
    one = FeatureBank.build(cuts, tmp_path / "one", augment=DRY, seed=3, processes=1)
    two = FeatureBank.build(cuts, tmp_path / "two", augment=DRY, seed=3, processes=2)
    assert (one.path / "frames.npy").read_bytes() == (two.path / "frames.npy").read_bytes()


def test_a_clip_depends_on_seed_and_id_alone(tmp_path: Path) -> None:
    cuts = _cuts(tmp_path)
    whole = FeatureBank.build(cuts, tmp_path / "whole", augment=DRY, seed=3, processes=1)
    part = FeatureBank.build(cuts[3:], tmp_path / "part", augment=DRY, seed=3, processes=1)
    other = FeatureBank.build(cuts[3:], tmp_path / "other", augment=DRY, seed=4, processes=1)
    assert np.array_equal(whole.features(3), part.features(0))
    assert not np.array_equal(part.features(0)[:8], other.features(0)[:8])


def test_unreadable_clips_are_left_out_and_reported(tmp_path: Path) -> None:
    cuts = _cuts(tmp_path)
    (tmp_path / "1.wav").write_bytes(b"not audio")
    bank = FeatureBank.build(cuts, tmp_path / "bank", processes=1)
    assert [bank.meta(i).id for i in range(len(bank))] == ["c0", "c2", "c3", "c4"]
    assert len(bank.skipped) == 1 and "1.wav" in bank.skipped[0]
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(DataError, match="none of 1 clips"):
        FeatureBank.build(cuts[1:2], tmp_path / "none", processes=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    with pytest.raises(DataError, match="no cuts"):
        FeatureBank.build([], tmp_path / "none", processes=1)


def test_cached_opens_what_is_there_and_mends_what_is_damaged(tmp_path: Path) -> None:
    cuts = _cuts(tmp_path)
    bank = cached(cuts, tmp_path / "cache", processes=1)
    made = (bank.path / "frames.npy").stat().st_mtime_ns
    assert (cached(cuts, tmp_path / "cache", processes=1).path / "frames.npy").stat().st_mtime_ns == made
    (bank.path / "frames.npy").write_bytes(b"short")
    with pytest.raises(DataError, match="damaged"):
        FeatureBank.open(bank.path)
    assert len(cached(cuts, tmp_path / "cache", processes=1)) == 5
    with pytest.raises(DataError, match="no such feature bank"):
        FeatureBank.open(tmp_path / "nowhere")


def test_fingerprint_covers_what_matters(tmp_path: Path) -> None:
    cuts = _cuts(tmp_path)
    prints = {
        fingerprint(cuts, None, 0, None), fingerprint(cuts[1:], None, 0, None), fingerprint(cuts, DRY, 0, None),
        fingerprint(cuts, DRY, 1, None), fingerprint(cuts, AugmentConfig(), 0, None),
    }  # fmt: skip
    assert len(prints) == 5
    assert fingerprint(cuts, None, 0, None) == fingerprint(_cuts(tmp_path), None, 9, None)
