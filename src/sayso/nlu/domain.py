"""Reading and checking a domain file: YAML with lines in, a ``Domain`` or one message with every place that is wrong
out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from hassil.expression import ListReference

from sayso.core.errors import DomainError, nearest
from sayso.nlu.grammar import EMPTY, MAX_LENGTH, Alt, Chars, Node, Seq, longest, parse_template, refs, rule_names
from sayso.nlu.lists import inline_range, read_list, supplied_list
from sayso.nlu.schema import (
    RISKS,
    SLOT_TYPES,
    Domain,
    IntentSpec,
    ListSpec,
    ListValues,
    Risk,
    SlotSpec,
    SlotType,
    Template,
)
from sayso.nlu.source import Items, Problems, Table, Text, Value, merge, parse_yaml, read_yaml
from sayso.text.normalise import normalise
from sayso.text.written import VALUE_TYPES

COMMON = "_common.yaml"
NAME = re.compile(r"\w[\w .-]*")
TOP_KEYS = ("language", "intents", "lists", "expansion_rules", "skip_words", "settings", "responses", "sayso")
BLOCK_KEYS = (
    "sentences", "slots", "weight", "lists", "expansion_rules", "requires_context", "excludes_context", "response",
    "metadata", "required_keywords", "inferred_domain", "name_domains", "settings",
)  # fmt: skip
SAYSO_KEYS = ("version", "name", "intents", "slots", "out_of_domain")
# Home Assistant supplies these lists itself, from the names a home gives to its things.
SUPPLIED: dict[str, tuple[str, ...]] = {
    "name": ("bedroom lamp", "kitchen fan", "front door", "coffee machine"),
    "area": ("kitchen", "living room", "bedroom", "garage", "office"),
    "floor": ("upstairs", "first floor", "basement"),
}


def load_domain(path: Path | str, *, lists: ListValues | None = None) -> Domain:
    """Read a domain file, or a folder of files merged into one domain.

    ``lists`` adds or replaces lists (values, or (spoken, out) pairs). Raises ``DomainError`` naming every place that is
    wrong. A folder in Home Assistant's layout needs no ``name``, ``area`` and ``floor`` lists: small ones stand in for
    those that a home supplies, and a stream replaces them.
    """
    path = Path(path)
    problems = Problems()
    files = files_of(path)
    tables = [read_yaml(file, problems) for file in files]
    shared = path.is_dir() or len(files) > 1
    return _Reader(merge(tables), problems, shared).domain(
        path.stem if path.is_file() else path.resolve().name, path, lists or {}
    )


def files_of(path: Path) -> list[Path]:
    """The files that make up the domain at ``path``: a folder's, or the file with the ``_common.yaml`` beside it."""
    if path.is_dir():
        files = sorted(path.glob("*.yaml"))
        if not files:
            raise DomainError("a folder without .yaml files; give a domain file or a folder of them", file=str(path))
        return files
    common = path.parent / COMMON
    return [path, common] if common.is_file() and path.name != COMMON else [path]


def parse_domain(content: str, name: str = "domain", *, lists: ListValues | None = None) -> Domain:
    """As ``load_domain``, from the text of one file."""
    problems = Problems()
    return _Reader(parse_yaml(content, name, problems), problems, False).domain(name, None, lists or {})


__all__ = ["Domain", "IntentSpec", "ListSpec", "SlotSpec", "Template", "load_domain", "parse_domain"]


@dataclass
class _Scope:
    """Rules and lists in force for one block of sentences; ``local`` lists are kept under another name."""

    rules: dict[str, Text]
    trees: dict[str, Node]
    local: dict[str, str]


