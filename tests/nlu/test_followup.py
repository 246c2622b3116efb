"""The phrases that the graph expects after a turn are those that the context understands, and no others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sayso.core.automaton import Automaton
from sayso.core.result import Result, Slot
from sayso.nlu.automaton_io import match
from sayso.nlu.compile import compile_domain
from sayso.nlu.context import ContextSchema, History, Turn, in_context, schema_of
from sayso.nlu.domain import parse_domain
from sayso.nlu.followup import FOLLOW_UP, with_follow_ups
from sayso.nlu.spelling import Pieces, speller_of
from sayso.text.lexicon import Lexicon

from .conftest import Letters

DOMAIN = """
intents:
  lights_on: {data: [{sentences: ["turn on the {area} lights", "turn on the {lamp} [in the {area}]"]}]}
  set_level: {data: [{sentences: ["set the {area} to {level} percent"]}]}
  timer: {data: [{sentences: ["timer for {minutes} minutes", "timer for {hours} hours"]}]}
  unlock: {data: [{sentences: ["unlock the {door}"]}]}
lists:
  area: {values: [kitchen, bedroom]}
  lamp: {values: [floor lamp, red lantern]}
  level: {range: {from: 1, to: 30}}
  minutes: {range: {from: 1, to: 30}}
  hours: {range: {from: 1, to: 12}}
  door: {values: [front door, back door]}
"""


def slot(name: str, value: str) -> Slot:
    return Slot(name=name, value=value, text=value, source=f"list:{name}")


LIGHTS = Turn(intent="lights_on", slots=(slot("area", "kitchen"),))
LEVEL = Turn(intent="set_level", slots=(slot("area", "kitchen"), slot("level", "20")))
TIMER = Turn(intent="timer", slots=(slot("minutes", "5"),))
OPEN = Turn(intent="unlock", slots=(slot("door", "front door"),), asked="door", offered=("front door",), open=True)
TWO = Turn(
    intent="unlock", slots=(slot("door", "front door"),), asked="door", offered=("front door", "back door"), open=True
)
CASES: list[tuple[Turn, str, dict[str, str] | None]] = [
    (LIGHTS, "and the bedroom", {"area": "bedroom"}),
    (LIGHTS, "and the bedroom lights please", {"area": "bedroom"}),
    (LIGHTS, "no i meant the bedroom", {"area": "bedroom"}),
    (LIGHTS, "and what about the bedroom", {"area": "bedroom"}),
    (LIGHTS, "the bedroom as well", {"area": "bedroom"}),
    (LIGHTS, "and the floor lamp in the bedroom", {"lamp": "floor lamp", "area": "bedroom"}),
    (LIGHTS, "once more", {"area": "kitchen"}),
    (LIGHTS, "the other one", {"area": "bedroom"}),
    (LIGHTS, "the bedroom", None),
    (LIGHTS, "yes", None),
    (LIGHTS, "the second one", None),
    (LIGHTS, "and the back door", None),
    (LIGHTS, "and thirty percent", None),
    (LEVEL, "no thirty percent", {"area": "kitchen", "level": "30"}),
    (LEVEL, "make that thirty", {"area": "kitchen", "level": "30"}),
    (LEVEL, "and the bedroom to ten percent", {"area": "bedroom", "level": "10"}),
    (TIMER, "no ten minutes", {"minutes": "10"}),
    (TIMER, "no one", None),
    (OPEN, "yes please", {"door": "front door"}),
    (OPEN, "that's right", None),
    (OPEN, "the back door", {"door": "back door"}),
    (OPEN, "back door please", {"door": "back door"}),
    (TWO, "the second one", {"door": "back door"}),
    (TWO, "number two", {"door": "back door"}),
    (TWO, "no the last", {"door": "back door"}),
]


@pytest.fixture(scope="module", params=["spelled", "pronounced"])
def automaton(request: pytest.FixtureRequest) -> Automaton:
    return compile_domain(parse_domain(DOMAIN), Letters(), Lexicon.load() if request.param == "pronounced" else None)


@pytest.fixture(scope="module")
def schema(automaton: Automaton) -> ContextSchema:
    return schema_of(automaton)


@pytest.fixture(scope="module")
def expected(automaton: Automaton, schema: ContextSchema) -> Callable[[History, str], bool]:
    speller = speller_of(automaton, Letters())

    def expects(history: History, text: str) -> bool:
        grown = with_follow_ups(automaton, history, schema, speller)
        return any(meaning.intent == FOLLOW_UP for meaning, _ in match(grown, Letters(), text))

    return expects


@pytest.mark.parametrize(("turn", "said", "slots"), CASES, ids=[said for _, said, _ in CASES])
def test_what_is_understood_is_expected(
    turn: Turn,
    said: str,
    slots: dict[str, str] | None,
    schema: ContextSchema,
    expected: Callable[[History, str], bool],
) -> None:
    meant = in_context(Result(text=said, decision="reject", reason="out_of_domain"), (turn,), schema)
    found = None if meant.intent is None else {slot.name: slot.value for slot in meant.slots}
    assert found == slots
    if slots is not None:
        assert meant.intent is not None and meant.intent.name == turn.intent
        assert expected((turn,), said)


def test_without_a_question_nothing_is_expected_that_answers_one(expected: Callable[[History, str], bool]) -> None:
    for said in ("yes", "the second one", "bedroom", "never mind", "and the back door"):
        assert not expected((LIGHTS,), said)
    for said in ("yes", "back door", "never mind"):
        assert expected((OPEN,), said)
    assert not expected((OPEN, LIGHTS), "yes"), "the question was passed over"
    assert expected((OPEN, LIGHTS), "and the back door"), "but what it was about was spoken of"


def test_the_domain_itself_stays(automaton: Automaton, schema: ContextSchema) -> None:
    grown = with_follow_ups(automaton, (TWO,), schema, speller_of(automaton, Letters()))
    assert with_follow_ups(automaton, (), schema, speller_of(automaton, Letters())) is automaton
    assert grown.lists is automaton.lists and grown.calls is automaton.calls
    assert grown.pieces[: len(automaton.pieces)] == automaton.pieces
    for text in ("turn on the kitchen lights", "timer for five minutes", "unlock the back door", "tell me a joke"):
        before = match(automaton, Letters(), text)
        assert match(grown, Letters(), text) == before


def test_phrases_that_cannot_be_spelled_are_left_out(automaton: Automaton, schema: ContextSchema) -> None:
    class Few(Letters):
        pieces = tuple("<>" if piece.lstrip("▁") in ("y", "w") else piece for piece in Letters().pieces)

        def encode(self, text: str) -> list[int]:
            return [0 if letter in "yw" else token for letter, token in zip(text, super().encode(text), strict=False)]

    if automaton.lexicon:
        pytest.skip("sounds spell every word")
    grown = with_follow_ups(automaton, (TWO,), schema, Pieces(Few()))
    assert not any(meaning.intent == FOLLOW_UP for meaning, _ in match(grown, Letters(), "yes"))
    assert any(meaning.intent == FOLLOW_UP for meaning, _ in match(grown, Letters(), "no the second one"))
