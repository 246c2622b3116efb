"""The validation part: disjoint, stable, and of the size it says."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("lhotse", reason="lhotse is part of the train extra", exc_type=ImportError)

from sayso.data.manifest import make_cut, meaning
from sayso.data.splits import cut_valid, is_valid

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
