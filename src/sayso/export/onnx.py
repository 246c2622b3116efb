"""The parts of a model as ONNX graphs with named states, by ``torch.export`` with a free batch.

Each part is wrapped so that its inputs and outputs are flat tensors with the names that the manifest promises. Source
positions that the exporter adds are stripped: they say where the model was exported, which is nobody's business.

Where the encoder hears more the more it is given at once, its graph and those behind it take any number of frames as
one chunk: what streams chunks also hears the whole utterance.

Shape letters: ``B`` batch, ``C`` encoder frames of a chunk, ``D`` width, ``U`` tokens.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from sayso.core.manifest import GraphSpec, Role, StatePair
from sayso.models.assembly import CtcHead, SpeechModel
from sayso.models.decoders import Decoder, Memory
from sayso.models.fusion import Fusion
from sayso.models.heads import IntentHead, SlotHead
from sayso.models.language import LanguageNetwork
from sayso.models.predictors import Predictor
from sayso.models.streaming import Context
from sayso.models.subsampling import FACTOR

_OPSET = 18
_Free = Mapping[str, Mapping[int, Any]]  # by input: axes that are free besides the batch
BATCH = torch.export.Dim("batch", min=1, max=4096)
_FREE = torch.export.Dim("free", min=1, max=1 << 20)
_FRAMES = {"x": {1: _FREE}}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One graph: serialised ONNX and what the manifest says about it."""

    data: bytes
    spec: GraphSpec


def hears_whole(model: SpeechModel) -> bool:
    """Whether the encoder, where it sees everything, uses it all: only then does hearing an utterance whole help."""
    return model.encoder.lookahead_ms(Context()) is None


def export_graphs(model: SpeechModel, chunk_frames: int, left_frames: int) -> dict[Role, Exported]:
    """All graphs of ``model`` by role, fp32. The model is put into eval mode."""
    model.eval()
    width = model.encoder.width
    frames = torch.zeros(2, chunk_frames, width)
    counts = torch.full((2,), chunk_frames)
    free = _FRAMES if hears_whole(model) else {}
    graphs: dict[Role, Exported] = {
        "encoder": _encoder(model, chunk_frames, left_frames),
        "ctc": _export(_Ctc(model.ctc), (frames,), _Names("ctc", ("x",), ("log_probs",), free=free)),
        "predictor": _predictor(model.predictor, _Names("predictor", ("labels",), ("out",))),
        "joiner": _export(
            _Joiner(model),
            (torch.zeros(2, width), torch.zeros(2, model.predictor.width)),
            _Names("joiner", ("encoded", "predicted"), ("logits",)),
        ),
    }
    if model.phones is not None:
        graphs["phones"] = _export(_Ctc(model.phones), (frames,), _Names("phones", ("x",), ("log_probs",), free=free))
    if model.intent is not None:
        graphs["intent"] = _intent(model.intent, frames, counts, free)
    if model.slots is not None:
        graphs["slots"] = _slots(model.slots, width, model.fusion)
    if model.fusion is not None:
        graphs["fusion"] = _fusion(model.fusion, width)
    if model.fusion is not None and model.intent is not None:
        graphs["read"] = _read(model.intent)
    if model.decoder is not None:
        graphs |= _decoder(model.decoder, width)
    return graphs


@dataclass(frozen=True)
class _Names:
    role: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: tuple[StatePair, ...] = ()
    free: _Free = field(default_factory=dict)


