"""Who used what, for how long, with what outcome: rows in SQLite, never words.

One thread writes, in batches, from a bounded queue. Where it cannot keep up, or the disk is full, rows are dropped and
counted; a request never waits. WAL with ``synchronous=NORMAL``: a killed process loses what it had not committed, at
most half a second, and the file stays whole.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from pathlib import Path
from typing import NamedTuple

from sayso.core.errors import ConfigError

BATCH, BATCH_S = 200, 0.5
CLOSE_S = 10.0
_TABLE = """
CREATE TABLE IF NOT EXISTS usage (
    at REAL NOT NULL, stream TEXT NOT NULL, protocol TEXT NOT NULL, key TEXT NOT NULL, bundle TEXT NOT NULL,
    version TEXT NOT NULL, outcome TEXT NOT NULL, utterances INTEGER NOT NULL, audio_s REAL NOT NULL,
    wall_s REAL NOT NULL, intent TEXT, decision TEXT, confidence REAL, final_s REAL)
"""


class UsageRow(NamedTuple):
    """One stream. ``intent``, ``decision``, ``confidence`` and ``final_s`` are its last result's."""

    at: float
    stream: str
    protocol: str
    key: str
    bundle: str
    version: str
    outcome: str
    utterances: int
    audio_s: float
    wall_s: float
    intent: str | None = None
    decision: str | None = None
    confidence: float | None = None
    final_s: float | None = None


class Usage:
    """The writer of one file. Raises ``ConfigError`` where it cannot be opened."""

    def __init__(self, path: Path, room: int) -> None:
        self._queue: queue.Queue[UsageRow | None] = queue.Queue(room)
        self._dropped, self._lock = 0, threading.Lock()
        try:
            self._base = sqlite3.connect(path, check_same_thread=False, timeout=1.0)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute(_TABLE)
            self._base.commit()
        except sqlite3.Error as error:
            raise ConfigError(f"{path}: usage records cannot be kept here ({error}); choose another file") from None
        self._thread = threading.Thread(target=self._write, name="usage", daemon=True)
        self._thread.start()

    def put(self, row: UsageRow) -> None:
        """Write ``row`` some time soon, or drop it."""
        try:
            self._queue.put_nowait(row)
        except queue.Full:
            self._drop(1)

    def take_dropped(self) -> int:
        """Rows dropped since this was last asked."""
        with self._lock:
            count, self._dropped = self._dropped, 0
            return count

    def close(self) -> None:
        """Write what waits, however slow the disk is, within ``CLOSE_S``."""
        try:
            self._queue.put(None, timeout=CLOSE_S)
        except queue.Full:
            return
        self._thread.join(CLOSE_S)

    def _drop(self, count: int) -> None:
        with self._lock:
            self._dropped += count

    def _write(self) -> None:
        more = True
        while more:
            row = self._queue.get()
            rows, until = [], time.monotonic() + BATCH_S
            while row is not None:
                rows.append(row)
                left = until - time.monotonic()
                if left <= 0 or len(rows) >= BATCH:
                    break
                try:
                    row = self._queue.get(timeout=left)
                except queue.Empty:
                    break
            else:
                more = False
            self._commit(rows)
        self._base.close()

    def _commit(self, rows: list[UsageRow]) -> None:
        if not rows:
            return
        marks = ", ".join("?" * len(UsageRow._fields))
        try:
            with self._base:
                self._base.executemany(f"INSERT INTO usage VALUES ({marks})", rows)
        except sqlite3.Error:  # locked, full: figures are not worth a request
            self._drop(len(rows))
