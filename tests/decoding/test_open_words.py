"""Open slots as words of the lexicon: equal to trying every word sequence; priors count and order matters."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from small_domains import ctc_viterbi, random_log_probs

from sayso.core.errors import DataError
from sayso.decoding.graph import GraphConfig, GraphSearch
from sayso.decoding.open_words import OpenWords, OpenWordsConfig, read_priors, tree
from sayso.text.lexicon import PHONES, Lexicon

PRIORS = {"milk": -2.0, "oat": -4.0, "to": -1.0, "two": -3.0, "zorblatt": -5.0}


class Few(Lexicon):
    """A dictionary of five words."""

    def __init__(self) -> None:
        self._whole = Lexicon.load()
        self._words = sorted(["milk", "oat", "to", "two", "oh"])
        spoken = [[bytes(way) for way in self._whole.pronounce(word)] for word in self._words]
        self._phones = np.frombuffer(bytes([255]).join(bytes([0]).join(ways) for ways in spoken), np.uint8)
        self.sha256 = "few"

    def pronounce(self, word: str, most: int = 4) -> tuple[tuple[int, ...], ...]:
        return self._whole.pronounce(word, most)


def spell(word: str) -> list[int]:
    return [100 + ord(letter) for letter in word]


def opened(**changes: object) -> OpenWords:
    exact = GraphConfig.exact().model_copy(update={"nbest": 1})
    config = OpenWordsConfig(**({"file": "x", "weight": 0.7, "penalty": 0.3, "most": 2, "search": exact} | changes))  # type: ignore[arg-type]
    return OpenWords(config, PRIORS, Few(), spell)


def clear(text: str, lexicon: Lexicon, rows: int = 2) -> np.ndarray:
    labels = [phone for word in text.split() for phone in (*lexicon.pronounce(word)[0], 0)]
    found = np.full((rows * len(labels), len(PHONES)), -12.0)
    for at, label in enumerate(labels):
        found[rows * at : rows * (at + 1), label] = -0.01
    return found


@pytest.mark.parametrize("seed", range(25))
def test_the_search_is_every_sequence_of_words(seed: int) -> None:
    words, lexicon = opened(), Few()
    rows = random_log_probs(np.random.default_rng(seed), 9, len(PHONES))
    vocabulary = [*lexicon.words, "zorblatt"]
    floor = math.log(0.1) - math.log(len(vocabulary))
    best: dict[tuple[str, ...], float] = {}
    for count in (1, 2):
        for text in itertools.product(vocabulary, repeat=count):
            prior = sum(0.7 * max(floor, PRIORS.get(word, floor)) - 0.3 for word in text)
            for way in itertools.product(*(lexicon.pronounce(word) for word in text)):
                score = prior + ctc_viterbi(rows, [phone for word in way for phone in word])
                best[text] = max(best.get(text, -np.inf), score)
    search = GraphSearch(words._grammar(), words.config.search)
    found = {tuple(m.value for m in h.slots): h.score for h in search.nbest(search.step(search.start(), rows), 999)}
    assert found.keys() == {text for text, score in best.items() if score > -np.inf}
    assert all(found[text] == pytest.approx(best[text], abs=1e-9) for text in found)


def test_what_is_clear_is_heard_in_its_order_and_spelled_by_the_tokenizer() -> None:
    heard = opened().slot(clear("oat milk", Few()), before=0)
    assert heard is not None and heard.tokens == tuple(spell("oat") + spell("milk"))
    assert list(heard.frames) == sorted(heard.frames) and heard.frames[3] == 6  # three rows of two, then milk
    assert len(heard.log_probs) == len(heard.tokens)
    other = opened().slot(clear("milk oat", Few()), before=0)
    assert other is not None and other.tokens == tuple(spell("milk") + spell("oat"))


def test_of_homophones_the_likelier_and_a_word_that_only_the_priors_know() -> None:
    heard = opened().slot(clear("two", Few()), before=0)
    assert heard is not None and heard.tokens == tuple(spell("to"))
    strange = opened().slot(clear("zorblatt", Few()), before=0)
    assert strange is not None and strange.tokens == tuple(spell("zorblatt"))


def test_nothing_fits_into_no_rows() -> None:
    assert opened().slot(np.zeros((0, len(PHONES))), before=0) is None


def test_the_whole_dictionary_hears_a_word_that_nobody_weighed() -> None:
    words = OpenWords(OpenWordsConfig(file="x"), {"milk": -5.0}, Lexicon.load(), spell)
    heard = words.slot(clear("oat milk", Lexicon.load(), rows=3), before=0)
    assert heard is not None and heard.tokens == tuple(spell("oat") + spell("milk"))


def test_a_tree_says_each_pronunciation_once() -> None:
    spoken = [bytes([1, 2]), bytes([1]), bytes([1, 2]), bytes([3, 1])]
    lengths = np.array([len(way) for way in spoken])
    network = tree(np.frombuffer(b"".join(spoken), np.uint8), np.cumsum(lengths) - lengths, lengths, np.arange(4))
    said = {}
    stack = [(int(node), bytes([network.token[node]])) for node in network.entry]
    while stack:
        node, path = stack.pop()
        said[path] = set(network.final_out[network.final_ptr[node] : network.final_ptr[node + 1]].tolist())
        following = network.succ[network.succ_ptr[node] : network.succ_ptr[node + 1]]
        stack += [(int(child), path + bytes([network.token[child]])) for child in following]
    assert said == {b"\1": {1}, b"\1\2": {0, 2}, b"\3": set(), b"\3\1": {3}}


@pytest.mark.parametrize("data", [b"[1]", b"{", b'{"a": "b"}', b'{"a": 0.5}'])
def test_priors_that_are_none_are_named(data: bytes) -> None:
    with pytest.raises(DataError, match=r"words\.json: not priors"):
        read_priors(data, "words.json")
