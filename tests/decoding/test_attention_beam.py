"""Beam search of an attention decoder: without limits the enumeration; whatever the decoder wants, well-formed."""

from __future__ import annotations

import numpy as np
import pytest
from small_domains import random_log_probs
from test_ctc_beam import enumerate_labelings
from toy_transducer import Table

from sayso.core.errors import ConfigError
from sayso.core.trees import TreeSchema
from sayso.decoding.attention_beam import AnyTokens, AttentionBeam, AttentionBeamConfig
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.predictor import Predictor
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.nlu.trees import read_trees, write_trees

PIECES = ("<blk>", "<unk>", "▁a", "b")
SCHEMA = TreeSchema(intents={"i": ("s",), "j": ("s", "t")}, nested={"t": ("i",)})
Tokens = tuple[int, ...]


class Toy:
    """A decoder with a random opinion about every history; ``hurry`` favours the end and ``]``."""

    def __init__(self, seed: int, size: int, sharpness: float = 1.0, hurry: float = 0.0) -> None:
        self.seed, self.size, self.sharpness = seed, size, sharpness
        self.hurry = np.where(np.isin(np.arange(size), (4, 5)), hurry, 0.0)
        self.runs = 0

    def logits(self, history: Tokens) -> np.ndarray:
        rng = np.random.default_rng((self.seed, *history))
        return rng.normal(size=self.size) * self.sharpness + self.hurry

    def log_probs(self, history: Tokens) -> np.ndarray:
        logits = self.logits(history)
        return logits - np.log(np.exp(logits).sum())

    @property
    def predictor(self) -> Predictor:
        def run(labels: np.ndarray, states: list[Tokens]) -> tuple[np.ndarray, list[Tokens]]:
            self.runs += 1
            after = [(*state, int(label)) for state, label in zip(states, labels[:, 0], strict=True)]
            return np.stack([self.logits(history[1:]) for history in after]), after

        return Predictor(run, context=1, initial=())

    def whole(self, tokens: Tokens, end: int) -> float:
        return sum(float(self.log_probs(tokens[:u])[token]) for u, token in enumerate((*tokens, end)))


def all_meanings(grammar: TreeGrammar | AnyTokens, limit: int) -> list[Tokens]:
    found, walks = [], [((), grammar.start(limit))]
    while walks:
        tokens, place = walks.pop()
        for token in np.flatnonzero(grammar.legal(place)).tolist():  # type: ignore[arg-type]
            if token == grammar.end:
                found.append(tokens)
            else:
                walks.append(((*tokens, token), grammar.advance(place, token)))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("constrained", [False, True])
def test_without_limits_it_is_the_enumeration(listening: bool, constrained: bool) -> None:
    grammar = TreeGrammar(SCHEMA, PIECES) if constrained else AnyTokens(6, 4)
    limit = 7 if constrained else 5
    log_probs = random_log_probs(np.random.default_rng(1), 4, 4, sharpness=1.0)
    heard, _ = enumerate_labelings(log_probs)
    toy, meanings = Toy(0, grammar.size), all_meanings(grammar, limit)
    table = Table(np.random.default_rng(2), grammar.size)
    wanted = {}
    for tokens in meanings:
        score = (0.6 if listening else 1.0) * toy.whole(tokens, grammar.end) + 0.2 * (len(tokens) + 1)
        score += 0.4 * heard.get(tuple(t for t in tokens if t < 4), -np.inf) if listening else 0.0
        wanted[tokens] = score + 0.7 * table.whole(tokens)
    config = AttentionBeamConfig.exact(limit, ctc=0.4, bonus=0.2)
    args = (log_probs if listening else None, {"table": (table, 0.7)})
    found = AttentionBeam(config).search(toy.predictor, grammar, *args)
    possible = {tokens: score for tokens, score in wanted.items() if score > -np.inf}
    assert {h.tokens: h.score for h in found if h.score > -np.inf} == pytest.approx(possible, abs=1e-9)
    assert len({h.tokens for h in found}) == len(found) and len(possible) > 40
    for h in found:
        assert sum(h.log_probs) == pytest.approx(
            toy.whole(h.tokens, grammar.end) - toy.log_probs(h.tokens)[grammar.end]
        )
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    assert set(found[0].scores) == {"attention", "table", *(["ctc"] if listening else [])}


@pytest.mark.parametrize("form", ["coupled", "decoupled"])
def test_whatever_a_decoder_wants_a_meaning_comes_out(form: str) -> None:
    grammar = TreeGrammar(SCHEMA.model_copy(update={"form": form}), PIECES)
    malformed = 0
    for seed in range(60):
        toy = Toy(seed, grammar.size, sharpness=4.0)
        config = AttentionBeamConfig(beam=3, top_k=4, limit=int(4 + seed % 12), nbest=3)
        found = AttentionBeam(config).search(toy.predictor, grammar)
        assert found and len({h.tokens for h in found}) == len(found)
        for h in found:
            parts = grammar.decode(h.tokens)
            assert read_trees(write_trees(parts)) == parts and len(h.tokens) < config.limit
        free = AttentionBeam(config).search(toy.predictor, AnyTokens(grammar.size, grammar.end))
        assert free and all(len(h.tokens) < config.limit for h in free)
        try:
            grammar.decode(free[0].tokens)
        except ValueError:
            malformed += 1
    assert malformed > 30, "without the grammar a random decoder writes nonsense"


