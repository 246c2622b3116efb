"""Sentence templates as a small tree of our own, parsed by ``hassil``.

``hassil`` reads the Home Assistant sentence format; its classes keep rule references open and permutations implicit.
Here a template becomes a closed tree of four node kinds, with rules resolved (shared, not copied) and permutations
written out, so that sampling and compilation are each one short recursion. Text keeps its white space: ``light[s]`` is
one word or another, and only white space or a list ends a word.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hassil.expression import (
    Alternative,
    Expression,
    Group,
    ListReference,
    Permutation,
    RuleReference,
    TextChunk,
)
from hassil.parse_expression import ParseExpressionError, parse_sentence
from hassil.parser import ParseError

from sayso.core.errors import DomainError
from sayso.text.normalise import normalise

MAX_FORMS = 20_000
MAX_PERMUTED = 6
MAX_LENGTH = 600  # characters; longer ones are a rule that doubles itself, not something people say


@dataclass(frozen=True, eq=False)
class Chars:
    """Literal text; its white space counts."""

    text: str


@dataclass(frozen=True, eq=False)
class Seq:
    """One part after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Alt:
    """Exactly one of ``options``; ``optional`` marks ``[...]``, whose last option is empty text."""

    options: tuple[Node, ...]
    optional: bool = False


@dataclass(frozen=True, eq=False)
class Ref:
    """A list spoken here for ``slot``."""

    list: str
    slot: str


Node = Chars | Seq | Alt | Ref
Resolve = Callable[[str], Node]
EMPTY = Chars("")


def parse_template(text: str, rule: Resolve, list_name: Callable[[ListReference], str]) -> Node:
    """Tree of one sentence template.

    ``rule`` gives the tree of an expansion rule, ``list_name`` the name under which the domain keeps the list a
    reference means; both raise ``DomainError``, and so does this for broken brackets.
    """
    return _convert(_parse(text), rule, list_name)


def rule_names(text: str) -> set[str]:
    """Expansion rules that ``text`` refers to directly."""
    return {e.rule_name for e in _walk(_parse(text)) if isinstance(e, RuleReference)}


def expand(node: Node, limit: int = MAX_FORMS) -> list[str]:
    """Every text of a tree without lists, normalised, without repeats, shortest first on ties of order.

    Raises ``DomainError`` past ``limit`` forms, or at a list (a list's values cannot hold another list).
    """
    texts = dict.fromkeys(normalise(text) for text in itertools.islice(_texts(node), limit + 1))
    if len(texts) > limit:
        raise DomainError(f"more than {limit} spoken forms; split the value or use fewer options")
    texts.pop("", None)
    return list(texts)


def count(node: Node, sizes: Callable[[str], float], seen: dict[int, float] | None = None) -> float:
    """Number of ways through a tree (an upper bound on its sentences); ``sizes`` gives each list's number of values."""
    seen = {} if seen is None else seen
    known = seen.get(id(node))
    if known is not None:
        return known
    if isinstance(node, Chars):
        total = 1.0
    elif isinstance(node, Ref):
        total = sizes(node.list)
    elif isinstance(node, Seq):
        total = math.prod(count(part, sizes, seen) for part in node.parts)
    else:
        total = sum(count(option, sizes, seen) for option in node.options)
    seen[id(node)] = total
    return total


def refs(node: Node, seen: set[int] | None = None) -> Iterator[Ref]:
    """Every list reference of a tree (shared parts once)."""
    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, Ref):
        yield node
    for child in node.parts if isinstance(node, Seq) else node.options if isinstance(node, Alt) else ():
        yield from refs(child, seen)


def fragments(text: str) -> list[str]:
    """Text cut into runs without white space and single spaces: ``"turn  on "`` gives ``["turn", " ", "on", " "]``."""
    return [part if not part.isspace() else " " for part in re.findall(r"\s+|\S+", text)]


def glued(text: str) -> tuple[str, bool]:
    """What is spoken for text written directly after a list, and whether it continues the list's last word.

    ``{area}'s`` continues it ("kitchen's"); ``{level}%`` adds the word "percent".
    """
    if text[:1].isalpha() or text[:1] in "'’":
        return normalise(f"a{text}")[1:], True
    return normalise(text), False


def _parse(text: str) -> Expression:
    try:
        return parse_sentence(text).expression
    except (ParseError, AssertionError, RecursionError) as error:
        vague = isinstance(error, ParseExpressionError) or not str(error)
        reason = "a bracket too many, or nothing between brackets" if vague else str(error)
        raise DomainError(
            f"cannot read the sentence '{text}': {reason}. Legal: (a|b), [optional], {{list:slot}}, <rule>"
        ) from None


def _walk(expression: Expression) -> Iterator[Expression]:
    yield expression
    if isinstance(expression, Group):
        for item in expression.items:
            yield from _walk(item)


def _convert(expression: Expression, rule: Resolve, list_name: Callable[[ListReference], str]) -> Node:
    if isinstance(expression, TextChunk):
        return Chars(expression.original_text)
    if isinstance(expression, RuleReference):
        return rule(expression.rule_name)
    if isinstance(expression, ListReference):
        return Ref(list_name(expression), expression.slot_name)
    assert isinstance(expression, Group)
    children = tuple(_convert(item, rule, list_name) for item in expression.items)
    if isinstance(expression, Alternative):
        return Alt(children, expression.is_optional)
    if isinstance(expression, Permutation):
        if len(children) > MAX_PERMUTED:
            raise DomainError(f"a permutation of {len(children)} parts has too many orders; at most {MAX_PERMUTED}")
        return Alt(tuple(Seq(order) for order in itertools.permutations(children)))
    return children[0] if len(children) == 1 else Seq(children)


def _texts(node: Node) -> Iterator[str]:
    if isinstance(node, Chars):
        yield node.text
    elif isinstance(node, Alt):
        for option in node.options:
            yield from _texts(option)
    elif isinstance(node, Seq):
        if not node.parts:
            yield ""
            return
        first, rest = node.parts[0], Seq(node.parts[1:])
        for head in _texts(first):
            for tail in _texts(rest):
                yield head + tail
    else:
        raise DomainError(f"a list's value cannot refer to the list '{node.list}'; write its words out")


def digest(node: Node, seen: dict[int, str] | None = None) -> str:
    """A hash that is equal for equal trees; shared parts are read once."""
    seen = {} if seen is None else seen
    known = seen.get(id(node))
    if known is None:
        if isinstance(node, Chars):
            content = f"c{node.text}"
        elif isinstance(node, Ref):
            content = f"r{node.list}:{node.slot}"
        elif isinstance(node, Seq):
            content = "s" + " ".join(digest(part, seen) for part in node.parts)
        else:
            content = f"a{node.optional} " + " ".join(digest(option, seen) for option in node.options)
        known = seen[id(node)] = hashlib.sha256(content.encode()).hexdigest()
    return known


def longest(node: Node, seen: dict[int, int] | None = None) -> int:
    """Characters of the longest text of a tree, a list counting as eight."""
    seen = {} if seen is None else seen
    known = seen.get(id(node))
    if known is None:
        if isinstance(node, Chars):
            known = len(node.text)
        elif isinstance(node, Ref):
            known = 8
        elif isinstance(node, Seq):
            known = sum(longest(part, seen) for part in node.parts)
        else:
            known = max(longest(option, seen) for option in node.options)
        seen[id(node)] = known
    return known
