"""Random sentences of a domain, with their meaning and where each slot is spoken.

A sentence is one random walk through its template's tree: a template is drawn by weight, then every choice on the way
is drawn evenly (``[optional]`` by a coin, list values evenly over what they mean). Nothing is enumerated, so a domain
of any size costs only what is asked for; a sentence that was drawn before is drawn again, a bounded number of times, so
that a small domain gives all (or nearly all) it has and stops. Splitting a domain by template and by slot value makes
held-out sets whose wording, or whose words, training never saw.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sayso.core.result import Slot
from sayso.nlu.grammar import Chars, Node, Ref, Seq, glued
from sayso.nlu.schema import Domain, ListSpec
from sayso.text.normalise import normalise
from sayso.text.numbers import number_words, ordinal_words
from sayso.text.written import slot_value
from sayso.text.written_dates import MONTHS, WEEKDAYS

T = TypeVar("T")
# Draws in a row that bring nothing new before a template counts as used up: at least, and per sentence it has given.
RETRIES, PATIENCE = 60, 6
# What an open slot holds when the caller has nothing better: things, names, short phrases.
PHRASES: tuple[str, ...] = (
    "milk", "bread", "eggs", "olive oil", "apples", "paper towels", "orange juice", "peanut butter", "dog food",
    "a new book", "green tea", "batteries", "chicken soup", "two lemons", "ice cream", "dish soap",
    "some flowers", "a birthday card", "tomato sauce", "coffee beans", "frozen peas", "a loaf of bread",
    "toothpaste", "light bulbs", "sparkling water", "my blue jacket", "the old radio", "summer songs",
    "a call with anna", "the garden party", "brown rice", "salted butter",
)  # fmt: skip


def spoken_values(kind: str) -> list[str]:
    """What an open slot of type ``kind`` (one of ``VALUE_TYPES``) holds when the caller has nothing better."""
    hours = [number_words(hour) for hour in range(1, 13)]
    if kind == "number":
        return [number_words(number) for number in (*range(101), *range(110, 1001, 10))]
    if kind == "time":
        minutes = [f"oh {number_words(m)}" if m < 10 else number_words(m) for m in range(5, 60, 5)]
        said = [f"{hour} {minute}{half}" for hour in hours for minute in minutes for half in ("", " am", " pm")]
        clock = ("{} o'clock", "half past {}", "a quarter to {}", "quarter past {}", "ten to {}", "{} am", "{} pm")
        return ["noon", "midnight", *said, *(form.format(hour) for form in clock for hour in hours)]
    if kind == "date":
        days = [ordinal_words(day) for day in range(1, 29)]
        forms = ("{month} {day}", "the {day} of {month}")
        dates = [form.format(day=day, month=month) for form in forms for month in MONTHS for day in days]
        return ["today", "tomorrow", *WEEKDAYS, *(f"next {day}" for day in WEEKDAYS), *dates]
    units = ("seconds", "minutes", "hours", "days")
    counted = [f"{number_words(number)} {unit}" for unit in units for number in range(2, 61)]
    return ["half an hour", "an hour", "an hour and a half", "one minute", "one hour", *counted]


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """A sampled sentence. ``slots[i]`` is spoken at ``text[start:end]`` for ``spans[i] == (start, end)``; None marks a
    slot that the template fixes without saying it. ``slot.value`` is the list's ``out``, ``slot.text`` the spoken
    words."""

    text: str
    intent: str
    slots: tuple[Slot, ...]
    spans: tuple[tuple[int, int] | None, ...]
    template: int


@dataclass(frozen=True, kw_only=True)
class Split:
    """What is held out of training: template numbers, and ``out`` values by slot."""

    templates: frozenset[int]
    values: dict[str, frozenset[str]]


def sample(
    domain: Domain,
    n: int,
    *,
    seed: int,
    exclude_templates: Collection[int] = (),
    only_templates: Collection[int] | None = None,
    exclude_values: Mapping[str, Collection[str]] | None = None,
    phrases: Sequence[str] | Mapping[str, Sequence[str]] = PHRASES,
) -> list[Utterance]:
    """Up to ``n`` different sentences, the same for the same ``seed``; fewer when the domain has no more.

    ``exclude_values`` bans ``out`` values of slots; a template that is left without a value
    for a slot it must speak is left out. ``phrases`` fill open slots, for all of them or by slot.
    """
    rng = np.random.default_rng(seed)
    walker = _Walker(domain, rng, exclude_values or {}, phrases)
    banned = set(exclude_templates)
    wanted = set(range(len(domain.templates)) if only_templates is None else only_templates) - banned
    numbers = [i for i, template in enumerate(domain.templates) if i in wanted and walker.possible(template.tree)]
    found: dict[tuple[str, str], Utterance] = {}
    weights = np.array([domain.templates[i].weight for i in numbers], dtype=np.float64)
    failures = {i: 0 for i in numbers}
    given = {i: 0 for i in numbers}
    while numbers and len(found) < n:
        at = int(rng.choice(len(numbers), p=weights / weights.sum()))
        number = numbers[at]
        utterance = walker.utterance(number)
        key = (utterance.text, utterance.intent) if utterance is not None else ("", "")
        if utterance is not None and key not in found:
            found[key] = utterance
            failures[number] = 0
            given[number] += 1
            continue
        failures[number] += 1
        if failures[number] >= max(RETRIES, PATIENCE * given[number]):  # used up; the others go on
            del numbers[at]
            weights = np.delete(weights, at)
    return list(found.values())


def open_templates(domain: Domain) -> list[int]:
    """Numbers of the templates that can hold an open slot."""

    def wild(node: Node) -> bool:
        if isinstance(node, Ref):
            return domain.lists[node.list].kind == "wildcard"
        parts = () if isinstance(node, Chars) else node.parts if isinstance(node, Seq) else node.options
        return any(wild(part) for part in parts)

    return [number for number, template in enumerate(domain.templates) if wild(template.tree)]


def other_values(domain: Domain, values: Mapping[str, Collection[str]]) -> dict[str, frozenset[str]]:
    """For each slot of ``values``, every value but those: ``exclude_values`` for sentences of held-out values only."""
    every = {slot: {v for name in spec.lists for v in domain.lists[name].values} for slot, spec in domain.slots.items()}
    return {slot: frozenset(every.get(slot, set()) - set(chosen)) for slot, chosen in values.items()}


def split_domain(domain: Domain, seed: int, template_fraction: float, value_fraction: float) -> Split:
    """Choose what to hold out: a share of each intent's templates and of each slot's values.

    An intent keeps at least one template, a slot at least one value; what has only one is never held out. Slots that
    share a list (and mean the same values) hold out the same values. Open slots hold out nothing.
    """
    rng = np.random.default_rng(seed)
    templates: set[int] = set()
    for intent in domain.intents:
        numbers = [i for i, template in enumerate(domain.templates) if template.intent == intent]
        templates.update(int(i) for i in _part(numbers, template_fraction, rng))
    held: dict[str, set[str]] = {}
    for name in sorted(domain.lists):
        held[name] = {str(value) for value in _part(list(domain.lists[name].values), value_fraction, rng)}
    values = {}
    for slot, spec in domain.slots.items():
        chosen = frozenset().union(*(held.get(name, set()) for name in spec.lists))
        every = {value for name in spec.lists for value in domain.lists[name].values}
        if chosen and chosen != every:
            values[slot] = chosen
    return Split(templates=frozenset(templates), values=values)


def _part(items: Sequence[T], fraction: float, rng: np.random.Generator) -> list[T]:
    size = min(round(len(items) * fraction), len(items) - 1)
    chosen = rng.permutation(len(items))[: max(size, 0)]
    return [items[int(i)] for i in chosen]


@dataclass(frozen=True)
class _Said:
    """A piece of a sentence on the way: written text, or a slot's spoken words."""

    text: str
    slot: str | None = None
    value: str = ""
    source: str = ""


