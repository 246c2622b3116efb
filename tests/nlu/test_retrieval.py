"""Lists that are found by what was heard: by brute force, however they were filled, saved and loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from sayso.core.errors import DataError, DomainError
from sayso.nlu.grams import Grams, query
from sayso.nlu.phonetic import Phonetic, SkeletonKey, SpokenKey
from sayso.nlu.retrieval import ListIndex, RetrievalConfig, resolve

CONTACTS = [
    "Anna Smith", "Bob Jones", ("mum", "+49 30 1"), "Jennifer O'Neil", "Siobhan Murphy", "Hey Jude", "Let It Be",
    ("the office", "+49 30 2"), "John Smith", "Joan Smythe", "Room 205", "Yellow Submarine",
]  # fmt: skip
WORDS = ("anna", "anne", "smith", "smythe", "bob", "rob", "jones", "lane", "kate", "cate", "hey", "jude")
SKELETON = SkeletonKey()


@pytest.fixture(scope="module")
def contacts() -> ListIndex:
    return ListIndex(CONTACTS)


def test_the_very_words_score_one(contacts: ListIndex) -> None:
    assert len(contacts) == len(CONTACTS)
    for text in ("anna smith", "mum", "jennifer o'neil", "room two hundred five"):
        found = contacts.find(text, 1)[0]
        assert found.text == text and found.score == 1 and found.heard == text
    assert contacts.find("mum", 1)[0].value == "+49 30 1"
    assert contacts.find("room two hundred five", 1)[0].value == "Room 205"


@pytest.mark.parametrize(
    ("heard", "value"),
    [
        ("anna smyth", "Anna Smith"),
        ("jenifer oneal", "Jennifer O'Neil"),
        ("shavon murphy", "Siobhan Murphy"),
        ("hay jude", "Hey Jude"),
        ("yellow sub marine", "Yellow Submarine"),
        ("let it bee", "Let It Be"),
    ],
)
def test_what_sounds_alike_is_found(contacts: ListIndex, heard: str, value: str) -> None:
    assert contacts.find(heard, 1)[0].value == value


@pytest.mark.parametrize("heard", ["the weather tomorrow", "turn on the lights", "elephant"])
def test_what_is_not_in_the_list_is_not_found(contacts: ListIndex, heard: str) -> None:
    assert contacts.best(heard) is None
    answer = resolve([(heard, 0.0)], contacts)
    assert not answer.known and answer.value == answer.text == heard and len(answer.found) == 3


def test_an_nbest_list_may_hold_it_further_down(contacts: ListIndex) -> None:
    texts = [("on a myth", -0.1), ("anna smith", -0.9)]
    found = contacts.find(texts, 1)[0]
    assert found.value == "Anna Smith" and found.heard == "anna smith" and found.score > 0.8
    answer = resolve(texts, contacts)
    assert answer.known and answer.value == "Anna Smith" and answer.score == found.score
    alone = ListIndex(CONTACTS, config=RetrievalConfig(texts=1)).find(texts, 1)[0]
    assert alone.score < found.score


def test_what_is_one_of_many_that_are_near_is_not_in_the_list() -> None:
    """Every pair of two words but one: that one is near to many entries, and meant by none."""
    names = [f"{first} {last}" for first in WORDS for last in WORDS]
    index = ListIndex([name for name in names if name != "jude lane"], phonetic=SKELETON)
    assert index.find("jude lane", 1)[0].score > index.config.threshold
    assert index.best("jude lane") is None and not resolve([("jude lane", 0.0)], index).known
    index.config = RetrievalConfig(ratio=1.0)
    assert index.best("jude lane") is not None
    index.config = RetrievalConfig()
    index.add(["jude lane"])
    found = index.best("jude lane")  # the very words need no lead
    assert found is not None and found.score == 1


def test_an_answer_is_known_by_threshold_and_ratio() -> None:
    """By the definition, over the whole ranking."""
    rng = np.random.default_rng(5)
    names = list({" ".join(rng.choice(WORDS, int(rng.integers(1, 4)))) for _ in range(40)})
    entries = [(name, f"value {number // 2}") for number, name in enumerate(names)]
    index = ListIndex(entries, phonetic=SKELETON, config=RetrievalConfig(candidates=len(entries)))
    asked = [" ".join(rng.choice((*WORDS, "jan", "lain", "mike", "zoo"), 2)) for _ in range(60)]
    answers = []
    for heard in asked:
        first, *rest = index.find(heard, len(entries))
        others = [found.score for found in rest if found.text != first.text and found.value != first.value]
        known = first.score >= 0.5 and 1 - first.score <= 0.7 * (1 - max(others))
        assert index.best(heard) == (first if known else None) and index.look(heard, 2)[1] == known
        answers.append((first.score >= 0.5, known))
    assert {(True, True), (True, False), (False, False)} <= set(answers)


def test_other_spoken_forms_of_a_value_are_no_rivals() -> None:
    index = ListIndex([("anna smith", "Anna"), ("anna smithe", "Anna"), "bob jones"], phonetic=SKELETON)
    found = index.best("ana smith")
    assert found is not None and found.value == "Anna"
    twins = ListIndex([("john smith", "+1"), ("john smith", "+2")], phonetic=SKELETON)  # nor is the same name twice
    found = twins.best("jon smith")
    assert found is not None and found.value == "+1"


def test_nothing_asked_and_nothing_there(contacts: ListIndex) -> None:
    assert contacts.find("") == [] == contacts.find([]) == ListIndex().find("anna")
    assert ListIndex().best("anna") is None
    assert resolve([], contacts).value == "" and not resolve([], contacts).known
    with pytest.raises(DomainError, match="no spoken words"):
        ListIndex(["anna", "?!"])


def test_entries_come_and_go_at_once() -> None:
    index = ListIndex(["anna"], phonetic=SKELETON)
    assert index.add(["bob", "anna", ("Bob", "bob")]) == 1 and len(index) == 2
    found = index.best("bob")
    assert found is not None and found.value == "bob" and "bob" in index and ("bob", "bob") in index
    assert index.remove(["bob", "nobody"]) == 1 and index.best("bob") is None and "bob" not in index
    assert index.add([("bob", "+1")]) == 1
    found = index.best("bob")
    assert found is not None and found.value == "+1"
    assert index.remove(["+1"]) == 1 and len(index) == 1


def test_cosines_are_those_of_the_vectors() -> None:
    """Inverted lists against dense vectors, by the definition: counts of an n-gram, its rareness once."""
    texts = [" ".join(np.random.default_rng(i).choice(WORDS, 3)) for i in range(40)]
    grams = Grams.build(texts)
    buckets, weights = query(["anna smith"], np.array([1.0]), [grams], len(texts))
    dense = np.zeros((len(texts), 1 << 15))
    for bucket in range(1 << 15):
        for place in range(grams.ptr[bucket], grams.ptr[bucket + 1]):
            dense[grams.rows[place], bucket] = grams.weights[place]
    asked = np.zeros(1 << 15)
    asked[buckets] = weights
    np.testing.assert_allclose(grams.cosines(buckets, weights, len(texts)), dense @ asked, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(dense, axis=1), 1, atol=1e-6)
    assert np.linalg.norm(asked) == pytest.approx(1)
    single = Grams.build(["aab"])  # edges, "aa", "ab" and their triples: seven different n-grams, each once
    assert len(single.rows) == 7 and np.allclose(single.weights, 7**-0.5)


def test_ranking_is_by_edit_distance_of_all() -> None:
    """With the cosine out of it and every entry a candidate, the ranking is the brute-force one."""
    rng = np.random.default_rng(3)
    entries = list({" ".join(rng.choice(WORDS, int(rng.integers(1, 4)))) for _ in range(60)})
    config = RetrievalConfig(edit=1.0, sound=0.4, candidates=len(entries), fall=0.0)
    index = ListIndex(entries, phonetic=SKELETON, config=config)
    for heard in ("anne smith", "rob joan", "hey dude kate"):
        similar = Levenshtein.normalized_similarity
        brute = {
            text: 0.6 * similar(heard, text) + 0.4 * similar(SKELETON.key(heard), SKELETON.key(text))
            for text in entries
        }
        found = index.find(heard, len(entries))
        assert {entry.text: entry.score for entry in found} == pytest.approx(brute, abs=1e-5)
        assert [entry.score for entry in found] == sorted((entry.score for entry in found), reverse=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(st.sampled_from(WORDS), min_size=1, max_size=2)), max_size=30))
def test_however_it_was_filled_it_finds_the_same(steps: list[tuple[bool, list[str]]]) -> None:
    """Entries added and removed one by one against an index made of what is left."""
    index, left = ListIndex(phonetic=SKELETON), dict[str, None]()
    for add, words in steps:
        name = " ".join(words)
        if add:
            index.add([name])
            left[name] = None
        else:
            index.remove([name])
            left.pop(name, None)
    assert len(index) == len(left)
    fresh = ListIndex(left, phonetic=SKELETON, config=RetrievalConfig(edit=1.0))
    index.config = fresh.config
    for heard in ("anna smith", "bob", "kate lane"):
        grown, whole = ({f.text: f.score for f in i.find(heard, 40)} for i in (index, fresh))
        assert grown == whole


def test_many_that_went_do_not_hide_the_others() -> None:
    names = [f"anna smith {first} {second}" for first in WORDS for second in WORDS]
    index = ListIndex([*names, "anna smythe"], phonetic=SKELETON, config=RetrievalConfig(candidates=4))
    index.remove(names[:100])
    texts = {found.text for found in index.find("anna smith", 4)}
    assert len(texts) == 4 and texts.isdisjoint(names[:100])
    index.remove(names)
    assert [found.text for found in index.find("anna smith")] == ["anna smythe"]


@pytest.mark.parametrize("phonetic", [SKELETON, SpokenKey()], ids=lambda key: type(key).__name__)
def test_saved_and_loaded(tmp_path: Path, phonetic: Phonetic) -> None:
    index = ListIndex(CONTACTS, phonetic=phonetic, config=RetrievalConfig(threshold=0.5))
    index.add(["Zoë Łukasz"])
    index.remove(["mum"])
    file = tmp_path / "contacts.npz"
    index.save(file)
    loaded = ListIndex.load(file, phonetic=phonetic)
    assert len(loaded) == len(index) and loaded.config == index.config and "mum" not in loaded
    for heard in ("anna smyth", "zoe lukas", "mum"):
        assert loaded.find(heard) == index.find(heard)
    loaded.add(["mum"])
    found = loaded.best("mum")
    assert found is not None and found.value == "mum"
    ListIndex(phonetic=phonetic).save(file)
    assert len(ListIndex.load(file, phonetic=phonetic)) == 0


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "contacts.npz"
    with pytest.raises(DataError, match="no list index here"):
        ListIndex.load(file)
    file.write_bytes(b"not an archive")
    with pytest.raises(DataError, match="not a list index"):
        ListIndex.load(file, phonetic=SKELETON)
    ListIndex(CONTACTS, phonetic=SKELETON).save(file)
    with pytest.raises(DataError, match=r"made with keys 'skeleton', this program has 'lexicon:"):
        ListIndex.load(file)
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["letters/rows"] = arrays["letters/rows"] + 1000
    np.savez(file, **arrays)
    with pytest.raises(DataError, match="n-grams are damaged"):
        ListIndex.load(file, phonetic=SKELETON)


def test_keys_of_words_that_sound_alike_are_alike() -> None:
    spoken = SpokenKey()
    for one, other in (("knight", "night"), ("jude", "jewd"), ("phil", "fill"), ("two", "too")):
        assert spoken.key(one) == spoken.key(other)
    assert spoken.key("hey jude") == spoken.key("hey") + spoken.key("jude") and spoken.key("") == ""
    for one, other in (("philip", "filip"), ("knight", "nite"), ("rick", "rik"), ("anna", "ana"), ("wright", "rite")):
        assert SKELETON.key(one).rstrip("a") == SKELETON.key(other).rstrip("a")
    assert SKELETON.key("anna") != SKELETON.key("bob")
