"""A folder of recordings and its manifest: shares, determinism, resuming, failures, and that Lhotse reads it."""

from __future__ import annotations

import gzip
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from sayso.core.errors import SynthesisError
from sayso.core.result import Slot
from sayso.data.synthesis import ENGINES, espeak, flite, hibari
from sayso.data.synthesis.engine import level_db
from sayso.data.synthesise import Sentence, SynthConfig, plan, shares, synthesise

TRAIN = [voice for voice in hibari.VOICES[:1] + flite.VOICES + espeak.VOICES if voice.role == "train"]
SAID = [
    Sentence("lights on", "light.on", (Slot(name="device", value="light", text="lights"),)),
    Sentence("set it to twenty one", "heat.set", (Slot(name="degrees", value="21", text="twenty one"),)),
    Sentence("lights on", "light.on", (Slot(name="device", value="light", text="lights"),)),
]
FAST = SynthConfig(engines=("espeak-ng",), processes=1)


@pytest.fixture(autouse=True)
def _espeak() -> None:
    problem = ENGINES["espeak-ng"].missing()
    if problem:
        pytest.skip(problem)


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_shares_hold_the_cap_and_the_ratio() -> None:
    share = dict(zip([voice.id for voice in TRAIN], shares(TRAIN, SynthConfig()), strict=True))
    assert sum(share.values()) == pytest.approx(1)
    assert sum(s for name, s in share.items() if name.startswith("espeak")) == pytest.approx(0.4)
    assert share["hibari:heart"] / share["flite:awb"] == pytest.approx(4 / 3)
    alone = shares([voice for voice in TRAIN if voice.engine == "espeak-ng"], SynthConfig())
    np.testing.assert_allclose(alone, 1 / len(alone))


@pytest.mark.parametrize("each", [1, 3])
def test_draws_follow_the_shares(each: int) -> None:
    config = SynthConfig(voices_each=each)
    jobs = plan([Sentence(f"sentence {i}") for i in range(4000)], TRAIN, config)
    heard = Counter(job.voice.id for job in jobs)
    for voice, share in zip(TRAIN, shares(TRAIN, config), strict=True):
        spread = 5 * (share * (1 - share) / len(jobs)) ** 0.5
        assert heard[voice.id] / len(jobs) == pytest.approx(share, abs=spread)
    assert all(0.85 <= job.rate <= 1.2 and 0.94 <= job.pitch <= 1.06 for job in jobs)
    assert len({job.name for job in jobs}) == len(jobs)
    for i in range(0, len(jobs), each):
        assert len({job.voice.id for job in jobs[i : i + each]}) == each  # every share is under 1/3


def test_a_plan_depends_on_the_sentence_and_not_on_its_neighbours() -> None:
    alone = {job.name for job in plan(SAID[1:2], TRAIN, SynthConfig())}
    assert alone < {job.name for job in plan(SAID, TRAIN, SynthConfig())}
    assert not alone & {job.name for job in plan(SAID[1:2], TRAIN, SynthConfig(seed=1))}


def test_lhotse_reads_meanings_and_sound(tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    path = synthesise(SAID, tmp_path, role="train", config=FAST, domain="home")
    cuts = list(lhotse.CutSet.from_jsonl(path))
    assert [cut.supervisions[0].text for cut in cuts] == [s.text for s in SAID for _ in range(2)]
    assert [cut.to_dict() for cut in cuts] == rows(path)
    for cut in cuts:
        lhotse.qa.validate(cut.with_recording_path_prefix(tmp_path), read_data=True)
        said = cut.supervisions[0]
        assert said.custom["source"] == f"synthesis:{said.speaker}" and said.custom["domain"] == "home"
        samples, rate = sf.read(tmp_path / cut.recording.sources[0].source, dtype="float32")
        assert rate == 16000 and len(samples) == cut.num_samples
        assert level_db(samples) < -22.8 and np.abs(samples).max() < 0.96
    assert cuts[2].supervisions[0].custom["intent"] == "heat.set"
    assert cuts[2].supervisions[0].custom["slots"] == [{"name": "degrees", "value": "21", "text": "twenty one"}]


def test_negatives_have_no_meaning(tmp_path: Path) -> None:
    path = synthesise(SAID[:1], tmp_path, role="valid", config=FAST, domain="home", negative=True)
    for row in rows(path):
        assert row["supervisions"][0]["custom"]["intent"] is None and not row["supervisions"][0]["custom"]["slots"]
        assert row["supervisions"][0]["speaker"] in {v.id for v in espeak.VOICES if v.role == "valid"}


def test_one_process_and_two_give_the_same_bytes(tmp_path: Path) -> None:
    many = [Sentence(f"number {i}") for i in range(9)]
    ticks: list[tuple[int, int]] = []
    for name, processes in (("one", 1), ("two", 2)):
        config = FAST.model_copy(update={"processes": processes})
        synthesise(
            many, tmp_path / name, role="train", config=config, domain="d", progress=lambda *at: ticks.append(at)
        )
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert ticks == [(i, 18) for i in range(1, 19)] * 2


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesise(SAID, tmp_path / "a", role="train", config=FAST, domain="d", progress=stop)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "audio").iterdir()}
    assert len(kept) == 3 and not (tmp_path / "a" / "cuts.jsonl.gz").exists()
    damaged = sorted(kept)[0]
    damaged.write_bytes(b"fLaC")
    for name in "ab":
        synthesise(SAID, tmp_path / name, role="train", config=FAST, domain="d")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items() if path != damaged)


def test_a_sentence_that_cannot_be_spoken_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sayso.data"):
        path = synthesise([*SAID, Sentence("...")], tmp_path, role="train", config=FAST, domain="d")
    assert len(rows(path)) == 6
    assert [record.getMessage() for record in caplog.records] == [caplog.records[0].getMessage()]
    assert "espeak-ng: 2 of 8" in caplog.text and "'...'" in caplog.text


def test_nothing_spoken_is_an_error(tmp_path: Path) -> None:
    for sentences in ([], [Sentence("..."), Sentence("")]):
        with pytest.raises(SynthesisError):
            synthesise(sentences, tmp_path, role="train", config=FAST, domain="d")
    assert not (tmp_path / "cuts.jsonl.gz").exists()
