"""Transducer beams: without limits every label sequence has its forward probability; packets do not matter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from toy_transducer import Labels, Table, Toy, all_labels, random_packets

from sayso.decoding.greedy import TransducerGreedy
from sayso.decoding.hypothesis import Hypothesis
from sayso.decoding.transducer_beam import TRANSDUCER_BEAMS, TransducerBeam

FREE = {"beam": None, "margin": math.inf, "top_k": None, "commit_frames": None, "nbest": 10**6}
FRAMES, LONGEST, VOCABULARY = 3, 3, 3


def search(kind: str, toy: Toy, scorers: Any = None, **settings: Any) -> TransducerBeam:
    return TRANSDUCER_BEAMS[kind](**settings).build(toy.predictor, toy.join, scorers)


def found_in(beam: TransducerBeam, encoded: np.ndarray) -> dict[Labels, Hypothesis]:
    (hypotheses,) = beam.finish(beam.step(beam.start(), encoded))
    assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
    found = {h.tokens: h for h in hypotheses}
    assert len(found) == len(hypotheses), "equal labels twice"
    return found


def exact(kind: str, toy: Toy, encoded: np.ndarray, labels: Labels) -> float:
    return (toy.modified_forward if kind == "modified" else toy.forward)(encoded, labels)


@pytest.fixture(params=[False, True], ids=["stateless", "recurrent"])
def memory(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("kind", sorted(TRANSDUCER_BEAMS))
def test_without_limits_scores_are_forward_probabilities(kind: str, memory: bool) -> None:
    rng = np.random.default_rng(1)
    toy, encoded = Toy(rng, VOCABULARY, memory=memory), rng.normal(size=(FRAMES, 6))
    settings = dict(FREE) if kind == "modified" else {**FREE, "max_symbols": LONGEST}
    found = found_in(search(kind, toy, **settings), encoded)
    for labels in all_labels(VOCABULARY, LONGEST):
        assert found[labels].score == pytest.approx(exact(kind, toy, encoded, labels), abs=1e-10), labels
        assert found[labels].scores == {"transducer": found[labels].score}
    if kind == "modified":  # a lattice with an end: nothing is missing
        assert np.logaddexp.reduce([h.score for h in found.values()]) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("kind", sorted(TRANSDUCER_BEAMS))
def test_scorers_add_to_forward_probabilities(kind: str) -> None:
    rng = np.random.default_rng(2)
    toy, encoded, table = Toy(rng, VOCABULARY), rng.normal(size=(FRAMES, 6)), Table(rng, VOCABULARY)
    settings = dict(FREE) if kind == "modified" else {**FREE, "max_symbols": LONGEST}
    found = found_in(search(kind, toy, {"lm": (table, 0.6)}, **settings), encoded)
    for labels in all_labels(VOCABULARY, LONGEST):
        parts = {"transducer": exact(kind, toy, encoded, labels), "lm": 0.6 * table.whole(labels)}
        assert found[labels].scores == pytest.approx(parts, abs=1e-10), labels


@pytest.mark.parametrize("kind", sorted(TRANSDUCER_BEAMS))
def test_the_best_path_is_the_one_that_is_shown(kind: str) -> None:
    rng = np.random.default_rng(4)
    toy, encoded = Toy(rng, VOCABULARY), rng.normal(size=(4, 6))
    settings = dict(FREE) if kind == "modified" else {**FREE, "max_symbols": 2}
    for labels, h in found_in(search(kind, toy, **settings), encoded).items():
        if 0 < len(labels) <= 2:
            table = [[toy.log_probs(f, labels[:u]) for u in range(len(labels) + 1)] for f in encoded]
            best = max(paths(kind, table, labels), key=lambda path: path[0])
            assert h.frames == best[1] and h.ends == tuple(t + 1 for t in best[1])
            assert h.log_probs == pytest.approx([table[t][u][labels[u]] for u, t in enumerate(best[1])])


def paths(kind: str, table: list[list[np.ndarray]], labels: Labels) -> list[tuple[float, tuple[int, ...]]]:
    """Every path of one or two labels: its log probability and the frames of the labels."""
    found = []
    frames = range(len(table))
    places = [(a,) for a in frames] if len(labels) == 1 else [(a, b) for a in frames for b in frames if a <= b]
    for place in places:
        if kind == "modified" and len(set(place)) < len(place):
            continue
        total = sum(table[t][u][labels[u]] for u, t in enumerate(place))
        for t in frames:
            if kind != "modified" or t not in place:
                total += table[t][sum(p <= t for p in place)][0]
        found.append((total, place))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_modified_with_beam_one_is_greedy_with_one_symbol_a_frame(seed: int, memory: bool) -> None:
    rng = np.random.default_rng(seed)
    toy, encoded = Toy(rng, 6, bias=1.0, memory=memory), rng.normal(size=(30, 6)) * 2
    greedy = TransducerGreedy(toy.predictor, toy.join, max_symbols=1)
    (wanted,) = greedy.finish(greedy.step(greedy.start(), encoded))[0]
    (found,) = found_in(search("modified", toy, beam=1), encoded).values()
    assert len(found.tokens) > 5
    assert (found.tokens, found.frames, found.ends) == (wanted.tokens, wanted.frames, wanted.ends)
    assert found.log_probs == pytest.approx(wanted.log_probs)


def test_alsd_and_tsd_agree_where_the_beam_is_wide(memory: bool) -> None:
    rng = np.random.default_rng(7)
    for _ in range(5):
        toy, encoded = Toy(rng, 5, bias=3.0, memory=memory), rng.normal(size=(5, 6)) / 2
        limits = {"beam": 400, "margin": 50.0, "nbest": 3, "max_symbols": 12}
        first, second = (found_in(search(kind, toy, **limits), encoded) for kind in ("tsd", "alsd"))
        assert list(first) == list(second)
        for labels, h in first.items():
            assert h.score == pytest.approx(second[labels].score, abs=1e-3)


def shape(h: Hypothesis) -> tuple[Any, ...]:
    return h.tokens, h.frames, h.ends, h.log_probs, tuple(h.scores.items())


@pytest.mark.parametrize("kind", sorted(TRANSDUCER_BEAMS))
def test_packets_do_not_matter_and_stable_text_stays(kind: str, memory: bool) -> None:
    rng = np.random.default_rng(5)
    settled = 0
    for _ in range(5):
        toy, encoded = Toy(rng, 6, bias=2.0, memory=memory), rng.normal(size=(25, 6)) * 2
        beam = search(kind, toy, {"lm": (Table(rng, 6), 0.3)}, beam=3, margin=6.0)
        (whole,) = beam.finish(beam.step(beam.start(), encoded))
        state, stable = beam.start(), ()
        for part in random_packets(rng, encoded):
            beam.step(state, part)
            now = beam.stable(state)
            assert now[: len(stable)] == stable and beam.partial(state).tokens[: len(now)] == now
            assert all(h.tokens[: len(now)] == now for h in beam.finish(state)[0]), "finish is not what follows"
            stable = now
        assert [shape(h) for h in beam.finish(state)[0]] == [shape(h) for h in whole]
        assert all(h.tokens[: len(stable)] == stable for h in whole)
        settled += len(stable)
    assert settled > 10


@pytest.mark.parametrize("kind", sorted(TRANSDUCER_BEAMS))
def test_a_joiner_that_never_says_blank_is_stopped(kind: str) -> None:
    toy = Toy(np.random.default_rng(0), 5, bias=-np.inf)
    beam = search(kind, toy)
    (h, *_) = beam.finish(beam.step(beam.start(), np.zeros((6, 6))))[0]
    assert toy.runs < 100
    assert (h.score == -math.inf) == (kind != "modified")


@pytest.mark.parametrize("kind", ["tsd", "alsd"])
def test_the_guard_bounds_labels(kind: str) -> None:
    rng = np.random.default_rng(0)
    toy, encoded = Toy(rng, 3), rng.normal(size=(3, 6))
    found = found_in(search(kind, toy, **FREE, max_symbols=1), encoded)
    assert max(len(labels) for labels in found) == 3
    tsd = kind == "tsd"  # one label per frame there, one per frame on average here
    assert found[(1, 2)].score < toy.forward(encoded, (1, 2)) - 1e-6
    assert (found[(1, 1, 2)].frames == (0, 1, 2)) or not tsd


@pytest.mark.parametrize("kind", sorted(TRANSDUCER_BEAMS))
def test_memory_follows_the_text_not_the_frames(kind: str) -> None:
    rng = np.random.default_rng(0)
    toy = Toy(rng, 6, bias=2.0, memory=True)
    beam = search(kind, toy, beam=4, commit_frames=16)
    state = beam.start()
    for _ in range(4):
        beam.step(state, rng.normal(size=(100, 6)))
        assert len(state.prefixes._children) <= len(beam.partial(state).tokens) + 150
        assert len(state.waiting) <= 40
        node, kept = state.live.prefixes[0].parent, 0
        while node is not None:
            kept += node.predicted is not None
            node = node.parent
        assert kept <= 4, "predictions are kept where nobody stands"


def test_sure_frames_cost_one_joiner_run_each() -> None:
    rng = np.random.default_rng(0)
    toy, encoded = Toy(rng, 6, bias=12.0), rng.normal(size=(50, 6))
    for kind in ("tsd", "modified"):
        beam, before = search(kind, toy, beam=1), toy.runs
        beam.step(beam.start(), encoded)
        assert toy.runs - before == 50


def test_nothing_has_an_answer(memory: bool) -> None:
    for kind in TRANSDUCER_BEAMS:
        beam = search(kind, Toy(np.random.default_rng(0), memory=memory))
        assert beam.finish(beam.start())[0][0].tokens == ()
        assert beam.finish(beam.step(beam.start(), np.zeros((0, 6))))[0][0].score == 0.0
