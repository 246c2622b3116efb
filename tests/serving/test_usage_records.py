"""Usage records: written in batches, shed before they are in anybody's way, whole after a kill."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from live_service import ROOT, eventually

from sayso.core.errors import ConfigError
from sayso.serving.usage import Usage, UsageRow


def row(number: int) -> UsageRow:
    return UsageRow(
        at=float(number), stream=f"{number:x}", protocol="rest", key="-", bundle="home", version="0", outcome="ok",
        utterances=1, audio_s=1.0, wall_s=0.1,
    )  # fmt: skip


def count(path: Path) -> int:
    with sqlite3.connect(path) as base:
        return int(base.execute("SELECT count(*) FROM usage").fetchone()[0])


def test_all_is_written_and_kept(tmp_path: Path) -> None:
    for expected in (500, 1000):  # a second time: the same file
        usage = Usage(tmp_path / "usage.db", 1000)
        for number in range(500):
            usage.put(row(number))
        usage.close()
        assert count(tmp_path / "usage.db") == expected and usage.take_dropped() == 0


def test_a_locked_file_costs_rows_and_no_time(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    usage = Usage(path, 50)
    lock = sqlite3.connect(path)
    lock.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    for number in range(2000):
        usage.put(row(number))
    # whoever waited for the disk would have waited a second for each batch of two hundred
    assert time.monotonic() - began < 5.0
    lock.rollback()
    lock.close()
    usage.close()
    dropped = usage.take_dropped()
    assert dropped > 0 and count(path) + dropped == 2000


def test_a_full_disk_costs_rows_and_leaves_the_file_whole(tmp_path: Path) -> None:
    """SQLite's own bound on a file stands in for the disk's: the error is the same. With room again rows are kept."""
    path = tmp_path / "usage.db"
    usage = Usage(path, 5000)
    (pages,) = usage._base.execute("PRAGMA page_count").fetchone()
    usage._base.execute(f"PRAGMA max_page_count={pages + 2}")
    for number in range(1000):
        usage.put(row(number))
    eventually(lambda: usage._queue.empty() and usage._dropped > 0)
    usage._base.execute("PRAGMA max_page_count=100000")
    for number in range(100):
        usage.put(row(number))
    usage.close()
    dropped = usage.take_dropped()
    assert 0 < dropped <= 1000 and count(path) + dropped == 1100 and count(path) >= 100
    with sqlite3.connect(path) as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="usage records cannot be kept here"):
        Usage(tmp_path / "none" / "usage.db", 10)


def test_a_kill_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    code = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from test_usage_records import row; from sayso.serving.usage import Usage\n"
        "from pathlib import Path; import time\n"
        "usage = Usage(Path(sys.argv[3]), 1000)\n"
        "for number in range(10**9): usage.put(row(number)); time.sleep(0.001)\n"
    )
    folder = Path(__file__).parent
    process = subprocess.Popen([sys.executable, "-c", code, str(ROOT / "src"), str(folder), str(path)])
    eventually(lambda: path.exists() and _rows(path) > 0)
    before = count(path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert count(path) >= before
    with sqlite3.connect(path) as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _rows(path: Path) -> int:
    try:
        return count(path)
    except sqlite3.OperationalError:  # not made yet
        return 0
