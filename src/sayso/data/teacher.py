"""What another network makes of training speech, one vector for every 80 ms, to be learnt from: its features, the
log-probabilities of its CTC head, or its encoded frames.

The teacher lends them in training and is no part of a model. A folder holds ``features.npy`` (N, D) in half precision
and ``index.jsonl`` with a line per cut: ``{"id": cut id, "first": row, "frames": rows}``. Where they are
log-probabilities, those of a frame's rows lie one after the other, D = rows x tokens, and ``tokenizer.model`` says of
which tokens. Where they are encoded frames, ``network`` is the checkpoint whose predictor and joiner read them.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sayso.core.errors import DataError

Halves = NDArray[np.float16]
FEATURES, INDEX, TOKENIZER, NETWORK = "features.npy", "index.jsonl", "tokenizer.model", "network"


@lru_cache(maxsize=8)
def read_teacher(folder: str) -> dict[str, Halves]:
    """For each cut id its vectors (T/8, D), mapped from disk. ``DataError`` names what is missing or does not fit."""
    try:
        features = np.load(Path(folder) / FEATURES, mmap_mode="r")
        lines = (Path(folder) / INDEX).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder}: a teacher's features cannot be read ({error}); make them with benchmarks/teach.py or leave "
            "'teacher' out"
        ) from None
    if features.ndim != 2:
        raise DataError(f"{folder}/{FEATURES}: has shape {features.shape}; legal is (frames, width)")
    found: dict[str, Halves] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            name, first, frames = str(row["id"]), int(row["first"]), int(row["frames"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{folder}/{INDEX}:{number}: not a place ({error!r}); legal is {{"id": …, "first": …, "frames": …}}'
            ) from None
        if not 0 <= first < first + frames <= len(features):
            raise DataError(
                f"{folder}/{INDEX}:{number}: rows {first} to {first + frames} of {len(features)}; make the folder anew"
            )
        found[name] = features[first : first + frames]
    return found
