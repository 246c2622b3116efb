"""One ONNX graph and its streaming state, by name.

The manifest says which inputs are states and what they start as; so this file streams any architecture. Sessions run
as ``core/inference.py`` says. A session is safe to use from several threads; a state belongs
to one stream.

Shape letters: ``B`` batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray

from sayso.core.errors import BundleError
from sayso.core.inference import session_options
from sayso.core.manifest import GraphSpec

Array = NDArray[Any]
State = dict[str, Array]  # by input name, batch first


class Graph:
    """A session and what the manifest says about it."""

    def __init__(self, data: bytes, spec: GraphSpec, *, where: str, threads: int = 1) -> None:
        self.spec = spec
        try:
            self._session = ort.InferenceSession(data, session_options(threads), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise BundleError(f"{where}/{spec.file}: onnxruntime cannot load it ({_first_line(error)})") from None
        have = {item.name: np.dtype(_DTYPES[item.type]) for item in self._session.get_inputs()}
        wanted = {*spec.inputs, *spec.optional, *(pair.input for pair in spec.states)}
        results = {item.name for item in self._session.get_outputs()}
        promised = {*spec.outputs, *(pair.output for pair in spec.states)}
        if set(have) != wanted or not promised <= results:
            wrong = ", ".join(sorted((set(have) ^ wanted) | (promised - results)))
            raise BundleError(f"{where}/{spec.file}: its inputs or outputs are not those of the manifest: {wrong}")
        self._dtypes = have
        self._fetch = [*spec.outputs, *(pair.output for pair in spec.states)]

    def start(self, batch: int = 1, frames: int = 0) -> State:
        """The state of ``batch`` streams before the first sample; ``frames`` is what a state has for each of."""
        shapes = {pair.input: [frames if size is None else size for size in pair.shape] for pair in self.spec.states}
        return {
            pair.input: np.full((batch, *shapes[pair.input]), pair.initial, pair.dtype) for pair in self.spec.states
        }

    def run(self, inputs: Mapping[str, Array], state: State | None = None) -> tuple[dict[str, Array], State]:
        """Outputs by name and the next state; without ``state``, from before the first sample.

        Optional inputs that are not given take the manifest's value.
        """
        feed: dict[str, Array] = {name: np.asarray(value, self._dtypes[name]) for name, value in inputs.items()}
        for name, value in self.spec.optional.items():
            feed.setdefault(name, np.asarray(value, self._dtypes[name]))
        if state is None and self.spec.states:
            state = self.start(len(feed[self.spec.inputs[0]]))
        feed.update(state or {})
        values = self._session.run(self._fetch, feed)
        count = len(self.spec.outputs)
        outputs = dict(zip(self.spec.outputs, values[:count], strict=True))
        following = {pair.input: value for pair, value in zip(self.spec.states, values[count:], strict=True)}
        return outputs, following

    def following(self, labels: NDArray[np.int64], states: list[State]) -> tuple[Array, list[State]]:
        """Of a graph from the last ``labels`` (n, context) to an output: that (n, ...), and the state of each row."""
        outputs, after = self.run({"labels": labels}, stack(states))
        return outputs[self.spec.outputs[0]], split(after, len(states))


def stack(states: Sequence[State]) -> State:
    """Several streams as one batch, in order."""
    if len(states) == 1:
        return states[0]
    return {name: np.concatenate([state[name] for state in states]) for name in states[0]}


def split(state: State, batch: int) -> list[State]:
    """The inverse of ``stack`` for streams of batch 1. Rows are copied, so that none keeps the whole batch alive."""
    if batch == 1:
        return [state]
    return [{name: value[i : i + 1].copy() for name, value in state.items()} for i in range(batch)]


_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool"}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
