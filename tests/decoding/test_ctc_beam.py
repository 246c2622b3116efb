"""Prefix beam search: without limits the enumeration of all labelings; packets do not matter with any."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
from small_domains import random_log_probs
from toy_transducer import Labels, Table, random_packets

from sayso.decoding.ctc_beam import CtcBeam, CtcBeamConfig
from sayso.decoding.greedy import CtcGreedy
from sayso.decoding.hypothesis import Hypothesis

EXACT = CtcBeamConfig.exact(nbest=100000)


def enumerate_labelings(log_probs: np.ndarray) -> tuple[dict[Labels, float], dict[Labels, tuple[float, tuple]]]:
    """Per labeling the log probability of all its paths; and its best path as runs (first, end, best posterior)."""
    total: dict[Labels, list[float]] = defaultdict(list)
    best: dict[Labels, tuple[float, tuple]] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        score = float(sum(log_probs[t, v] for t, v in enumerate(path)))
        runs = [(v, list(run)) for v, run in itertools.groupby(range(len(path)), key=lambda t: path[t])]
        runs = [(path[r[0]], r) for _, r in runs if path[r[0]] != 0]
        labels = tuple(v for v, _ in runs)
        total[labels].append(score)
        if labels not in best or score > best[labels][0]:
            best[labels] = (score, tuple((r[0], r[-1] + 1, log_probs[r, v].max()) for v, r in runs))
    return {labels: float(np.logaddexp.reduce(s)) for labels, s in total.items()}, best


@pytest.mark.parametrize(("frames", "vocabulary"), [(1, 4), (4, 4), (6, 3), (6, 4)])
def test_without_limits_it_is_the_enumeration_of_all_labelings(frames: int, vocabulary: int) -> None:
    rng = np.random.default_rng(frames)
    log_probs = random_log_probs(rng, frames, vocabulary, sharpness=1.0)
    totals, best = enumerate_labelings(log_probs)
    beam = CtcBeam(EXACT)
    ((*found,),) = beam.finish(beam.step(beam.start(), log_probs))
    assert {h.tokens: h.score for h in found} == pytest.approx(totals, abs=1e-10)
    assert len(found) == len(totals) and sorted(-h.score for h in found) == [-h.score for h in found]
    assert np.logaddexp.reduce([h.score for h in found]) == pytest.approx(0.0, abs=1e-10)
    for h in found:
        runs = best[h.tokens][1]
        assert tuple(zip(h.frames, h.ends, strict=True)) == tuple((a, b) for a, b, _ in runs)
        assert h.log_probs == pytest.approx([peak for _, _, peak in runs])


@pytest.mark.parametrize("seed", range(3))
def test_scorers_add_to_the_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(rng, 5, 4, sharpness=1.0)
    first, second = Table(rng), Table(rng)
    totals, _ = enumerate_labelings(log_probs)
    wanted = {y: p + 0.7 * first.whole(y) - 0.3 * second.whole(y) for y, p in totals.items()}
    beam = CtcBeam(EXACT, {"lm": (first, 0.7), "internal": (second, -0.3)})
    ((*found,),) = beam.finish(beam.step(beam.start(), log_probs))
    assert {h.tokens: h.score for h in found} == pytest.approx(wanted, abs=1e-10)
    assert found[0].tokens == max(wanted, key=lambda y: wanted[y])
    for h in found[:20]:
        parts = {"ctc": totals[h.tokens], "lm": 0.7 * first.whole(h.tokens), "internal": -0.3 * second.whole(h.tokens)}
        assert h.scores == pytest.approx(parts, abs=1e-10)


def test_a_prefix_that_died_and_came_back_is_the_same_prefix() -> None:
    """'ab' outlives its parent 'a'; when 'a' is found again, its 'b' must be that 'ab', not a second one."""
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(60):
        log_probs = random_log_probs(rng, 20, 3, sharpness=1.0)
        beam = CtcBeam(CtcBeamConfig.exact().model_copy(update={"beam": 12}))
        state, gone = beam.start(), set()
        for frame in log_probs:
            before = {p.tokens for p in state.live}
            beam.step(state, frame[None])
            now = [p.tokens for p in state.live]
            assert len(set(now)) == len(now)
            gone |= before - set(now)
            seen += len(gone & set(now))
    assert seen > 20


def shape(h: Hypothesis) -> tuple:
    return h.tokens, h.frames, h.ends, h.log_probs, tuple(h.scores.items())


@pytest.mark.parametrize("seed", range(10))
def test_packets_do_not_matter_and_stable_text_stays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(rng, 40, 6, sharpness=1.5)
    beam = CtcBeam(CtcBeamConfig(beam=4, margin=4.0), {"lm": (Table(rng, 6), 0.5)})
    whole = beam.finish(beam.step(beam.start(), log_probs))
    state, stable = beam.start(), ()
    for part in random_packets(rng, log_probs):
        beam.step(state, part)
        now = beam.stable(state)
        assert now[: len(stable)] == stable and beam.partial(state).tokens[: len(now)] == now
        stable = now
    assert [shape(h) for h in beam.finish(state)[0]] == [shape(h) for h in whole[0]]
    assert [shape(h) for h in beam.finish(state)[0]] == [shape(h) for h in whole[0]], "finish changed the state"
    assert all(h.tokens[: len(stable)] == stable for h in whole[0]) and len(stable) > 0


def test_the_default_limits_lose_little_and_beat_greedy() -> None:
    rng = np.random.default_rng(3)
    exact, quick, greedy = CtcBeam(CtcBeamConfig.exact().model_copy(update={"beam": 200})), CtcBeam(), CtcGreedy()
    same = 0
    for _ in range(20):
        log_probs = random_log_probs(rng, 30, 8, sharpness=4.0)
        best = exact.partial(exact.step(exact.start(), log_probs))
        found = quick.partial(quick.step(quick.start(), log_probs))
        first = tuple(greedy.step(greedy.start(), log_probs).tokens)
        assert best.score + 1e-9 >= found.score >= log_probs.max(axis=1).sum()  # all paths against greedy's one
        same += found.tokens == best.tokens
        if found.tokens == first:
            assert found.frames == tuple(greedy.step(greedy.start(), log_probs).frames)
    assert same >= 15


def test_memory_follows_the_text_not_the_frames() -> None:
    rng = np.random.default_rng(0)
    beam = CtcBeam(CtcBeamConfig(beam=4, margin=8.0, commit_frames=32))
    state = beam.start()
    for _ in range(5):
        beam.step(state, random_log_probs(rng, 200, 6, sharpness=1.5))
        text = beam.partial(state).tokens
        assert len(state.prefixes._children) <= len(text) + 4 * 48
        assert len(beam.stable(state)) >= len(text) - 48


def test_nothing_and_the_impossible_have_an_answer() -> None:
    beam = CtcBeam()
    assert beam.finish(beam.step(beam.start(), np.zeros((0, 4))))[0][0].tokens == ()
    never = np.full((3, 4), -np.inf)
    assert beam.finish(beam.step(beam.start(), never))[0][0].score == -math.inf
    with pytest.raises(ValueError, match="'ctc'"):
        CtcBeam(scorers={"ctc": (Table(np.random.default_rng(0)), 1.0)})