class _Walker:
    """Draws sentences from trees under restrictions on slot values."""

    def __init__(
        self,
        domain: Domain,
        rng: np.random.Generator,
        exclude: Mapping[str, Collection[str]],
        phrases: Sequence[str] | Mapping[str, Sequence[str]],
    ) -> None:
        self.domain, self.rng = domain, rng
        self.exclude, self.phrases = exclude, phrases
        self._choices: dict[tuple[str, str], list[tuple[str, list[str]]]] = {}
        self._possible: dict[int, bool] = {}

    def utterance(self, number: int) -> Utterance | None:
        """One random sentence of a template; None when it came out empty."""
        template = self.domain.templates[number]
        pieces: list[_Said] = []
        self._walk(template.tree, pieces)
        text, slots, spans = _speak(pieces)
        if not text:
            return None
        spoken = {slot.name for slot in slots}
        fixed = [Slot(name=k, value=v, source="template") for k, v in template.slots if k not in spoken]
        return Utterance(
            text=text,
            intent=template.intent,
            slots=(*slots, *fixed),
            spans=(*spans, *(None for _ in fixed)),
            template=number,
        )

    def possible(self, node: Node) -> bool:
        """Whether anything can be said here under the restrictions."""
        known = self._possible.get(id(node))
        if known is None:
            if isinstance(node, Ref):
                known = bool(self.choices(node))
            elif isinstance(node, Seq):
                known = all(self.possible(part) for part in node.parts)
            else:
                known = isinstance(node, Chars) or any(self.possible(option) for option in node.options)
            self._possible[id(node)] = known
        return known

    def choices(self, ref: Ref) -> list[tuple[str, list[str]]]:
        """Allowed (value, spoken forms) of a reference."""
        key = (ref.list, ref.slot)
        if key not in self._choices:
            spec = self.domain.lists[ref.list]
            forms: dict[str, list[str]] = {}
            for text, out in self._open(ref.slot) if spec.kind == "wildcard" else spec.forms:
                forms.setdefault(out, []).append(text)
            banned = self.exclude.get(ref.slot, ())
            self._choices[key] = [(out, texts) for out, texts in forms.items() if out not in banned]
        return self._choices[key]

    def _open(self, slot: str) -> list[tuple[str, str]]:
        kind = self.domain.slots[slot].read_as
        usual = PHRASES if kind is None else spoken_values(kind)
        pool = self.phrases.get(slot, usual) if isinstance(self.phrases, Mapping) else self.phrases
        spoken = [
            normalise(phrase) for phrase in (pool if kind is None or isinstance(self.phrases, Mapping) else usual)
        ]
        return [(text, slot_value(text, kind)) for text in dict.fromkeys(spoken) if text]

    def _walk(self, node: Node, pieces: list[_Said]) -> None:
        if isinstance(node, Chars):
            pieces.append(_Said(node.text))
        elif isinstance(node, Seq):
            for part in node.parts:
                self._walk(part, pieces)
        elif isinstance(node, Ref):
            out, texts = self._draw(self.choices(node))
            spec: ListSpec = self.domain.lists[node.list]
            source = "open" if spec.kind == "wildcard" else f"list:{node.list}"
            pieces.append(_Said(self._draw(texts), node.slot, out, source))
        else:
            options = [option for option in node.options if self.possible(option)]
            if node.optional and len(options) > 1:
                options = options[:-1] if self.rng.random() < 0.5 else options[-1:]
            self._walk(self._draw(options), pieces)

    def _draw(self, items: Sequence[T]) -> T:
        return items[int(self.rng.integers(len(items)))]


