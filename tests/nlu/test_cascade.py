"""A cascade is a sum over texts: by brute force on random lists, and on a domain by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sayso.core.result import Slot
from sayso.nlu.cascade import Guess, Matcher, answer, cascade
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import parse_domain

from .conftest import Letters

DOMAIN = """
intents:
  on: {data: [{sentences: ["turn on the {room} light"]}]}
  dark: {data: [{sentences: ["lights out"], slots: {state: "off"}}]}
  play: {data: [{sentences: ["[please] play {song}"]}]}
lists:
  room: {values: [{in: den, out: living room}, {in: lounge, out: living room}, kitchen]}
  song: {wildcard: true}
"""


@pytest.fixture
def matcher(letters: Letters) -> Matcher:
    return Matcher(compile_domain(parse_domain(DOMAIN), letters), letters)


def test_meanings_are_summed_over_texts_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        texts = [(f"t{i}", float(score)) for i, score in enumerate(rng.normal(-40, 2, 6))]
        meant = {text: rng.dirichlet(np.ones(3)) for text, _ in texts}

        def understand(text: str, meant: dict[str, np.ndarray] = meant) -> list[Guess]:
            slots = (Slot(name="s", value="v", text=text),)
            names = (("a", slots), ("b", ()), (None, ()))
            chances = meant[text]
            return [
                Guess(intent=intent, slots=found, text=text, probability=float(p))
                for (intent, found), p in zip(names, chances, strict=True)
            ]

        scale = float(rng.uniform(0.2, 2))
        guesses = cascade(texts, understand, scale=scale)
        scores = np.exp([scale * score for _, score in texts])
        wanted = (scores / scores.sum()) @ np.stack([meant[text] for text, _ in texts])
        found = {guess.intent: guess.probability for guess in guesses}
        assert [found["a"], found["b"], found[None]] == pytest.approx(list(wanted), abs=1e-12)
        assert [guess.probability for guess in guesses] == sorted(found.values(), reverse=True)
        shares = {text: score * meant[text][0] for (text, _), score in zip(texts, scores, strict=True)}
        said = next(guess for guess in guesses if guess.intent == "a")
        assert said.text == said.slots[0].text == max(shares, key=lambda text: shares[text])


def test_two_texts_of_one_meaning_beat_the_best(matcher: Matcher) -> None:
    texts = [("lights out", -1.0), ("turn on the den light", -1.2), ("turn on the lounge light", -1.3), ("turn", -1.1)]
    guesses = cascade(texts, matcher)
    result = answer(texts, guesses)
    assert result.intent is not None and (result.intent.name, result.decision) == ("on", "accept")
    assert [(s.name, s.value, s.text) for s in result.slots] == [("room", "living room", "den")]
    assert result.text == "turn on the den light" and result.intent.confidence is None
    assert [other.intent for other in result.alternatives] == ["dark"]
    weights = [math.exp(score) for _, score in texts]
    assert guesses[0].probability == pytest.approx((weights[1] + weights[2]) / sum(weights))
    alone = answer(texts[:1], cascade(texts[:1], matcher))
    assert [(s.name, s.value) for s in alone.slots] == [("state", "off")]


def test_what_is_not_said_is_refused(matcher: Matcher) -> None:
    texts = [("turn on the light", -1.0), ("turn on the kitchen light", -4.0)]
    guesses = cascade(texts, matcher)
    assert guesses[0].intent is None  # most of what was heard means nothing, and an answer is given all the same
    assert answer(texts, guesses).decision == "accept"
    refused = answer(texts, guesses, least=0.5)
    assert (refused.decision, refused.reason, refused.text) == ("reject", "out_of_domain", "turn on the light")
    assert refused.alternatives[0].intent == "on" and refused.intent is None and not refused.slots
    assert answer(texts[:1], cascade(texts[:1], matcher)).reason == "out_of_domain"
    assert answer([("", 0.0)], cascade([("", 0.0)], matcher)).reason == "no_speech"
    assert cascade([], matcher) == [] and answer([], []).reason == "no_speech"


def test_open_slots_are_several_readings_or_one(matcher: Matcher) -> None:
    texts = [("please play please play", -0.1)]
    [guess] = cascade(texts, matcher)
    assert [(slot.name, slot.value) for slot in guess.slots] == [("song", "please play")]
