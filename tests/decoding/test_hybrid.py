"""The hybrid search: equal to trying every sequence of words, language model and all; homophones by their context;
words that stay."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from small_domains import random_log_probs

from sayso.decoding.hybrid import Hybrid, HybridConfig
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.kneser_ney import estimate
from sayso.text.lexicon import PHONES, Lexicon

TEXTS = ["two oats", "oh two", "to oh", "oats to oh", "two oats", "go to"]
MODEL = estimate([text.split() for text in TEXTS], 2)
WORDS = sorted({word for text in TEXTS for word in text.split()})
EXACT = {"beam": None, "margin": np.inf, "top_k": None, "token_margin": np.inf, "commit_frames": None, "ways": None,
         "unfinished": np.inf}  # fmt: skip
WEIGHT = 0.8


def spell(word: str) -> list[int]:
    return [ord(letter) for letter in word]


def search(**changes: object) -> Hybrid:
    return HybridConfig(**changes).build(MODEL, WEIGHT, Lexicon.load(), spell)  # type: ignore[arg-type]


def text_of(heard: Hypothesis) -> str:
    return "".join(map(chr, heard.tokens))


def ctc(rows: NDArray[np.float64], labels: tuple[int, ...]) -> float:
    """Log probability of ``labels`` over all paths."""
    extended = [0]
    for label in labels:
        extended += [label, 0]
    alpha = np.full(len(extended), -np.inf)
    alpha[:2] = rows[0, extended[:2]]
    for row in rows[1:]:
        before = alpha.copy()
        for s, label in enumerate(extended):
            total = np.logaddexp(before[s], before[s - 1] if s else -np.inf)
            if s > 1 and label and label != extended[s - 2]:
                total = np.logaddexp(total, before[s - 2])
            alpha[s] = total + row[label]
    return float(np.logaddexp(alpha[-1], alpha[-2]) if len(alpha) > 1 else alpha[-1])


def every_text(rows: NDArray[np.float64], bonus: float) -> dict[tuple[int, ...], tuple[float, tuple[str, ...]]]:
    """For each sequence of phones that are words the best score and the words."""
    lexicon, found = Lexicon.load(), dict[tuple[int, ...], tuple[float, tuple[str, ...]]]()
    for count in range(len(rows) + 1):
        for words in itertools.product(WORDS, repeat=count):
            ways = [lexicon.pronounce(word) for word in words]
            if sum(min(map(len, each)) for each in ways) > len(rows):
                continue
            for spoken in itertools.product(*ways):
                phones = tuple(phone for word in spoken for phone in word)
                if len(phones) <= len(rows):
                    score = WEIGHT * (MODEL.score(words) + bonus * len(words))
                    found[phones] = max(found.get(phones, (-np.inf, ())), (score, words))
    return {phones: (score + ctc(rows, phones), words) for phones, (score, words) in found.items()}


@pytest.mark.parametrize("seed", range(12))
def test_the_search_is_every_sequence_of_words(seed: int) -> None:
    rows = random_log_probs(np.random.default_rng(seed), 4, len(PHONES)).astype(np.float64)
    bonus = 0.7 * (seed % 2)
    wanted: list[tuple[float, tuple[str, ...]]] = []
    for score, words in sorted(every_text(rows, bonus).values(), reverse=True):
        if words not in [other for _, other in wanted]:  # in the likeliest of the ways to say it
            wanted.append((score, words))
    exact = search(**EXACT, bonus=bonus, nbest=3)
    state = exact.step(exact.start(), rows)
    found = exact.finish(state)[0]
    assert len({text_of(mine) for mine in found}) == len(found) == 3
    for mine, (score, words) in zip(found, wanted[:3], strict=True):
        assert mine.score == pytest.approx(score, abs=1e-9)
        assert text_of(mine) == "".join(words)
        assert mine.scores["lm"] == pytest.approx(WEIGHT * (MODEL.score(words) + bonus * len(words)), abs=1e-9)


def clear(phones: list[int], rows: int = 2) -> NDArray[np.float64]:
    labels = [label for phone in phones for label in (phone, 0)]
    found = np.full((rows * len(labels), len(PHONES)), -12.0)
    for at, label in enumerate(labels):
        found[rows * at : rows * (at + 1), label] = -0.01
    return found


@pytest.mark.parametrize("text", ["two oats", "go to", "to oh", "oats to oh"])
def test_homophones_by_their_context_and_words_in_their_time(text: str) -> None:
    lexicon, hybrid = Lexicon.load(), search()
    rows = clear(lexicon.phones(text))
    best = hybrid.finish(hybrid.step(hybrid.start(), rows))[0][0]
    assert text_of(best) == text.replace(" ", "")
    at = 0
    for word in text.split():
        size = len(lexicon.pronounce(word)[0])
        mine = slice(len("".join(text.split()[: text.split().index(word)])), None)
        frames, ends = best.frames[mine][: len(word)], best.ends[mine][: len(word)]
        assert frames[0] == 4 * at and ends[-1] == 4 * (at + size) - 2 and list(frames) == sorted(frames)
        at += size


def test_a_word_without_its_end_is_left_out_at_a_price() -> None:
    lexicon = Lexicon.load()
    rows = clear([*lexicon.phones("two"), lexicon.phones("oats")[0]])
    free, dear = search(unfinished=0.0), search(unfinished=np.inf)
    assert text_of(free.finish(free.step(free.start(), rows))[0][0]) in ("to", "two")
    # "oh" is all that can still come of it where the word must end
    assert text_of(dear.finish(dear.step(dear.start(), rows))[0][0]) == "tooh"
    silent = free.start()
    assert free.finish(silent)[0][0].tokens == () and free.partial(silent).tokens == ()


@pytest.mark.parametrize("seed", range(4))
def test_packets_do_not_matter_and_stable_words_stay(seed: int) -> None:
    rng, hybrid = np.random.default_rng(seed), search(beam=8, commit_frames=16, ways=3)
    rows = np.concatenate([clear(Lexicon.load().phones(TEXTS[int(i)]), 1) for i in rng.integers(0, len(TEXTS), 6)])
    rows = rows + rng.normal(0, 1.5, rows.shape)
    rows -= np.log(np.exp(rows).sum(1, keepdims=True))
    whole = hybrid.finish(hybrid.step(hybrid.start(), rows))[0]
    state, stable, said = hybrid.start(), (), 0
    for row in rows:
        state = hybrid.step(state, row[None])
        now = hybrid.stable(state)
        assert now[: len(stable)] == stable
        assert hybrid.partial(state).tokens[: len(now)] == now
        stable, said = now, max(said, len(now))
    assert hybrid.finish(state)[0] == whole and hybrid.finish(state)[0] == whole
    assert whole[0].tokens[: len(stable)] == stable and said > 10
