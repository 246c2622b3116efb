"""Snips' spoken data (Saade et al. 2018, arXiv:1810.12735): recordings whose meaning stands in another file.

A folder such as ``smart-lights-en-close-field`` holds ``dataset.json`` (utterances in pieces, entities with synonyms)
and ``speech_corpus/metadata.json`` (a text and a worker for every recording). The text joins them: equal once both are
normalised. A slot's value is its entity's value of which what was said is a synonym.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sayso.core.errors import DataError
from sayso.data.importers.rows import Row, Rows, document
from sayso.text.normalise import normalise

Meaning = dict[str, Any]


def read_snips(source: Path, audio: Path | None) -> Rows:
    """Rows for the recordings of a folder; they lie in ``audio`` (default: ``speech_corpus/audio``)."""
    meanings: dict[str, Meaning] = {}
    clashes: set[str] = set()
    files = sorted(source.glob("*dataset.json"))
    if not files:
        raise DataError(f"{source}: no dataset.json; give the folder that holds it and speech_corpus/metadata.json")
    for file in files:
        for said in utterances(document(file, "a Snips dataset"), str(file)):
            key = normalise(said["text"])
            if meanings.setdefault(key, said) != said:
                clashes.add(key)
    metadata = source / "speech_corpus" / "metadata.json"
    for number, about in document(metadata, "Snips' description of the recordings").items():
        where = f"{metadata}: recording '{number}'"
        try:
            name, text, worker = str(about["filename"]), str(about["text"]), about.get("worker") or {}
            row: Meaning = {"audio": name, "text": text, "speaker": worker.get("id")}
            row |= {"gender": worker.get("gender"), "age": worker.get("age"), "accent": worker.get("country")}
        except (KeyError, TypeError, AttributeError):
            yield DataError(f"{where}: needs 'filename' and 'text', and 'worker' as an object where it is known")
            continue
        key = normalise(text)
        if key not in meanings:
            yield DataError(f"{where}: '{text}' is no utterance of {', '.join(f.name for f in files)}")
        elif key in clashes:
            yield DataError(f"{where}: '{text}' has two meanings in {', '.join(f.name for f in files)}; keep one")
        else:
            fields = {**meanings[key], **row, "device": _device(source)}
            folder = audio or metadata.parent / "audio"
            id = f"snips/{source.resolve().name}/{Path(name).stem}"
            yield Row(where=where, id=id, source="snips", folder=folder, fields=fields)


def utterances(content: Mapping[str, Any], where: str) -> Iterator[Meaning]:
    """Text, intent and slots of every utterance of a dataset, or of the published benchmark's files without
    recordings; ``DataError`` names the intent that is malformed."""
    for intent, entry in content.get("intents", content).items():
        try:
            values = _values(content.get("entities") or {})
            for utterance in entry["utterances"] if isinstance(entry, dict) else entry:
                pieces = [(str(p["text"]), p.get("entity"), p.get("slot_name")) for p in utterance["data"]]
                slots = []
                for text, entity, slot in pieces:
                    if entity and (said := text.strip()):
                        value = values.get((entity, normalise(said)), said)
                        slots.append({"name": slot or entity, "value": value, "text": normalise(said)})
                yield {"text": " ".join("".join(p[0] for p in pieces).split()), "intent": intent, "slots": slots}
        except (KeyError, TypeError, AttributeError):
            raise DataError(
                f"{where}: intent '{intent}': legal is a list of {{'data': [{{'text', 'entity', 'slot_name'}}]}}, "
                "under 'utterances' or by itself"
            ) from None


def _values(entities: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """By entity and spoken words: the value they mean."""
    return {
        (name, normalise(str(form))): str(entry["value"])
        for name, entity in entities.items()
        for entry in entity.get("data", [])
        for form in [*(entry.get("synonyms") or []), entry["value"]]
    }


def _device(source: Path) -> str | None:
    """The microphone's distance, as the folder's name says it."""
    return next((f"{kind}-field" for kind in ("close", "far") if f"{kind}-field" in source.resolve().name), None)
