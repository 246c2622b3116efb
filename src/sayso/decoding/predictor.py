"""The prediction network of a transducer as a search sees it: labels in, an output and a memory out, batched.

A stateless network (Ghodsi et al. 2020) reads the last ``context`` labels and remembers nothing else; a recurrent one
(Graves 2012) reads one label and carries a state. Both are one callable here, so that no search knows which it has.

Shape letters: ``n`` hypotheses, ``D`` encoder width, ``J`` predictor width, ``V`` tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Run = Callable[[NDArray[np.int64], list[Any]], tuple[Floats, list[Any]]]  # (n, context), n states -> (n, J), n states
Join = Callable[[Floats, Floats], Floats]  # (n, D), (n, J) -> logits (n, V)


class Predicted(NamedTuple):
    """What the network says after some labels: ``out`` (1, J), and what it needs to go on."""

    out: Floats
    labels: NDArray[np.int64]  # (context,), zeros before the first labels
    state: Any


class Predictor:
    """``run`` with the last ``context`` labels; ``initial`` is a recurrent network's state before any label."""

    def __init__(self, run: Run, context: int = 2, initial: Any = None) -> None:
        if context < 1:
            raise ValueError(f"context ({context}) must be at least 1")
        self._run, self._context, self._initial = run, context, initial

    def start(self) -> Predicted:
        """Before any label."""
        return self._predict([np.zeros(self._context, dtype=np.int64)], [self._initial])[0]

    def extend(self, before: Sequence[Predicted], labels: Sequence[int]) -> list[Predicted]:
        """Each of ``before`` after one more label, in one run of the network; nothing gives nothing."""
        if not before:
            return []
        contexts = [np.append(item.labels[1:], label) for item, label in zip(before, labels, strict=True)]
        return self._predict(contexts, [item.state for item in before])

    def _predict(self, contexts: list[NDArray[np.int64]], states: list[Any]) -> list[Predicted]:
        out, following = self._run(np.stack(contexts), states)
        return [Predicted(out[i : i + 1], labels, following[i]) for i, labels in enumerate(contexts)]


def stateless(predict: Callable[[NDArray[np.int64]], Floats], context: int = 2) -> Predictor:
    """A predictor from a function of the last labels alone, (n, context) to (n, J)."""
    return Predictor(lambda labels, states: (predict(labels), states), context)
