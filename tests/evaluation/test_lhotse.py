"""Manifests as Lhotse itself writes them, against the reader that does without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sayso.core.result import Slot
from sayso.evaluation.examples import read_examples

lhotse = pytest.importorskip("lhotse", reason="lhotse is part of the train extra", exc_type=ImportError)


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_cut_set_reads_as_written(tmp_path: Path, name: str, channels: int) -> None:
    audio = tmp_path / "a.wav"
    soundfile.write(audio, np.zeros((8000, channels)), 16000)
    recording = lhotse.Recording.from_file(audio)
    meaning = {"intent": "lock", "slots": [{"name": "door", "value": "front", "text": "front door"}], "source": "x"}
    spoken = lhotse.SupervisionSegment(
        id="s",
        recording_id=recording.id,
        start=0.0,
        duration=0.5,
        channel=recording.channel_ids,
        text="lock the front door",
        language="en",
        speaker="v",
        custom=meaning,
    )
    cuts = lhotse.CutSet.from_cuts([recording.to_cut().with_id("c")])
    for cut in cuts:
        cut.supervisions = [spoken]
    cuts.to_file(tmp_path / name)
    [example] = read_examples(tmp_path / name)
    assert example.audio == str(audio)
    assert (example.text, example.intent, example.speaker) == ("lock the front door", "lock", "v")
    assert example.slots == (Slot(name="door", value="front", text="front door"),)
    assert (example.duration_s, example.source, example.negative) == (0.5, "x", False)
