"""Dialogue over predicted histories: each turn is understood alone, then in the context of those before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sayso.core.automaton import Automaton
from sayso.core.result import Result, Slot
from sayso.nlu.cascade import Matcher, answer, cascade
from sayso.nlu.compile import compile_domain
from sayso.nlu.context import TURNS, ContextSchema, History, Turn, in_context, remember, schema_of
from sayso.nlu.domain import Domain, parse_domain
from sayso.nlu.sample import sample

from .conftest import Letters

DOMAIN = """
intents:
  lights_on: {data: [{sentences: ["turn on the {area} lights", "turn on the lights [in the {area}]"]}]}
  lights_off: {data: [{sentences: ["turn off the {area} lights", "turn off the lights"]}]}
  set_heat: {data: [{sentences: ["set the {area} to {degrees} degrees"]}]}
  warmer: {data: [{sentences: ["make it warmer [in the {area}]", "warmer please"]}]}
  weather: {data: [{sentences: ["what is the weather [in {city}] [{day}]"]}]}
  unlock: {data: [{sentences: ["unlock the {door}"]}]}
  joke: {data: [{sentences: ["tell me a joke"]}]}
lists:
  area: {values: [kitchen, bedroom, {in: "(hall|hallway)", out: hall}]}
  degrees: {range: {from: 15, to: 25}}
  city: {values: [paris, london, york]}
  day: {values: [today, tomorrow, {in: "[on] friday", out: friday}]}
  door: {values: [front door, back door]}
sayso: {intents: {unlock: {risk: confirm, clarify: "Really?"}}}
"""
# dialogues: what is said, and what the last turn means; None: nothing
DIALOGUES: list[tuple[list[str], tuple[str, dict[str, str]] | None]] = [
    (["what is the weather in paris today", "and tomorrow"], ("weather", {"city": "paris", "day": "tomorrow"})),
    (["what is the weather in paris", "and tomorrow"], ("weather", {"city": "paris", "day": "tomorrow"})),
    (["what is the weather in paris today", "and in london"], ("weather", {"city": "london", "day": "today"})),
    (["what is the weather", "what about on friday"], ("weather", {"day": "friday"})),
    (["what is the weather", "how about london tomorrow"], ("weather", {"city": "london", "day": "tomorrow"})),
    (["turn on the kitchen lights", "and the bedroom"], ("lights_on", {"area": "bedroom"})),
    (["turn on the kitchen lights", "the bedroom too"], ("lights_on", {"area": "bedroom"})),
    (["turn on the kitchen lights", "no the hallway"], ("lights_on", {"area": "hall"})),
    (["turn on the kitchen lights", "no i meant the bedroom"], ("lights_on", {"area": "bedroom"})),
    (["turn off the kitchen lights", "sorry the bedroom please"], ("lights_off", {"area": "bedroom"})),
    (["set the kitchen to twenty degrees", "make it warmer"], ("warmer", {"area": "kitchen"})),
    (["set the kitchen to twenty degrees", "make it warmer in the hall"], ("warmer", {"area": "hall"})),
    (["set the kitchen to twenty degrees", "warmer please"], ("warmer", {})),
    (["set the kitchen to twenty degrees", "no twenty two"], ("set_heat", {"area": "kitchen", "degrees": "22"})),
    (["set the kitchen to twenty degrees", "and the bedroom"], ("set_heat", {"area": "bedroom", "degrees": "20"})),
    (["turn on the kitchen lights", "again"], ("lights_on", {"area": "kitchen"})),
    (["turn on the kitchen lights", "do that again please"], ("lights_on", {"area": "kitchen"})),
    (["turn on the kitchen lights", "tell me a joke", "and the bedroom"], ("lights_on", {"area": "bedroom"})),
    (["what is the weather", "turn on the kitchen lights", "and tomorrow"], ("weather", {"day": "tomorrow"})),
    (["turn on the kitchen lights", "and the bedroom", "and the hall"], ("lights_on", {"area": "hall"})),
    (["unlock the front door", "yes please"], ("unlock", {"door": "front door"})),
    (["unlock the front door", "no the other one"], ("unlock", {"door": "back door"})),
    (["unlock the front door", "the back door"], ("unlock", {"door": "back door"})),
    (["turn on the kitchen lights", "and the bedroom", "the other one"], ("lights_on", {"area": "kitchen"})),
    (["what is the weather in paris", "turn on the lights"], ("lights_on", {})),
    (["turn on the kitchen lights", "tell me a joke"], ("joke", {})),
    (["turn on the kitchen lights", "turn off the lights"], ("lights_off", {})),
    # nothing is meant
    (["and tomorrow"], None),
    (["turn on the kitchen lights", "and tomorrow"], None),
    (["turn on the kitchen lights", "i like the kitchen"], None),
    (["turn on the kitchen lights", "the kitchen is a mess"], None),
    (["turn on the kitchen lights", "and then my sister came to the kitchen"], None),
    (["turn on the kitchen lights", "kitchen"], None),
    (["tell me a joke", "and the bedroom"], None),
    (["turn on the kitchen lights", "yes"], None),
    (["turn on the kitchen lights", "the other one"], None),
    (["turn on the kitchen lights", "the second one"], None),
    (["unlock the front door", "no"], None),
    (["turn on the kitchen lights", "and"], None),
]


@pytest.fixture(scope="module")
def domain() -> Domain:
    return parse_domain(DOMAIN)


@pytest.fixture(scope="module")
def automaton(domain: Domain) -> Automaton:
    return compile_domain(domain, Letters())


@pytest.fixture(scope="module")
def schema(domain: Domain, automaton: Automaton) -> ContextSchema:
    return schema_of(automaton, {name: (spec.risk, spec.clarify) for name, spec in domain.intents.items()})


@pytest.fixture(scope="module")
def alone(automaton: Automaton, domain: Domain) -> Callable[[str], Result]:
    """What a sentence means by itself, with the domain's risks."""
    understand = Matcher(automaton, Letters())

    def result(text: str) -> Result:
        found = answer([(text, 0.0)], cascade([(text, 0.0)], understand))
        risky = found.intent is not None and domain.intents[found.intent.name].risk == "confirm"
        return found.model_copy(update={"decision": "clarify", "prompt": "Really?"}) if risky else found

    return result


