"""The graphs ``memory`` and ``decoder`` of a bundle as searches see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sayso.decoding.predictor import Floats
from sayso.decoding.speller import Memory, State
from sayso.runtime.graphs import Graph, split, stack


class GraphSpeller:
    """An attention decoder in ONNX; it holds no utterance."""

    def __init__(self, memory: Graph, decoder: Graph) -> None:
        self._memory, self._decoder = memory, decoder

    @property
    def longest(self) -> int | None:
        """How many labels the caches hold; None where there are none."""
        return next((pair.shape[1] for pair in self._decoder.spec.states if len(pair.shape) == 3), None)

    def start(self, frames: int | None = None) -> State:
        """As the contract says."""
        return self._decoder.start(frames=frames or 0)

    def remember(self, encoded: Floats) -> Memory:
        """As the contract says."""
        return self._memory.run({"x": encoded[None], "lengths": np.array([len(encoded)])})[0]

    def write(self, labels: NDArray[np.int64], states: Sequence[State], memory: Memory) -> tuple[Floats, list[State]]:
        """As the contract says."""
        out, following = self._decoder.run({"labels": labels, **memory}, stack(states))
        return out["logits"], split(following, len(states))
