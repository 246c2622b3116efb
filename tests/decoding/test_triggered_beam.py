"""CTC and triggered attention: when a label is out, what the decoder may hear for it, what it costs."""

from __future__ import annotations

import numpy as np
import pytest
from small_domains import random_log_probs
from toy_speller import END, ToySpeller
from toy_transducer import Table

from sayso.core.errors import ConfigError
from sayso.decoding.ctc_beam import CtcBeam, CtcBeamConfig
from sayso.decoding.triggered_beam import Both, TriggeredBeam, TriggeredBeamConfig

RATE = 2


def spikes(labels: dict[int, int], rows: int, certain: float = 0.999) -> np.ndarray:
    """Log posteriors (rows, 6): blank, but in some rows a label."""
    probabilities = np.full((rows, 6), (1 - certain) / 5)
    for row in range(rows):
        probabilities[row, labels.get(row, 0)] = certain
    return np.log(probabilities)


def heard(seed: int, frames: int = 30, sharpness: float = 3.0) -> tuple[ToySpeller, Both]:
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(rng, frames * RATE, 6, sharpness=sharpness)
    return ToySpeller(rng, bias=-1.0), Both(rng.normal(size=(frames, 6)), log_probs)


def frame(x: Both, at: int) -> Both:
    return Both(x.encoded[at : at + 1], x.log_probs[at * RATE : (at + 1) * RATE])


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_every_token_is_out_with_the_last_frame_that_it_may_hear(ahead: int) -> None:
    """Emission time <= trigger + ahead, for every token of every reading that ever lived."""
    emitted = 0
    for seed in range(6):
        toy, x = heard(seed)
        beam = TriggeredBeamConfig(ahead_frames=ahead).build(toy, END)
        state, known = beam.start(), {()}
        for now in range(30):
            beam.step(state, frame(x, now))
            for prefix, mark in zip(state.ctc.live, state.ctc.mark_label, strict=True):
                if prefix.tokens not in known:
                    assert mark is not None and mark.frame // RATE + ahead == now
                    known.add(prefix.tokens)
                    emitted += 1
            assert max((frames for _, frames in toy.heard), default=0) <= now + 1, "frames that are still to come"
    assert emitted > 100


def test_of_one_reading_every_token_is_out_at_once_and_stays() -> None:
    for seed in range(4):
        toy, x = heard(seed)
        beam = TriggeredBeamConfig(beam=1).build(toy, END)
        state, before = beam.start(), ()
        for now in range(30):
            beam.step(state, frame(x, now))
            best = beam.partial(state)
            assert best.tokens[: len(before)] == before
            assert all(at // RATE + 2 == now for at in best.frames[len(before) :])
            before = best.tokens
        assert len(before) > 3


@pytest.mark.parametrize("left", [None, 1])
def test_the_score_is_ctcs_share_and_the_decoders(left: int | None) -> None:
    rng = np.random.default_rng(0)
    toy, x = ToySpeller(rng, bias=-1.0), rng.normal(size=(9, 6))
    log_probs = spikes({3: 2, 8: 4, 9: 4, 14: 3}, 18)
    config = TriggeredBeamConfig(ahead_frames=1, left_frames=left, ctc=0.6, bonus=0.7, commit_frames=None)
    beam = config.build(toy, END)
    best = beam.finish(beam.step(beam.start(), Both(x, log_probs)))[0][0]
    assert best.tokens == (2, 4, 3) and best.frames == (3, 8, 14)
    state, last, attention = toy.start(), 0, 0.0
    for token, trigger in zip((*best.tokens, END), (1, 4, 7, 8), strict=True):
        first = 0 if left is None else max(0, trigger - left - (token == END))
        end = min(9, trigger + 2)
        logits, state = toy.one(last, state, x[first:end], np.ones(end - first, bool))
        attention += logits[token] - np.logaddexp.reduce(logits)
        last = token
    plain = CtcBeam(CtcBeamConfig(token_margin=4.6, commit_frames=None))
    (alone,) = plain.finish(plain.step(plain.start(), log_probs))
    ctc = next(h.score for h in alone if h.tokens == best.tokens)
    assert best.scores["attention"] == pytest.approx(0.4 * attention + 3 * 0.7)
    assert best.scores["ctc"] == pytest.approx(0.6 * ctc, abs=0.05)  # beams that differ keep other paths
    assert best.score == pytest.approx(sum(best.scores.values()))


def test_the_decoder_changes_what_ctc_would_say() -> None:
    changed = 0
    for seed in range(8):
        toy, x = heard(seed, sharpness=1.5)
        plain, both = CtcBeam(CtcBeamConfig()), TriggeredBeamConfig(ctc=0.3).build(toy, END)
        alone = plain.finish(plain.step(plain.start(), x.log_probs))[0][0]
        changed += both.finish(both.step(both.start(), x))[0][0].tokens != alone.tokens
    assert changed >= 4


def test_a_trigger_that_did_not_survive_comes_again() -> None:
    """Considered weakly in an early frame, said later: the decoder hears up to the later one."""
    rng = np.random.default_rng(0)
    toy, x = ToySpeller(rng, bias=-1.0), rng.normal(size=(8, 6))
    log_probs = spikes({10: 3}, 16)
    log_probs[2, 3] = log_probs[2, 0] - 4.0
    beam = TriggeredBeamConfig(ahead_frames=0, beam=1, ctc=0.9).build(toy, END)
    best = beam.finish(beam.step(beam.start(), Both(x, log_probs)))[0][0]
    assert best.tokens == (3,) and best.frames == (10,)
    logits, after = toy.one(0, toy.start(), x[:6], np.ones(6, bool))
    last, _ = toy.one(3, after, x, np.ones(8, bool))
    wanted = logits[3] - np.logaddexp.reduce(logits) + last[END] - np.logaddexp.reduce(last)
    assert best.scores["attention"] == pytest.approx(0.1 * wanted)


def test_a_stream_may_be_asked_how_it_would_end_and_go_on() -> None:
    toy, x = heard(2)
    beam = TriggeredBeamConfig().build(toy, END)
    state = beam.start()
    for at in range(30):
        beam.step(state, frame(x, at))
        beam.finish(state)
    assert beam.finish(state) == beam.finish(beam.step(beam.start(), x))


def test_later_frames_never_change_what_was_said() -> None:
    (toy, x), (_, other) = heard(3), heard(4)
    beam = TriggeredBeamConfig(ahead_frames=1).build(toy, END)
    for k in range(1, 30, 4):
        first = beam.start()
        for at in range(k):
            beam.step(first, frame(x, at))
        stable, now = beam.stable(first), beam.partial(first)
        for at in range(k, 30):
            beam.step(first, frame(other, at))
        assert all(h.tokens[: len(stable)] == stable for h in beam.finish(first)[0])
        again = beam.step(beam.start(), Both(x.encoded[:k], x.log_probs[: k * RATE]))
        assert (beam.stable(again), beam.partial(again)) == (stable, now)


def test_where_the_decoder_can_write_no_more_ctc_goes_on() -> None:
    rng = np.random.default_rng(0)
    toy, x = ToySpeller(rng, longest=2), rng.normal(size=(10, 6))
    log_probs = spikes({2: 2, 6: 3, 10: 4, 14: 2}, 20)
    beam = TriggeredBeamConfig().build(toy, END)
    assert beam.finish(beam.step(beam.start(), Both(x, log_probs)))[0][0].tokens == (2, 3, 4, 2)
    with pytest.raises(ConfigError, match="'attention'"):
        TriggeredBeam(TriggeredBeamConfig(), toy, END, {"attention": (Table(rng, 6), 1.0)})
