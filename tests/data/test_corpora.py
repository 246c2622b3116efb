"""Corpora and importers: what comes in, and what a wrong line is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("lhotse", reason="lhotse is part of the train extra", exc_type=ImportError)

from sayso.core.errors import DataError
from sayso.data.corpora import CORPORA, corpora_root, read_corpus
from sayso.data.importers import import_recordings
from sayso.data.manifest import to_example


def _corpus(root: Path, rows: list[Any], name: str = "mine", file: str = "train.jsonl") -> Path:
    (root / name).mkdir(exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (root / name / file).write_text("\n".join(lines), encoding="utf-8")
    return root / name / file


def test_a_corpus_reads_normalised(tmp_path: Path) -> None:
    _corpus(tmp_path, [{"audio": "train/a.ogg", "text": "Set it to 21!", "speaker": 7, "duration": 1.5, "age": "x"}])
    [cut] = read_corpus("mine", "train", tmp_path)
    example = to_example(cut)
    assert (example.text, example.speaker, example.source) == ("set it to twenty one", "7", "mine")
    assert (example.intent, example.negative, example.duration_s) == (None, False, 1.5)
    assert example.audio == str(tmp_path / "mine/train/a.ogg")
    assert cut.supervisions[0].custom["written"] == "Set it to 21!"


def test_labels_bring_meaning(tmp_path: Path) -> None:
    rows = [
        {"audio": "a.wav", "duration": 1, "intent": "order", "slots": {"size": "large"}},
        {"audio": "b.wav", "duration": 1, "intent": None},
    ]
    first, second = map(to_example, import_recordings("labels", _corpus(tmp_path, rows)))
    assert first.intent == "order" and first.slots and (first.slots[0].name, first.slots[0].value) == ("size", "large")
    assert second.negative
    with pytest.raises(DataError, match=r"train.jsonl:1: 'intent' is missing"):
        import_recordings("labels", _corpus(tmp_path, [{"audio": "a.wav", "duration": 1}]))


@pytest.mark.parametrize(
    "row",
    ["{", "[]", {}, {"audio": "a", "duration": -1}, {"audio": "a", "duration": True}, {"audio": "a", "text": 5},
     {"audio": "a", "duration": 1, "slots": 3}, {"audio": "good.wav", "duration": 1}],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path: Path, row: Any) -> None:
    file = _corpus(tmp_path, [{"audio": "good.wav", "duration": 1}, row])
    with pytest.raises(DataError, match=r"train\.jsonl:2"):
        import_recordings("jsonl", file)


def test_missing_things_teach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _corpus(tmp_path, [{"audio": "a.wav", "duration": 1}])
    with pytest.raises(DataError, match="did you mean 'mine'"):
        read_corpus("mime", "train", tmp_path)
    with pytest.raises(DataError, match="Legal: train"):
        read_corpus("mine", "dev", tmp_path)
    monkeypatch.setenv("SAYSO_CORPORA", str(tmp_path / "no"))
    with pytest.raises(DataError, match="set SAYSO_CORPORA"):
        corpora_root()
    monkeypatch.setenv("SAYSO_CORPORA", str(tmp_path))
    assert corpora_root() == tmp_path.resolve()


def test_kaldi_folder(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 16000)
    (tmp_path / "wav.scp").write_text("u1 a.wav\n")
    (tmp_path / "text").write_text("u1 HELLO THERE\n")
    (tmp_path / "utt2spk").write_text("u1 s1\n")
    [example] = map(to_example, import_recordings("kaldi", tmp_path))
    assert (example.text, example.speaker, example.duration_s) == ("hello there", "s1", 0.5)
    (tmp_path / "wav.scp").write_text("u1 sox a.wav -t wav - |\n")
    with pytest.raises(DataError, match=r"wav.scp:1: .* is a command"):
        import_recordings("kaldi", tmp_path)


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["librispeech-tc5", "commonvoice-v1"])
def test_known_corpora(name: str) -> None:
    try:
        root = corpora_root()
    except DataError as error:
        pytest.skip(str(error))
    assert name in CORPORA
    cuts = list(read_corpus(name, "train", root))
    assert len(cuts) > 1000 and all(Path(to_example(cut).audio).exists() for cut in cuts[::100])
