"""The hybrid way to text: phones from CTC, words from a lexicon, and an n-gram model of words (Graves et al. 2006 for
the phones; Mohri et al. 2002 and Ortmanns et al. 1996 for what is around them).

The search is CTC's, over phones; lexicon and language model are one scorer of it. A prefix of phones can be cut into
words in several ways: the scorer keeps the best of them, each with its place in the tree of pronunciations and the
n-gram model's state, and a prefix is as good as its best way. Within a word the likeliest word that may still come of
it counts (unigram look-ahead). Words that the n-gram model does not know are never heard: that is what a hybrid is.

Shape letters: ``T`` rows of CTC, ``N`` order of the model, ``n`` states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from sayso.core.config import Config
from sayso.decoding.beam import Alive, Doubles, Longs
from sayso.decoding.ctc_beam import CtcBeam, CtcBeamConfig, CtcBeamState
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.ngram import BOS, EOS, UNK, NGram
from sayso.decoding.open_words import tree
from sayso.text.lexicon import Lexicon

_ROOT = -1
Spell = Callable[[str], Sequence[int]]  # a word in tokens


class HybridConfig(Config):
    """Search settings; scores are natural logs. None or inf: no limit. Beams are of CTC's search over phones."""

    kind: Literal["hybrid"] = "hybrid"
    beam: int | None = Field(default=16, ge=1)
    margin: float = Field(default=16.0, gt=0)
    top_k: int | None = Field(default=16, ge=1)
    token_margin: float = Field(default=8.0, gt=0)
    commit_frames: int | None = Field(default=64, ge=1)
    nbest: int = Field(default=4, ge=1)
    ways: int | None = Field(default=6, ge=1)  # to cut a prefix into words
    bonus: float = Field(default=0.0, allow_inf_nan=False)  # for every word, beside its log probability
    unfinished: float = Field(default=6.0, ge=0)  # what it costs that the last word lacks its end, and is left out

    def build(self, model: NGram, weight: float, lexicon: Lexicon, spell: Spell) -> Hybrid:
        """A search for the words of ``model``, whose log probabilities count ``weight`` times."""
        return Hybrid(self, LexiconScorer(self, model, lexicon), weight, spell)


class Said(NamedTuple):
    """A word of a way: its number in the model, its first phone and the first behind it."""

    previous: Said | None
    word: int
    first: int
    end: int


class Way(NamedTuple):
    """Words so far with the model's opinion of them, and the place in the word that is being heard."""

    score: float
    words: Said | None
    lm: tuple[int, ...]
    node: int
    first: int


@dataclass
class Ways:
    """All that is kept of a prefix of ``count`` phones, best first; ``closed`` are those whose word may end here, asked
    for once."""

    open: list[Way]
    best: float
    count: int = 0
    closed: list[Way] | None = field(default=None, repr=False)


