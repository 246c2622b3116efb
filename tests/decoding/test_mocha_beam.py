"""Monotonic chunkwise attention: hard, forwards only, in linear time, the same in a stream as in one piece."""

from __future__ import annotations

import numpy as np
import pytest
from toy_speller import END, ToySpeller

from sayso.decoding.mocha_beam import MochaBeamConfig

Labels = tuple[int, ...]


def by_definition(toy: ToySpeller, frames: np.ndarray, most: int) -> tuple[Labels, list[int], int]:
    """Greedy: tokens, the frames that they chose, and how often a frame was asked whether it is chosen."""
    heard, at, labels, chosen, asked, here = np.ones(len(frames), bool), 0, [0], [], 0, 0
    state = toy.start()
    while at < len(frames):
        logits, after = toy.one(labels[-1], {**state, "at": np.array([at])}, frames, heard)
        found = int(after["at"][0])
        asked += min(found, len(frames) - 1) - at + 1
        here = here if found == at else 0
        if found == len(frames):
            break
        token = int(logits[2:].argmax()) + 2
        if here == most or token == END:
            at, here = found + 1, 0
            continue
        labels.append(token)
        chosen.append(found)
        at, here, state = found, here + 1, after
    return tuple(labels[1:]), chosen, asked


@pytest.mark.parametrize("seed", [1, 3, 4, 5])
def test_a_beam_of_one_is_the_definition_and_touches_frames_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    toy, x = ToySpeller(rng, monotonic=True, chunk=3, bias=1.0), rng.normal(size=(120, 6))
    wanted, chosen, asked = by_definition(toy, x, 3)
    toy.runs, toy.heard = 0, []
    beam = MochaBeamConfig(chunk_frames=3, beam=1, max_symbols=3, commit_frames=None).build(toy, END)
    state = beam.start()
    for frame in range(120):
        beam.step(state, x[frame : frame + 1])
        assert toy.remembered == frame + 1, "a frame is taken from the encoder once"
        assert state.window is not None and state.window["memory_heard"].shape == (1, 3), "more frames than a chunk"
    found = beam.partial(state)
    assert found.tokens == wanted and list(found.frames) == chosen and len(wanted) > 5
    rows = sum(rows for rows, _ in toy.heard)
    assert rows == asked <= 120 + len(wanted), "a frame is left once; only a label asks the one it chose again"


def test_a_wider_beam_finds_what_is_likelier() -> None:
    better = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        toy, x = ToySpeller(rng, monotonic=True, bias=1.0), rng.normal(size=(60, 6))
        one, many = (
            (beam := MochaBeamConfig(beam=n, margin=np.inf, top_k=None).build(toy, END)).finish(
                beam.step(beam.start(), x)
            )[0][0]
            for n in (1, 8)
        )
        assert many.score >= one.score - 1e-9
        better += many.score > one.score + 1e-6
    assert better >= 4


def test_a_bonus_makes_longer_answers() -> None:
    rng = np.random.default_rng(0)
    toy, x = ToySpeller(rng, monotonic=True, bias=1.0), rng.normal(size=(60, 6))
    lengths = []
    for bonus in (-2.0, 0.0, 2.0):
        beam = MochaBeamConfig(bonus=bonus).build(toy, END)
        lengths.append(len(beam.finish(beam.step(beam.start(), x))[0][0].tokens))
    assert lengths[0] <= lengths[1] <= lengths[2] and lengths[0] < lengths[2]


def test_later_frames_never_change_what_was_said() -> None:
    """Bit for bit, at every frame."""
    rng = np.random.default_rng(1)
    toy, x, other = ToySpeller(rng, monotonic=True), rng.normal(size=(40, 6)), rng.normal(size=(40, 6)) * 3
    beam = MochaBeamConfig().build(toy, END)
    state = beam.start()
    for k in range(1, 40):
        beam.step(state, x[k - 1 : k])
        stable, now = beam.stable(state), beam.partial(state)
        assert all(at < k for at in now.frames)
        again = beam.step(beam.start(), x[:k])
        assert (beam.stable(again), beam.partial(again)) == (stable, now)
        (found,) = beam.finish(beam.step(again, other[k:]))
        assert all(h.tokens[: len(stable)] == stable for h in found)


def test_a_stream_may_be_asked_how_it_would_end_and_go_on() -> None:
    rng = np.random.default_rng(2)
    toy, x = ToySpeller(rng, monotonic=True), rng.normal(size=(30, 6))
    beam = MochaBeamConfig().build(toy, END)
    state = beam.start()
    for frame in x:
        beam.step(state, frame[None])
        beam.finish(state)
    assert beam.finish(state) == beam.finish(beam.step(beam.start(), x))