def _speak(pieces: Sequence[_Said]) -> tuple[str, list[Slot], list[tuple[int, int]]]:
    """Join pieces into the spoken sentence, exactly as compilation reads them: words end at white space and at lists,
    and text directly behind a list may continue its last word."""
    text = ""
    slots: list[Slot] = []
    spans: list[tuple[int, int]] = []
    for behind_list, piece in _runs(pieces):
        if piece.slot is not None:
            text += " " if text else ""
            spans.append((len(text), len(text) + len(piece.text)))
            slots.append(Slot(name=piece.slot, value=piece.value, text=piece.text, source=piece.source))
            text += piece.text
            continue
        words = piece.text.split()
        if behind_list and words and not piece.text[0].isspace():
            ending, continues = glued(words.pop(0))
            text += ending if continues or not ending else f" {ending}"
        for word in words:
            spoken = normalise(word)
            text += f" {spoken}" if text and spoken else spoken
    return text, slots, spans


def _runs(pieces: Sequence[_Said]) -> list[tuple[bool, _Said]]:
    """Neighbouring text joined; each piece with whether a list stands directly before it."""
    runs: list[tuple[bool, _Said]] = []
    for piece in pieces:
        if piece.slot is None and runs and runs[-1][1].slot is None:
            before, last = runs[-1]
            runs[-1] = (before, _Said(last.text + piece.text))
        else:
            runs.append((bool(runs) and runs[-1][1].slot is not None, piece))
    return runs
