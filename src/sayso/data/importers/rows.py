"""What importers of recordings share: the plain row that each foreign line becomes, and rows as cuts.

An importer is a generator. For every recording that its source names it yields a ``Row``, for every line that it cannot
read the ``DataError`` that says so, and goes on; ``collect`` makes cuts of the one and keeps, or raises, the other.
Texts are normalised on the way in; where that changes them the original stays as ``custom["written"]``, because the
validation part is cut by it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhotse import CutSet, MonoCut  # type: ignore[import-untyped]

from sayso.core.errors import AudioError, DataError
from sayso.core.result import Slot
from sayso.data.curation import TRAITS
from sayso.data.manifest import make_cut, meaning
from sayso.text.normalise import normalise


@dataclass(frozen=True, kw_only=True)
class Row:
    """One recording: the ``fields`` of plain JSONL (``audio``, ``text``, ``speaker``, ``duration``, ``intent``,
    ``slots``, ``domain``, ``frames``, traits), ``audio`` relative to ``folder``; ``where`` it is written, for
    complaints."""

    where: str
    id: str
    source: str
    folder: Path
    fields: Mapping[str, Any]


Rows = Iterator[Row | DataError]


def collect(rows: Iterable[Row | DataError], what: str, bad: list[DataError] | None = None) -> CutSet:
    """Cuts of ``rows`` in their order. A bad row raises, or with ``bad`` joins that list while the others go on.

    ``DataError`` where no row of ``what`` is left.
    """
    cuts: list[MonoCut] = []
    seen: set[str] = set()
    for row in rows:
        try:
            if isinstance(row, DataError):
                raise row
            if row.id in seen:
                raise DataError(f"{row.where}: {row.fields.get('audio')} occurs twice; list every recording once")
            cuts.append(cut_of(row))
            seen.add(row.id)
        except DataError as error:
            if bad is None:
                raise
            bad.append(error)
    if not cuts:
        raise DataError(f"{bad[0]} (and no other recording is usable)" if bad else f"{what}: holds no recordings")
    return CutSet.from_cuts(cuts)


def cut_of(row: Row) -> MonoCut:
    """The row as a cut; ``DataError`` names the field that is wrong, or the audio that cannot be read."""
    fields, where = row.fields, row.where
    text, speaker, duration = fields.get("text"), fields.get("speaker"), fields.get("duration")
    if isinstance(speaker, int):
        speaker = str(speaker)
    for key, value in (("text", text), ("speaker", speaker), ("intent", fields.get("intent"))):
        if value is not None and not isinstance(value, str):
            raise DataError(f"{where}: '{key}' must be a string, found {value!r}")
    number = isinstance(duration, (int, float)) and not isinstance(duration, bool)
    if duration is not None and not (number and 0 < duration < 1e6):
        raise DataError(f"{where}: 'duration' must be a positive number of seconds, found {duration!r}")
    intent, negative = fields.get("intent"), "intent" in fields and fields["intent"] is None
    slots = slots_of(fields.get("slots"), where)
    custom = meaning(intent, slots, domain=fields.get("domain"), source=row.source, negative=negative)
    custom |= {name: fields[name] for name in ("frames", "tree") if fields.get(name)}
    custom |= {trait: str(fields[trait]) for trait in TRAITS if fields.get(trait) not in (None, "")}
    spoken = None if text is None else normalise(text)
    if spoken != text:
        custom["written"] = text
    audio = (row.folder / fields["audio"]).absolute()
    try:
        return make_cut(row.id, audio, spoken, speaker, duration=duration, custom=custom)
    except AudioError as error:
        raise DataError(f"{where}: {error}") from None


def slots_of(value: Any, where: str) -> tuple[Slot, ...]:
    """Slots from an object of names and values, or a list of {name, value, text}."""
    if isinstance(value, dict):
        value = [{"name": name, "value": item} for name, item in value.items()]
    if value is None:
        return ()
    try:
        return tuple(Slot(name=i["name"], value=str(i["value"]), text=i.get("text") or "") for i in value)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise DataError(f"{where}: 'slots' must be an object, or a list of {{name, value}}; found {value!r}") from None


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines that hold something, with their numbers; ``DataError`` where the file cannot be read."""
    try:
        with file.open(encoding="utf-8-sig") as opened:
            for number, line in enumerate(opened, 1):
                if line.strip():
                    yield number, line.strip()
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text ({error})") from None


def objects(file: Path) -> Iterator[tuple[str, dict[str, Any]] | DataError]:
    """The objects of a JSON lines file, each with its ``file:line``; an error in place of a line that is none."""
    for number, line in lines(file):
        where = f"{file}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            yield DataError(f"{where}: not valid JSON ({error.msg}); one object per line is expected")
            continue
        if isinstance(row, dict):
            yield where, row
        else:
            yield DataError(f"{where}: expected an object, found {type(row).__name__}")


def document(file: Path, what: str) -> dict[str, Any]:
    """A JSON file that holds one object; ``DataError`` with the line where it is broken."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; {what} is expected there") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno}: not valid JSON ({error.msg})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: {what} is expected, an object; found {type(content).__name__}")
    return content


def table(
    file: Path, columns: tuple[str, ...], dialect: type[csv.Dialect] = csv.excel
) -> list[tuple[str, dict[str, str]]]:
    """``file:line`` and cells by column of a table with a header; missing cells are empty.

    ``DataError`` where the file cannot be read or lacks one of ``columns``.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened, dialect=dialect, restval="")
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{file}:1: no column '{missing[0]}'; the header must have {', '.join(columns)}, found "
                    f"{', '.join(reader.fieldnames or ()) or 'nothing'}"
                )
            return [
                (f"{file}:{reader.line_num}", {key: (row[key] or "").strip() for key in reader.fieldnames or ()})
                for row in reader
            ]
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a table ({error})") from None


class Tabs(csv.Dialect):
    """Cells between tabs, in which a quote is a quote."""

    delimiter, lineterminator, quoting, quotechar = "\t", "\n", csv.QUOTE_NONE, None


def said_in(value: str, text: str) -> str:
    """``value`` as ``text`` says it, both normalised, or "" where it does not: what a slot's ``text`` is then."""
    spoken = normalise(value)
    return spoken if spoken and f" {spoken} " in f" {normalise(text)} " else ""
