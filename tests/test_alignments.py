"""What the picture of alignments draws is exact: the occupation of the transducer's lattice against all its paths."""

from __future__ import annotations

import itertools
import runpy
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "benchmarks"


def test_occupation_is_the_share_of_all_paths(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(str(FOLDER))
    occupied = runpy.run_path(str(FOLDER / "alignments.py"))["occupied"]
    rng, frames, labels = np.random.default_rng(0), 4, 2
    blank, label = np.log(rng.uniform(0.1, 1, (2, frames, labels + 1)))
    total, points = 0.0, np.zeros((labels + 1, frames))
    # a path: after how many labels each frame ends, rising; all are said by the end of the last
    for ends in itertools.product(range(labels + 1), repeat=frames - 1):
        if list(ends) != sorted(ends):
            continue
        at, score, seen = 0, 0.0, []
        for t, end in enumerate([*ends, labels]):
            seen.append((at, t))
            for u in range(at, end):
                score += label[t, u]
                seen.append((u + 1, t))
            at = end
            score += blank[t, at]
        total += np.exp(score)
        for point in seen:
            points[point] += np.exp(score)
    np.testing.assert_allclose(occupied(blank, label), points / total, atol=1e-12)


def test_forwards_is_what_the_centres_of_mass_do(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(str(FOLDER))
    forwards = runpy.run_path(str(FOLDER / "alignments.py"))["forwards"]
    steps = np.eye(6)
    assert forwards(steps) and forwards(steps[[0, 1, 1, 4]]) and not forwards(steps[::-1])
    assert forwards(steps[[0, 3, 2, 5]]) and not forwards(steps[[0, 3, 1, 5]])  # one frame back, and two
    assert forwards(np.concatenate([steps[:3], np.zeros((1, 6)), steps[3:]])), "a place that listens to nothing"
    spread = np.full((1, 6), 1 / 6)  # its centre is between frames 2 and 3
    assert forwards(np.concatenate([spread, steps[2:3]])) and not forwards(np.concatenate([steps[5:], spread]))