class _Encoder(nn.Module):
    def __init__(self, model: SpeechModel, names: Sequence[str], kind: Any) -> None:
        super().__init__()
        self.encoder, self._names, self._kind = model.encoder, tuple(names), kind

    def forward(self, x: Tensor, lengths: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        state = self._kind.from_named(dict(zip(self._names, states, strict=True)))
        out, counts, following = self.encoder.step(x, lengths, state)
        return (out, counts, *following.named().values())


class _Ctc(nn.Module):
    def __init__(self, head: CtcHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(x)
        return result


class _Predictor(nn.Module):
    def __init__(self, predictor: Predictor | LanguageNetwork, names: Sequence[str], kind: Any) -> None:
        super().__init__()
        self.predictor, self._names, self._kind = predictor, tuple(names), kind

    def forward(self, labels: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        state = self._kind.from_named(dict(zip(self._names, states, strict=True)))
        out, following = self.predictor.advance(labels, state)
        return (out, *following.named().values())


class _Memory(nn.Module):
    def __init__(self, decoder: Decoder[Any]) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        memory = self.decoder.memory(x, lengths)
        return memory.keys, memory.values, memory.heard


class _Decoder(nn.Module):
    def __init__(self, decoder: Decoder[Any], names: Sequence[str], kind: Any) -> None:
        super().__init__()
        self.decoder, self._names, self._kind = decoder, tuple(names), kind

    def forward(self, labels: Tensor, keys: Tensor, values: Tensor, heard: Tensor, *states: Tensor) -> tuple[Any, ...]:
        state = self._kind.from_named(dict(zip(self._names, states, strict=True)))
        logits, following = self.decoder.step(labels, state, Memory(keys, values, heard))
        return (logits, *following.named().values())


class _Joiner(nn.Module):
    def __init__(self, model: SpeechModel) -> None:
        super().__init__()
        self.joiner = model.joiner

    def forward(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        return self.joiner.step(encoded, predicted)


class _Intent(nn.Module):
    """The pool's state in three tensors, because each begins with a value of its own."""

    def __init__(self, head: IntentHead) -> None:
        super().__init__()
        self.head = head

    def forward(
        self, x: Tensor, lengths: Tensor, total: Tensor, mass: Tensor, peak: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        log_probs, state = self.head.step(x, lengths, torch.cat([total, mass, peak], 1))
        return log_probs, state[:, : self.head.width], state[:, self.head.width : -1], state[:, -1:]


class _Slots(nn.Module):
    def __init__(self, head: SlotHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, frames: Tensor, tokens: Tensor, lengths: Tensor, states: Tensor | None = None) -> Tensor:
        return torch.log_softmax(self.head(frames, tokens, lengths, states).float(), -1)


class _Read(nn.Module):
    def __init__(self, head: IntentHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, states: Tensor, counts: Tensor, total: Tensor, mass: Tensor, peak: Tensor) -> Tensor:
        return self.head.read(torch.cat([total, mass, peak], 1), states, counts)


def _encoder(model: SpeechModel, chunk_frames: int, left_frames: int) -> Exported:
    state = model.encoder.init_state(2, Context(chunk_frames, left_frames))
    tensors = state.named()
    features = torch.zeros(2, FACTOR * chunk_frames, model.config.encoder.mels)
    lengths = torch.full((2,), FACTOR * chunk_frames)
    free = {"x": {1: FACTOR * _FREE}} if hears_whole(model) else {}
    names = _Names("encoder", ("x", "lengths"), ("out", "out_lengths"), _pairs(tensors), free)
    return _export(_Encoder(model, list(tensors), type(state)), (features, lengths, *tensors.values()), names)


def export_language(model: LanguageNetwork) -> Exported:
    """A step of a language model as a graph, fp32: the last token to what comes next. The model is put into eval
    mode."""
    return _predictor(model.eval(), _Names("language", ("labels",), ("log_probs",)))


def _predictor(predictor: Predictor | LanguageNetwork, names: _Names) -> Exported:
    state = predictor.init_state(2)
    tensors = state.named()
    labels = torch.zeros(2, predictor.context, dtype=torch.int64)
    names = replace(names, states=_pairs(tensors))
    return _export(_Predictor(predictor, list(tensors), type(state)), (labels, *tensors.values()), names)


def _pairs(tensors: Mapping[str, Tensor], by_frame: Sequence[str] = ()) -> tuple[StatePair, ...]:
    """States that begin with zeros, as the manifest tells them; those ``by_frame`` have a number for each frame."""
    pairs = []
    for name, tensor in tensors.items():
        assert not tensor.any(), f"state {name} does not begin with zeros"
        pair = StatePair(
            input=name,
            output=f"{name}_next",
            shape=(None,) if name in by_frame else tuple(tensor.shape[1:]),
            dtype="int64" if tensor.dtype == torch.int64 else "float32",
        )
        pairs.append(pair)
    return tuple(pairs)


def _pool(head: IntentHead) -> dict[str, Tensor]:
    state = head.init_state(2)
    return {"total": state[:, : head.width], "mass": state[:, head.width : -1], "peak": state[:, -1:]}


def _intent(head: IntentHead, frames: Tensor, counts: Tensor, free: _Free) -> Exported:
    parts, pairs = _pool(head), []
    for name, tensor in parts.items():
        first = float(tensor.flatten()[0])
        assert bool((tensor == first).all()), f"state {name} does not begin with one value"
        pairs.append(StatePair(input=name, output=f"{name}_next", shape=tuple(tensor.shape[1:]), initial=first))
    names = _Names("intent", ("x", "lengths"), ("log_probs",), tuple(pairs), free)
    return _export(_Intent(head), (frames, counts, *parts.values()), names)


def _slots(head: SlotHead, width: int, fusion: Fusion | None) -> Exported:
    arguments: tuple[Tensor, ...] = (
        torch.zeros(2, 3, width),
        torch.zeros(2, 3, dtype=torch.int64),
        torch.full((2,), 3),
    )
    inputs: tuple[str, ...] = ("frames", "tokens", "lengths")
    if fusion is not None:
        arguments, inputs = (*arguments, torch.zeros(2, 3, fusion.width)), (*inputs, "states")
    free = {name: {1: _FREE} for name in inputs if name != "lengths"}
    return _export(_Slots(head), arguments, _Names("slots", inputs, ("log_probs",), free=free))


def _fusion(fusion: Fusion, width: int) -> Exported:
    tokens, count = torch.zeros(2, 3, dtype=torch.int64), torch.full((2,), 3)
    frames = torch.export.Dim("frames", min=1, max=1 << 20)  # as many as were heard, whatever was read
    names = _Names(
        "fusion",
        ("tokens", "counts", "x", "lengths"),
        ("states",),
        free={"tokens": {1: _FREE}, "x": {1: frames}},
    )
    return _export(fusion, (tokens, count, torch.zeros(2, 5, width), torch.full((2,), 5)), names)


def _read(head: IntentHead) -> Exported:
    pool = _pool(head)
    names = _Names("read", ("states", "counts", *pool), ("log_probs",), free={"states": {1: _FREE}})
    return _export(_Read(head), (torch.zeros(2, 3, head.width), torch.full((2,), 3), *pool.values()), names)


def _decoder(decoder: Decoder[Any], width: int) -> dict[Role, Exported]:
    """What is kept of the frames, once an utterance or a piece of it, and a step over it."""
    frames, counts = torch.zeros(2, 3, width), torch.full((2,), 3)
    kept = {f"memory_{name}": tensor for name, tensor in decoder.memory(frames, counts).named().items()}
    memory = _Names("memory", ("x", "lengths"), tuple(kept), free=_FRAMES)
    state, longer = decoder.init_state(2, 3), decoder.init_state(2, 4).named()
    tensors = state.named()
    by_frame = [name for name, tensor in tensors.items() if tensor.shape != longer[name].shape]
    axes = {name: 1 if tensor.dtype == torch.bool else 2 for name, tensor in kept.items()} | dict.fromkeys(by_frame, 1)
    free = {name: {axis: _FREE} for name, axis in axes.items()}
    step = _Names("decoder", ("labels", *kept), ("logits",), _pairs(tensors, by_frame), free)
    arguments = (torch.zeros(2, dtype=torch.int64), *kept.values(), *tensors.values())
    return {
        "memory": _export(_Memory(decoder), (frames, counts), memory),
        "decoder": _export(_Decoder(decoder, list(tensors), type(state)), arguments, step),
    }


def _export(module: nn.Module, arguments: tuple[Tensor, ...], names: _Names) -> Exported:
    inputs = [*names.inputs, *(pair.input for pair in names.states)]
    outputs = [*names.outputs, *(pair.output for pair in names.states)]
    axes = tuple({0: BATCH, **names.free.get(name, {})} for name in inputs)
    variadic = isinstance(module, _Encoder | _Predictor | _Decoder) and names.states
    fixed = len(inputs) - len(names.states) if variadic else len(inputs)
    shapes = (*axes[:fixed], axes[fixed:]) if fixed < len(axes) else axes  # variadic states are one argument
    proto = convert(module, arguments, inputs, outputs, shapes)
    spec = GraphSpec(file=f"{names.role}.onnx", inputs=names.inputs, outputs=names.outputs, states=names.states)
    return Exported(data=proto.SerializeToString(), spec=spec)


def convert(
    module: nn.Module, arguments: tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str], shapes: Any
) -> onnx.ModelProto:
    """``module`` as one stripped graph with these names; ``shapes`` says for each argument which axes are free."""
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            arguments,
            dynamo=True,
            opset_version=_OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    return strip(program.model_proto)


def strip(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what does not compute: documentation, source positions, metadata. Changes ``proto`` and returns it."""
    for item in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    for item in (*proto.graph.input, *proto.graph.output):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter narrates on stdout and in warnings; a user sees our messages only."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
