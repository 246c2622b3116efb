"""What importers share: reading foreign files, escaping words for templates, and writing a domain file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from sayso.core.errors import DomainError

_SPECIAL = re.compile(r"[()\[\]{}<>|;\\]")
# Placed before a list that is made for an open slot of another system.
Form = str | tuple[str, str]
# A piece of an utterance: text, and the entity and slot if it is a value.
Piece = tuple[str, str | None, str | None]


@dataclass
class Draft:
    """A domain in the making: sentence templates by intent, list values (spoken, or (spoken, out)), number ranges,
    wildcards."""

    sentences: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, list[Form]] = field(default_factory=dict)
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    wildcards: list[str] = field(default_factory=list)
    rules: dict[str, str] = field(default_factory=dict)
    language: str = "en"
    types: dict[str, str] = field(default_factory=dict)

    def write(self, *, source: str) -> str:
        """YAML text. Lists and rules that no sentence reaches are left out, since an unused list is an error."""
        reached = _reached(self.sentences, self.rules)
        lists: dict[str, Any] = {}
        for key, forms in self.values.items():
            if key in reached:
                plain = [f if isinstance(f, str) else {"in": f[0], "out": f[1]} for f in forms]
                lists[key] = {"values": [v for i, v in enumerate(plain) if v not in plain[:i]]}
        lists |= {
            key: {"range": {"from": low, "to": high}} for key, (low, high) in self.ranges.items() if key in reached
        }
        lists |= {key: {"wildcard": True} for key in self.wildcards if key in reached}
        content: dict[str, Any] = {
            "language": self.language,
            "intents": {
                intent: {"data": [{"sentences": list(dict.fromkeys(texts))}]}
                for intent, texts in self.sentences.items()
            },
        }
        if rules := {key: text for key, text in self.rules.items() if f"<{key}>" in reached}:
            content["expansion_rules"] = rules
        if lists:
            content["lists"] = lists
        content["sayso"] = {"version": 1}
        if self.types:
            content["sayso"]["slots"] = {slot: {"type": kind} for slot, kind in self.types.items()}
        body: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
        return f"# Imported from {source}.\n{body}"


def add_pieces(
    draft: Draft, intent: str, pieces: Sequence[Piece], built_in: Mapping[str, tuple[int, int] | None]
) -> None:
    """An annotated utterance as a template in which a value is any value of its entity.

    ``built_in`` are entities of the other system that become number ranges, or (None) open slots.
    """
    template = ""
    for text, entity, slot in pieces:
        if entity is None or not text.strip():
            template += escape(text)
            continue
        name = _list(entity)
        if entity not in built_in:
            note_value(draft, entity, text.strip())
        elif (limits := built_in[entity]) is not None:
            draft.ranges[name] = limits
        elif name not in draft.wildcards:
            draft.wildcards.append(name)
        template += f"{{{name}:{identifier(slot or entity)}}}"
    if template.strip():
        draft.sentences.setdefault(intent, []).append(template)


def note_value(draft: Draft, entity: str, said: str, out: str | None = None) -> None:
    """Keep a value; one that was only said means what its entity says it means, else itself."""
    forms = draft.values.setdefault(_list(entity), [])
    known = {form[0].lower() for form in forms if isinstance(form, tuple)}
    if said and (out is not None or escape(said).lower() not in known):
        forms.append((escape(said), said if out is None else out))


def _list(entity: str) -> str:
    return identifier(entity.replace("/", "_"))


def escape(text: str) -> str:
    """``text`` as literal words of a template."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def identifier(text: str) -> str:
    """A list, rule or slot name out of any text."""
    return re.sub(r"[^\w.]+", "_", text.strip()).strip("_") or "unnamed"


def read_text(path: Path, what: str) -> str:
    """The file's text; ``DomainError`` where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DomainError(f"no such file; give {what}", file=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DomainError(f"cannot be read as {what} ({error})", file=str(path)) from None


def read_table(path: Path, what: str) -> dict[str, Any]:
    """A YAML (or JSON) file's mapping; ``DomainError`` with the line where it is broken."""
    text = read_text(path, what)
    try:
        content = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=_PlainLoader)
    except json.JSONDecodeError as error:
        raise DomainError(f"not valid JSON: {error.msg}", file=str(path), line=error.lineno) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else None
        raise DomainError(f"not valid YAML: {getattr(error, 'problem', error)}", file=str(path), line=line) from None
    if not isinstance(content, dict):
        raise DomainError(f"not {what}: expected a mapping at the top", file=str(path))
    return content


def mapping(value: object, what: str, path: Path) -> Mapping[str, Any]:
    """``value`` if it is a mapping; ``DomainError`` naming ``what`` otherwise."""
    if isinstance(value, dict):
        return {str(key): entry for key, entry in value.items()}
    raise DomainError(f"{what} must be a mapping", file=str(path))


def sequence(value: object, what: str, path: Path) -> Sequence[Any]:
    """``value`` if it is a list; ``DomainError`` naming ``what`` otherwise."""
    if isinstance(value, list):
        return value
    raise DomainError(f"{what} must be a list", file=str(path))


def unique(items: Iterable[str]) -> list[str]:
    """Without repeats and empties, in order."""
    return [item for item in dict.fromkeys(items) if item]


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Scalars as they are written: ``on`` is a word, not a boolean."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _reached(sentences: Mapping[str, Sequence[str]], rules: Mapping[str, str]) -> set[str]:
    """Names of lists, and ``<rules>``, that sentences refer to."""
    reached: set[str] = set()
    waiting = [text for texts in sentences.values() for text in texts]
    while waiting:
        text = waiting.pop()
        reached.update(match.split(":")[0] for match in re.findall(r"(?<!\\)\{([^{}]+)\}", text))
        for rule in re.findall(r"(?<!\\)<([^<>]+)>", text):
            if f"<{rule}>" not in reached:
                reached.add(f"<{rule}>")
                waiting.append(rules.get(rule, ""))
    return reached
