"""Dialogues of the tone language, whose speech is exact: what was said before changes what is heard and what it
means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sayso.core.errors import UsageError
from sayso.core.result import Result
from sayso.nlu.context import TURNS
from sayso.nlu.followup import FOLLOW_UP
from sayso.runtime.model import Model
from sayso.runtime.session import QUESTIONS, Session, SessionState

Meaning = tuple[str, str | None, tuple[tuple[str, str], ...]]


def meaning(result: Result) -> Meaning:
    intent = None if result.intent is None else result.intent.name
    return result.decision, intent, tuple((slot.name, slot.value) for slot in result.slots)


@pytest.fixture
def talk(tones: Any, model: Model) -> Callable[..., list[Result]]:
    def run(*said: str, session: Session | None = None) -> list[Result]:
        session = model.session() if session is None else session
        return [session.understand(tones.say(text)) for text in said]

    return run


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["turn on the kitchen light", "no hall"], ("accept", "turn_on", (("area", "hall"),))),
        (["turn on the kitchen light", "no the hall light"], ("accept", "turn_on", (("area", "hall"),))),
        (["turn off hall light", "or the kitchen"], ("accept", "turn_off", (("area", "Kitchen"),))),
        (["turn off hall light", "the other one"], ("accept", "turn_off", (("area", "Kitchen"),))),
        (["call bob", "anna"], ("clarify", "call", (("contacts", "anna"),))),
        (["call bob", "no anna", "okay"], ("accept", "call", (("contacts", "anna"),))),
        (["call bob", "correct"], ("accept", "call", (("contacts", "bob"),))),
        (["call bob", "no"], ("reject", None, ())),
        (["call bob", "no", "okay"], ("reject", None, ())),
        (["call bob", "turn off hall light", "no the kitchen"], ("accept", "turn_off", (("area", "Kitchen"),))),
        (["call bob", "turn off hall light", "okay"], ("reject", None, ())),
        (["turn on hall light", "coffee", "no the kitchen"], ("accept", "turn_on", (("area", "Kitchen"),))),
        (["turn on the kitchen light", "kitchen"], ("reject", None, ())),
        (["turn on the kitchen light", "no anna"], ("reject", None, ())),
        (["no hall"], ("reject", None, ())),
    ],
    ids=lambda value: " / ".join(value) if isinstance(value, list) else "",
)
def test_dialogues(said: list[str], expected: Meaning, talk: Callable[..., list[Result]]) -> None:
    last = talk(*said)[-1]
    assert meaning(last) == expected
    assert (last.reason is not None) == (last.decision == "reject")
    assert (last.prompt is not None) == (last.decision == "clarify")
    if last.frames:
        assert last.frames[0].intent == last.intent and last.frames[0].slots == last.slots
    assert FOLLOW_UP not in last.model_dump_json()


def test_what_was_heard_has_its_times_and_what_was_carried_has_none(
    tones: Any, talk: Callable[..., list[Result]]
) -> None:
    heard = talk("turn on the kitchen light", "no the hall")[1]
    (area,) = heard.slots
    (word,) = [word for word in heard.words if word.text == "hall"]
    assert (area.source, area.start, area.end) == ("list:area", word.start, word.end) and area.start is not None
    (carried,) = talk("call bob", "okay")[1].slots
    assert (carried.source, carried.start, carried.text) == ("context", None, "")


def test_questions_name_what_was_understood(talk: Callable[..., list[Result]]) -> None:
    first, second, third = talk("call bob", "no anna", "okay")
    assert (first.prompt, second.prompt, third.prompt) == ("Call whom: bob?", "Call whom: anna?", None)


def test_two_questions_then_the_safe_default(talk: Callable[..., list[Result]], model: Model) -> None:
    session = model.session()
    results = talk("call bob", "no anna", "no bob", "okay", session=session)
    assert [result.decision for result in results] == ["clarify"] * QUESTIONS + ["reject", "reject"]
    assert results[QUESTIONS].reason == "low_confidence" and not session.waits
    guess = results[QUESTIONS].alternatives[0]
    assert guess.intent == "call" and guess.slots[0].value == "bob", "what would have been done can be seen"


def test_every_command_has_questions_of_its_own(talk: Callable[..., list[Result]]) -> None:
    different = talk(*["call bob", "call anna"] * 3)
    assert [result.decision for result in different] == ["clarify"] * 6
    same = talk(*["call bob"] * 3)
    assert [result.decision for result in same] == ["clarify", "clarify", "reject"]


def test_an_answer_that_is_not_understood_is_asked_for_once_more(talk: Callable[..., list[Result]]) -> None:
    asked, again, given_up, late = talk("call bob", "coffee", "coffee", "okay")
    assert again.decision == "clarify" and again.prompt == asked.prompt and meaning(again) == meaning(asked)
    assert (given_up.decision, late.decision) == ("reject", "reject")
    assert meaning(talk("call bob", "coffee", "okay")[-1]) == ("accept", "call", (("contacts", "bob"),))


def test_a_long_dialogue_costs_what_a_short_one_does(talk: Callable[..., list[Result]], model: Model) -> None:
    session = model.session()
    talk("turn on hall light", "no the kitchen", session=session)
    sizes = set()
    for said in ["turn on hall light", "no the kitchen"] * 4:
        talk(said, session=session)
        search = session.search()
        assert search is not None and len(session.history) <= TURNS
        sizes.add((search.automaton.main.nodes, len(search.automaton.pieces)))
    assert len(sizes) == 1


def test_commands_mean_after_others_what_they_mean_alone(
    talk: Callable[..., list[Result]], model: Model, tones: Any
) -> None:
    for text in ("call anna", "turn off the kitchen light", "turn on hall light", "coffee"):
        alone = model.understand(tones.say(text))
        after = talk("turn on the kitchen light", text)[1]
        assert meaning(after) == meaning(alone) and after.text == alone.text and after.words == alone.words


def test_a_stream_of_a_session_says_in_packets_what_it_says_whole(
    model: Model, tones: Any, cut: Callable[..., list[Any]], talk: Callable[..., list[Result]]
) -> None:
    session = model.session()
    talk("turn on the kitchen light", session=session)
    stream, seen = session.stream(), []
    for packet in cut(tones.say("no the hall"), np.random.default_rng(3)):
        seen.append(stream.accept(packet))
    assert all(FOLLOW_UP not in partial.model_dump_json() for partial in seen)
    final = stream.finish()
    assert meaning(final) == ("accept", "turn_on", (("area", "hall"),)) and final.text.startswith(final.stable)
    assert stream.finish() is final and len(session.history) == 2, "finishing twice is one turn"


def test_a_users_lists_count_in_the_whole_dialogue(model: Model, talk: Callable[..., list[Result]]) -> None:
    session = model.session({"contacts": ["geoffrey", ("uncle", "+44 1")]})
    _, second = talk("call geoffrey", "no uncle", session=session)
    assert meaning(second) == ("clarify", "call", (("contacts", "+44 1"),)) and second.applied.lists == {"contacts": 2}
    with pytest.raises(UsageError, match="no list"):
        model.session({"friends": ["anna"]})


def test_forgetting_begins_anew(model: Model, talk: Callable[..., list[Result]]) -> None:
    session = model.session()
    talk("call bob", session=session)
    session.forget()
    assert meaning(talk("okay", session=session)[0])[0] == "reject"


def test_a_bundle_without_a_domain_transcribes_turn_by_turn(tones: Any) -> None:
    session = tones.model(domain=False).session()
    assert [session.understand(tones.say(text)).text for text in ("call bob", "no anna")] == ["call bob", "no anna"]


def test_a_session_goes_on_from_what_it_remembers(talk: Callable[..., list[Result]], model: Model) -> None:
    """Through JSON, as between processes: after every turn another session takes over, and nothing is different."""
    said = ["turn on the kitchen light", "no hall", "call bob", "no anna", "coffee", "okay", "again"]
    whole = talk(*said)
    state, parts = SessionState(), []
    for text in said:
        session = model.session(state=SessionState.model_validate_json(state.model_dump_json()))
        parts += talk(text, session=session)
        state = session.state
        assert len(state.model_dump_json()) < 8192
    assert [meaning(result) for result in parts] == [meaning(result) for result in whole]
    assert [result.prompt for result in parts] == [result.prompt for result in whole]
    assert [result.applied.turn for result in parts] == [1, 2, 3, 4, 5, 6, 7]
    session.forget()
    assert session.state == SessionState()
    assert talk("no hall", session=session)[0].applied.turn == 1


def test_a_single_utterance_is_no_turn(tones: Any, model: Model) -> None:
    assert model.understand(tones.say("call bob")).applied.turn is None
