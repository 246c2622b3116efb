"""Kneser-Ney by the published formulas, exact sums, ARPA there and back, and scorers that search with it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_domains import random_log_probs

from sayso.core.errors import DataError
from sayso.decoding.arpa import load_ngram, read_arpa, save_ngram, write_arpa
from sayso.decoding.ctc_beam import CtcBeam, CtcBeamConfig
from sayso.decoding.kneser_ney import FALLBACK, estimate
from sayso.decoding.ngram import BOS, EOS, UNK, NGram, NGramScorer, WordScorer, grams_of

Gram = tuple[str, ...]
SMALL = [s.split() for s in ("a b a", "a b", "b a c", "a", "c a b a")]


def random_text(seed: int, sentences: int = 120) -> list[list[str]]:
    """A first-order Markov text with a long tail."""
    rng = np.random.default_rng(seed)
    words = list("abcdefghijkl")
    follow = rng.dirichlet(np.full(12, 0.2), size=12)
    text = []
    for _ in range(sentences):
        sentence, last = [], int(rng.integers(12))
        for _ in range(int(rng.integers(0, 9))):
            last = int(rng.choice(12, p=follow[last]))
            sentence.append(words[last])
        text.append(sentence)
    return text


class ByTheBook:
    """Chen and Goodman (1999), equations 2 to 5 and section 3, as written: dictionaries and recursion."""

    def __init__(self, text: list[list[str]], order: int) -> None:
        self.order, marked = order, [(BOS, *s, EOS) for s in text]
        raw = [Counter(s[i : i + n] for s in marked for i in range(len(s) - n + 1)) for n in range(1, order + 1)]
        self.counts: list[dict[Gram, int]] = []
        for n in range(1, order):
            before = Counter(gram[1:] for gram in raw[n])  # different words that stand before
            self.counts.append({g: c if g[0] == BOS else before[g] for g, c in raw[n - 1].items()})
        self.counts.append(dict(raw[order - 1]))
        self.counts[0].pop((BOS,), None)
        self.vocabulary = {EOS, UNK, *(w for s in text for w in s)}
        self.discounts = [self.discount(c) for c in self.counts]

    @staticmethod
    def discount(counts: dict[Gram, int]) -> tuple[float, ...]:
        n1, n2, n3, n4 = (sum(c == k for c in counts.values()) for k in (1, 2, 3, 4))
        if not (n1 and n2 and n3):
            return FALLBACK
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        return found if all(0 <= d <= k + 1 for k, d in enumerate(found)) else FALLBACK

    def p(self, word: str, history: Gram) -> float:
        history = history[max(0, len(history) - self.order + 1) :]
        counts, discounts = self.counts[len(history)], self.discounts[len(history)]
        shorter = 1 / len(self.vocabulary) if not history else self.p(word, history[1:])
        after = {g: c for g, c in counts.items() if g[:-1] == history}
        total = sum(after.values())
        if not total:
            return shorter
        count = after.get((*history, word), 0)
        freed = sum(discounts[min(c, 3) - 1] for c in after.values())
        return (count - (discounts[min(count, 3) - 1] if count else 0)) / total + freed / total * shorter


def contexts(model: NGram) -> Iterator[Gram]:
    """Every context that the model has, one that it lacks, and none."""
    yield ()
    yield (UNK, UNK)
    for length in range(1, model.order):
        for gram in grams_of(model, length).tolist():
            words = tuple(model.words[i] for i in gram)
            if EOS not in words:
                yield words


def state_after(model: NGram, context: Gram) -> np.ndarray:
    state = np.full((1, model.order - 1), -1)
    for word in context:
        state = model.step(state, np.array([model.ids[word]]))[1]
    return state


def distribution(model: NGram, context: Gram) -> dict[str, float]:
    said = [i for i, word in enumerate(model.words) if word != BOS]
    states = np.repeat(state_after(model, context), len(said), axis=0)
    scores, _ = model.step(states, np.array(said))
    return {model.words[i]: math.exp(score) for i, score in zip(said, scores.tolist(), strict=True)}


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("text", [SMALL, random_text(0)], ids=["small", "random"])
def test_every_probability_is_the_published_one(text: list[list[str]], order: int) -> None:
    model, book = estimate(text, order), ByTheBook(text, order)
    for number, context in enumerate(contexts(model)):
        if len(text) < 10 or number % 7 == 0:
            for word, probability in distribution(model, context).items():
                assert probability == pytest.approx(book.p(word, context), rel=1e-9), (context, word)
    if len(text) > 10 and order in (2, 3):
        assert FALLBACK not in book.discounts[1:], "the discounts were never worked out"


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_of_every_context_sum_to_one(order: int) -> None:
    for text in (SMALL, random_text(1), [[]], [["a"]], [["a", UNK], [UNK, "b"]]):
        model = estimate(text, order, vocabulary=["never", "said"])
        for context in contexts(model):
            assert sum(distribution(model, context).values()) == pytest.approx(1.0, abs=1e-9), context


def test_a_corpus_worked_out_by_hand() -> None:
    """Text 'a b', 'a': bigrams <s>a 2, ab 1, b</s> 1, a</s> 1; before a: 1 word, b: 1, </s>: 2; V = a b </s> <unk>."""
    model = estimate([["a", "b"], ["a"]], 2)
    d1, d2, _ = FALLBACK  # nothing is seen three times
    gamma = (2 * d1 + d2) / 4
    a = (1 - d1) / 4 + gamma / 4
    end = (2 - d2) / 4 + gamma / 4
    assert (gamma, a, end) == pytest.approx((0.5, 0.25, 0.375))
    none, after_a = distribution(model, ()), distribution(model, ("a",))
    assert none == pytest.approx({"a": a, "b": a, EOS: end, UNK: gamma / 4})
    backoff = 2 * d1 / 2
    assert after_a == pytest.approx(
        {"a": backoff * a, "b": 0.5 * 0.5 + backoff * a, EOS: 0.5 * 0.5 + backoff * end, UNK: backoff * gamma / 4}
    )
    first = (2 - d2) / 2 + d2 / 2 * a
    assert model.score(["a", "b"]) == pytest.approx(
        math.log(first) + math.log(after_a["b"]) + math.log((1 - d1) + d1 * end)
    )


def test_backing_off_is_the_weight_times_the_shorter_context() -> None:
    model = estimate(random_text(2), 3)
    seen = {tuple(gram) for gram in grams_of(model, 3).tolist()}
    checked = 0
    for number, (first, second) in enumerate(grams_of(model, 2).tolist()):
        if model.words[second] == EOS:
            continue
        long, short = (distribution(model, tuple(model.words[i] for i in c)) for c in ((first, second), (second,)))
        for word, probability in long.items():
            if (first, second, model.ids[word]) not in seen:
                weight = math.exp(model.orders[1].backoffs[number])
                assert probability == pytest.approx(weight * short[word], rel=1e-9)
                checked += 1
    assert checked > 100


def test_arpa_and_packed_files_are_the_model(tmp_path: Path) -> None:
    text = random_text(3)
    model = estimate(text, 3)
    save_ngram(model, tmp_path / "lm.npz")
    for other in (read_arpa(write_arpa(model, tmp_path / "lm.arpa")), load_ngram(tmp_path / "lm.npz")):
        assert other.words == model.words
        for mine, its in zip(model.orders, other.orders, strict=True):
            assert np.array_equal(mine.keys, its.keys)
            np.testing.assert_allclose(np.exp(its.log_probs), np.exp(mine.log_probs), rtol=1e-8, atol=1e-90)
            np.testing.assert_allclose(its.backoffs, mine.backoffs, rtol=0, atol=1e-8)
        for sentence in [*text[:20], ["zebra", "a"], []]:
            assert other.score(sentence) == pytest.approx(model.score(sentence), abs=1e-7)
    lines = (tmp_path / "lm.arpa").read_text().splitlines()
    head = lines.index("\\2-grams:") + 1
    body = lines[head : lines.index("", head)]
    (tmp_path / "mixed.arpa").write_text("\n".join([*lines[:head], *body[::-1], *lines[head + len(body) :]]))
    assert read_arpa(tmp_path / "mixed.arpa").score(text[3]) == pytest.approx(model.score(text[3]), abs=1e-7)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = write_arpa(estimate(SMALL, 2), tmp_path / "lm.arpa")
    whole = path.read_text()
    for damage, message in [
        (whole.replace("\\end\\", ""), "not a whole ARPA file"),
        (whole.replace("\ta b", "\ta zebra"), "'zebra'"),
        (whole.replace("\ta b", "\tb"), r"lm.arpa:\d+: expected a log probability and 2 words"),
        (whole.replace("\ta b", "\ta </s>"), "twice"),
        ("", "has nothing"),
    ]:
        path.write_text(damage)
        with pytest.raises(DataError, match=message):
            read_arpa(path)
        with pytest.raises(DataError, match="packed"):
            load_ngram(path)
    for text, message in [([], "at least one sentence"), ([["<s>"]], "'<s>' cannot"), ([["a b"]], "'a b' cannot")]:
        with pytest.raises(DataError, match=message):
            estimate(text, 2)
    with pytest.raises(ValueError, match="order 0"):
        estimate(SMALL, 0)


def test_it_expects_its_own_kind_of_text() -> None:
    model, flat = estimate(random_text(4, 400), 3), estimate(random_text(4, 400), 1)
    held_out = random_text(4, 500)[400:]
    assert sum(map(model.score, held_out)) > sum(map(flat.score, held_out)) + 50


PIECES = ("<blk>", "<unk>", "▁a", "▁b", "c", "▁")


@pytest.mark.parametrize("kind", ["pieces", "words"])
def test_a_search_with_it_is_the_enumeration_with_it(kind: str) -> None:
    rng = np.random.default_rng(0)
    if kind == "pieces":
        model = estimate([["▁a", "c"], ["▁b"], ["▁a", "▁b", "c"]], 3)
        scorer, words = NGramScorer(model, PIECES), lambda tokens: [PIECES[t] for t in tokens]
    else:
        model = estimate([["ac"], ["b", "a"], ["a", "bc"]], 3)
        scorer = WordScorer(model, PIECES, unknown=-2.0, bonus=1.5)

        def words(tokens: tuple[int, ...]) -> list[str]:
            return "".join(PIECES[t] for t in tokens).replace("▁", " ").split()

    log_probs = random_log_probs(rng, 4, 6, sharpness=1.0)
    plain, fused = (CtcBeam(CtcBeamConfig.exact(10**6), extra) for extra in (None, {"lm": (scorer, 0.5)}))
    acoustic = {h.tokens: h.score for h in plain.finish(plain.step(plain.start(), log_probs))[0]}
    found = fused.finish(fused.step(fused.start(), log_probs))[0]
    assert len(found) == len(acoustic) > 100
    for h in found:
        text = words(h.tokens)
        unknown = sum(word not in model.ids or word == UNK for word in text)
        more = 1.5 * len(text) - 2.0 * unknown if kind == "words" else 0.0
        assert h.scores["lm"] == pytest.approx(0.5 * (model.score(text) + more), abs=1e-9), h.tokens
        assert h.scores["ctc"] == pytest.approx(acoustic[h.tokens], abs=1e-9)
    assert found[0].tokens != max(acoustic, key=lambda tokens: acoustic[tokens]), "the model changed nothing"


def test_kenlm_reads_our_file_and_says_the_same(tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm", reason="kenlm, the outside reference, is not here: pip install kenlm")
    text = random_text(5)
    model = estimate(text, 3)
    theirs = kenlm.Model(str(write_arpa(model, tmp_path / "lm.arpa")))
    for sentence in [*text[:40], ["zebra", "a", "b"]]:
        assert model.score(sentence) / math.log(10) == pytest.approx(theirs.score(" ".join(sentence)), abs=1e-4)
