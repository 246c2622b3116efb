"""A pronounced domain is searched on posteriors of phones: as if every sentence were said in every way and scored."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_domains import ctc_viterbi, random_log_probs

from sayso.core.automaton import Automaton, Network
from sayso.core.errors import BundleError, DomainError
from sayso.decoding.graph import GraphConfig, GraphSearch
from sayso.decoding.words import spans_of
from sayso.nlu.automaton_io import load_automaton, match, save_automaton
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import parse_domain
from sayso.nlu.networks import compile_list
from sayso.nlu.spelling import Phones, speller_of, ways
from sayso.text.lexicon import PAUSES, PHONES, Lexicon
from sayso.text.tokenizer import Tokenizer

DOMAIN = """
intents:
  on:
    data: [{sentences: ["[the] {area} on", "either {area}"]}]
  off:
    data: [{sentences: ["{area}['s] off"]}]
  add:
    data: [{sentences: ["add {thing}"]}]
lists:
  area: {values: [four, {in: for, out: purpose}, zorblatt]}
  thing: {wildcard: true}
"""
CLOSED = DOMAIN.replace('  add:\n    data: [{sentences: ["add {thing}"]}]\n', "").replace(
    "  thing: {wildcard: true}\n", ""
)
LETTERS = Tokenizer.load(Path(__file__).parents[2] / "models/base/tokenizer.model")
EXACT = GraphConfig.exact()


def compiled(text: str = CLOSED) -> Automaton:
    return compile_domain(parse_domain(text), LETTERS, Lexicon.load())


def said(automaton: Automaton, network: Network) -> Iterator[tuple[tuple[int, ...], int, tuple[tuple[str, str], ...]]]:
    """Every path: tokens, output, slots."""
    stack = [((int(node),), *start) for node in network.entry for start in _inside(automaton, network, int(node))]
    while stack:
        path, tokens, slots = stack.pop()
        node = path[-1]
        for out in network.final_out[network.final_ptr[node] : network.final_ptr[node + 1]]:
            yield tokens, int(out), slots
        for following in network.succ[network.succ_ptr[node] : network.succ_ptr[node + 1]]:
            for more, found in _inside(automaton, network, int(following)):
                stack.append(((*path, int(following)), tokens + more, slots + found))


def _inside(
    automaton: Automaton, network: Network, node: int
) -> list[tuple[tuple[int, ...], tuple[tuple[str, str], ...]]]:
    if network.token[node] >= 0:
        return [((int(network.token[node]),), ())]
    call = automaton.calls[int(network.call[node])]
    assert call.list is not None
    values = automaton.lists[call.list]
    return [(tokens, ((call.slot, values.values[out]),)) for tokens, out, _ in said(automaton, values.network)]


def test_the_sentences_are_those_of_the_lexicon() -> None:
    automaton, lexicon = compiled(), Lexicon.load()
    found = {automaton.rows[list(tokens)].tobytes() for tokens, _, _ in said(automaton, automaton.main)}
    expected = set()
    for texts in itertools.product(("", "the"), ("four", "for", "zorblatt"), ("on",)):
        words = " ".join(texts).split()
        for way in itertools.product(*(lexicon.pronounce(word) for word in words)):
            expected.add(np.array([p for w in way for p in w], np.int32).tobytes())
    assert expected <= found
    texts = {automaton.text(tokens) for tokens, _, _ in said(automaton, automaton.main)}
    assert {"the four on", "zorblatt off", "either for", "zorblatt's off"} <= texts


@pytest.mark.parametrize("seed", range(30))
def test_unpruned_search_is_every_sentence_said_in_every_way(seed: int) -> None:
    automaton = compiled()
    log_probs = random_log_probs(np.random.default_rng(seed), 12, len(PHONES))
    best: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for tokens, out, slots in said(automaton, automaton.main):
        meaning = automaton.meanings[out]
        score = ctc_viterbi(log_probs, automaton.rows[list(tokens)].tolist()) + meaning.weight
        key = (meaning.intent, slots)
        best[key] = max(best.get(key, -np.inf), score)
    search = GraphSearch(automaton, EXACT)
    found = {
        (automaton.meanings[h.meaning].intent, tuple((s.slot, s.value) for s in h.slots)): h.score
        for h in search.nbest(search.step(search.start(), log_probs), 100)
        if h.meaning is not None
    }
    assert found.keys() == {key for key, score in best.items() if score > -np.inf}
    assert all(found[key] == pytest.approx(best[key], abs=1e-9) for key in found)


PAUSED = """
intents:
  go: {data: [{sentences: ["lock [the] {area}", "open it"]}]}
