"""Other systems' files as domain files: each importer takes a path and gives the YAML text of a domain that
``load_domain`` reads. ``IMPORTERS`` is the table of formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sayso.core.errors import DomainError, nearest
from sayso.nlu.domain import parse_domain
from sayso.nlu.importers.dialogflow import import_dialogflow
from sayso.nlu.importers.hassil import import_hassil
from sayso.nlu.importers.rasa import import_rasa
from sayso.nlu.importers.rhasspy import import_rhasspy
from sayso.nlu.importers.rhino import import_rhino
from sayso.nlu.importers.snips import import_snips

IMPORTERS: Mapping[str, Callable[[Path], str]] = {
    "rhino": import_rhino,
    "hassil": import_hassil,
    "rasa": import_rasa,
    "snips": import_snips,
    "rhasspy": import_rhasspy,
    "dialogflow": import_dialogflow,
}


def recognise(path: Path | str) -> str:
    """The format of a foreign file: the only one whose importer reads it. ``DomainError`` where none or several do."""
    found, reasons = [], []
    for kind in IMPORTERS:
        try:
            import_domain(path, kind)
            found.append(kind)
        except DomainError as error:
            reasons.append(f"{kind}: {str(error).replace(str(path), Path(path).name)}")
    if len(found) == 1:
        return found[0]
    if found:
        raise DomainError(f"may be {' or '.join(found)}; say which with --format", file=str(path))
    raise DomainError("no importer reads it: " + "; ".join(reasons), file=str(path))


def import_domain(path: Path | str, kind: str) -> str:
    """The domain YAML of a foreign file, checked by reading it back.

    Raises ``DomainError`` for an unknown ``kind``, a file that is not of that kind, or one that imports to something
    unusable.
    """
    if kind not in IMPORTERS:
        raise DomainError(f"no importer '{kind}'; {nearest(kind, IMPORTERS)}")
    text = IMPORTERS[kind](Path(path))
    parse_domain(text, f"{path} (as imported from {kind})")
    return text