def best_of(found: list[Hypothesis]) -> list[tuple[Tokens, float]]:
    return [(h.tokens, round(h.score, 9)) for h in found]


def test_it_stops_once_nothing_can_overtake() -> None:
    grammar = TreeGrammar(SCHEMA, PIECES)
    earlier = 0
    for seed in range(8):
        log_probs = random_log_probs(np.random.default_rng(seed), 5, 4, sharpness=1.0)
        long, short = (Toy(seed, grammar.size, 2.0, hurry=5.0) for _ in range(2))
        config = AttentionBeamConfig.exact(7, ctc=0.3).model_copy(update={"nbest": 2})
        whole = AttentionBeam(config.model_copy(update={"nbest": 1 << 30})).search(long.predictor, grammar, log_probs)
        found = AttentionBeam(config).search(short.predictor, grammar, log_probs)
        assert best_of(found) == best_of(whole[:2])
        earlier += short.runs < long.runs
    assert earlier > 0


def test_ctc_says_which_words() -> None:
    grammar = TreeGrammar(SCHEMA, ("<blk>", "<unk>", "▁a", "▁c"))
    flat = Toy(0, grammar.size, sharpness=0.01)
    log_probs = np.log(np.full((8, 4), 0.01))
    for t, token in enumerate((0, 3, 0, 2, 2, 0, 3, 0)):
        log_probs[t, token] = np.log(0.97)
    best = AttentionBeam(AttentionBeamConfig(ctc=0.5, limit=20)).search(flat.predictor, grammar, log_probs)[0]
    assert [token for token in best.tokens if token < 4] == [3, 2, 3]


def test_a_bonus_makes_longer_answers() -> None:
    grammar = TreeGrammar(SCHEMA, PIECES)

    def length(bonus: float) -> float:
        beam = AttentionBeam(AttentionBeamConfig(bonus=bonus, limit=16))
        return float(np.mean([len(beam.search(Toy(s, grammar.size).predictor, grammar)[0].tokens) for s in range(8)]))

    lengths = [length(bonus) for bonus in (-1.0, 0.0, 3.0)]
    assert lengths[0] <= lengths[1] < lengths[2] <= 15


def test_names_and_limits() -> None:
    grammar = TreeGrammar(SCHEMA, PIECES)
    toy, table = Toy(0, grammar.size), Table(np.random.default_rng(0), grammar.size)
    beam = AttentionBeam(AttentionBeamConfig(limit=grammar.shortest))
    assert len(beam.search(toy.predictor, grammar)[0].tokens) == grammar.shortest - 1
    with pytest.raises(ValueError, match="shortest"):
        AttentionBeamConfig(limit=grammar.shortest - 1).build().search(toy.predictor, grammar)
    with pytest.raises(ConfigError, match="'ctc'"):
        beam.search(toy.predictor, grammar, np.zeros((3, 4)), {"ctc": (table, 1.0)})
    assert AttentionBeamConfig.model_validate_json(beam.config.model_dump_json()) == beam.config


class Looking(Toy):
    """One that looks at a frame for each token: token ``t`` at frame ``t``, half of its attention at least."""

    @property
    def predictor(self) -> Predictor:
        def run(labels: np.ndarray, states: list[dict]) -> tuple[np.ndarray, list[dict]]:
            self.runs += 1
            after = []
            for label, state in zip(labels[:, 0].tolist(), states, strict=True):
                covered = state["covered"].copy()
                covered[0, label] += 0.6
                after.append({"history": (*state["history"], label), "covered": covered})
            return np.stack([self.logits(state["history"][1:]) for state in after]), after

        return Predictor(run, context=1, initial={"history": (), "covered": np.zeros((1, self.size))})


def test_coverage_is_worth_what_frames_were_listened_to() -> None:
    """By enumeration, and with limits it is found as soon as nothing can overtake."""
    grammar, limit = AnyTokens(6, 4), 5
    toy = Looking(3, 6)
    found = AttentionBeam(AttentionBeamConfig.exact(limit, coverage=0.9)).search(toy.predictor, grammar)
    wanted = {
        tokens: toy.whole(tokens, grammar.end) + 0.9 * len({0, *tokens}) for tokens in all_meanings(grammar, limit)
    }
    assert {h.tokens: h.score for h in found} == pytest.approx(wanted, abs=1e-9)
    assert all(h.scores["coverage"] == pytest.approx(0.9 * len({0, *h.tokens})) for h in found)
    few = AttentionBeamConfig.exact(limit, coverage=0.9).model_copy(update={"nbest": 2})
    assert best_of(AttentionBeam(few).search(Looking(3, 6).predictor, grammar)) == best_of(found[:2])
    strict = AttentionBeamConfig.exact(limit, coverage=0.9, covered_above=0.7)
    for h in AttentionBeam(strict).search(toy.predictor, grammar)[:20]:
        twice = {token for token in h.tokens if h.tokens.count(token) > 1}
        assert h.scores["coverage"] == pytest.approx(0.9 * len(twice))


def test_coverage_needs_a_decoder_that_remembers() -> None:
    with pytest.raises(ConfigError, match="coverage"):
        AttentionBeam(AttentionBeamConfig(coverage=0.1)).search(Toy(0, 6).predictor, AnyTokens(6, 4))
