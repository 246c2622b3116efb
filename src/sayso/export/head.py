"""More classes for an exported intent head: rows put into its last matrix, everything else byte for byte.

The last class of a head is everything outside the domain and stays the last; new ones stand before it.
Log-probabilities of old classes keep their differences: they only give the new ones room.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from sayso.core.errors import BundleError

Floats = NDArray[np.float32]
WEIGHT, BIAS = "head.out.weight", "head.out.bias"


def last_layer(data: bytes) -> tuple[Floats, Floats]:
    """Weight (C, W) and bias (C,) of the classes of a serialised intent graph; ``BundleError`` for another graph."""
    found = {item.name: item for item in onnx.load_from_string(data).graph.initializer}
    if WEIGHT not in found or BIAS not in found:
        raise BundleError("the intent head of this bundle has no last layer that can grow; build the bundle again")
    return numpy_helper.to_array(found[WEIGHT]), numpy_helper.to_array(found[BIAS])


def widened(data: bytes, weight: Floats, bias: Floats) -> bytes:
    """The graph with classes of ``weight`` (K, W) and ``bias`` (K,) before its last."""
    old_weight, old_bias = last_layer(data)
    proto, classes = onnx.load_from_string(data), len(old_bias)
    if weight.shape != (len(bias), old_weight.shape[1]):
        raise ValueError(f"expected weight (K, {old_weight.shape[1]}) and bias (K,), got {weight.shape}, {bias.shape}")
    new = {
        WEIGHT: np.concatenate([old_weight[:-1], weight.astype(np.float32), old_weight[-1:]]),
        BIAS: np.concatenate([old_bias[:-1], bias.astype(np.float32), old_bias[-1:]]),
    }
    for item in proto.graph.initializer:
        if item.name in new:
            item.CopyFrom(numpy_helper.from_array(new[item.name], item.name))
    scored = {name for node in proto.graph.node if WEIGHT in node.input for name in node.output}
    behind = {name for node in proto.graph.node if scored & set(node.input) for name in node.output}
    for value in (*proto.graph.value_info, *proto.graph.output):
        last = value.type.tensor_type.shape.dim[-1:]
        if value.name in scored | behind and last and last[0].dim_value == classes:
            last[0].dim_value = classes + len(bias)
        elif value.name in new:
            value.type.tensor_type.shape.dim[0].dim_value = classes + len(bias)
    onnx.checker.check_model(proto)
    grown: bytes = proto.SerializeToString()
    return grown
