"""Agents that Dialogflow ES exports: a zip, or the folder in it.

``intents/NAME_usersays_LANG.json`` holds an intent's training phrases in pieces, a value with ``meta`` (``@entity``)
and ``alias`` (the slot); ``entities/NAME_entries_LANG.json`` an entity's values with their ``synonyms``. Phrases become
templates in which a slot is any value of its entity: those listed, and those said in any phrase. ``@sys.any`` becomes
an open slot and plain numbers a range; other ``@sys`` entities keep the values that were said. Fallback intents are
left out, and so are regular expressions; entities made of entities are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from sayso.core.errors import DomainError
from sayso.nlu.importers.build import Draft, add_pieces, mapping, note_value, sequence

WHAT = "an agent of Dialogflow ES (its zip, or the folder with 'intents' and 'entities')"
MOST_BYTES = 64 * 2**20
BUILT_IN: Mapping[str, tuple[int, int] | None] = {
    "sys.any": None,
    "sys.number": (0, 100),
    "sys.number-integer": (0, 100),
    "sys.cardinal": (0, 100),
    "sys.percentage": (0, 100),
}
_COMPOSITE = re.compile(r"@[\w.-]+(:\w+)?")


def import_dialogflow(path: Path) -> str:
    """Domain YAML of an exported agent; ``DomainError`` names the file within it that is not understood."""
    files = _files(path)
    agent = _object(files, "agent.json", path) if "agent.json" in files else {}
    language = str(agent.get("language") or agent.get("languageCode") or "en")
    draft = Draft(language=language)
    for name, entries in _parts(files, "entities", "entries", language, path):
        about = _object(files, f"entities/{name}.json", path) if f"entities/{name}.json" in files else {}
        for entry in () if about.get("isRegexp") else entries:
            _entity(draft, name, mapping(entry, f"an entry of entity '{name}'", path), path)
    for name, phrases in _parts(files, "intents", "usersays", language, path):
        about = _object(files, f"intents/{name}.json", path) if f"intents/{name}.json" in files else {}
        if about.get("fallbackIntent"):
            continue
        for phrase in phrases:
            if mapping(phrase, f"a phrase of intent '{name}'", path).get("isTemplate"):
                raise DomainError(f"intent '{name}': phrases in template mode are not read", file=str(path))
            pieces = sequence(phrase.get("data"), f"'data' of a phrase of intent '{name}'", path)
            add_pieces(draft, str(about.get("name", name)), [_piece(piece, name, path) for piece in pieces], BUILT_IN)
    if not draft.sentences:
        raise DomainError(f"not {WHAT}: no intent with phrases in '{language}'", file=str(path))
    return draft.write(source=f"the Dialogflow agent {path.name}")


def _entity(draft: Draft, name: str, entry: Mapping[str, Any], path: Path) -> None:
    value = str(entry.get("value", ""))
    for form in sequence(entry.get("synonyms") or [value], f"'synonyms' of '{value}' of entity '{name}'", path):
        if _COMPOSITE.search(str(form)):
            raise DomainError(
                f"entity '{name}': '{form}' is made of other entities, which is not read; write its values out",
                file=str(path),
            )
        note_value(draft, name, str(form), value)


def _piece(piece: Any, intent: str, path: Path) -> tuple[str, str | None, str | None]:
    part = mapping(piece, f"a piece of a phrase of intent '{intent}'", path)
    entity = str(part.get("meta") or "").removeprefix("@")
    if not entity or entity == "sys.ignore":
        return str(part.get("text", "")), None, None
    return str(part.get("text", "")), entity, str(part.get("alias") or entity)


def _parts(
    files: Mapping[str, str], folder: str, kind: str, language: str, path: Path
) -> Iterator[tuple[str, list[Any]]]:
    """Names and content of ``folder/NAME_kind_LANG.json``, sorted."""
    ending = f"_{kind}_{language.lower()}.json"
    for file in sorted(files):
        if file.startswith(f"{folder}/") and file.lower().endswith(ending):
            yield file[len(folder) + 1 : -len(ending)], list(sequence(_json(files, file, path), file, path))


def _object(files: Mapping[str, str], name: str, path: Path) -> Mapping[str, Any]:
    return mapping(_json(files, name, path), name, path)


def _json(files: Mapping[str, str], name: str, path: Path) -> Any:
    try:
        return json.loads(files[name])
    except json.JSONDecodeError as error:
        raise DomainError(f"not valid JSON: {error.msg}", file=f"{path}/{name}", line=error.lineno) from None


def _files(path: Path) -> dict[str, str]:
    """Text of every JSON file by its name within the agent."""
    if not path.exists():
        raise DomainError(f"no such file; give {WHAT}", file=str(path))
    try:
        if path.is_dir():
            found = [file for file in path.glob("*/*.json") if file.is_file()] + list(path.glob("agent.json"))
            return {file.relative_to(path).as_posix(): file.read_text(encoding="utf-8-sig") for file in found}
        with ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if info.filename.endswith(".json")]
            if sum(info.file_size for info in infos) > MOST_BYTES:
                raise DomainError(f"holds more than {MOST_BYTES >> 20} MB of JSON, unpack it", file=str(path))
            return {info.filename: archive.read(info).decode("utf-8-sig") for info in infos}
    except (OSError, BadZipFile, UnicodeDecodeError) as error:
        raise DomainError(f"cannot be read as {WHAT} ({error})", file=str(path)) from None
