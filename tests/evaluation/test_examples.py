"""Manifests: both formats read alike, every mistake named with its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from sayso.core.errors import DataError
from sayso.core.result import Slot
from sayso.evaluation.examples import read_examples


def _write(path: Path, *rows: Any) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def _cut(**changes: Any) -> dict[str, Any]:
    cut: dict[str, Any] = {
        "id": "c",
        "start": 0.0,
        "duration": 1.5,
        "channel": 0,
        "type": "MonoCut",
        "recording": {
            "id": "r",
            "sources": [{"type": "file", "channels": [0], "source": "a.flac"}],
            "sampling_rate": 16000,
            "num_samples": 24000,
            "duration": 1.5,
        },
        "supervisions": [
            {
                "id": "s",
                "recording_id": "r",
                "start": 0.0,
                "duration": 1.5,
                "text": "lock the door",
                "speaker": "v1",
                "language": "en",
                "custom": {
                    "intent": "lock",
                    "slots": [{"name": "door", "value": "front", "text": "the door"}],
                    "source": "espeak",
                },
            }
        ],
    }
    return {**cut, **changes}


def test_plain_rows(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "labels.jsonl",
        {"audio": "a.wav", "intent": "lock", "slots": {"door": "front", "n": 2}, "age": "teens"},
        {"audio": "sub/b.wav", "intent": "lock", "slots": [{"name": "door", "value": "front"}]},
        {"audio": "/abs/c.wav", "intent": None},
        "",
        {"audio": "d.wav", "text": "hello", "speaker": 7, "duration": 2},
        {"audio": "e.wav", "intent": "stop"},
        {"audio": "f.wav", "intent": "stop", "slots": None},
    )
    first, second, third, fourth, fifth, sixth = read_examples(path)
    assert first.audio == str(tmp_path / "a.wav")
    assert first.slots == (Slot(name="door", value="front"), Slot(name="n", value="2"))
    assert second.slots == (Slot(name="door", value="front"),)
    assert (third.audio, third.negative, third.intent) == ("/abs/c.wav", True, None)
    assert (fourth.negative, fourth.intent, fourth.slots) == (False, None, None)
    assert (fourth.text, fourth.speaker, fourth.duration_s) == ("hello", "7", 2.0)
    assert (fifth.slots, sixth.slots) == ((), None)


def test_cuts_and_gzip(tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    negative = _cut(supervisions=[{"text": "tell me a joke", "custom": {"intent": None}}])
    with gzip.open(path, "wt") as file:
        file.write(json.dumps(_cut()) + "\n" + json.dumps(negative) + "\n" + json.dumps(_cut(supervisions=[])) + "\n")
    meant, joke, bare = read_examples(tmp_path)
    assert (meant.audio, meant.text, meant.intent) == (str(tmp_path / "a.flac"), "lock the door", "lock")
    assert meant.slots == (Slot(name="door", value="front", text="the door"),)
    assert (meant.speaker, meant.source, meant.duration_s) == ("v1", "espeak", 1.5)
    assert joke.negative and joke.slots is None
    assert not bare.negative and bare.intent is None and bare.text is None


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "not valid JSON"),
        ([1], "expected an object"),
        ({"text": "x"}, "'audio' is missing"),
        ({"audio": ""}, "'audio' must be a non-empty string"),
        ({"audio": 3}, "'audio' must be"),
        ({"audio": "a", "intent": 3}, "'intent' must be"),
        ({"audio": "a", "slots": "x"}, "'slots' must be an object or a list"),
        ({"audio": "a", "slots": ["x"]}, r"slots\[0\]"),
        ({"audio": "a", "slots": [{"name": "x"}]}, "needs 'name' and 'value'"),
        ({"audio": "a", "slots": {"x": ["y"]}}, "needs 'name' and 'value'"),
        ({"audio": "a", "duration": "long"}, "'duration' must be a number"),
        (_cut(start=0.5), "part of its recording"),
        (_cut(duration=0.7), "part of its recording"),
        (_cut(supervisions=[{}, {}]), "at most one"),
        (_cut(recording={"sources": [{"type": "url", "source": "x"}]}), "type 'file'"),
        (_cut(recording=[]), "'recording' must be an object"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, row: Any, says: str) -> None:
    path = _write(tmp_path / "bad.jsonl", {"audio": "fine.wav"}, row)
    with pytest.raises(DataError, match=says) as caught:
        read_examples(path)
    assert f"{path}:2" in str(caught.value)


def test_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such manifest"):
        read_examples(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="exactly one"):
        read_examples(tmp_path)
    _write(tmp_path / "a.jsonl", "")
    with pytest.raises(DataError, match="holds no examples"):
        read_examples(tmp_path)
    _write(tmp_path / "b.jsonl", "")
    with pytest.raises(DataError, match=r"a\.jsonl, b\.jsonl"):
        read_examples(tmp_path)
    (tmp_path / "c.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_examples(tmp_path / "c.jsonl")
    (tmp_path / "d.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="cannot be read"):
        read_examples(tmp_path / "d.jsonl.gz")


def test_what_else_a_corpus_says_and_frames(tmp_path: Path) -> None:
    frames = [{"intent": "remind", "slots": {"who": "me"}}, {"intent": "call", "parent": 0}]
    plain = _write(tmp_path / "a.jsonl", {"audio": "a", "age": 27, "device": "phone", "ok": True, "frames": frames})
    first = read_examples(plain)[0]
    assert first.custom == {"age": "27", "device": "phone"}
    assert first.intent == "remind" and first.slots == (Slot(name="who", value="me"),)
    assert first.frames is not None and [frame.parent for frame in first.frames] == [None, 0]
    cut = _cut()
    cut["supervisions"][0] |= {"gender": "f"}
    cut["supervisions"][0]["custom"]["snr"] = 12.5
    assert read_examples(_write(tmp_path / "b.jsonl", cut))[0].custom == {"gender": "f", "snr": "12.5"}
    for wrong, message in (
        ([], "must be a list"),
        ([{"slots": {}}], r"frames\[0\]: 'intent' is missing"),
        ([{"intent": "a", "parent": 0}], r"frames\[0\]: 'parent' must be the number of an earlier frame"),
    ):
        with pytest.raises(DataError, match=message):
            read_examples(_write(tmp_path / "c.jsonl", {"audio": "a", "frames": wrong}))
