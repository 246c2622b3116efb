"""Snips NLU data: the YAML of its command line (``type: intent`` and ``type: entity`` documents), its JSON dataset, and
the JSON of its published benchmark (``{intent: [{data: [{text, entity}]}]}``).

Utterances become templates in which a slot is any value of its entity: those listed, their synonyms, and those said in
any utterance. ``snips/number`` and ``snips/percentage`` become ranges; other built-in entities keep the values that
were said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from sayso.core.errors import DomainError
from sayso.nlu.importers.build import Draft, Piece, add_pieces, mapping, note_value, read_text, sequence

WHAT = "Snips NLU data (YAML or JSON)"
_MARK = re.compile(r"\[([^\[\]:]+)(?::([^\[\]]+))?\]\(([^()]*)\)")
BUILT_IN = {"snips/number": (0, 100), "snips/percentage": (0, 100)}


def import_snips(path: Path) -> str:
    """Domain YAML of a Snips dataset; ``DomainError`` names what is not understood."""
    text = read_text(path, WHAT)
    draft = Draft()
    try:
        if path.suffix == ".json":
            _json(mapping(json.loads(text), "the dataset", path), draft, path)
        else:
            _yaml([d for d in yaml.safe_load_all(text) if d is not None], draft, path)
    except json.JSONDecodeError as error:
        raise DomainError(f"not valid JSON: {error.msg}", file=str(path), line=error.lineno) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else None
        raise DomainError(f"not valid YAML: {getattr(error, 'problem', error)}", file=str(path), line=line) from None
    if not draft.sentences:
        raise DomainError(f"not {WHAT}: no intent with utterances", file=str(path))
    return draft.write(source=f"the Snips dataset {path.name}")


def _yaml(documents: Sequence[Any], draft: Draft, path: Path) -> None:
    for entry in documents:
        document = mapping(entry, "a document", path)
        name = str(document.get("name", ""))
        if document.get("type") == "entity":
            for value in sequence(document.get("values") or [], f"values of entity '{name}'", path):
                forms = [str(form) for form in value] if isinstance(value, list) else [str(value)]
                for form in forms:
                    note_value(draft, name, form, forms[0])
        elif document.get("type") == "intent":
            slots = {}
            for slot in sequence(document.get("slots") or [], f"slots of intent '{name}'", path):
                slots[str(slot["name"])] = str(slot.get("entity", slot["name"]))
            for utterance in sequence(document.get("utterances") or [], f"utterances of intent '{name}'", path):
                add_pieces(draft, name, _pieces(str(utterance), slots), BUILT_IN)
        else:
            raise DomainError(f"a document of type '{document.get('type')}'; Legal: intent, entity", file=str(path))


def _pieces(utterance: str, slots: dict[str, str]) -> list[Piece]:
    pieces: list[Piece] = []
    at = 0
    for match in _MARK.finditer(utterance):
        slot, entity, said = match.groups()
        pieces += [(utterance[at : match.start()], None, None), (said, entity or slots.get(slot, slot), slot)]
        at = match.end()
    return [*pieces, (utterance[at:], None, None)]


def _json(content: Any, draft: Draft, path: Path) -> None:
    draft.language = str(content.get("language", "en"))
    for name, entity in mapping(content.get("entities") or {}, "'entities'", path).items():
        for value in entity.get("data", []):
            for form in [value["value"], *value.get("synonyms", [])]:
                note_value(draft, name, str(form), str(value["value"]))
    intents = content.get("intents", content)
    for intent, entry in mapping(intents, "'intents'", path).items():
        utterances = entry.get("utterances") if isinstance(entry, dict) else entry
        for utterance in sequence(utterances, f"utterances of '{intent}'", path):
            pieces = [
                (str(p["text"]), p.get("entity"), p.get("slot_name", p.get("entity")))
                for p in mapping(utterance, "one", path)["data"]
            ]
            add_pieces(draft, intent, pieces, BUILT_IN)
