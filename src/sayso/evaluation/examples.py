"""Reading what recordings should be understood as.

Two formats come in: plain JSONL (``audio``, ``text?``, ``intent?``, ``slots?``; the corpora's ``SPLIT.jsonl`` and
``labels.jsonl`` are such files) and Lhotse ``CutSet`` JSONL, read here without Lhotse because the floor judges too.
Every mistake names file, line and field. Keys that are not ours (corpora carry age, accent and the like) are kept as
text in ``Example.custom``, so that results can be judged by groups.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sayso.core.errors import DataError
from sayso.core.result import Example, Frame, Intent, Slot, traits

_OURS = ("audio", "text", "intent", "slots", "frames", "tree", "speaker", "language", "source", "duration", "custom")


def read_examples(path: str | Path) -> list[Example]:
    """Examples of a ``.jsonl`` or ``.jsonl.gz`` file, or of a folder that holds exactly one.

    In plain JSONL ``"intent": null`` written out means that the recording must be rejected; without the key the intent
    is unknown. An intent without ``slots`` has none; ``"slots": null`` says that they are unknown. Audio paths are
    resolved against the manifest's folder; whether they exist is found out when they are read. ``DataError``
    otherwise.

    ``frames`` (a list of ``{"intent", "slots", "parent"}``, ``parent`` the number of the frame that one is inside of)
    says several or nested intents; the first is the intent where ``intent`` is not written.
    """
    file = _manifest(Path(path))
    examples = [_example(row, file, line) for line, row in json_rows(file)]
    if not examples:
        raise DataError(
            f"{file}: holds no examples; each line is an object such as " + '{"audio": "a.wav", "intent": "lock"}'
        )
    return examples


def _manifest(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(item for item in path.iterdir() if item.name.endswith((".jsonl", ".jsonl.gz")))
    if len(found) != 1:
        names = ", ".join(item.name for item in found) or "none"
        raise DataError(
            f"{path}: a folder must hold exactly one .jsonl manifest (found: {names}); name the file itself"
        )
    return found[0]


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a ``.jsonl`` or ``.jsonl.gz`` file with their lines, from 1; ``DataError`` otherwise."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(
                        f"{path}:{number}: not valid JSON ({error.msg}); one object per line is expected"
                    ) from None
                if not isinstance(row, dict):
                    raise DataError(f"{path}:{number}: expected an object, found {type(row).__name__}")
                yield number, row
    except FileNotFoundError:
        raise DataError(f"{path}: no such manifest; give a .jsonl file or a folder that holds one") from None
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a manifest ({error})") from None


def _example(row: dict[str, Any], file: Path, line: int) -> Example:
    where = f"{file}:{line}"
    if "supervisions" in row or str(row.get("type", "")).endswith("Cut"):
        return _from_cut(row, file, where)
    audio = _text(row, "audio", where)
    if audio is None:
        raise DataError(f"{where}: 'audio' is missing; it names the recording, relative to {file.parent}")
    return Example(
        audio=str(file.parent / audio),
        text=_text(row, "text", where),
        speaker=_text(row, "speaker", where),
        language=_text(row, "language", where) or "en",
        source=_text(row, "source", where),
        duration_s=_number(row, "duration", where),
        custom=traits(row, _OURS) | traits(_table(row, "custom", where), _OURS),
        **_meaning(row, where),
    )


def _from_cut(row: dict[str, Any], file: Path, where: str) -> Example:
    """A Lhotse MonoCut or MultiCut of a whole recording with one supervision (or none)."""
    recording = _table(row, "recording", where)
    sources = recording.get("sources") or [{}]
    if not isinstance(sources, list) or not isinstance(sources[0], dict) or sources[0].get("type") != "file":
        raise DataError(
            f"{where}: 'recording.sources' must name one source of type 'file'; save the cuts with their audio"
        )
    source = _text(sources[0], "source", f"{where}: recording")
    if source is None:
        raise DataError(f"{where}: 'recording.sources[0].source' is missing; it names the recording")
    duration, whole = _number(row, "duration", where), _number(recording, "duration", where)
    if _number(row, "start", where) or (duration and whole and abs(duration - whole) > 0.01):
        raise DataError(
            f"{where}: the cut is a part of its recording; save the parts as files of their own to judge them"
        )
    supervisions = row.get("supervisions") or []
    if (
        not isinstance(supervisions, list)
        or len(supervisions) > 1
        or not all(isinstance(item, dict) for item in supervisions)
    ):
        raise DataError(f"{where}: 'supervisions' must be a list of at most one; split the cut at its supervisions")
    spoken: dict[str, Any] = supervisions[0] if supervisions else {}
    custom = _table(spoken, "custom", where)
    gender = traits({"gender": spoken.get("gender")}, ())
    return Example(
        audio=str(file.parent / source),
        text=_text(spoken, "text", where),
        speaker=_text(spoken, "speaker", where),
        language=_text(spoken, "language", where) or "en",
        source=_text(custom, "source", where),
        duration_s=duration,
        custom=gender | traits(custom, _OURS),
        **_meaning(custom, where),
    )


def _meaning(row: dict[str, Any], where: str) -> dict[str, Any]:
    """The fields ``intent``, ``slots``, ``negative`` and ``frames`` of an example."""
    frames = _frames(row, where)
    if frames is not None and "intent" not in row:
        return {"intent": frames[0].intent.name, "slots": frames[0].slots, "frames": frames}
    intent = _text(row, "intent", where)
    negative = "intent" in row and intent is None
    slots = _slots(row, where, known=intent is not None)
    return {"intent": intent, "slots": slots, "negative": negative, "frames": frames}


def _frames(row: dict[str, Any], where: str) -> tuple[Frame, ...] | None:
    value = row.get("frames")
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise DataError(f"{where}: 'frames' must be a list of {{intent, slots, parent}}, found {value!r}")
    result = []
    for index, item in enumerate(value):
        place = f"{where}: frames[{index}]"
        name, parent = _text(item, "intent", place), item.get("parent")
        if name is None:
            raise DataError(f"{place}: 'intent' is missing; every frame has one")
        if parent is not None and (type(parent) is not int or not 0 <= parent < index):
            raise DataError(f"{place}: 'parent' must be the number of an earlier frame or null, found {parent!r}")
        slots = _slots(item, place, known=True) or ()
        result.append(Frame(intent=Intent(name=name), slots=slots, parent=parent))
    return tuple(result)


def _slots(row: dict[str, Any], where: str, *, known: bool) -> tuple[Slot, ...] | None:
    if "slots" not in row:
        return () if known else None
    value = row["slots"]
    if value is None:
        return None
    if isinstance(value, dict):
        value = [{"name": name, "value": item} for name, item in value.items()]
    if not isinstance(value, list):
        raise DataError(
            f"{where}: 'slots' must be an object or a list of {{name, value}}, found {type(value).__name__}"
        )
    return tuple(_slot(item, f"{where}: slots[{index}]") for index, item in enumerate(value))


def _slot(item: Any, where: str) -> Slot:
    if not isinstance(item, dict):
        raise DataError(f"{where}: expected an object with 'name' and 'value', found {type(item).__name__}")
    name, value = _text(item, "name", where), item.get("value")
    if name is None or isinstance(value, (dict, list, bool)) or value is None:
        raise DataError(f"{where}: needs 'name' and 'value', both strings; found {item!r}")
    return Slot(name=name, value=str(value), text=_text(item, "text", where) or "")


def _text(row: dict[str, Any], key: str, where: str) -> str | None:
    value = row.get(key)
    if value is None or (isinstance(value, str) and (value or key == "text")):
        return value
    if key == "speaker" and isinstance(value, int):
        return str(value)
    raise DataError(f"{where}: '{key}' must be a non-empty string, found {value!r}")


def _number(row: dict[str, Any], key: str, where: str) -> float | None:
    value = row.get(key)
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return None if value is None else float(value)
    raise DataError(f"{where}: '{key}' must be a number of seconds, found {value!r}")


def _table(row: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = row.get(key)
    if value is None or isinstance(value, dict):
        return value or {}
    raise DataError(f"{where}: '{key}' must be an object, found {type(value).__name__}")
