"""YAML in which every value remembers its line, so that each complaint about a domain file can name the place.

PyYAML's node tree (``yaml.compose``) carries marks that its object loader drops. Scalars stay the text that was
written: ``on`` and ``off`` are words here, as a person who writes sentences means them, not booleans of YAML 1.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from sayso.core.errors import DomainError, nearest

MAX_DEPTH = 32


class Text(str):
    """A scalar as written, with ``file`` and ``line`` (1-based)."""

    file: str = ""
    line: int = 0

    def __new__(cls, value: str, file: str = "", line: int = 0) -> Text:
        """Keep the place beside the characters."""
        text = super().__new__(cls, value)
        text.file, text.line = file, line
        return text


@dataclass
class Items:
    """A YAML sequence."""

    file: str
    line: int
    values: list[Value] = field(default_factory=list)

    def __iter__(self) -> Iterator[Value]:
        """In the order of the file."""
        return iter(self.values)


@dataclass
class Table:
    """A YAML mapping; its keys are ``Text`` and so know their own line."""

    file: str
    line: int
    values: dict[Text, Value] = field(default_factory=dict)

    def get(self, key: str) -> Value | None:
        """The value under ``key``; None when absent or null."""
        return self.values.get(Text(key))

    def key(self, name: str) -> Text:
        """The key as written, with its place."""
        return next(key for key in self.values if key == name)


Value = Text | Items | Table | None


class Problems:
    """Collects complaints so that one run shows several; ``done`` raises them as one ``DomainError``."""

    def __init__(self) -> None:
        self.errors: list[DomainError] = []

    def add(self, message: str, place: Value | DomainError = None) -> None:
        """Note ``message`` at ``place`` (anything read from the file)."""
        file = getattr(place, "file", None) or None
        self.errors.append(DomainError(message, file=file, line=getattr(place, "line", None) or None))

    def done(self, limit: int = 8) -> None:
        """Raise what was collected, first place first; return quietly when there was nothing."""
        if not self.errors:
            return
        first = self.errors[0]
        lines = list(dict.fromkeys(str(error) for error in self.errors))
        more = [f"... and {len(lines) - limit} more"] if len(lines) > limit else []
        error = DomainError("\n".join(lines[:limit] + more))
        error.file, error.line = first.file, first.line
        raise error

    def check_keys(self, table: Table, legal: Iterable[str], what: str) -> None:
        """Complain about every key of ``table`` that is not ``legal``."""
        allowed = tuple(legal)
        for key in table.values:
            if key not in allowed:
                self.add(f"unknown key '{key}' in {what}; {nearest(key, allowed)}", key)

    def table(self, value: Value, what: str, place: Value) -> Table:
        """``value`` as a mapping; an empty one after a complaint."""
        if isinstance(value, Table):
            return value
        self.add(f"{what} must be a mapping (key: value), found {kind(value)}", place if value is None else value)
        return Table(getattr(place, "file", ""), getattr(place, "line", 0))

    def items(self, value: Value, what: str, place: Value) -> Items:
        """``value`` as a sequence; an empty one after a complaint."""
        if isinstance(value, Items):
            return value
        self.add(f"{what} must be a list (- item), found {kind(value)}", place if value is None else value)
        return Items(getattr(place, "file", ""), getattr(place, "line", 0))

    def text(self, value: Value, what: str, place: Value) -> Text:
        """``value`` as text; empty text after a complaint."""
        if isinstance(value, Text):
            return value
        self.add(f"{what} must be text, found {kind(value)}", place if value is None else value)
        return Text("", getattr(place, "file", ""), getattr(place, "line", 0))

    def number(self, value: Value, what: str, place: Value) -> float | None:
        """``value`` as a number; None after a complaint."""
        text = self.text(value, what, place)
        try:
            return float(text)
        except ValueError:
            if text:
                self.add(f"{what} must be a number, found '{text}'", text)
            return None


def kind(value: Value) -> str:
    """What a value is, in words for a message."""
    if isinstance(value, Table):
        return "a mapping"
    if isinstance(value, Items):
        return "a list"
    return "nothing" if value is None else f"'{value}'"


def read_yaml(path: Path, problems: Problems) -> Table:
    """The mapping at the top of a YAML file.

    Raises ``DomainError`` when the file cannot be read or is not YAML; keys written twice go to ``problems``.
    """
    name = str(path)
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DomainError("no such file; give a domain file (.yaml) or a folder of them", file=name) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DomainError(f"cannot be read as text ({error})", file=name) from None
    return parse_yaml(content, name, problems)


def parse_yaml(content: str, name: str, problems: Problems) -> Table:
    """As ``read_yaml``, from text; ``name`` stands for the file in messages."""
    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error)
        line = mark.line + 1 if mark is not None else None
        raise DomainError(f"not valid YAML: {reason}", file=name, line=line) from None
    if node is None:
        raise DomainError("empty; a domain file has 'intents:' with sentences", file=name)
    value = _convert(node, name, problems, 0)
    if not isinstance(value, Table):
        raise DomainError(f"a domain file is a mapping with 'intents:', found {kind(value)}", file=name, line=1)
    return value


def _convert(node: yaml.Node, file: str, problems: Problems, depth: int) -> Value:
    line = node.start_mark.line + 1
    if depth > MAX_DEPTH:
        raise DomainError(
            f"nested deeper than {MAX_DEPTH} levels (an alias that contains itself?)", file=file, line=line
        )
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag.endswith(":null") else Text(node.value, file, line)
    if isinstance(node, yaml.SequenceNode):
        return Items(file, line, [_convert(child, file, problems, depth + 1) for child in node.value])
    assert isinstance(node, yaml.MappingNode)
    table = Table(file, line)
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise DomainError("a key must be plain text", file=file, line=key_node.start_mark.line + 1)
        key = Text(key_node.value, file, key_node.start_mark.line + 1)
        if key in table.values:
            problems.add(f"'{key}' is written twice (first on line {table.key(key).line}); merge or rename one", key)
            continue
        table.values[key] = _convert(value_node, file, problems, depth + 1)
    return table


def merge(tables: list[Table]) -> Table:
    """Join files as Home Assistant does: mappings recursively, lists one after the other, the first scalar wins."""
    base = Table(tables[0].file, tables[0].line, dict(tables[0].values))
    for table in tables[1:]:
        for key, value in table.values.items():
            old = base.values.get(key)
            if isinstance(old, Table) and isinstance(value, Table):
                base.values[key] = merge([old, value])
            elif isinstance(old, Items) and isinstance(value, Items):
                base.values[key] = Items(old.file, old.line, old.values + value.values)
            elif old is None:
                base.values[key] = value
    return base