lists:
  area: {values: [four, hall, kitchen door]}
"""


def paused_viterbi(log_probs: np.ndarray, rows: list[int], between: list[bool], price: float) -> float:
    """The best path of exactly ``rows``, where the blanks behind the places ``between`` may be pauses."""
    quiet = np.maximum(log_probs[:, 0], log_probs[:, list(PAUSES)].max(1) - price)
    labels = [0, *[x for row in rows for x in (row, 0)]]
    loose = [place % 2 == 0 and between[place // 2] for place in range(len(labels))]
    score = np.full(len(labels), -np.inf)
    for t, frame in enumerate(log_probs):
        before = score.copy()
        for place, label in enumerate(labels):
            ways_ = [before[place]] if t else [0.0 if place < 2 else -np.inf]
            if t and place:
                ways_.append(before[place - 1])
            if t and place > 1 and label and label != labels[place - 2]:
                ways_.append(before[place - 2])
            score[place] = max(ways_) + (quiet[t] if loose[place] else frame[label])
    return float(score[-2:].max())


@pytest.mark.parametrize("seed", range(30))
def test_pauses_between_words_are_searched_as_if_everything_were_tried(seed: int) -> None:
    automaton = compiled(PAUSED)
    log_probs = random_log_probs(np.random.default_rng(seed), 14, len(PHONES))
    best: dict[tuple[tuple[str, str], ...], float] = {}
    strict: dict[tuple[tuple[str, str], ...], float] = {}
    for tokens, out, slots in said(automaton, automaton.main):
        rows, weight = automaton.rows[list(tokens)].tolist(), automaton.meanings[out].weight
        opens = [automaton.pieces[token].startswith("▁") for token in tokens]
        score = paused_viterbi(log_probs, rows, [*opens, True], 0.7) + weight
        best[slots] = max(best.get(slots, -np.inf), score)
        strict[slots] = max(strict.get(slots, -np.inf), ctc_viterbi(log_probs, rows) + weight)
    settings = EXACT.model_copy(update={"pauses": PAUSES, "pause_penalty": 0.7})
    search = GraphSearch(automaton, settings)
    found = {
        tuple((s.slot, s.value) for s in h.slots): h.score
        for h in search.nbest(search.step(search.start(), log_probs), 100)
        if h.meaning is not None
    }
    assert found.keys() == {key for key, score in best.items() if score > -np.inf}
    assert all(found[key] == pytest.approx(best[key], abs=1e-9) for key in found)
    assert any(best[key] > strict[key] + 0.1 for key in found), "no pause was worth anything"


def test_a_pause_is_passed_over_between_words_and_not_within() -> None:
    automaton, lexicon = compiled(PAUSED), Lexicon.load()
    um, uh = [PHONES.index("AH"), PHONES.index("M")], [PHONES.index("AH")]
    lock, hall = (list(lexicon.pronounce(word)[0]) for word in ("lock", "hall"))

    def score(labels: list[int], settings: GraphConfig) -> float:
        log_probs = np.full((len(labels), len(PHONES)), -20.0)
        log_probs[np.arange(len(labels)), labels] = -0.01
        search = GraphSearch(automaton, settings)
        found = search.nbest(search.step(search.start(), log_probs))
        assert automaton.text(found[0].tokens) == "lock hall"
        return found[0].score

    passing = EXACT.model_copy(update={"pauses": PAUSES})
    plain = [*lock, 0, *hall]
    assert score(plain, passing) == pytest.approx(score(plain, EXACT))
    for said_ in ([*um, 0, *lock, 0, *hall], [*lock, 0, *um, 0, *hall], [*lock, 0, *hall, 0, *um]):
        assert score(plain, EXACT) - score(said_, passing) < 2 * 1.0 + 0.1  # the price of two sounds
        assert score(plain, EXACT) - score(said_, EXACT) > 35
    inside = [*hall[:1], *uh, *hall[1:]]
    assert score(plain, EXACT) - score([*lock, 0, *inside], passing) > 15


def test_a_word_begins_where_its_first_phone_does() -> None:
    automaton, lexicon = compiled(), Lexicon.load()
    labels = [p for word in ("zorblatt", "on") for p in (*lexicon.pronounce(word)[0], 0)]
    log_probs = np.full((len(labels), len(PHONES)), -20.0)
    log_probs[np.arange(len(labels)), labels] = -0.01
    search = GraphSearch(automaton)
    best = search.nbest(search.step(search.start(), log_probs))[0]
    assert automaton.text(best.tokens) == "zorblatt on"
    spans = spans_of(best.tokens, automaton.pieces)
    assert [best.frames[first] for first, _ in spans] == [0, len(lexicon.pronounce("zorblatt")[0]) + 1]
    assert best.slots[0].value == "zorblatt"


def test_words_that_sound_alike_stay_two_values() -> None:
    search = GraphSearch(compiled())
    labels = [*Lexicon.load().pronounce("four")[0], 0, *Lexicon.load().pronounce("off")[0]]
    log_probs = np.full((len(labels), len(PHONES)), -20.0)
    log_probs[np.arange(len(labels)), labels] = -0.01
    values = {h.slots[0].value for h in search.nbest(search.step(search.start(), log_probs))[:2]}
    assert values == {"four", "purpose"}


def test_an_open_slot_holds_sounds_without_text() -> None:
    automaton, lexicon = compiled(DOMAIN), Lexicon.load()
    labels = [*lexicon.pronounce("add")[0], 0, *lexicon.pronounce("milk")[0]]
    log_probs = np.full((len(labels), len(PHONES)), -20.0)
    log_probs[np.arange(len(labels)), labels] = -0.01
    search = GraphSearch(automaton)
    best = search.nbest(search.step(search.start(), log_probs))[0]
    match_ = best.slots[0]
    assert set(best.tokens[match_.first : match_.last + 1]) <= set(automaton.open_tokens)
    assert automaton.rows[list(best.tokens[match_.first : match_.last + 1])].tolist() == labels[-4:]
    assert automaton.text(best.tokens) == "add"


def test_typed_text_is_understood_by_its_words() -> None:
    automaton = compiled(DOMAIN)
    found = [
        (meaning.intent, [(s.name, s.value) for s in slots])
        for meaning, slots in match(automaton, LETTERS, "The for on")
    ]
    assert found == [("on", [("area", "purpose")])]
    assert match(automaton, LETTERS, "the fort on") == []
    assert match(automaton, LETTERS, "add oat milk")[0][1][0].value == "oat milk"


def test_on_disk_and_back(tmp_path: Path) -> None:
    automaton = compiled(DOMAIN)
    save_automaton(automaton, tmp_path)
    again = load_automaton(tmp_path)
    assert (again.lexicon, again.pieces, again.open_tokens, again.spelled) == (
        automaton.lexicon, automaton.pieces, automaton.open_tokens, automaton.spelled
    )  # fmt: skip
    assert np.array_equal(again.rows, automaton.rows) and again.units == len(PHONES)
    broken = load_automaton(tmp_path).with_lists({}, rows=automaton.rows[:-1])
    save_automaton(broken, tmp_path)
    with pytest.raises(BundleError, match="sounds"):
        load_automaton(tmp_path)


def test_a_stream_may_bring_words_that_the_domain_lacks() -> None:
    automaton, lexicon = compiled(), Lexicon.load()
    speller = speller_of(automaton, LETTERS)
    assert isinstance(speller, Phones)
    new = compile_list([("quibbler", "Q")], speller)
    changed = automaton.with_lists({"area": new}, speller.pieces, speller.rows)
    assert changed.pieces[: len(automaton.pieces)] == automaton.pieces and changed.units == automaton.units
    labels = [p for word in ("quibbler", "off") for p in (*lexicon.pronounce(word)[0], 0)]
    log_probs = np.full((len(labels), len(PHONES)), -20.0)
    log_probs[np.arange(len(labels)), labels] = -0.01
    search = GraphSearch(changed)
    best = search.nbest(search.step(search.start(), log_probs))[0]
    assert (changed.text(best.tokens), best.slots[0].value) == ("quibbler off", "Q")


def test_what_nobody_can_say_and_another_lexicon_are_errors() -> None:
    with pytest.raises(DomainError, match="can say"):
        Phones(LETTERS, Lexicon.load()).word("'")
    other = compile_domain(parse_domain(CLOSED), LETTERS, Lexicon.load())
    with pytest.raises(DomainError, match="another lexicon"):
        speller_of(Automaton(**{**vars(other), "lexicon": "0" * 64}), LETTERS)


def test_variants_of_many_words_stay_few() -> None:
    assert len(ways(Phones(LETTERS, Lexicon.load()), ["either"] * 8)) == 16
