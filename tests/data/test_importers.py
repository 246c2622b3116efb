"""Importers of labelled speech: three utterances of each format, made here, and the real texts where they are."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("lhotse", reason="lhotse is part of the train extra", exc_type=ImportError)

from sayso.core.errors import DataError
from sayso.core.result import Example
from sayso.data.importers import IMPORTERS, import_recordings
from sayso.data.importers.rows import objects
from sayso.data.importers.slurp import meaning_of
from sayso.data.importers.snips import utterances
from sayso.data.importers.stop import parse_frames
from sayso.data.manifest import read, to_example, write

Wav = Callable[..., Path]


@pytest.fixture
def wav(tmp_path: Path) -> Wav:
    """A recording of a quarter of a second, its folders made."""

    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(4000), 16000, format="FLAC" if name.endswith("flac") else "WAV")
        return path

    return make


def put(path: Path, content: str | list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else "\n".join(map(json.dumps, content))
    path.write_text(text, encoding="utf-8")
    return path


def slots(example: Example) -> list[tuple[str, str, str]]:
    return [(slot.name, slot.value, slot.text) for slot in example.slots or ()]


SLURP = {
    "sentence": "wake me at jean's tomorrow",
    "sentence_annotation": "wake me at [place : jean's] [date : tomorrow]",
    "intent": "alarm",
    "scenario": "alarm",
    "action": "set",
    "recordings": [{"file": "audio-1.flac"}, {"file": "audio-1-headset.flac"}],
}


def test_slurp(tmp_path: Path, wav: Wav) -> None:
    for name in ("audio-1.flac", "audio-1-headset.flac"):
        wav(f"audio/slurp_real/{name}")
    wav("audio/slurp_synth/audio-9.flac")
    lines = [
        SLURP,
        {**SLURP, "sentence_annotation": "wake me [date: tomorrow]"},
        {**SLURP, "recordings": [{"file": "audio-9.flac"}, {"file": "lost.flac"}]},
        {**SLURP, "action": ""},
    ]
    file = put(tmp_path / "dataset/slurp/devel.jsonl", lines)
    put(
        tmp_path / "dataset/slurp/metadata.json", json.dumps({"0": {"recordings": {"audio-1.flac": {"usrid": "FO-1"}}}})
    )
    bad: list[DataError] = []
    cuts = list(import_recordings("slurp", file, bad=bad))
    first, second, third = map(to_example, cuts)
    assert (first.text, first.intent, first.speaker) == ("wake me at jean's tomorrow", "alarm_set", "FO-1")
    assert slots(first) == [("place", "jean's", "jean's"), ("date", "tomorrow", "tomorrow")]
    assert (second.speaker, third.speaker) == (None, "synthetic") and Path(third.audio).is_file()
    custom = [cut.supervisions[0].custom for cut in cuts]
    assert [c.get("device") for c in custom] == ["distant", "headset", None] and custom[0]["domain"] == "alarm"
    assert [cut.id for cut in cuts] == ["slurp/audio-1", "slurp/audio-1-headset", "slurp/audio-9"]
    said = [str(error) for error in bad]
    assert "devel.jsonl:2: 'sentence_annotation' is" in said[0] and "devel.jsonl:3: " in said[1]
    assert "lost.flac" in said[1] and "devel.jsonl:4: 'action'" in said[2] and len(said) == 3
    with pytest.raises(DataError, match=r"devel\.jsonl:2"):
        import_recordings("slurp", file)


def test_fluent(tmp_path: Path, wav: Wav) -> None:
    wav("wavs/speakers/s1/a.wav"), wav("wavs/speakers/s1/b.wav")
    file = tmp_path / "data/train_data.csv"
    file.parent.mkdir()
    with file.open("w", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(["", "path", "speakerId", "transcription", "action", "object", "location"])
        rows.writerow([0, "wavs/speakers/s1/a.wav", "s1", "Turn on the lights, please", "activate", "lights", "none"])
        rows.writerow([1, "wavs/speakers/s1/b.wav", "s1", "Bathroom heat up", "increase", "heat", "washroom"])
        rows.writerow([2, "wavs/speakers/s1/c.wav", "s1", "Bathroom heat up", "", "heat", "washroom"])
    bad: list[DataError] = []
    first, second = map(to_example, import_recordings("fluent", file, bad=bad))
    assert (first.text, first.intent, first.speaker) == ("turn on the lights please", "activate", "s1")
    assert slots(first) == [("object", "lights", "lights")]
    assert slots(second) == [("object", "heat", "heat"), ("location", "washroom", "")]
    assert len(bad) == 1 and "train_data.csv:4: 'action' is empty" in str(bad[0])
    with pytest.raises(DataError, match=r"x\.csv:1: no column 'action'"):
        import_recordings("fluent", put(tmp_path / "x.csv", "path,speakerId,transcription\n"))


SNIPS = {
    "language": "en",
    "intents": {
        "SwitchOn": {
            "utterances": [
                {
                    "data": [
                        {"text": "Light the "},
                        {"text": "lounge ", "entity": "room", "slot_name": "house_room"},
                        {"text": "now"},
                    ]
                },
                {"data": [{"text": "all on"}]},
            ]
        },
        "SwitchOff": {"utterances": [{"data": [{"text": "All on!"}]}]},
    },
    "entities": {"room": {"data": [{"value": "living room", "synonyms": ["Lounge"]}]}},
}


def test_snips(tmp_path: Path, wav: Wav) -> None:
    folder = tmp_path / "smart-lights-en-close-field"
    put(folder / "dataset.json", json.dumps(SNIPS))
    wav("smart-lights-en-close-field/speech_corpus/audio/0.wav")
    worker = {"id": "w", "gender": "female", "age": 31, "country": "GB"}
    heard = {
        "0": {"filename": "0.wav", "text": "light the lounge now", "worker": worker},
        "1": {"filename": "1.wav", "text": "all on", "worker": worker},
        "2": {"filename": "2.wav", "text": "something else", "worker": worker},
        "3": {"text": "light the lounge now"},
    }
    put(folder / "speech_corpus/metadata.json", json.dumps(heard))
    bad: list[DataError] = []
    [cut] = import_recordings("snips", folder, bad=bad)
    example = to_example(cut)
    assert (example.text, example.intent, example.speaker) == ("light the lounge now", "SwitchOn", "w")
    assert slots(example) == [("house_room", "living room", "lounge")]
    kept = {key: cut.supervisions[0].custom[key] for key in ("gender", "age", "accent", "device")}
    assert kept == {"gender": "female", "age": "31", "accent": "GB", "device": "close-field"}
    assert ["two meanings" in str(bad[0]), "no utterance" in str(bad[1]), "'filename'" in str(bad[2])] == [True] * 3
    assert "metadata.json: recording '1'" in str(bad[0])


TREE = (
    "[IN:GET_WEATHER [SL:LOCATION [IN:GET_LOCATION [SL:POINT coast ] [SL:NEAR north ] ] ] [SL:DATE_TIME next week ] ]"
)


def test_frames_of_a_tree() -> None:
    outer, inner = parse_frames(TREE)
    assert outer["intent"] == "GET_WEATHER" and (outer["parent"], outer["slot"]) == (None, None)
    assert outer["slots"] == [
        {"name": "LOCATION", "value": "coast north"},
        {"name": "DATE_TIME", "value": "next week"},
    ]
    assert inner == {
        "intent": "GET_LOCATION",
        "slots": [{"name": "POINT", "value": "coast"}, {"name": "NEAR", "value": "north"}],
        "parent": 0,
        "slot": 0,
    }
    full = parse_frames("[IN:A what is [SL:B the [IN:C big [SL:D one]]] [SL:E [IN:F of all]] now]")
    assert [(f["intent"], f["parent"], f["slot"]) for f in full] == [("A", None, None), ("C", 0, 0), ("F", 0, 1)]
    assert [s["value"] for s in full[0]["slots"]] == ["the big one", "of all"]


@pytest.mark.parametrize(
    "tree",
    ["", "words", "[IN:A", "[IN:A ] ]", "[SL:A x ]", "[IN:A [IN:B ] ]", "[IN:A [SL:B [SL:C x ] ] ]", "[IN:A ] [IN:B ]",
     "[IN:A [XX:B ] ]", "[IN:A " + "[SL:S [IN:B " * 70 + "] ] " * 70 + "]"],
)  # fmt: skip
def test_what_is_no_tree_is_said(tree: str) -> None:
    with pytest.raises(DataError, match=r"tree|']' number 3|never closed|no word"):
        parse_frames(tree)


def test_stop(tmp_path: Path, wav: Wav) -> None:
    wav("eval_0/weather_eval_0/1.wav"), wav("eval_0/weather_eval/2.wav")
    head = (
        "file_id\tdomain\tgender\tnative\tutterance\tseqlogical\tnormalized_utterance\tdecoupled_normalized_seqlogical"
    )
    lines = [
        f'eval_0/weather_eval_0/1.wav\tweather\tfemale\tno\tNext Week"\tx\tnorth coast weather next week\t{TREE}',
        f"eval_0/weather_eval_0/2.wav\tweather\tmale\tyes\tu\tx\tcoast\t{TREE}",
        "eval_0/weather_eval_0/1.wav\tweather\tmale\tyes\tu\tx\tcoast\t[IN:A ] ]",
    ]
    file = put(tmp_path / "manifests/eval.tsv", "\n".join([head, *lines]))
    bad: list[DataError] = []
    first, second = cuts = list(import_recordings("stop", file, bad=bad))
    example = to_example(first)
    assert (example.intent, example.text) == ("GET_WEATHER", "north coast weather next week")
    assert slots(example) == [("LOCATION", "coast north", ""), ("DATE_TIME", "next week", "next week")]
    custom = first.supervisions[0].custom
    assert custom["tree"] == TREE
    assert [frame["intent"] for frame in custom["frames"]] == ["GET_WEATHER", "GET_LOCATION"]
    assert (custom["accent"], custom["gender"], custom["domain"]) == ("non-native", "female", "weather")
    assert to_example(second).audio.endswith("weather_eval/2.wav")
    assert len(bad) == 1 and "eval.tsv:4: '[IN:A ] ]': ']' number 3" in str(bad[0])
    again = list(read(write(cuts, tmp_path / "cuts.jsonl")))
    assert again[0].supervisions[0].custom == custom


def test_nemo(tmp_path: Path, wav: Wav) -> None:
    path = wav("a.wav")
    said = {"scenario": "Calendar", "action": "set", "entities": [{"type": "date", "filler": "Saturday"}]}
    lines = [
        {"audio_filepath": str(path), "duration": 0.25, "text": "Hello", "speaker": 3},
        {"audio_filepath": "b.wav", "duration": 0.25, "text": str(said)},
        {"audio_filepath": "a.wav", "duration": 0.25, "offset": 1.5, "text": "x"},
        {"audio_filepath": "c.wav", "duration": 0.25, "text": "{'scenario': __import__('os').getcwd()}"},
        {"duration": 1},
        {"audio_filepath": "d.wav", "duration": -1},
    ]
    bad: list[DataError] = []
    first, second = map(to_example, import_recordings("nemo", put(tmp_path / "n.json", lines), bad=bad))
    assert (first.text, first.speaker, first.audio, first.intent) == ("hello", "3", str(path), None)
    assert (second.text, second.intent, second.audio) == (None, "Calendar_set", str(tmp_path / "b.wav"))
    assert slots(second) == [("date", "Saturday", "Saturday")]
    assert ["n.json:3: begins 1.5 s into" in str(bad[0]), "n.json:4: 'text'" in str(bad[1])] == [True, True]
    assert ["'audio_filepath' is missing" in str(bad[2]), "'duration'" in str(bad[3])] == [True, True]


def test_lhotse_keeps_what_we_wrote_and_takes_what_others_did(tmp_path: Path, wav: Wav) -> None:
    wav("audio/a.wav")
    line = {
        "audio": "audio/a.wav",
        "text": "At 5!",
        "intent": "i",
        "slots": {"t": "5"},
        "style": "read",
        "device": "far",
    }
    ours = write(import_recordings("jsonl", put(tmp_path / "l.jsonl", [line])), tmp_path / "cuts.jsonl.gz")
    again = write(import_recordings("lhotse", ours), tmp_path / "again.jsonl.gz")
    assert again.read_bytes() == ours.read_bytes()
    row = json.loads(gzip.decompress(ours.read_bytes()))
    row["supervisions"][0] |= {"custom": {"speed": 1}, "text": "HELLO", "gender": "f"}
    part = {**row, "id": "part", "start": 0.1, "duration": 0.1}
    foreign = put(tmp_path / "foreign.jsonl", [row, part, {"type": "Recording"}])
    bad: list[DataError] = []
    [cut] = import_recordings("lhotse", foreign, bad=bad)
    assert (to_example(cut).text, to_example(cut).intent, cut.supervisions[0].custom["gender"]) == ("hello", None, "f")
    assert "foreign.jsonl:2: cut part" in str(bad[0]) and "foreign.jsonl:3" in str(bad[1])


@pytest.mark.parametrize("kind", IMPORTERS)
def test_nothing_there_is_said(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        import_recordings(kind, tmp_path / "none", bad=[])
    with pytest.raises(DataError, match="did you mean 'slurp'"):
        import_recordings("slurpy", tmp_path)


@pytest.mark.corpus
def test_every_sentence_of_slurp_is_understood(corpora: Path) -> None:
    file = corpora / "text" / "slurp" / "devel.jsonl"
    if not file.is_file():
        pytest.skip(f"no {file}")
    rows = list(objects(file))
    assert len(rows) == 2033
    counted: Counter[bool] = Counter()
    for row in rows:
        assert not isinstance(row, DataError)
        said = meaning_of(row[1], row[0])
        assert [slot["name"] for slot in said["slots"]] == [entity["type"] for entity in row[1]["entities"]]
        counted.update(bool(slot["text"]) for slot in said["slots"])
    assert counted[True] > 2000 and counted[False] == 4


@pytest.mark.corpus
def test_every_query_of_snips_is_understood(corpora: Path) -> None:
    files = sorted((corpora / "text" / "snips").glob("train_*.json"))
    if not files:
        pytest.skip(f"no texts at {corpora / 'text' / 'snips'}")
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8", errors="replace"))
        found = list(utterances(content, str(file)))
        [(intent, entry)] = content.items()
        assert len(found) == len(entry) > 1500 and {said["intent"] for said in found} == {intent}
        pieces = sum("entity" in piece for utterance in entry for piece in utterance["data"])
        assert sum(len(said["slots"]) for said in found) > 0.99 * pieces
