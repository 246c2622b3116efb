"""Formats that carry recordings and texts in lines of their own: plain JSONL, NeMo manifests, Kaldi folders, Lhotse.

NeMo keeps what SLURP's recordings mean as a Python dictionary in ``text``; it is read as a literal, never run.
"""

from __future__ import annotations

import ast
import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sayso.core.errors import DataError
from sayso.data.importers.rows import Row, Rows, lines, objects
from sayso.data.manifest import audio_path, parse_cut


def read_jsonl(source: Path, audio: Path | None) -> Rows:
    """Plain JSONL: ``audio``, and ``text``, ``speaker``, ``duration``, ``intent``, ``slots`` and traits where known.

    ``"intent": null`` written out means must be rejected. Without ``duration`` the audio's header is read.
    """
    return json_rows(source, source.resolve().parent.name, audio)


def read_labels(source: Path, audio: Path | None) -> Rows:
    """As ``read_jsonl``, and every line must say its ``intent``."""
    for row in read_jsonl(source, audio):
        if isinstance(row, Row) and "intent" not in row.fields:
            yield DataError(
                f"{row.where}: 'intent' is missing; null means must be rejected; without labels use 'jsonl'"
            )
        else:
            yield row


def json_rows(file: Path, source: str, audio: Path | None = None) -> Rows:
    """``read_jsonl`` under another ``source`` than the folder's name."""
    for found in objects(file):
        if isinstance(found, DataError):
            yield found
            continue
        where, fields = found
        name = fields.get("audio")
        if not isinstance(name, str) or not name:
            yield DataError(f"{where}: expected an object with 'audio', a path relative to {audio or file.parent}")
            continue
        id = f"{source}/{Path(name).with_suffix('').as_posix()}"
        yield Row(where=where, id=id, source=source, folder=audio or file.parent, fields=fields)


def read_nemo(source: Path, audio: Path | None) -> Rows:
    """A NeMo manifest: lines with ``audio_filepath``, ``duration``, ``text``, and ``speaker`` where known.

    A ``text`` that is a dictionary of ``scenario``, ``action`` and ``entities`` (NeMo's SLURP) is a meaning, without a
    transcript. Parts of recordings (an ``offset``) are refused, as Kaldi's ``segments`` are.
    """
    name = source.resolve().parent.name
    for found in objects(source):
        if isinstance(found, DataError):
            yield found
            continue
        where, fields = found
        path = fields.get("audio_filepath")
        if not isinstance(path, str) or not path:
            yield DataError(f"{where}: 'audio_filepath' is missing; it names the recording")
        elif fields.get("offset"):
            yield DataError(f"{where}: begins {fields['offset']} s into {path}; cut it out into a file of its own")
        else:
            try:
                said = _semantics(fields.get("text"), where)
            except DataError as error:
                yield error
                continue
            id = f"{name}/{Path(path).with_suffix('').as_posix().lstrip('/')}"
            row = {**fields, "text": fields.get("text") or None, **said, "audio": path}
            yield Row(where=where, id=id, source=name, folder=audio or source.parent, fields=row)


def _semantics(text: Any, where: str) -> dict[str, Any]:
    """Intent and slots of NeMo's dictionary; nothing where ``text`` is a transcript."""
    if not isinstance(text, str) or not text.startswith("{"):
        return {}
    try:
        said = ast.literal_eval(text)
        pairs = [(str(entity["type"]), str(entity["filler"])) for entity in said["entities"]]
        slots = [{"name": name, "value": filler, "text": filler} for name, filler in pairs]
        intent = f"{said['scenario']}_{said['action']}"
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise DataError(
            f"{where}: 'text' begins like a meaning and is none; legal is {{'scenario': …, 'action': …, 'entities': "
            "[{'type': …, 'filler': …}]}"
        ) from None
    return {"intent": intent, "slots": slots, "domain": str(said["scenario"]), "text": None}


def read_kaldi(source: Path, audio: Path | None) -> Rows:
    """A Kaldi data folder: ``wav.scp``, ``text``, and ``utt2spk`` where present.

    Pipes in ``wav.scp`` are refused (they are commands of a stranger), and so is ``segments``.
    """
    if (source / "segments").exists():
        raise DataError(f"{source / 'segments'}: parts of recordings are not read; cut them (Kaldi: extract-segments)")
    texts = {key: value for _, key, value in _kaldi(source / "text")}
    speakers = {k: v for _, k, v in _kaldi(source / "utt2spk")} if (source / "utt2spk").exists() else {}
    for line, key, path in _kaldi(source / "wav.scp"):
        where = f"{source / 'wav.scp'}:{line}"
        if path.endswith("|"):
            yield DataError(f"{where}: '{path}' is a command, which is not run; write the audio to a file and name it")
        elif key not in texts:
            yield DataError(f"{where}: '{key}' has no line in {source / 'text'}")
        else:
            row = {"audio": path, "text": texts[key], "speaker": speakers.get(key) or None}
            yield Row(where=where, id=key, source=source.resolve().name, folder=audio or source, fields=row)


def _kaldi(file: Path) -> list[tuple[int, str, str]]:
    return [(number, key, value.strip()) for number, line in lines(file) for key, _, value in [line.partition(" ")]]


def read_lhotse(source: Path, audio: Path | None) -> Rows:
    """A Lhotse manifest of MonoCuts of whole recordings (JSON lines, gzip or not), ours or another's.

    Of a foreign one's ``custom``, what we know is kept: intent, slots, frames, domain, source and traits.
    """
    name = source.resolve().parent.name
    try:
        raw = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
        text = raw.decode("utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{source}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise DataError(f"{source}: cannot be read as a manifest ({error})") from None
    for number, line in enumerate(text, 1):
        if line.strip():
            try:
                yield _lhotse(line, f"{source}:{number}", audio or source.parent, name)
            except DataError as error:
                yield error


def _lhotse(line: str, where: str, folder: Path, name: str) -> Row:
    cut = parse_cut(line, where, folder)
    if len(cut.supervisions) > 1 or cut.start or abs(cut.duration - cut.recording.duration) > 0.01:
        raise DataError(
            f"{where}: cut {cut.id} is not one whole recording with at most one supervision; Lhotse: "
            "CutSet.trim_to_supervisions and save_audios make such"
        )
    spoken = cut.supervisions[0] if cut.supervisions else None
    custom: Mapping[str, Any] = (spoken.custom or {}) if spoken is not None else {}
    fields = {
        **custom,
        "audio": audio_path(cut),
        "text": None if spoken is None else custom.get("written") or spoken.text,
        "speaker": None if spoken is None else spoken.speaker,
    }
    if spoken is not None and spoken.gender:
        fields.setdefault("gender", spoken.gender)
    return Row(where=where, id=cut.id, source=str(custom.get("source") or name), folder=folder, fields=fields)
