"""Manifests: written, read back, and read by the judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("lhotse", reason="lhotse is part of the train extra", exc_type=ImportError)

from sayso.core.errors import DataError
from sayso.core.result import Slot
from sayso.data.manifest import make_cut, meaning, read, summary, to_example, write, written_tree
from sayso.evaluation.examples import read_examples

SLOT = Slot(name="area", value="Kitchen", text="the kitchen")


def _cuts(folder: Path) -> list[object]:
    return [
        make_cut("a", folder / "a.flac", "light the kitchen", "s", duration=2.0,
                 custom=meaning("light", [SLOT], domain="home", source="tts")),
        make_cut("b", folder / "b.flac", "how odd", duration=1.0, custom=meaning(negative=True, source="tts")),
        make_cut("c", "/elsewhere/c.flac", "unknown", duration=0.1234567, custom=meaning(source="cv")),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_round_trip_and_the_judge(tmp_path: Path, name: str) -> None:
    cuts = _cuts(tmp_path)
    path = write(cuts, tmp_path / name)
    back = list(read(path))
    assert [to_example(cut) for cut in back] == [to_example(cut) for cut in cuts]
    assert read_examples(path) == [to_example(cut) for cut in cuts]
    assert [cut.to_dict() for cut in back] == [cut.to_dict() for cut in cuts]  # type: ignore[attr-defined]
    first = path.read_bytes()
    assert write(back, path).read_bytes() == first


def test_nested_meanings(tmp_path: Path) -> None:
    tree = "[IN:go go to [SL:to [IN:event the [SL:name party ] ] ] ]"
    cut = make_cut("a", tmp_path / "a.flac", "go to the party", duration=1.0, custom=meaning(tree=tree))
    (back,) = read(write([cut], tmp_path / "cuts.jsonl"))
    assert written_tree(back) == tree and written_tree(_cuts(tmp_path)[0]) is None
    assert to_example(back).intent is None
    for wrong in ("[IN:go go", [tree]):
        cut.supervisions[0].custom["tree"] = wrong
        (tmp_path / "wrong.jsonl").unlink(missing_ok=True)
        with pytest.raises(DataError, match=r"wrong\.jsonl:1: cut a: 'tree' must be one"):
            read(write([cut], tmp_path / "wrong.jsonl"))


def test_a_folder_may_move(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    write(_cuts(tmp_path / "old"), tmp_path / "old/cuts.jsonl")
    (tmp_path / "old").rename(tmp_path / "new")
    assert to_example(next(iter(read(tmp_path / "new/cuts.jsonl")))).audio == str(tmp_path / "new/a.flac")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(_cuts(tmp_path), tmp_path / "cuts.jsonl")
    before = path.read_bytes()
    with pytest.raises(DataError, match="two cuts have the id 'a'"):
        write(_cuts(tmp_path) * 2, path)
    with pytest.raises(DataError, match="no cuts"):
        write([], path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="ends in"):
        write(_cuts(tmp_path), tmp_path / "cuts.txt")


@pytest.mark.parametrize("line", ["{", "[]", '{"type": "MonoCut"}', '{"audio": "a.wav"}'])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    path = write(_cuts(tmp_path), tmp_path / "cuts.jsonl")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"cuts\.jsonl:4"):
        read(path)


def test_duration_from_the_file_and_summary(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(4000), 8000)
    cut = make_cut("x", tmp_path / "x.wav")
    assert (cut.duration, cut.recording.sampling_rate) == (0.5, 8000)
    result = summary(_cuts(tmp_path))
    assert (result.n, result.speakers, result.sources) == (3, 1, {"tts": 2, "cv": 1})
    assert result.intents == {"light": 1, "(negative)": 1, "(unknown)": 1}
    assert result.hours == pytest.approx(3.1234567 / 3600, abs=1e-6)


def test_negative_excludes_an_intent() -> None:
    with pytest.raises(DataError, match="cannot be negative"):
        meaning("light", negative=True)
