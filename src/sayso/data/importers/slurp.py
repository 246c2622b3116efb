"""SLURP (Bastianelli et al. 2020, arXiv:2011.13205): JSON lines of sentences, each with several recordings.

The intent is ``scenario_action``, as SLURP's own scorer judges it (the field ``intent`` differs in a few lines). Slots
are read from ``sentence_annotation`` (``[date : tomorrow]``), because ``tokens`` part words at apostrophes; the few
values that the sentence spells in another way have no spoken words. Speakers are in ``metadata.json`` beside the
lines, where it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sayso.core.errors import DataError
from sayso.data.importers.rows import Row, Rows, document, objects, said_in

_MARK = re.compile(r"\[(\w+) : ([^\[\]]+)\]")
_FOLDERS = (".", "slurp_real", "slurp_synth")


def read_slurp(source: Path, audio: Path | None) -> Rows:
    """A row for each recording of each sentence of ``train.jsonl`` and the like; ``audio`` is the folder of recordings,
    or the one that holds ``slurp_real`` and ``slurp_synth`` (default: a folder ``audio`` beside the file or up to
    two above it, as in SLURP's repository; else the file's own)."""
    folder = audio or _beside(source)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --audio names where the recordings lie")
    speakers = _speakers(source.parent / "metadata.json")
    for found in objects(source):
        if isinstance(found, DataError):
            yield found
            continue
        where, fields = found
        try:
            said, names = meaning_of(fields, where), _recordings(fields, where)
        except DataError as error:
            yield error
            continue
        for name in names:
            within = next((part for part in _FOLDERS if (folder / part / name).is_file()), ".")
            synthetic = within == "slurp_synth"
            row = {
                **said,
                "audio": f"{within}/{name}",
                "speaker": "synthetic" if synthetic else speakers.get(name),
                "device": None if synthetic else "headset" if "-headset" in name else "distant",
                "style": "synthetic" if synthetic else None,
            }
            yield Row(where=where, id=f"slurp/{Path(name).stem}", source="slurp", folder=folder, fields=row)


def meaning_of(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Text, intent, slots and domain of one line; ``DataError`` where they are missing or marked wrongly."""
    parts = {key: fields.get(key) for key in ("sentence", "sentence_annotation", "scenario", "action")}
    for key, value in parts.items():
        if not isinstance(value, str) or not value:
            raise DataError(f"{where}: '{key}' must be a non-empty string, found {value!r}")
    marked, text = str(parts["sentence_annotation"]), str(parts["sentence"])
    rest = _MARK.sub("", marked)
    if "[" in rest or "]" in rest:
        raise DataError(f"{where}: 'sentence_annotation' is '{marked}'; legal marks are [type : words]")
    return {
        "text": text,
        "intent": f"{parts['scenario']}_{parts['action']}",
        "slots": [{"name": name, "value": said, "text": said_in(said, text)} for name, said in _MARK.findall(marked)],
        "domain": parts["scenario"],
    }


def _recordings(fields: Mapping[str, Any], where: str) -> list[str]:
    try:
        names = [str(recording["file"]) for recording in fields["recordings"]]
    except (KeyError, TypeError):
        raise DataError(f"{where}: 'recordings' must be a list of objects with 'file'") from None
    return list(dict.fromkeys(names))


def _beside(source: Path) -> Path:
    return next((at / "audio" for at in source.resolve().parents[:3] if (at / "audio").is_dir()), source.parent)


def _speakers(file: Path) -> dict[str, str]:
    """Who speaks in which recording, as SLURP's ``metadata.json`` says; nothing where it is absent."""
    if not file.is_file():
        return {}
    try:
        found = [part for entry in document(file, "SLURP's metadata").values() for part in entry["recordings"].items()]
        return {name: str(about["usrid"]) for name, about in found}
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{file}: each entry must hold 'recordings': {{file: {{'usrid': …}}}}; or remove it") from None