class LexiconScorer:
    """The words of ``model`` that ``lexicon`` can pronounce, as a scorer of phones."""

    def __init__(self, config: HybridConfig, model: NGram, lexicon: Lexicon) -> None:
        self.config, self.model = config, model
        spoken = [
            (number, way)
            for number, word in enumerate(model.words)
            if word not in (BOS, EOS, UNK)
            for way in lexicon.pronounce(word)
            if way
        ]
        sizes = np.array([len(way) for _, way in spoken], dtype=np.int64)
        flat = np.array([phone for _, way in spoken for phone in way], dtype=np.uint8)
        owner = np.array([number for number, _ in spoken], dtype=np.int64)
        self._tree = tree(flat, np.cumsum(sizes) - sizes, sizes, owner)
        self._ahead = self._look_ahead(model.orders[0].log_probs + config.bonus)
        self._children: dict[int, dict[int, int]] = {}

    def start(self, context: Mapping[str, Any] | None = None) -> Ways:
        """Before any word."""
        begin = Way(0.0, None, tuple(self.model.start().tolist()), _ROOT, 0)
        return Ways(open=[], best=0.0, closed=[begin])

    def score(self, states: Sequence[Ways], tokens: Longs) -> tuple[Doubles, list[Ways]]:
        """One more phone for each state."""
        self._close(states)
        found = [self._heard(ways, phone) for ways, phone in zip(states, tokens.tolist(), strict=True)]
        gained = [after.best - ways.best if after.open else -np.inf for ways, after in zip(states, found, strict=True)]
        return np.array(gained), found

    def final(self, states: Sequence[Ways]) -> Doubles:
        """The end of the text behind the last word; a word without its end is left out, at a price."""
        return np.array([score - ways.best if ways.best > -np.inf else 0.0 for ways, (score, _) in self._ended(states)])

    def words(self, ways: Ways, *, final: bool) -> list[Said]:
        """The words of the best way, first to last; before the end those that are complete."""
        if final:
            ((_, (_, last)),) = self._ended([ways])
        else:
            last = ways.open[0].words if ways.open else None
        return _listed(last)

    def common(self, states: Sequence[Ways]) -> list[Said]:
        """Words that all ways of all states begin with."""
        every = [_listed(way.words) for ways in states for way in (ways.open or ways.closed or [])]
        shared = min(every, key=len, default=[])
        for words in every:
            same = [a.word == b.word for a, b in zip(shared, words, strict=False)]
            shared = shared[: same.index(False) if False in same else len(same)]
        return shared

    def _heard(self, ways: Ways, phone: int) -> Ways:
        grown: dict[tuple[int, tuple[int, ...]], Way] = {}
        for way in (*ways.open, *(ways.closed or ())):
            node = self._child(way.node, phone)
            if node is None:
                continue
            first = ways.count if way.node == _ROOT else way.first
            key = node, way.lm
            if key not in grown or grown[key].score < way.score:
                grown[key] = way._replace(node=node, first=first)
        kept = sorted(grown.values(), key=lambda way: -self._total(way))[: self.config.ways]
        return Ways(open=kept, best=self._total(kept[0]) if kept else -np.inf, count=ways.count + 1)

    def _total(self, way: Way) -> float:
        return way.score + float(self._ahead[way.node])

    def _close(self, states: Sequence[Ways]) -> None:
        """The ways whose word may end, with one query of the model for all."""
        fresh = [ways for ways in {id(ways): ways for ways in states}.values() if ways.closed is None]
        ends = [(ways, way, word) for ways in fresh for way in ways.open for word in self._words_at(way.node)]
        for ways in fresh:
            ways.closed = []
        if not ends:
            return
        scores, following = self.model.step(
            np.array([way.lm for _, way, _ in ends], dtype=np.int64).reshape(len(ends), -1),
            np.array([word for _, _, word in ends], dtype=np.int64),
        )
        for (ways, way, word), score, lm in zip(ends, scores.tolist(), following.tolist(), strict=True):
            assert ways.closed is not None
            said = Said(way.words, word, way.first, ways.count)
            ways.closed.append(Way(way.score + score + self.config.bonus, said, tuple(lm), _ROOT, ways.count))

    def _ended(self, states: Sequence[Ways]) -> list[tuple[Ways, tuple[float, Said | None]]]:
        """The best score of each state where the text ends, and its words."""
        self._close(states)
        rows = [(i, way, 0.0) for i, ways in enumerate(states) for way in ways.closed or ()]
        rows += [(i, way, self.config.unfinished) for i, ways in enumerate(states) for way in ways.open]
        best: list[tuple[float, Said | None]] = [(-np.inf, None)] * len(states)
        if rows:
            histories = np.array([way.lm for _, way, _ in rows], dtype=np.int64).reshape(len(rows), -1)
            scores, _ = self.model.step(histories, np.full(len(rows), self.model.ids[EOS]))
            for (i, way, price), score in zip(rows, scores.tolist(), strict=True):
                best[i] = max(best[i], (way.score + score - price, way.words), key=lambda pair: pair[0])
        return list(zip(states, best, strict=True))

    def _child(self, node: int, phone: int) -> int | None:
        known = self._children.get(node)
        if known is None:
            t = self._tree
            after = t.entry if node == _ROOT else t.succ[t.succ_ptr[node] : t.succ_ptr[node + 1]]
            known = self._children[node] = dict(zip(t.token[after].tolist(), after.tolist(), strict=True))
        return known.get(phone)

    def _words_at(self, node: int) -> list[int]:
        t = self._tree
        found: list[int] = t.final_out[t.final_ptr[node] : t.final_ptr[node + 1]].tolist()
        return found

    def _look_ahead(self, unigrams: Doubles) -> Doubles:
        """(K,): the likeliest word below each node; nodes come after their parents."""
        t, size = self._tree, len(self._tree.token)
        ahead = np.full(size, -np.inf)
        np.maximum.at(ahead, np.repeat(np.arange(size), np.diff(t.final_ptr)), unigrams[t.final_out])
        for node in range(size - 1, -1, -1):
            below = t.succ[t.succ_ptr[node] : t.succ_ptr[node + 1]]
            if len(below):
                ahead[node] = max(ahead[node], ahead[below].max())
        return ahead


