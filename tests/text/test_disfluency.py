"""Disfluencies: what goes, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sayso.text.disfluency import fluent
from sayso.text.normalise import normalise

WORDS = st.lists(
    st.sampled_from(["turn", "on", "the", "light", "li-", "uh", "two", "two", "no", "um", "i", "i'm", "red"]),
    max_size=9,
).map(" ".join)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Uh, turn on, um, the light", "turn on the light"),
        ("turn turn on the the light", "turn on the light"),
        ("turn on turn on the light", "turn on the light"),
        ("set the alarm set the alarm for seven", "set the alarm for seven"),
        ("the li- light and the k-- uh kitchen", "the light and the kitchen"),
        ("call two two five five", "call two two five five"),
        ("no no bye bye", "no no bye bye"),
        ("a a meeting with a a r p", "a a meeting with a a r p"),
        ("the well-known e-mail", "the well known e mail"),
        ("turn on on turn on the light", "turn on the light"),
        ("um", "um"),
        ("", ""),
    ],
)
def test_what_was_meant(said: str, meant: str) -> None:
    assert fluent(said) == meant


@settings(deadline=None)
@given(WORDS)
def test_once_is_enough(text: str) -> None:
    assert fluent(fluent(text)) == fluent(text)
    assert set(fluent(text).split()) <= set(normalise(text).split())
