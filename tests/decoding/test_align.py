"""Forced alignment against every path there is, against the workshop's, and on words."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from small_domains import random_log_probs

from sayso.core.errors import DataError
from sayso.decoding.align import align, align_words
from sayso.decoding.ctc_beam import CtcBeam, CtcBeamConfig
from sayso.losses.alignment import ctc_emission_frames


def best_path(log_probs: np.ndarray, tokens: tuple[int, ...]) -> tuple[float, list[tuple[int, int, float]]]:
    best, spans = -math.inf, []
    for path in itertools.product({0, *tokens}, repeat=len(log_probs)):
        runs = [list(run) for _, run in itertools.groupby(range(len(path)), key=path.__getitem__)]
        runs = [run for run in runs if path[run[0]] != 0]
        if tuple(path[run[0]] for run in runs) == tokens:
            score = sum(log_probs[t, v] for t, v in enumerate(path))
            if score > best:
                best, spans = score, [(r[0], r[-1] + 1, log_probs[r, path[r[0]]].max()) for r in runs]
    return best, spans


@pytest.mark.parametrize("tokens", [(), (1,), (2, 2), (1, 2), (1, 1, 3), (3, 1, 3), (2, 2, 2)])
def test_it_is_the_best_of_all_paths(tokens: tuple[int, ...]) -> None:
    for seed in range(5):
        log_probs = random_log_probs(np.random.default_rng(seed), 6, 4, sharpness=1.0)
        score, spans = best_path(log_probs, tokens)
        found = align(log_probs, tokens)
        assert found.score == pytest.approx(score) and found.tokens == tokens
        assert list(zip(found.frames, found.ends, strict=True)) == [s[:2] for s in spans]
        assert found.log_probs == pytest.approx([s[2] for s in spans])


def test_it_is_the_alignment_that_training_uses() -> None:
    rng = np.random.default_rng(0)
    log_probs = random_log_probs(rng, 40, 9, sharpness=1.5)
    tokens = rng.integers(1, 9, size=12)
    lengths = torch.tensor([40]), torch.tensor([12])
    theirs = ctc_emission_frames(torch.from_numpy(log_probs)[None], torch.from_numpy(tokens)[None], *lengths)
    assert align(log_probs, tokens.tolist()).frames == tuple(theirs[0].tolist())


def test_what_a_search_found_it_finds_again() -> None:
    log_probs = random_log_probs(np.random.default_rng(1), 30, 6, sharpness=2.0)
    beam = CtcBeam(CtcBeamConfig.exact().model_copy(update={"beam": 50}))
    best = beam.partial(beam.step(beam.start(), log_probs))
    found = align(log_probs, best.tokens)
    assert (found.frames, found.ends) == (best.frames, best.ends)
    assert found.log_probs == pytest.approx(best.log_probs) and found.score < best.score


def test_words_have_times_and_what_was_not_said_is_doubtful() -> None:
    pieces = ("<blk>", "<unk>", "▁turn", "▁o", "n", "▁off")
    said = np.full((10, 6), 0.01)
    for t, v in [(0, 0), (1, 2), (2, 2), (3, 0), (4, 3), (5, 0), (6, 4), (7, 4), (8, 0), (9, 0)]:
        said[t, v] = 0.95
    log_probs = np.log(said)
    turn, on = align_words(log_probs, [2, 3, 4], pieces, frame_s=0.08)
    assert (turn.text, turn.start, turn.end) == ("turn", pytest.approx(0.08), pytest.approx(0.24))
    assert (on.text, on.start, on.end) == ("on", pytest.approx(0.32), pytest.approx(0.64))
    assert turn.confidence == on.confidence == pytest.approx(0.95)
    doubtful = align_words(log_probs, [2, 5], pieces, frame_s=0.08)[1]
    assert doubtful.text == "off" and doubtful.confidence == pytest.approx(0.01)


def test_impossible_texts_are_named() -> None:
    log_probs = random_log_probs(np.random.default_rng(0), 3, 4, sharpness=1.0)
    with pytest.raises(DataError, match="3 tokens need at least 4 frames, and the recording has 3"):
        align(log_probs, [1, 1, 2])
    with pytest.raises(ValueError, match="other than the blank"):
        align(log_probs, [0])
    log_probs[:, 2] = -np.inf
    with pytest.raises(DataError, match="probability zero"):
        align(log_probs, [2])
    assert align(np.zeros((0, 4)), []).tokens == ()