class _Reader:
    def __init__(self, top: Table, problems: Problems, shared: bool) -> None:
        self.top, self.problems, self.shared = top, problems, shared
        self.lists: dict[str, ListSpec] = {}
        self.used: dict[str, set[str]] = {}  # slot -> lists
        self.templates: list[Template] = []

    def domain(self, name: str, path: Path | None, lists: ListValues) -> Domain:
        """Everything, in the order in which one thing needs another."""
        top, problems = self.top, self.problems
        problems.check_keys(top, TOP_KEYS, "a domain file")
        language = problems.text(top.get("language") or Text("en"), "language", top)
        for key, value in self._entries(top, "lists"):
            self.lists[key] = read_list(key, value, problems)
        supplied = SUPPLIED if self.shared and top.get("sayso") is None else {}
        for extra, values in {**{k: v for k, v in supplied.items() if k not in self.lists}, **lists}.items():
            self.lists[extra] = supplied_list(extra, values)
        rules = self._rules(top)
        for cycle in _cycles(rules):
            problems.add(
                f"endless expansion rule: {' -> '.join(f'<{n}>' for n in cycle)}; a rule cannot contain itself",
                rules[cycle[0]],
            )
        before, after = self._skip_words()
        problems.done()
        for key, value in self._entries(top, "intents", needed=True):
            self._intent(key, value, rules, before, after)
        self._check_unused(set(lists))
        sayso = problems.table(top.get("sayso"), "sayso", top) if top.get("sayso") is not None else Table("", 0)
        problems.check_keys(sayso, SAYSO_KEYS, "sayso")
        version = sayso.get("version")
        if version is not None and version != "1":
            problems.add("sayso version must be 1, the only one this release reads", sayso.key("version"))
        given = sayso.get("name")
        if given is not None and not NAME.fullmatch(problems.text(given, "name", sayso)):
            problems.add(
                f"sayso name is '{given}'; folders are named after it: it may have letters, digits, spaces, '_', "
                "'-' and '.', and begins with a letter or digit",
                sayso.key("name"),
            )
        names = list(dict.fromkeys(template.intent for template in self.templates))
        intents, slots, rejected = self._intents(sayso, names), self._slots(sayso), self._out_of_domain(sayso)
        problems.done()
        return Domain(
            name=name if given is None else str(given),
            language=str(language),
            intents=intents,
            lists=self.lists,
            slots=slots,
            templates=tuple(self.templates),
            out_of_domain=rejected,
            path=path,
        )

    def _entries(self, table: Table, key: str, *, needed: bool = False) -> Iterable[tuple[Text, Value]]:
        value = table.get(key)
        if value is None:
            if needed:
                self.problems.add(f"no '{key}:'; a domain file needs it", table)
            return []
        return self.problems.table(value, key, table).values.items()

    def _rules(self, table: Table) -> dict[str, Text]:
        return {
            k: self.problems.text(v, f"expansion rule '{k}'", k) for k, v in self._entries(table, "expansion_rules")
        }

    def _skip_words(self) -> tuple[Node, Node]:
        value = self.top.get("skip_words")
        if value is None:
            return EMPTY, EMPTY
        words = [
            self.problems.text(v, "a skip word", value) for v in self.problems.items(value, "skip_words", self.top)
        ]
        before, after = (tuple(Chars(f"{w} ") for w in words), tuple(Chars(f" {w}") for w in words))
        return Alt((*before, EMPTY), True), Alt((*after, EMPTY), True)

    def _intent(self, name: Text, value: Value, rules: dict[str, Text], before: Node, after: Node) -> None:
        problems = self.problems
        table = problems.table(value, f"intent '{name}'", name)
        problems.check_keys(table, ("data",), f"intent '{name}'")
        blocks = problems.items(table.get("data"), f"'data' of intent '{name}'", name).values
        if not blocks and table.get("data") is not None:
            problems.add(f"intent '{name}' has no sentences", name)
        shared = _Scope(rules, {}, {})
        for block in blocks:
            table = problems.table(block, f"a data block of intent '{name}'", name)
            problems.check_keys(table, BLOCK_KEYS, f"a data block of intent '{name}'")
            scope = self._scope(name, table, shared)
            fixed = tuple((str(k), _plain(v)) for k, v in self._entries(table, "slots"))
            weight = (
                1.0 if table.get("weight") is None else problems.number(table.get("weight"), "weight", table) or 0.0
            )
            if weight <= 0:
                problems.add("weight must be a number above 0", table.key("weight"))
            requires, excludes = (
                tuple(str(k) for k, _ in self._entries(table, key)) for key in ("requires_context", "excludes_context")
            )
            sentences = problems.items(table.get("sentences"), f"'sentences' of intent '{name}'", table)
            if not sentences.values and table.get("sentences") is not None:
                problems.add(f"intent '{name}' has a block without sentences", sentences)
            for item in sentences:
                text = problems.text(item, f"a sentence of intent '{name}'", sentences)
                tree = self._tree(text, scope)
                if tree is None:
                    continue
                parts = [part for part in (before, tree, after) if part is not EMPTY]
                self.templates.append(
                    Template(
                        intent=str(name),
                        text=str(text),
                        file=text.file,
                        line=text.line,
                        tree=Seq(tuple(parts)) if len(parts) > 1 else tree,
                        weight=weight,
                        slots=fixed,
                        requires_context=requires,
                        excludes_context=excludes,
                    )
                )

    def _scope(self, intent: Text, table: Table, shared: _Scope) -> _Scope:
        local_rules, local_lists = self._rules(table), dict(self._entries(table, "lists"))
        if not local_rules and not local_lists:
            return shared
        names = {}
        for key, value in local_lists.items():
            names[str(key)] = kept = f"{intent}/{key}" if key in self.lists else str(key)
            self.lists[kept] = read_list(Text(kept, key.file, key.line), value, self.problems)
        rules = {**shared.rules, **local_rules}
        for cycle in _cycles(rules):
            self.problems.add(f"endless expansion rule: {' -> '.join(f'<{n}>' for n in cycle)}", rules[cycle[0]])
            rules.pop(cycle[0])
        return _Scope(rules, {}, names)

    def _tree(self, text: Text, scope: _Scope) -> Node | None:
        def rule(name: str) -> Node:
            if name not in scope.trees:
                if name not in scope.rules:
                    raise DomainError(f"no expansion rule <{name}>; {nearest(name, scope.rules)}")
                scope.trees[name] = parse_template(scope.rules[name], rule, list_name)
            return scope.trees[name]

        def list_name(reference: ListReference) -> str:
            name = reference.list_name
            limits = reference.get_inline_range() if reference.is_inline_range else None
            if limits is not None and name not in self.lists:
                self.lists[name] = inline_range(name, limits)
            name = scope.local.get(name, name)
            if name not in self.lists:
                raise DomainError(
                    f"no list '{name}' for {{{name}}}; add it under 'lists:'; {nearest(name, self.lists)}"
                )
            return name

        if not text:
            return None
        try:
            tree = parse_template(text, rule, list_name)
            if longest(tree) > MAX_LENGTH:
                raise DomainError(
                    f"can grow to {longest(tree)} characters, more than {MAX_LENGTH}; split the sentence or its rules"
                )
        except DomainError as error:
            self.problems.add(str(error), text)
            return None
        for ref in refs(tree):
            self.used.setdefault(ref.slot, set()).add(ref.list)
        return tree

    def _check_unused(self, supplied: set[str]) -> None:
        used = set().union(*self.used.values())
        for name, spec in list(self.lists.items()):
            if name in used or name in supplied:
                continue
            if self.shared:  # a common file serves many intents and languages
                del self.lists[name]
            elif not self.problems.errors:  # a sentence that could not be read may have used it
                legal = nearest(name, used)
                self.problems.add(
                    f"list '{name}' is not used by any sentence; use {{{name}}} or remove it ({legal})", _place(spec)
                )

    def _intents(self, sayso: Table, names: list[str]) -> dict[str, IntentSpec]:
        problems, specs = self.problems, {name: IntentSpec() for name in names}
        for key, value in self._entries(sayso, "intents"):
            if key not in specs:
                problems.add(f"sayso: no intent '{key}'; {nearest(key, names)}", key)
                continue
            table = problems.table(value, f"sayso intent '{key}'", key)
            problems.check_keys(table, ("risk", "clarify"), f"sayso intent '{key}'")
            risk, clarify = table.get("risk"), table.get("clarify")
            if risk is not None and risk not in RISKS:
                problems.add(f"risk of intent '{key}' is '{risk}'; {nearest(str(risk), RISKS)}", table.key("risk"))
                risk = None
            prompt = None if clarify is None else str(problems.text(clarify, "clarify", table))
            specs[str(key)] = IntentSpec(risk=cast(Risk, str(risk or "none")), clarify=prompt)
        return specs

    def _slots(self, sayso: Table) -> dict[str, SlotSpec]:
        problems, declared = self.problems, dict(self._entries(sayso, "slots"))
        types: dict[str, str] = {}
        for key, value in declared.items():
            if key not in self.used:
                problems.add(f"sayso: no slot '{key}' in any sentence; {nearest(key, self.used)}", key)
                continue
            table = problems.table(value, f"sayso slot '{key}'", key)
            problems.check_keys(table, ("type",), f"sayso slot '{key}'")
            given = table.get("type")
            if given is not None and given not in SLOT_TYPES:
                problems.add(f"type of slot '{key}' is '{given}'; {nearest(str(given), SLOT_TYPES)}", table.key("type"))
                continue
            wild = {name: self.lists[name].kind == "wildcard" for name in self.used[key] if name in self.lists}
            if given == "open" and not all(wild.values()):
                closed = ", ".join(sorted(name for name, is_wild in wild.items() if not is_wild))
                problems.add(f"slot '{key}' is 'open' but list {closed} is not 'wildcard: true'", table.key("type"))
            elif given not in (None, "open", *VALUE_TYPES) and any(wild.values()):
                problems.add(
                    f"slot '{key}' is '{given}' but its list is 'wildcard: true'; its type can be open, "
                    f"{', '.join(VALUE_TYPES)}",
                    table.key("type"),
                )
            if given is not None:
                types[str(key)] = str(given)
        defaults = {"wildcard": "open", "range": "number", "text": "text"}
        specs = {}
        for slot, names in self.used.items():
            default = defaults[self.lists[min(names)].kind]
            specs[slot] = SlotSpec(type=cast(SlotType, types.get(slot, default)), lists=tuple(sorted(names)))
        return specs

    def _out_of_domain(self, sayso: Table) -> tuple[str, ...]:
        value = sayso.get("out_of_domain")
        items = Items("", 0) if value is None else self.problems.items(value, "out_of_domain", sayso)
        texts = [normalise(self.problems.text(item, "a sentence of out_of_domain", items)) for item in items]
        return tuple(dict.fromkeys(text for text in texts if text))


def _place(spec: ListSpec) -> Text:
    return Text(spec.name, spec.file, spec.line)


def _plain(value: Value) -> str:
    """A fixed slot's value; a list of them (Home Assistant's device classes) joins with commas."""
    if isinstance(value, Items):
        return ",".join(_plain(item) for item in value)
    return "" if value is None else str(value)


def _cycles(rules: dict[str, Text]) -> list[list[str]]:
    """One cycle of rule names for each group of rules that never end."""
    links: dict[str, list[str]] = {}
    for name, body in rules.items():
        # Broken brackets are reported at the sentence that uses the rule; names can be read regardless.
        try:
            links[name] = sorted(rule_names(body))
        except DomainError:
            links[name] = re.findall(r"<([^<>]+)>", body)
    found, done = [], set[str]()
    for start in rules:
        stack = [(start, iter(links.get(start, ())))] if start not in done else []
        while stack:
            name, following = stack[-1]
            on_path = [entry for entry, _ in stack]
            child = next(following, None)
            if child is None:
                done.add(name)
                stack.pop()
            elif child in on_path:
                found.append([*on_path[on_path.index(child) :], child])
                done.update(on_path)
                break
            elif child not in done:
                stack.append((child, iter(links.get(child, ()))))
    return found
