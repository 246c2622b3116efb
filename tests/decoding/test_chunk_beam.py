"""Chunks with their ends: without limits the sum over all alignments; no chunk is heard before its time."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from toy_speller import END, ToySpeller
from toy_transducer import Table

from sayso.decoding.chunk_beam import ChunkBeamConfig
from sayso.decoding.hypothesis import Hypothesis

Labels = tuple[int, ...]
LABELS = (2, 3, 4)
EXACT = ChunkBeamConfig(
    chunk_frames=2, beam=None, margin=np.inf, top_k=None, max_symbols=2, commit_chunks=None, nbest=1 << 30
)


def enumerated(toy: ToySpeller, frames: np.ndarray, most: int = 2) -> dict[Labels, float]:
    """Log probability of every text, summed over where its chunks may end; ``frames`` in chunks of two, so far ``most``
    labels in each on average."""
    chunks = [frames[i : i + 2] for i in range(0, len(frames), 2)]

    @cache
    def said(labels: Labels, chunk: int) -> np.ndarray:
        return toy.log_probs(labels, chunks[chunk])

    longest = most * len(chunks)
    pieces = [labels for n in range(longest + 1) for labels in itertools.product(LABELS, repeat=n)]
    found: dict[Labels, float] = {}
    for choice in itertools.product(pieces, repeat=len(chunks)):
        counts = itertools.accumulate(map(len, choice))
        if any(count > most * (chunk + 1) for chunk, count in enumerate(counts)):
            continue
        labels: Labels = ()
        score = 0.0
        for chunk, piece in enumerate(choice):
            for label in piece:
                score += said(labels, chunk)[label]
                labels += (label,)
            score += said(labels, chunk)[END]
        found[labels] = float(np.logaddexp(found.get(labels, -np.inf), score))
    return found


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_without_limits_it_sums_over_all_alignments(frames: int) -> None:
    rng = np.random.default_rng(frames)
    toy, x, table = ToySpeller(rng, forgetful=True), rng.normal(size=(frames, 6)), Table(rng, 6)
    wanted = enumerated(toy, x)
    beam = EXACT.build(toy, END)
    (found,) = beam.finish(beam.step(beam.start(), x))
    assert {h.tokens: h.score for h in found} == pytest.approx(wanted, abs=1e-9)
    scored = EXACT.build(toy, END, {"lm": (table, 0.4)})
    (ranked,) = scored.finish(scored.step(scored.start(), x))
    both = {labels: score + 0.4 * table.whole(labels) for labels, score in wanted.items()}
    assert {h.tokens: h.score for h in ranked} == pytest.approx(both, abs=1e-9)
    narrow = ChunkBeamConfig(chunk_frames=2, beam=8, max_symbols=2).build(toy, END)
    (few,) = narrow.finish(narrow.step(narrow.start(), x))
    assert few[0].tokens == found[0].tokens and few[0].score <= found[0].score + 1e-9


@pytest.mark.parametrize("left", [0, 3])
def test_it_hears_a_chunk_at_a_time_and_every_frame_once(left: int) -> None:
    rng = np.random.default_rng(0)
    toy, x = ToySpeller(rng, bias=0.5), rng.normal(size=(83, 6))
    beam = ChunkBeamConfig(chunk_frames=5, left_frames=left).build(toy, END)
    state = beam.start()
    for frame in range(80):
        beam.step(state, x[frame : frame + 1])
        assert len(state.waiting) < 5 and len(state.chunks) <= 4, "what nobody needs any more is kept"
    assert toy.remembered == 80
    beam.finish(beam.step(state, x[80:]))
    assert toy.remembered == 83 and max(frames for _, frames in toy.heard) == 5 + left


def shape(h: Hypothesis) -> tuple[object, ...]:
    return h.tokens, h.frames, h.log_probs, tuple(h.scores.items())


def test_later_frames_never_change_what_was_said() -> None:
    """Bit for bit, for every chunk."""
    rng = np.random.default_rng(1)
    toy, x, other = ToySpeller(rng, bias=0.5), rng.normal(size=(40, 6)), rng.normal(size=(40, 6)) * 3
    beam = ChunkBeamConfig(chunk_frames=4).build(toy, END)
    for k in range(1, 10):
        first = beam.step(beam.start(), x[: 4 * k])
        stable, now = beam.stable(first), shape(beam.partial(first))
        second = beam.start()
        for frame in np.concatenate([x[: 4 * k], other[4 * k :]])[: 4 * k]:
            beam.step(second, frame[None])
        assert (beam.stable(second), shape(beam.partial(second))) == (stable, now)
        for rest in (x, other):
            stream = beam.step(beam.start(), x[: 4 * k])
            (found,) = beam.finish(beam.step(stream, rest[4 * k :]))
            assert all(h.tokens[: len(stable)] == stable for h in found)


def test_a_stream_may_be_asked_how_it_would_end_and_go_on() -> None:
    rng = np.random.default_rng(2)
    toy, x = ToySpeller(rng, bias=0.5), rng.normal(size=(30, 6))
    beam = ChunkBeamConfig(chunk_frames=4).build(toy, END)
    state = beam.start()
    for frame in x:
        beam.step(state, frame[None])
        beam.finish(state)
    whole = beam.finish(beam.step(beam.start(), x))[0]
    assert [shape(h) for h in beam.finish(state)[0]] == [shape(h) for h in whole]


def test_old_doubts_are_settled() -> None:
    rng = np.random.default_rng(3)
    toy, x = ToySpeller(rng, bias=0.5), rng.normal(size=(400, 6))
    beam = ChunkBeamConfig(chunk_frames=4, commit_chunks=3).build(toy, END)
    state = beam.step(beam.start(), x)
    best = beam.partial(state)
    assert len(best.tokens) > 20 and len(beam.stable(state)) >= sum(at < 400 - 8 * 4 for at in best.frames)


def test_a_guard_on_labels_and_a_name_that_is_taken() -> None:
    rng = np.random.default_rng(4)
    toy, x = ToySpeller(rng, bias=-30.0), rng.normal(size=(8, 6))
    beam = ChunkBeamConfig(chunk_frames=4, max_symbols=3).build(toy, END)
    assert len(beam.finish(beam.step(beam.start(), x))[0][0].tokens) == 6
    with pytest.raises(ValueError, match="attention"):
        EXACT.build(toy, END, {"attention": (Table(rng, 6), 1.0)})