class Hybrid(CtcBeam):
    """Searches log posteriors of phones with blank 0, and writes in tokens; holds no stream."""

    def __init__(self, config: HybridConfig, lexicon: LexiconScorer, weight: float, spell: Spell) -> None:
        names = CtcBeamConfig.model_fields.keys() - {"kind"}
        super().__init__(CtcBeamConfig(**{name: getattr(config, name) for name in names}), {"lm": (lexicon, weight)})
        self._lexicon, self._spell = lexicon, spell

    def stable(self, state: CtcBeamState) -> tuple[int, ...]:
        """Tokens of the words that every way of every live prefix begins with."""
        words = self._lexicon.common([_ways(prefix) for prefix in state.live])
        return tuple(token for said in words for token in self._spell(self._lexicon.model.words[said.word]))

    def _nbest(self, alive: Alive, n: int, *, final: bool) -> list[Hypothesis]:
        """Texts that differ: one that can be said in several ways has the score of the likeliest."""
        states = {prefix.tokens: _ways(prefix) for prefix in alive.prefixes}
        texts: dict[tuple[int, ...], Hypothesis] = {}
        for heard in super()._nbest(alive, 1 if n == 1 else len(alive.prefixes), final=final):
            written = self._written(heard, self._lexicon.words(states[heard.tokens], final=final))
            texts.setdefault(written.tokens, written)
        return list(texts.values())[:n]

    def _written(self, heard: Hypothesis, words: Sequence[Said]) -> Hypothesis:
        """Phones as tokens of words; a word's tokens share its phones, and their times, in equal parts."""
        tokens: list[int] = []
        frames: list[int] = []
        ends: list[int] = []
        log_probs: list[float] = []
        for said in words:
            spelled, size = self._spell(self._lexicon.model.words[said.word]), said.end - said.first
            first = [said.first + number * size // len(spelled) for number in range(len(spelled))]
            last = [max(phone, following - 1) for phone, following in zip(first, [*first[1:], said.end], strict=True)]
            tokens += spelled
            frames += [heard.frames[phone] for phone in first]
            ends += [heard.ends[phone] for phone in last]
            log_probs += [sum(heard.log_probs[said.first : said.end]) / size] * len(spelled)
        return Hypothesis(
            tokens=tuple(tokens),
            frames=tuple(frames),
            ends=tuple(ends),
            log_probs=tuple(log_probs),
            scores=heard.scores,
        )


def _ways(prefix: Any) -> Ways:
    assert prefix.states is not None, "a prefix that was released"
    found: Ways = prefix.states[0]
    return found


def _listed(last: Said | None) -> list[Said]:
    found = []
    while last is not None:
        found.append(last)
        last = last.previous
    return found[::-1]
