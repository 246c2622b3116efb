"""The tree of errors a user can meet.

Every mistake a user can make ends in one of these, with a message that names the thing (file, line, field), says what
is legal and what to do next. The command prints the message and leaves with ``exit_code``; a traceback appears only
under ``--debug``. ``assert`` stays for our own invariants.

    SaysoError
    ├── UsageError          wrong words on the command line
    ├── AudioError          a recording that cannot be read or makes no sense (exit 1: the other inputs are done)
    ├── DataError           a manifest, corpus or split
    ├── DomainError         domain.yaml and what is imported into it
    ├── ConfigError         a recipe, an override, a component's settings
    ├── BundleError         a bundle that is damaged, foreign or incomplete
    ├── SynthesisError      a speech engine that is missing or failed
    └── MissingExtra        an optional package that is not installed
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class SaysoError(Exception):
    """Base of all user-facing errors; ``exit_code`` is what the command returns."""

    exit_code = 2


class UsageError(SaysoError):
    """The command line asks for something that does not exist."""


class AudioError(SaysoError):
    """A recording is missing, unreadable or not audio. The other inputs are still processed."""

    exit_code = 1


class DataError(SaysoError):
    """A manifest, corpus or split is malformed."""


class ConfigError(SaysoError):
    """A recipe or override names an unknown key or an illegal value."""


class BundleError(SaysoError):
    """A bundle is damaged, of another format version, or lacks a part."""


class SynthesisError(SaysoError):
    """A speech engine is missing or failed."""


class MissingExtra(SaysoError):
    """An optional third-party package is needed and not installed."""


class DomainError(SaysoError):
    """A domain file is wrong; the message starts with ``file:line`` where the line is known."""

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None) -> None:
        """Prefix ``message`` with the place (1-based line) it was found at."""
        where = "" if file is None else (file if line is None else f"{file}:{line}") + ": "
        super().__init__(where + message)
        self.file, self.line = file, line


def nearest(word: str, legal: Iterable[str]) -> str:
    """A teaching suffix such as ``did you mean 'encoder'? Legal: decoder, encoder``."""
    options = sorted(set(legal))
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    if not options:
        return "there are none to choose from"
    shown = ", ".join(options[:20]) + (", ..." if len(options) > 20 else "")
    return f"{hint}Legal: {shown}"


def require(package: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package where it is used.

    Raises ``MissingExtra`` with the extra to install when it is absent.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(
            f"{purpose} needs the package '{package}', which is not installed: pip install 'sayso[{extra}]'"
        ) from error