def meaning(result: Result) -> tuple[str, dict[str, str]] | None:
    return None if result.intent is None else (result.intent.name, {slot.name: slot.value for slot in result.slots})


@pytest.mark.parametrize(("said", "meant"), DIALOGUES, ids=[" / ".join(said) for said, _ in DIALOGUES])
def test_dialogues(
    said: list[str],
    meant: tuple[str, dict[str, str]] | None,
    alone: Callable[[str], Result],
    schema: ContextSchema,
) -> None:
    history: History = ()
    for text in said:
        result = in_context(alone(text), history, schema)
        history = remember(history, result)
    assert meaning(result) == meant
    assert (result.decision == "reject") == (meant is None)
    if result.frames:
        assert result.frames[0].intent == result.intent and result.frames[0].slots == result.slots


def test_what_was_said_and_what_was_carried_can_be_told_apart(
    alone: Callable[[str], Result], schema: ContextSchema
) -> None:
    history = remember((), alone("what is the weather in paris today"))
    result = in_context(alone("and tomorrow"), history, schema)
    assert {(slot.name, slot.text, slot.source) for slot in result.slots} == {
        ("city", "", "context"),
        ("day", "tomorrow", "list:day"),
    }


def test_risky_meanings_ask_again_until_they_are_agreed_to(
    alone: Callable[[str], Result], schema: ContextSchema
) -> None:
    history = remember((), alone("unlock the front door"))
    changed = in_context(alone("no the back door"), history, schema)
    assert (changed.decision, changed.prompt) == ("clarify", "Really?")
    agreed = in_context(alone("yes"), remember(history, changed), schema)
    assert agreed.decision == "accept" and meaning(agreed) == ("unlock", {"door": "back door"})
    assert in_context(alone("yes"), remember(remember(history, changed), agreed), schema).intent is None


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("the second one", "london"),
        ("the first", "paris"),
        ("number three", "york"),
        ("the last one please", "york"),
        ("no the second one", "london"),
        ("london", "london"),
        ("the fifth one", None),
        ("the green one", None),
    ],
)
def test_one_of_those_that_were_offered(
    said: str, value: str | None, alone: Callable[[str], Result], schema: ContextSchema
) -> None:
    offered = ("paris", "london", "york")
    history = remember((), alone("what is the weather tomorrow"), asked="city", offered=offered)
    expected = None if value is None else ("weather", {"day": "tomorrow", "city": value})
    assert meaning(in_context(alone(said), history, schema)) == expected


def test_the_other_of_two_that_were_offered(alone: Callable[[str], Result], schema: ContextSchema) -> None:
    turn = Turn(intent="weather", slots=(Slot(name="city", value="york"),), asked="city", offered=("paris", "york"))
    assert meaning(in_context(alone("the other one"), (turn,), schema)) == ("weather", {"city": "paris"})


def test_history_does_not_change_commands(
    domain: Domain, alone: Callable[[str], Result], schema: ContextSchema
) -> None:
    """Whatever was said before, a command without a pronoun means what it means alone, and talk means nothing."""
    rng = np.random.default_rng(0)
    spoken = [utterance.text for utterance in sample(domain, 60, seed=0)]
    talk = ["the kitchen is nice", "i am in paris today", "and so on", "no way", "my other car", "tomorrow never dies"]
    for text in [*spoken, *talk]:
        history: History = ()
        for earlier in rng.choice(spoken, 5):
            history = remember(history, alone(str(earlier)))
        result = alone(text)
        changed = in_context(result, history, schema)
        assert changed is result or "it" in text.split()


def test_memory_is_bounded(alone: Callable[[str], Result]) -> None:
    history: History = ()
    for _ in range(50):
        history = remember(history, alone("turn on the kitchen lights"))
        history = remember(history, alone("no such thing"))
    assert len(history) == TURNS


def test_the_schema_says_what_intents_take(schema: ContextSchema) -> None:
    assert schema.takes == {
        "lights_on": {"area"},
        "lights_off": {"area"},
        "set_heat": {"area", "degrees"},
        "warmer": {"area"},
        "weather": {"city", "day"},
        "unlock": {"door"},
        "joke": set(),
    }
    assert schema.lists["area"] == ("kitchen", "bedroom", "hall")
    assert [value.value for value in schema.values["on friday"]] == ["friday"]
