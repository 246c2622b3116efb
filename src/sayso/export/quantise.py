"""Static int8 for the matrix products of an encoder (QDQ form).

Weights are quantised per output channel, activations per tensor with scales fixed from training clips that are streamed
through the fp32 graph (and heard whole, where streams do both), so that a stream does not depend on its chunk size or
on its batch mates (dynamic scales span the whole tensor). Only products with a constant matrix change; attention,
convolutions, norms and softmax stay fp32, and products hand their sums on in fp32, so that residuals are never rounded.
Weights use seven bits: on processors without VNNI the eight-bit multiply-add saturates, and a bundle must answer the
same everywhere.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (  # type: ignore[import-untyped]
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from sayso.core.errors import DataError
from sayso.export.onnx import Exported, strip
from sayso.models.subsampling import FACTOR
from sayso.runtime.graphs import Graph

Floats = NDArray[np.float32]


def quantise(exported: Exported, clips: Sequence[Floats], chunk: int, *, whole: bool = False) -> Exported:
    """The encoder in int8. ``clips`` are features (T, F) of training recordings, ``chunk`` feature frames per step;
    ``whole``: every clip as one chunk too.

    Raises ``DataError`` without clips.
    """
    if not clips:
        raise DataError("int8 needs training clips to fix its activation scales; give some, or export with int8 false")
    proto = onnx.load_from_string(exported.data)
    names = constant_products(proto)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(exported.data)
        quantize_static(
            source,
            target,
            _Reader(exported, clips, chunk, whole),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_quantize=names,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={
                "CalibPercentile": 99.999,  # one click in a recording must not coarsen everything else
                "CalibStridedMinMax": 1,  # despite its name for every method: one group of equal shapes at a time
                "MatMulConstBOnly": True,
                "WeightSymmetric": True,
                "ActivationSymmetric": False,
                "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
            },
        )
        proto = strip(onnx.load(str(target)))
    return Exported(data=proto.SerializeToString(), spec=exported.spec)


@contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime advises preprocessing through the root logger, and prints lines for every group of clips."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)


def constant_products(proto: onnx.ModelProto) -> list[str]:
    """Names of the MatMul and Gemm nodes whose second factor is a weight."""
    weights = {item.name for item in proto.graph.initializer}
    return [node.name for node in proto.graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights]


def chunks(features: Floats, size: int) -> Iterator[tuple[Floats, int]]:
    """A clip as the runtime feeds it: (1, size, F) zero padded at the end, and the real length."""
    for start in range(0, len(features), size):
        piece = features[start : start + size]
        padded = np.zeros((1, size, features.shape[1]), np.float32)
        padded[0, : len(piece)] = piece
        yield padded, len(piece)


def whole_frames(features: Floats) -> int:
    """How many feature frames a clip takes as one chunk: whole encoder frames."""
    return max(1, -(-len(features) // FACTOR)) * FACTOR


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Every chunk of every clip with the states that a stream would have there; then, with ``whole``, every clip.

    Feeds of one group have one shape: all chunks, and each whole clip alone.
    """

    def __init__(self, exported: Exported, clips: Sequence[Floats], chunk: int, whole: bool) -> None:
        self._graph = Graph(exported.data, exported.spec, where="export")
        self._groups: list[tuple[Sequence[Floats], int]] = [(clips, chunk)]
        if whole:
            self._groups += [([clip], whole_frames(clip)) for clip in clips]
        self._feeds: Iterator[dict[str, Any]] = iter(())

    def __len__(self) -> int:
        return len(self._groups)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Begin the group ``start_index``."""
        self._feeds = self._walk(*self._groups[start_index])

    def get_next(self) -> dict[str, Any] | None:
        """The next feed, None at the end."""
        return next(self._feeds, None)

    def _walk(self, clips: Iterable[Floats], chunk: int) -> Iterator[dict[str, Any]]:
        for clip in clips:
            state = self._graph.start()
            for x, length in chunks(clip, chunk):
                inputs: dict[str, Any] = {"x": x, "lengths": np.array([length], np.int64)}
                yield {**inputs, **state}
                state = self._graph.run(inputs, state)[1]
