"""The texts of Snips' seven intents, from the folder of corpora."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from sayso.text.normalise import normalise

Parts = list[dict[str, str]]
NAMES = {
    "artist", "album", "track", "playlist", "entity_name", "object_name", "movie_name", "restaurant_name",
    "location_name",
}  # fmt: skip


def queries(folder: Path) -> Iterator[tuple[str, Parts]]:
    """Every query with its intent, in parts: ``text``, and ``entity`` where a part is one."""
    for file in sorted((folder / "text" / "snips").glob("train_*.json")):
        content = file.read_bytes()
        try:
            found = json.loads(content.decode("utf-8"))
        except UnicodeDecodeError:  # some of these files are
            found = json.loads(content.decode("latin-1"))
        for intent, rows in found.items():
            for row in rows:
                yield intent, row["data"]


def names(folder: Path) -> list[str]:
    """Names in Snips' texts, normalised, each once, in a seeded order."""
    found: dict[str, None] = {}
    for _, parts in queries(folder):
        for part in parts:
            if part.get("entity") in NAMES:
                found[normalise(part["text"])] = None
    return [name for name in found if 3 <= len(name) <= 60]
