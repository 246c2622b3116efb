"""An attention decoder as a search sees it: what it keeps of frames, and its next label, batched over hypotheses.

Torch or ONNX may stand behind it (``training/parsing.py``, ``runtime/speller.py``). What is kept of a frame does not
depend on other frames, so memories of pieces can be joined and cut along time; a state says what was written.

Shape letters: ``n`` hypotheses, ``T`` frames, ``D`` encoder width, ``V`` tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sayso.decoding.beam import Alive, BeamSearch, Doubles, Longs, Scorers, alive
from sayso.decoding.predictor import Floats, Predictor

State = dict[str, NDArray[Any]]  # by name, batch first
Memory = dict[str, NDArray[Any]]  # keys and values (n, N, T, A), heard (n, T)
HEARD = "memory_heard"
COVERED = "covered"  # a state (n, T): how much each frame was listened to so far


class Listed(Protocol):
    """The state of a search that keeps its hypotheses one by one."""

    live: list[Any]


L = TypeVar("L", bound=Listed)


class Speller(Protocol):
    """See the module; it holds no utterance."""

    @property
    def longest(self) -> int | None:
        """How many labels can be written; None: no limit."""
        ...

    def start(self, frames: int | None = None) -> State:
        """Nothing written, batch 1; ``frames`` is how many there are where they stay the same."""
        ...

    def remember(self, encoded: Floats) -> Memory:
        """What is kept of frames (T, D), batch 1."""
        ...

    def write(self, labels: NDArray[np.int64], states: Sequence[State], memory: Memory) -> tuple[Floats, list[State]]:
        """The last labels (n,), 0 at first, and a memory of batch n: logits (n, V) of the next and the next states."""
        ...


class SpellerBeam(BeamSearch[L]):
    """A beam search in which a decoder writes; token ``end`` ends what it hears."""

    def __init__(self, speller: Speller, end: int, scorers: Scorers | None, nbest: int) -> None:
        super().__init__("attention", scorers, nbest)
        self._speller, self._end = speller, end

    def _alive(self, state: L) -> Alive:
        return alive(state.live)

    def _keep(self, state: L, rows: Longs) -> None:
        state.live = [state.live[row] for row in rows.tolist()]


def predictor(speller: Speller, encoded: Floats) -> Predictor:
    """The decoder over one utterance's frames (T, D)."""
    memory = speller.remember(encoded)

    def run(labels: NDArray[np.int64], states: list[State]) -> tuple[Floats, list[State]]:
        return speller.write(labels[:, 0], states, repeated(memory, len(states)))

    return Predictor(run, context=1, initial=speller.start(len(encoded)))


def repeated(memory: Mapping[str, NDArray[Any]], times: int) -> Memory:
    """One memory for several hypotheses."""
    return {name: np.repeat(value, times, axis=0) for name, value in memory.items()}


def joined(memories: Sequence[Memory]) -> Memory:
    """Pieces of a stream, one after the other."""
    if len(memories) == 1:
        return memories[0]
    return {name: np.concatenate([m[name] for m in memories], axis=_time(name)) for name in memories[0]}


def stacked(memories: Sequence[Memory]) -> Memory:
    """One memory for each hypothesis; shorter ones are padded with what was not heard."""
    longest = max(m[HEARD].shape[1] for m in memories)
    return {name: np.concatenate([_padded(m[name], _time(name), longest) for m in memories]) for name in memories[0]}


def tail(memory: Memory, frames: int) -> Memory:
    """The last ``frames`` of a memory; where it has fewer, what was not heard stands before them."""
    kept = {name: value[:, -frames:] if name == HEARD else value[:, :, -frames:] for name, value in memory.items()}
    return {name: _padded(value, _time(name), frames, front=True) for name, value in kept.items()}


def log_softmax(logits: Floats) -> Doubles:
    """Log probabilities (n, V)."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    found: Doubles = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def _time(name: str) -> int:
    """The axis of frames."""
    return 1 if name == HEARD else 2


def _padded(value: NDArray[Any], axis: int, size: int, *, front: bool = False) -> NDArray[Any]:
    missing = size - value.shape[axis]
    if not missing:
        return value
    widths = [(0, 0)] * value.ndim
    widths[axis] = (missing, 0) if front else (0, missing)
    return np.pad(value, widths)
