"""Every branch of the policy, and invariants over random situations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sayso.core.result import Slot
from sayso.nlu.calibration import Evidence
from sayso.nlu.policy import Decision, Doubt, PolicyConfig, Situation, decide, default_prompt, doubt_of, question

CONFIG = PolicyConfig(accept=0.7, reject=0.3, margin=-0.1, min_speech_s=0.1, min_snr_db=0.0)
GOOD, BAD = Evidence(margin=0.5), Evidence(margin=-0.5)


@pytest.mark.parametrize(
    ("known", "decision", "reason"),
    [
        ({"confidence": 0.9, "evidence": GOOD}, "accept", None),
        ({"confidence": 0.7}, "accept", None),
        ({"confidence": 0.69}, "clarify", None),
        ({"confidence": 0.3}, "clarify", None),
        ({"confidence": 0.29, "evidence": GOOD}, "reject", "low_confidence"),
        ({"confidence": 0.29, "evidence": BAD}, "reject", "out_of_domain"),
        ({"confidence": 0.29, "evidence": BAD, "snr_db": -3.0}, "reject", "too_noisy"),
        ({"confidence": 0.9, "evidence": GOOD, "snr_db": -3.0}, "accept", None),
        ({"confidence": 0.5, "truncated": True}, "reject", "truncated"),
        ({"confidence": 0.9, "truncated": True}, "reject", "truncated"),
        ({"confidence": 0.9, "speech_s": 0.05}, "reject", "no_speech"),
        ({"confidence": 0.9, "risk": "confirm"}, "clarify", None),
        ({"confidence": 0.1, "risk": "confirm"}, "reject", "low_confidence"),
        ({"intent": None}, "reject", "out_of_domain"),
        ({"intent": None, "truncated": True}, "reject", "truncated"),
        ({"evidence": GOOD}, "accept", None),
        ({"evidence": BAD}, "reject", "out_of_domain"),
        ({}, "accept", None),
    ],
)
def test_table(known: dict[str, Any], decision: str, reason: str | None) -> None:
    answer = decide(Situation(**{"intent": "lock", **known}), CONFIG)
    assert (answer.decision, answer.reason) == (decision, reason)


def test_prompts() -> None:
    slots = (Slot(name="area", value="kitchen_1", text="kitchen"), Slot(name="milkAmount", value="some milk"))
    assert default_prompt("turn_on", slots) == "Turn on, area: kitchen, milk amount: some milk. Is that right?"
    assert default_prompt("orderDrink") == "Order drink. Is that right?"
    own = Situation(intent="lock", risk="confirm", clarify="Lock which door?", confidence=0.9)
    assert decide(own, CONFIG) == Decision("clarify", None, "Lock which door?")
    plain = Situation(intent="lock", risk="confirm", confidence=0.9)
    assert decide(plain, CONFIG).prompt == "Lock. Is that right?"


@given(
    st.builds(
        Situation,
        intent=st.sampled_from([None, "lock"]),
        confidence=st.none() | st.floats(0, 1),
        evidence=st.none() | st.builds(Evidence, margin=st.floats(-5, 5)),
        risk=st.sampled_from(["none", "confirm"]),
        clarify=st.none() | st.just("Which?"),
        speech_s=st.floats(0, 3),
        snr_db=st.none() | st.floats(-20, 40),
        truncated=st.booleans(),
    )
)
def test_invariants(situation: Situation) -> None:
    answer = decide(situation, CONFIG)
    assert (answer.reason is not None) == (answer.decision == "reject")
    assert (answer.prompt is not None) == (answer.decision == "clarify")
    if situation.risk == "confirm" or situation.intent is None or situation.truncated:
        assert answer.decision != "accept"


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="must not lie above"):
        PolicyConfig(accept=0.2, reject=0.5)


def _slot(name: str, value: str, confidence: float = 0.9, source: str = "list:x") -> Slot:
    return Slot(name=name, value=value, text=value.replace("_", " "), confidence=confidence, source=source)


def test_doubt_is_about_the_slot_in_which_a_close_rival_differs() -> None:
    best = (_slot("area", "kitchen", 0.2), _slot("door", "front_door"))
    rival = (_slot("area", "kitchen"), _slot("door", "side_door"))
    both = (_slot("area", "garage"), _slot("door", "side_door"))
    assert doubt_of(best, [both, rival]) == Doubt("door", ("front_door", "side_door"), ("front door", "side door"))
    assert doubt_of(best, [both, rival[:1]]) == Doubt("area", ("kitchen",), ("kitchen",)), "the least confident"
    assert doubt_of((_slot("mode", "eco", 0.1, "template"),)) is None and doubt_of(()) is None


def test_a_question_names_two_values_in_the_words_of_the_domain() -> None:
    doubt = Doubt("door", ("front_door", "side_door"), ("front door", "side door"))
    unsure = Situation(intent="lock", clarify="Lock which door?", confidence=0.5, doubt=doubt)
    assert decide(unsure, CONFIG).prompt == "Lock which door: front door or side door?"
    one = Situation(intent="lock", clarify="Lock which door?", confidence=0.5, doubt=Doubt("door", ("x",), ("gate",)))
    assert decide(one, CONFIG).prompt == "Lock which door?" and question(one) == "Lock which door: gate?"
    own = Situation(intent="lock", slots=(_slot("door", "front_door"),), confidence=0.5, doubt=doubt)
    assert decide(own, CONFIG).prompt == "Lock, door: front door or side door. Is that right?"
