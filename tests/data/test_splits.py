"""The validation part: disjoint, stable, and of the size it says."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("lhotse", reason="lhotse is part of the train extra", exc_type=ImportError)

from sayso.data.manifest import make_cut, meaning
from sayso.data.splits import cut_both, cut_valid, is_valid
from sayso.text.disfluency import fluent

ITEMS = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.booleans(), st.text("xyz", min_size=1)), max_size=40)


def _cuts(items: list[tuple[str, bool, str]]) -> list[object]:
    return [
        make_cut(f"c{i}", "a.wav", text, speaker if known else None, duration=1.0, custom=meaning(source="corpus"))
        for i, (speaker, known, text) in enumerate(items)
    ]


def _keys(cuts: object) -> set[tuple[str, str]]:
    return {(s.custom["source"], s.speaker or s.text) for cut in cuts for s in cut.supervisions}  # type: ignore


@given(ITEMS)
def test_nothing_is_lost_and_no_key_on_both_sides(items: list[tuple[str, bool, str]]) -> None:
    cuts = _cuts(items)
    train, valid = cut_valid(cuts, per_mille=400)
    assert sorted(c.id for c in [*train, *valid]) == sorted(c.id for c in cuts)  # type: ignore[attr-defined]
    assert not _keys(train) & _keys(valid)


@given(ITEMS, ITEMS)
def test_more_data_moves_nobody(first: list[tuple[str, bool, str]], more: list[tuple[str, bool, str]]) -> None:
    alone = {c.id for c in cut_valid(_cuts(first), per_mille=400)[1]}
    together = {c.id for c in cut_valid(_cuts(first + more), per_mille=400)[1]}
    assert alone == {id for id in together if int(id[1:]) < len(first)}


def test_the_rule_and_its_share() -> None:
    def rule(name: str, key: str) -> bool:
        return int(hashlib.sha256((name + key).encode()).hexdigest(), 16) % 1000 < 35

    keys = [f"sentence {i}" for i in range(4000)]
    assert [is_valid("cv", key) for key in keys] == [rule("cv", key) for key in keys]
    assert 0.025 < sum(is_valid("cv", key) for key in keys) / len(keys) < 0.045


def test_the_sentence_as_written_decides() -> None:
    key = next(f"Take {i}!" for i in range(999) if is_valid("x", f"Take {i}!") and not is_valid("x", "take"))
    cut = make_cut("c", "a.wav", "take", duration=1.0, custom={**meaning(source="x"), "written": key})
    assert [c.id for c in cut_valid([cut])[1]] == ["c"]


@settings(deadline=None)
@given(ITEMS)
def test_speakers_and_sentences_apart_at_once(items: list[tuple[str, bool, str]]) -> None:
    cuts = _cuts(items)
    train, valid, left_out = cut_both(cuts, per_mille=400)
    assert len(train) + len(valid) + left_out == len(cuts)
    for one in train:
        for other in valid:
            ours, theirs = one.supervisions[0], other.supervisions[0]
            assert ours.speaker is None or ours.speaker != theirs.speaker
            assert fluent(ours.text) != fluent(theirs.text)


def test_what_is_kept_has_the_share_asked_for() -> None:
    grid = [(f"{chr(97 + i % 26)}{i}", True, f"sentence {j}") for i in range(40) for j in range(40)]
    train, valid, left_out = cut_both(_cuts(grid), per_mille=200)
    assert 0.1 < len(valid) / (len(train) + len(valid)) < 0.3
    assert left_out == pytest.approx(2 * 40 * 40 / 3 * (2 / 3), rel=0.25)  # rates 1/3 and 2/3
