"""Whole files or none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sayso.core.errors import UsageError
from sayso.core.files import aside, whole, write_text


class TestWhole:
    def test_a_file_takes_the_targets_place(self, tmp_path: Path) -> None:
        target = tmp_path / "a.txt"
        target.write_text("old")
        with whole(target) as fresh:
            fresh.write_text("new")
            assert target.read_text() == "old"
        assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]

    def test_a_failure_leaves_the_old_file_alone(self, tmp_path: Path) -> None:
        target = tmp_path / "a.txt"
        target.write_text("old")
        with pytest.raises(KeyboardInterrupt), whole(target) as fresh:
            fresh.write_text("half")
            raise KeyboardInterrupt
        assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]

    def test_a_folder_takes_the_targets_place(self, tmp_path: Path) -> None:
        target = tmp_path / "f"
        for name in ("one", "two"):
            with whole(target) as fresh:
                fresh.mkdir()
                (fresh / name).write_text(name)
        assert [path.name for path in target.iterdir()] == ["two"] and list(tmp_path.iterdir()) == [target]

    def test_what_a_killed_writer_of_this_number_left_is_cleared(self, tmp_path: Path) -> None:
        target = tmp_path / "f"
        stale = tmp_path / f".f.{os.getpid()}.tmp"
        stale.mkdir()
        (stale / "half").write_text("half")
        with whole(target) as fresh:
            fresh.mkdir()
        assert fresh == stale and not list(target.iterdir()) and list(tmp_path.iterdir()) == [target]

    def test_a_failed_move_brings_the_old_folder_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        target = tmp_path / "f"
        target.mkdir()
        (target / "one").write_text("one")
        replace = os.replace

        def breaks(source: Path, to: Path) -> None:
            if Path(source).name.endswith(".tmp"):
                raise OSError("disk gone")
            replace(source, to)

        monkeypatch.setattr("sayso.core.files.os.replace", breaks)
        with pytest.raises(OSError, match="disk gone"), whole(target) as fresh:
            fresh.mkdir()
        assert (target / "one").read_text() == "one" and not aside(target).exists()

    def test_a_place_that_cannot_be_written_raises_its_own_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(NotADirectoryError), whole(tmp_path / "file" / "a.txt") as fresh:
            fresh.write_text("x")


def test_write_text_names_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        write_text(tmp_path, ["x"])
    with pytest.raises(UsageError, match="existing, writable folder"):
        write_text(tmp_path / "no" / "a.txt", ["x"])
    assert write_text(tmp_path / "a.txt", ["x", "y"]).read_text() == "xy"
