"""Home Assistant (hassil) files are domain files already: one file passes through, a folder is merged into one text."""

from __future__ import annotations

from pathlib import Path

import yaml  # type: ignore[import-untyped]

from sayso.nlu.domain import SUPPLIED, files_of, load_domain
from sayso.nlu.importers.build import read_text
from sayso.nlu.source import Items, Problems, Table, Text, Value, merge, read_yaml

WHAT = "a Home Assistant sentence file"


def import_hassil(path: Path) -> str:
    """Domain YAML of a file or a folder; ``DomainError`` as ``load_domain``.

    A folder's common file may hold lists for other languages' or intents' sake: those that no sentence uses are left
    out, and the lists that a home supplies (names, areas, floors) get a few values to be replaced.
    """
    domain = load_domain(path)
    files = files_of(path)
    if len(files) == 1 and path.is_file():
        return read_text(path, WHAT)
    problems = Problems()
    top = merge([read_yaml(file, problems) for file in files])
    problems.done()
    content = {str(key): _plain(value) for key, value in top.values.items() if key != "responses"}
    kept = {str(k): _plain(v) for k, v in _entries(top.get("lists")).items() if k in domain.lists}
    supplied = {
        name: {"values": list(values)} for name, values in SUPPLIED.items() if name in domain.lists and name not in kept
    }
    content["lists"] = {**kept, **supplied}
    body: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    return f"# Imported from the Home Assistant sentences in {path.name}.\n{body}"


def _entries(value: Value) -> dict[Text, Value]:
    return value.values if isinstance(value, Table) else {}


def _plain(value: Value) -> object:
    if isinstance(value, Table):
        return {str(key): _plain(entry) for key, entry in value.values.items()}
    if isinstance(value, Items):
        return [_plain(entry) for entry in value]
    return None if value is None else str(value)
