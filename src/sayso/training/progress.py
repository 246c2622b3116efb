"""Work in progress as lines of text: how much is done, how long the rest will take, and what it was on average."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

Say = Callable[[str], None]
_EVERY_S = 5.0


def to_stderr(text: str) -> None:
    """One line on stderr: stdout belongs to answers."""
    print(text, file=sys.stderr, flush=True)


class Meter:
    """Called with (done, of); says at most every five seconds how much is done and the time left at this pace."""

    def __init__(self, say: Say, what: str) -> None:
        self.say, self.what = say, what
        self._said = time.monotonic()
        self._first: tuple[float, int] | None = None  # the pace counts from the first call: starting up is no pace

    def __call__(self, done: int, of: int) -> None:
        """``done`` of ``of``; the last one is not said, because what follows says so."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        began, before = self._first
        if now - self._said < _EVERY_S or done >= of or done == before:
            return
        self._said = now
        left = (now - began) * (of - done) / (done - before)
        self.say(f"{self.what}: {done} of {of}, about {duration(left)} left")


class Means:
    """Means of named figures since they were last taken; what is not finite does not count."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, name: str, value: float) -> None:
        """One more value of ``name``."""
        total, count = self._sums.get(name, (0.0, 0))
        self._sums[name] = (total + value, count + 1) if math.isfinite(value) else (total, count)

    def take(self) -> dict[str, float]:
        """The means by name, rounded; then begin anew. A figure that was never finite is left out."""
        means = {name: round(total / count, 4) for name, (total, count) in self._sums.items() if count}
        self._sums = {}
        return means


def duration(seconds: float) -> str:
    """``45 s`` or ``3 min 20 s``."""
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"
