"""What the command prints and where: results on stdout, everything else on stderr.

With ``--json`` stdout carries JSON lines and nothing else. Colours, rewritten lines and progress bars appear only on a
terminal, so that logs and pipes stay plain. ANSI codes by hand: loading a terminal library would cost more than the
rest of the command line.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BOLD, DIM, RESET = "\x1b[1m", "\x1b[2m", "\x1b[0m"
REWRITE = "\r\x1b[K"


def say(text: str = "") -> None:
    """One line of the answer, on stdout."""
    print(text)


def note(text: str) -> None:
    """One line about the work, on stderr."""
    print(text, file=sys.stderr, flush=True)


def complain(error: BaseException | str) -> None:
    """``error: ...`` on stderr, after what stdout already holds."""
    sys.stdout.flush()
    note(f"error: {error}")


def styled(text: str, code: str) -> str:
    """``text`` in an ANSI style on a terminal (unless NO_COLOR is set), else plain."""
    return f"{code}{text}{RESET}" if text and sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


def rows(pairs: Sequence[tuple[str, str]], indent: str = "  ") -> None:
    """Names and values in two columns; values of several lines stay in theirs."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        for number, line in enumerate(value.splitlines() or [""]):
            label = styled((name if number == 0 else "").ljust(width), DIM)
            say(f"{indent}{label}  {line}".rstrip())


class Live:
    """Partial results: one line that is rewritten on a terminal, a line each elsewhere.

    Stable words are bold, the ones that may still change dim; without colours a bar stands between them.
    """

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._shown: tuple[str, str] | None = None

    def show(self, at_s: float, stable: str, text: str) -> None:
        """Show a partial unless nothing changed; ``text`` begins with ``stable``, ``at_s`` is the audio heard."""
        if not text or (stable, text) == self._shown:
            return
        self._shown = stable, text
        open_part = text[len(stable) :].strip()
        if not self._terminal:
            say(f"  {at_s:6.2f} s  {stable} | {open_part}".rstrip())
            sys.stdout.flush()
            return
        room = shutil.get_terminal_size().columns - 14
        if len(text) > room > 0:  # keep the end in sight: a wrapped line cannot be rewritten
            stable = stable[len(text) - room :]
            open_part = open_part[-room:]
        line = f"{styled(stable, BOLD)} {styled(open_part, DIM)}".strip()
        sys.stdout.write(f"{REWRITE}  {at_s:6.2f} s  {line}")
        sys.stdout.flush()

    def end(self) -> None:
        """Leave the line; the result follows."""
        if self._terminal and self._shown is not None:
            sys.stdout.write(REWRITE)
            sys.stdout.flush()
        self._shown = None


class Progress:
    """``what 12/340, 1:20 left`` on a terminal's stderr; silent elsewhere."""

    def __init__(self, what: str) -> None:
        self._what, self._began, self._last = what, time.monotonic(), 0.0
        self._on = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        """Report ``done`` of ``total``; at most ten times a second reaches the screen."""
        now = time.monotonic()
        if not self._on or (done < total and now - self._last < 0.1):
            return
        self._last = now
        left = round((now - self._began) / max(1, done) * (total - done))
        end = "\n" if done >= total else ""
        sys.stderr.write(f"{REWRITE}{self._what} {done}/{total}, {left // 60}:{left % 60:02d} left{end}")
        sys.stderr.flush()


def upwards(*parts: str) -> Path | None:
    """The nearest path ``parts`` in the current folder or one above it: how a checkout is found from inside it."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / Path(*parts)).exists():
            return folder / Path(*parts)
    return None


@contextmanager
def hushed() -> Iterator[None]:
    """Keep what C libraries print by themselves off stderr (mpg123 comments on every damaged frame).

    Python's own stderr goes on: one message with a remedy is what a user gets about a bad file.
    """
    ours = sys.stderr
    try:
        direct = ours.fileno() == 2
    except (OSError, ValueError, AttributeError):
        direct = False
    if not direct:
        yield
        return
    ours.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    spare = open(kept, "w", buffering=1, encoding=ours.encoding, errors=ours.errors, closefd=False)  # noqa: SIM115
    sys.stderr = spare
    try:
        yield
    finally:
        sys.stderr = ours
        spare.close()
        os.dup2(kept, 2)
        os.close(kept)
