"""Small automata from explicit sentences, and what they should score: enumeration with plain CTC Viterbi."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sayso.core.automaton import Automaton, Call, Meaning, Network, SlotList

Identity = tuple[str, tuple[tuple[str, str], ...]]  # intent, sorted slots
Items = tuple[int, ...]  # tokens >= 0; call c as -1 - c


@dataclass(frozen=True)
class Sentence:
    items: Items
    meanings: tuple[int, ...]


def network(sentences: Sequence[Sentence]) -> Network:
    """Position form of a set of sentences: a trie whose equal tails are shared."""
    trie: dict = {}
    for sentence in sentences:
        node = trie
        for item in sentence.items:
            node = node.setdefault(item, {})
        node.setdefault("ends", set()).update(sentence.meanings)
    made: dict[tuple, int] = {}

    def visit(item: int, node: dict) -> int:
        following = tuple(sorted(visit(i, child) for i, child in node.items() if i != "ends"))
        return made.setdefault((item, following, tuple(sorted(node.get("ends", ())))), len(made))

    entry = sorted(visit(item, child) for item, child in trie.items())
    nodes = list(made)
    ptr = lambda rows: np.cumsum([0, *[len(row) for row in rows]]).astype(np.int32)  # noqa: E731
    flat = lambda rows: np.array([x for row in rows for x in row], dtype=np.int32)  # noqa: E731
    return Network(
        token=np.array([max(item, -1) for item, _, _ in nodes], dtype=np.int32),
        call=np.array([-1 - item if item < 0 else -1 for item, _, _ in nodes], dtype=np.int32),
        succ_ptr=ptr([n[1] for n in nodes]),
        succ=flat([n[1] for n in nodes]),
        entry=np.array(entry, dtype=np.int32),
        final_ptr=ptr([n[2] for n in nodes]),
        final_out=flat([n[2] for n in nodes]),
    )


def slot_list(values: Sequence[tuple[Items, str]]) -> SlotList:
    """A list of (tokens, out)."""
    return SlotList(
        network=network([Sentence(tokens, (i,)) for i, (tokens, _) in enumerate(values)]),
        values=tuple(out for _, out in values),
        texts=tuple(str(tokens) for tokens, _ in values),
    )


@dataclass(frozen=True)
class Domain:
    sentences: tuple[Sentence, ...]
    lists: dict[str, tuple[tuple[Items, str], ...]]
    calls: tuple[Call, ...]
    meanings: tuple[Meaning, ...]
    pieces: tuple[str, ...]
    open_penalty: float = 0.3

    def automaton(self) -> Automaton:
        return Automaton(
            main=network(self.sentences),
            lists={name: slot_list(values) for name, values in self.lists.items()},
            calls=self.calls,
            meanings=self.meanings,
            pieces=self.pieces,
            tokenizer="",
        )

    def spoken(self) -> Iterator[tuple[Items, int, tuple[tuple[str, str], ...], int]]:
        """Every token sequence with its meaning, slot values and number of open tokens."""
        for sentence in self.sentences:
            for choice in itertools.product(*[self._choices(item) for item in sentence.items]):
                tokens = tuple(token for tokens, _, _ in choice for token in tokens)
                slots = tuple(slot for _, slot, _ in choice if slot is not None)
                opened = sum(n for _, _, n in choice)
                for meaning in sentence.meanings:
                    yield tokens, meaning, slots, opened

    def _choices(self, item: int) -> list[tuple[Items, tuple[str, str] | None, int]]:
        if item >= 0:
            return [((item,), None, 0)]
        call = self.calls[-1 - item]
        if call.list is not None:
            return [(tokens, (call.slot, out), 0) for tokens, out in self.lists[call.list]]
        found: list[tuple[Items, tuple[str, str] | None, int]] = []
        for n in range(1, call.max_tokens + 1):
            for tokens in itertools.product(range(1, len(self.pieces)), repeat=n):
                if self.pieces[tokens[0]].startswith("▁"):
                    found.append((tokens, None, n))
        return found

    def best(self, log_probs: NDArray[np.float64]) -> dict[Identity, tuple[float, Items]]:
        """Per (intent, slots): the best score with the meaning's weight, and its tokens."""
        best: dict[Identity, tuple[float, Items]] = {}
        cache: dict[Items, float] = {}
        for tokens, meaning, slots, opened in self.spoken():
            if tokens not in cache:
                cache[tokens] = ctc_viterbi(log_probs, tokens)
            spec = self.meanings[meaning]
            score = cache[tokens] + spec.weight - opened * self.open_penalty
            key = (spec.intent, tuple(sorted((*spec.slots, *slots))))
            if score > best.get(key, (-np.inf, ()))[0]:
                best[key] = (score, tokens)
        return best


def ctc_viterbi(log_probs: NDArray[np.float64], tokens: Sequence[int]) -> float:
    """Best path of exactly ``tokens``: the textbook recursion over the blank-extended labels."""
    labels = [0, *[x for token in tokens for x in (token, 0)]]
    score = np.full(len(labels), -np.inf)
    score[0] = 0.0
    for t, frame in enumerate(log_probs):
        before = score.copy()
        for s, label in enumerate(labels):
            options = [before[s]]
            if s > 0 and (t > 0 or s == 1):
                options.append(before[s - 1])
            if s > 1 and label != 0 and label != labels[s - 2]:
                options.append(before[s - 2])
            score[s] = max(options) + frame[label]
    return float(max(score[-1], score[-2] if len(labels) > 1 else -np.inf))


def random_log_probs(
    rng: np.random.Generator, frames: int, vocabulary: int, sharpness: float = 2.0
) -> NDArray[np.float64]:
    logits = rng.normal(size=(frames, vocabulary)) * sharpness
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def random_domain(rng: np.random.Generator, *, tokens: int = 3, open_slot: bool = False) -> Domain:
    """Two to six sentences over few tokens, so that repeats, shared tails and ambiguity abound."""
    pieces = ("<blk>", "▁a", "b", "▁c", "d")[: tokens + 1]
    calls = [Call(list="x", slot="one"), Call(list="x", slot="two"), Call(list="y", slot="one")]
    if open_slot:
        calls.append(Call(list=None, slot="free", max_tokens=int(rng.integers(1, 4))))
    items = [*range(1, tokens + 1), *[-1 - c for c in range(len(calls))]]

    def values(name: str) -> tuple[tuple[Items, str], ...]:
        texts = {tuple(map(int, rng.integers(1, tokens + 1, size=rng.integers(1, 3)))) for _ in range(3)}
        return tuple((text, f"{name}{rng.integers(2)}") for text in sorted(texts))

    meanings = tuple(
        Meaning(
            intent=f"i{rng.integers(3)}",
            slots=(("fixed", "v"),) if rng.random() < 0.3 else (),
            weight=float(rng.normal()),
        )
        for _ in range(4)
    )
    sentences = []
    for k in range(int(rng.integers(2, 7))):
        body = tuple(int(i) for i in rng.choice(items, size=int(rng.integers(1, 4))))
        if open_slot and k == 0:
            body = (*body[:1], -len(calls), *body[1:2])
        if body.count(-len(calls)) <= 1 or not open_slot:
            sentences.append(Sentence(body, tuple(sorted({int(m) for m in rng.integers(0, 4, size=2)}))))
    return Domain(tuple(sentences), {"x": values("x"), "y": values("y")}, tuple(calls), meanings, pieces)
