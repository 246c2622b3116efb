"""A teacher's features in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sayso.core.errors import DataError
from sayso.data.teacher import read_teacher


def folder(path: Path, places: list[dict[str, object]], features: np.ndarray) -> str:
    path.mkdir()
    np.save(path / "features.npy", features)
    (path / "index.jsonl").write_text("".join(json.dumps(place) + "\n" for place in places))
    return str(path)


def test_each_cut_has_its_rows(tmp_path: Path) -> None:
    features = np.arange(12, dtype=np.float16).reshape(6, 2)
    places: list[dict[str, object]] = [{"id": "a", "first": 0, "frames": 2}, {"id": "b", "first": 2, "frames": 4}]
    found = read_teacher(folder(tmp_path / "t", places, features))
    assert found.keys() == {"a", "b"}
    assert np.array_equal(found["a"], features[:2]) and np.array_equal(found["b"], features[2:])


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read.*teach\.py"):
        read_teacher(str(tmp_path / "none"))
    features = np.zeros((6, 2), np.float16)
    with pytest.raises(DataError, match=r"index.jsonl:1: rows 4 to 8 of 6"):
        read_teacher(folder(tmp_path / "long", [{"id": "a", "first": 4, "frames": 4}], features))
    with pytest.raises(DataError, match=r"index.jsonl:1: not a place"):
        read_teacher(folder(tmp_path / "odd", [{"id": "a"}], features))
    with pytest.raises(DataError, match=r"has shape \(6,\)"):
        read_teacher(folder(tmp_path / "flat", [], features[:, 0]))
