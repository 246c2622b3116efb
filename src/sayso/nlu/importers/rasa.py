"""Rasa NLU training data (YAML, version 3): examples with ``[value](entity)`` or ``[value]{"entity": ...}`` marks.

Example sentences become templates in which each marked value is any value of its entity: those marked anywhere, plus
``lookup`` tables; ``synonym`` blocks and ``value`` marks give the ``out``. A ``role`` names the slot. ``regex`` blocks
are left out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sayso.core.errors import DomainError
from sayso.nlu.importers.build import Draft, escape, identifier, mapping, read_table, sequence, unique

WHAT = "Rasa NLU data (YAML with 'nlu:')"
_MARK = re.compile(r"\[([^\[\]]+)\](?:\(([^()]+)\)|(\{[^{}]*\}))")


def import_rasa(path: Path) -> str:
    """Domain YAML of a Rasa NLU file; ``DomainError`` names what is not understood."""
    content = read_table(path, WHAT)
    blocks = [mapping(block, "an entry of 'nlu'", path) for block in sequence(content.get("nlu"), "'nlu'", path)]
    draft = Draft()
    synonyms = {
        said.lower(): str(block["synonym"]) for block in blocks if "synonym" in block for said in _examples(block, path)
    }
    for block in blocks:
        if "lookup" in block:
            for value in _examples(block, path):
                _note(draft, identifier(str(block["lookup"])), value, synonyms.get(value.lower(), value))
    for block in blocks:
        if "intent" in block:
            texts = [_template(text, draft, synonyms, path) for text in _examples(block, path)]
            draft.sentences.setdefault(str(block["intent"]), []).extend(unique(texts))
    # Other ways of saying a value that occurs nowhere but in a synonym block.
    for forms in draft.values.values():
        outs = {form[1] for form in forms}
        forms += [(escape(said), out) for said, out in synonyms.items() if out in outs]
    if not draft.sentences:
        raise DomainError(f"not {WHAT}: no 'intent' with examples", file=str(path))
    return draft.write(source=f"the Rasa file {path.name}")


def _examples(block: Any, path: Path) -> list[str]:
    examples = block.get("examples")
    if isinstance(examples, list):  # the long form: a list of {text: ...}
        texts = [str(entry.get("text", "") if isinstance(entry, dict) else entry) for entry in examples]
    elif isinstance(examples, str):
        texts = [line.strip().removeprefix("-").strip() for line in examples.splitlines()]
    else:
        raise DomainError(
            f"'examples' of {next(iter(block.values()), '?')} must be text with '- ' lines", file=str(path)
        )
    return unique(text.strip() for text in texts)


def _template(text: str, draft: Draft, synonyms: dict[str, str], path: Path) -> str:
    result, at = "", 0
    for match in _MARK.finditer(text):
        said, entity, details = match.groups()
        slot, out = entity, None
        if details is not None:
            try:
                fields = json.loads(details)
            except json.JSONDecodeError as error:
                raise DomainError(f"example '{text}': {details} is not JSON ({error.msg})", file=str(path)) from None
            entity, out = str(fields.get("entity", "")), fields.get("value")
            slot = str(fields.get("role") or entity)
        elif ":" in entity:  # the older [value](entity:out)
            entity, out = entity.split(":", 1)
            slot = entity
        if not entity:
            raise DomainError(f"example '{text}': [{said}] names no entity", file=str(path))
        name = identifier(entity)
        _note(draft, name, said, str(out) if out is not None else synonyms.get(said.lower(), said))
        result += escape(text[at : match.start()]) + f"{{{name}:{identifier(slot)}}}"
        at = match.end()
    return result + escape(text[at:])


def _note(draft: Draft, entity: str, said: str, out: str) -> None:
    draft.values.setdefault(entity, []).append((escape(said), out))
