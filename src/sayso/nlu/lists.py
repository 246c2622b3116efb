"""Slot lists: values with ``in`` and ``out``, number ranges spoken as words, and wildcards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hassil.expression import ListReference

from sayso.core.errors import DomainError, nearest
from sayso.nlu.grammar import Node, expand, parse_template
from sayso.nlu.schema import ListSpec
from sayso.nlu.source import Problems, Table, Text, Value, kind
from sayso.text.normalise import normalise
from sayso.text.numbers import number_words

LIST_KEYS = ("values", "range", "wildcard")
VALUE_KEYS = ("in", "out", "context", "metadata")
RANGE_KEYS = ("from", "to", "step", "type", "fractions", "multiplier", "digits", "words", "words_language")
MAX_NUMBERS = 10_000
FRACTIONS: dict[str, tuple[int, ...]] = {"": (), "halves": (5,), "tenths": tuple(range(1, 10))}
_TEMPLATE = frozenset("()[]<>|{}")


def read_list(name: Text, value: Value, problems: Problems) -> ListSpec:
    """One entry of ``lists:``; complaints go to ``problems`` and a list without values is one."""
    table = problems.table(value, f"list '{name}'", name)
    problems.check_keys(table, LIST_KEYS, f"list '{name}'")
    forms: Iterable[tuple[str, str]] = ()
    present = [key for key in LIST_KEYS if table.get(key) is not None]
    if len(present) != 1 or (present == ["wildcard"] and table.get("wildcard") not in ("true", "True", "yes")):
        found = ", ".join(present) or "nothing"
        problems.add(
            f"list '{name}' has no values: it needs exactly one of values, range or 'wildcard: true', found {found}",
            name,
        )
        return ListSpec(name=str(name), kind="text", file=name.file, line=name.line)
    if present == ["wildcard"]:
        return ListSpec(name=str(name), kind="wildcard", file=name.file, line=name.line)
    if present == ["range"]:
        forms = _range(name, problems.table(table.get("range"), f"range of list '{name}'", name), problems)
        return ListSpec(name=str(name), kind="range", forms=tuple(forms), file=name.file, line=name.line)
    items = problems.items(table.get("values"), f"values of list '{name}'", name)
    forms = [form for item in items for form in _forms(name, item, problems, items)]
    if not items.values:
        problems.add(f"list '{name}' has no values; add some or remove the list and its slot", table.key("values"))
    return ListSpec(name=str(name), kind="text", forms=tuple(dict.fromkeys(forms)), file=name.file, line=name.line)


def supplied_list(name: str, values: Sequence[str | tuple[str, str]]) -> ListSpec:
    """A list given by the program: values, or (spoken, out) pairs. Raises ``DomainError`` for what cannot be spoken."""
    forms = []
    for value in values:
        spoken, out = (value, value) if isinstance(value, str) else value
        if not normalise(spoken):
            raise DomainError(f"value '{spoken}' of list '{name}' has no spoken words")
        forms.append((normalise(spoken), out))
    if not forms:
        raise DomainError(f"list '{name}' has no values")
    return ListSpec(name=name, kind="text", forms=tuple(dict.fromkeys(forms)))


def inline_range(name: str, limits: tuple[int, int, int]) -> ListSpec:
    """The list meant by ``{0..100,5:slot}``; raises ``DomainError`` for an empty or far too long one."""
    return ListSpec(name=name, kind="range", forms=tuple(_numbers(name, limits)))


def spoken_numbers(number: int) -> list[str]:
    """Ways to say a whole number, the plainest first: "one hundred five", "one hundred and five", "a hundred and
    five"."""
    plain = number_words(abs(number)).replace(" hundred and ", " hundred ")
    forms = [plain]
    if " hundred " in plain and abs(number) < 1000:
        forms.append(plain.replace(" hundred ", " hundred and "))
    forms += [
        form.replace("one hundred", "a hundred", 1)
        for form in forms
        if form.startswith("one hundred") and abs(number) < 200
    ]
    return [f"minus {form}" if number < 0 else form for form in forms]


def _forms(name: Text, item: Value, problems: Problems, place: Value) -> list[tuple[str, str]]:
    if isinstance(item, Table):
        problems.check_keys(item, VALUE_KEYS, f"a value of list '{name}'")
        spoken = problems.text(item.get("in"), f"'in' of a value of list '{name}'", item)
        given = item.get("out")
        out = str(spoken) if given is None else str(problems.text(given, "out", item))
    elif isinstance(item, Text):
        spoken, out = item, str(item)
    else:
        problems.add(
            f"a value of list '{name}' must be text or {{in, out}}, found {kind(item)}", place if item is None else item
        )
        return []
    if not spoken:
        problems.add(f"a value of list '{name}' is empty", item)
        return []
    try:
        texts = expand(parse_template(spoken, _no_rule, _no_list)) if _TEMPLATE & set(spoken) else [normalise(spoken)]
    except DomainError as error:
        problems.add(f"list '{name}': {error}", spoken)
        return []
    if not any(texts):
        problems.add(f"value '{spoken}' of list '{name}' has no spoken words", spoken)
    if isinstance(item, Text) and _TEMPLATE & set(spoken):
        # As in hassil, a bare template is its own value's name; what was said is the more useful value.
        return [(text, text) for text in texts if text]
    return [(text, out) for text in texts if text]


def _range(name: Text, table: Table, problems: Problems) -> list[tuple[str, str]]:
    problems.check_keys(table, RANGE_KEYS, f"range of list '{name}'")
    numbers = {}
    for key, default in (("from", None), ("to", None), ("step", "1"), ("multiplier", "1")):
        value = table.get(key)
        numbers[key] = problems.number(
            Text(default) if value is None and default else value, f"'{key}' of range '{name}'", table
        )
    if None in numbers.values():
        return []
    start, stop, step = (int(numbers[key] or 0) for key in ("from", "to", "step"))
    fractions = str(table.get("fractions") or "")
    if fractions not in FRACTIONS:
        problems.add(
            f"fractions of list '{name}'; {nearest(fractions, filter(None, FRACTIONS))}", table.key("fractions")
        )
        return []
    try:
        return _numbers(name, (start, stop, step), float(numbers["multiplier"] or 1.0), fractions)
    except DomainError as error:
        problems.add(str(error), table)
        return []


def _numbers(
    name: str, limits: tuple[int, int, int], multiplier: float = 1.0, fractions: str = ""
) -> list[tuple[str, str]]:
    start, stop, step = limits
    if step < 1 or stop < start or (stop - start) // step >= MAX_NUMBERS:
        raise DomainError(
            f"range of list '{name}' is {start} to {stop} by {step}; "
            f"it must go upwards and have at most {MAX_NUMBERS} numbers"
        )
    forms = []
    for number in range(start, stop + 1, step):
        forms += [(form, _written(number * multiplier)) for form in spoken_numbers(number)]
        for digit in FRACTIONS[fractions] if number >= 0 else ():
            out = _written((number + digit / 10) * multiplier)
            forms.append((f"{number_words(number)} point {number_words(digit)}", out))
            if digit == 5:
                forms.append((f"{number_words(number)} and a half", out))
    return forms


def _written(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:.10g}"


def _no_rule(name: str) -> Node:
    raise DomainError(f"a list's value cannot use the rule <{name}>; write its words out")


def _no_list(reference: ListReference) -> str:
    raise DomainError(f"a list's value cannot refer to the list '{reference.list_name}'; write its words out")
