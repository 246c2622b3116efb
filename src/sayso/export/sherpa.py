"""A model in the form that sherpa-onnx streams: its conformer transducer, in four files.

That runtime carries two tensors from chunk to chunk, ``states0`` (L, left_context, N, D) and ``states1`` (L,
cnn_module_kernel - 1, N, D). It begins them with zeros, stacks streams along their third axis, and knows nothing else
about them: their sizes are what the encoder's metadata says. So a thin graph around our encoder packs its memory into
these two. Keys stand before values in the first. In the second, rows behind each layer's convolution cache hold
together the caches of the subsampling and the fill count. The count is stored, not read off ``processed_frames``,
because that runtime starts that number again at an endpoint and keeps the states.

As that runtime expects, the joiner's projections stand in the encoder and in the decoder, where they run once a frame
and once a label. What no graph can change is its front: samples in [-1, 1], so that its features are lower by a
constant, which the graph adds, and that Kaldi's own floor cuts at ``QUIET`` what we cut lower; frames that begin 7.5 ms
earlier, over a mirrored beginning (``MIRRORED``); and an incomplete last chunk that is never decoded, so clients append
silence. Its greedy search gives at most one label a frame and takes ``<unk>``, which no model of ours says, as blank.

Shape letters: ``N`` streams, ``L`` layers, ``D`` width, ``T`` features of a chunk, ``F`` mel bins, ``K`` cached frames,
``S`` values of the subsampling's caches, ``k`` kernel, ``C`` encoder frames of a chunk, ``P`` projected width, ``V``
tokens, ``U`` last labels.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped]
import torch
from onnx import helper
from torch import Tensor, nn

from sayso.audio.features import FeatureConfig
from sayso.core.errors import BundleError, ConfigError
from sayso.core.files import whole
from sayso.core.inference import session_options
from sayso.export.onnx import BATCH, convert
from sayso.export.verify import TOLERANCE
from sayso.models.assembly import SpeechModel
from sayso.models.encoders.attention import AttentionEncoder, AttentionState
from sayso.models.predictors import StatelessPredictor
from sayso.models.streaming import Context
from sayso.models.subsampling import FACTOR
from sayso.text.tokenizer import Tokenizer

ENCODER, DECODER, JOINER, TOKENS = FILES = ("encoder.onnx", "decoder.onnx", "joiner.onnx", "tokens.txt")
LOUDER = 2 * math.log(32768)  # what 16-bit amplitudes add to a log energy
QUIET = LOUDER + math.log(float(np.finfo(np.float32).eps))  # the least log energy that is left, on our scale
MIRRORED = 120  # samples at the beginning that its first frame hears backwards, before it hears them
_PROOF_CHUNKS, _PROOF_STREAMS = 12, 2  # more than fills the caches of the default context


def export_sherpa(
    model: SpeechModel, tokenizer: Tokenizer, out: Path | str, *, chunk_frames: int = 4, left_frames: int = 32
) -> None:
    """Write ``encoder.onnx``, ``decoder.onnx``, ``joiner.onnx`` (fp32) and ``tokens.txt`` into folder ``out``.

    Raises ``ConfigError`` for a model that this form cannot hold, ``BundleError`` where ONNX does not compute what the
    model does or ``out`` holds something else.
    """
    out = Path(out)
    _check(model, tokenizer, out)
    model.eval()
    encoder = PackedEncoder(model, Context(chunk_frames, left_frames))
    graphs = {ENCODER: _encoder(encoder), DECODER: _decoder(model), JOINER: _joiner(model)}
    files = {name: proto.SerializeToString() for name, proto in graphs.items()}
    _prove(model, encoder, files)
    files[TOKENS] = "".join(f"{piece} {i}\n" for i, piece in enumerate(tokenizer.pieces)).encode()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole(out) as fresh:
            fresh.mkdir()
            for name, content in files.items():
                (fresh / name).write_bytes(content)
    except OSError as error:
        raise BundleError(f"{out}: cannot be written ({error.strerror}); choose another place") from None


class PackedEncoder(nn.Module):
    """Our encoder behind the inputs and outputs of sherpa-onnx's conformer."""

    def __init__(self, model: SpeechModel, context: Context) -> None:
        super().__init__()
        assert isinstance(model.encoder, AttentionEncoder) and context.chunk_frames is not None
        self.encoder, self.joiner = model.encoder, model.joiner
        features = FeatureConfig(mels=model.config.encoder.mels)
        self.floor, self.mels = features.floor, features.mels
        first = self.encoder.init_state(1, context)
        self.layers, self.cached, self.width = first.keys.shape[1:]
        self.sub, self.history = first.sub.shape[1], self.encoder.history
        self.rows = -(-(self.sub + 1) // (self.layers * self.width))  # that hold what is no layer's
        self.chunk = FACTOR * context.chunk_frames

    def metadata(self) -> dict[str, str]:
        """What that runtime reads before anything else."""
        numbers = {
            "num_encoder_layers": self.layers,
            "T": self.chunk,
            "decode_chunk_len": self.chunk,
            "left_context": 2 * self.cached,
            "encoder_dim": self.width,
            "pad_length": 0,
            "cnn_module_kernel": self.history + self.rows + 1,
        }
        return {"model_type": "conformer", **{name: str(value) for name, value in numbers.items()}}

    def init_states(self, streams: int) -> tuple[Tensor, Tensor]:
        """The zeros (L, 2K, N, D) and (L, k-1 and some rows, N, D) that a stream begins with."""
        first = (self.layers, 2 * self.cached, streams, self.width)
        return torch.zeros(first), torch.zeros(self.layers, self.history + self.rows, streams, self.width)

    def forward(
        self, x: Tensor, states0: Tensor, states1: Tensor, processed_frames: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, T, F) of a whole chunk to projected frames (N, C, P) and the next states."""
        memory, rest = states0.permute(2, 0, 1, 3), states1.permute(2, 0, 1, 3)
        loose = rest[:, :, self.history :].flatten(1)
        state = AttentionState(
            sub=loose[:, : self.sub],
            keys=memory[:, :, : self.cached],
            values=memory[:, :, self.cached :],
            fill=loose[:, self.sub].to(torch.int64),
            conv=rest[:, :, : self.history] if self.history else None,
        )
        heard = torch.clamp(x + LOUDER, min=self.floor)
        out, _, after = self.encoder.step(heard, torch.full_like(processed_frames, self.chunk), state)
        loose = torch.cat([after.sub, after.fill[:, None].to(after.sub.dtype)], 1)
        loose = nn.functional.pad(loose, (0, self.layers * self.rows * self.width - self.sub - 1))
        loose = loose.reshape(-1, self.layers, self.rows, self.width)
        rest = loose if after.conv is None else torch.cat([after.conv, loose], 2)
        memory = torch.cat([after.keys, after.values], 2)
        return self.joiner.project_encoder(out), memory.permute(1, 2, 0, 3), rest.permute(1, 2, 0, 3)


class _Decoder(nn.Module):
    def __init__(self, model: SpeechModel) -> None:
        super().__init__()
        self.predictor, self.joiner = model.predictor, model.joiner

    def forward(self, y: Tensor) -> Tensor:
        """(N, U) labels to (N, P); that runtime writes -1 where there was no label yet."""
        return self.joiner.project_predictor(self.predictor.step(torch.clamp(y, min=0)))


class _Joiner(nn.Module):
    def __init__(self, model: SpeechModel) -> None:
        super().__init__()
        self.joiner = model.joiner

    def forward(self, encoder_out: Tensor, decoder_out: Tensor) -> Tensor:
        """(N, P) and (N, P) to (N, V)."""
        return self.joiner.combine(encoder_out, decoder_out)


def _encoder(packed: PackedEncoder) -> onnx.ModelProto:
    arguments = (torch.zeros(2, packed.chunk, packed.mels), *packed.init_states(2), torch.zeros(2, dtype=torch.int64))
    names = ("x", "states0", "states1", "processed_frames")
    shapes = ({0: BATCH}, {2: BATCH}, {2: BATCH}, {0: BATCH})
    proto = convert(packed, arguments, names, ("encoder_out", "next_states0", "next_states1"), shapes)
    return _told(proto, packed.metadata())


def _decoder(model: SpeechModel) -> onnx.ModelProto:
    labels = torch.zeros(2, model.predictor.context, dtype=torch.int64)
    proto = convert(_Decoder(model), (labels,), ("y",), ("decoder_out",), ({0: BATCH},))
    return _told(proto, {"context_size": str(model.predictor.context), "vocab_size": str(model.config.vocab)})


def _joiner(model: SpeechModel) -> onnx.ModelProto:
    width = model.joiner.encoder.out_features
    projected = (torch.zeros(2, width), torch.zeros(2, width))  # one tensor given twice would be traced as one input
    return convert(_Joiner(model), projected, ("encoder_out", "decoder_out"), ("logit",), ({0: BATCH}, {0: BATCH}))


def _told(proto: onnx.ModelProto, metadata: dict[str, str]) -> onnx.ModelProto:
    helper.set_model_props(proto, metadata)
    return proto


@torch.no_grad()
def _prove(model: SpeechModel, packed: PackedEncoder, files: dict[str, bytes]) -> None:
    """Streams noise through the graphs and through the model as it is; ``BundleError`` where they differ."""
    sessions = {
        name: ort.InferenceSession(data, session_options(), providers=["CPUExecutionProvider"])
        for name, data in files.items()
    }
    rng = np.random.default_rng(0)
    context = Context(packed.chunk // FACTOR, packed.cached)
    state, states = model.encoder.init_state(_PROOF_STREAMS, context), packed.init_states(_PROOF_STREAMS)
    first, second = (tensor.numpy() for tensor in states)
    lengths, worst = torch.full((_PROOF_STREAMS,), packed.chunk), 0.0
    for number in range(_PROOF_CHUNKS):
        x = rng.normal(10.0, 4.0, (_PROOF_STREAMS, packed.chunk, packed.mels)).astype(np.float32)
        labels = rng.integers(-1, model.config.vocab, (_PROOF_STREAMS, model.predictor.context))
        frames, _, state = model.encoder.step(torch.from_numpy(x).clamp(min=packed.floor), lengths, state)
        done = np.full(_PROOF_STREAMS, number * packed.chunk)
        feed = {"x": x - np.float32(LOUDER), "states0": first, "states1": second, "processed_frames": done}
        heard, first, second = sessions[ENCODER].run(None, feed)
        (expected,) = sessions[DECODER].run(None, {"y": labels})
        (logit,) = sessions[JOINER].run(None, {"encoder_out": heard[:, -1], "decoder_out": expected})
        wanted = model.joiner.step(frames[:, -1], model.predictor.step(torch.from_numpy(labels).clamp(min=0)))
        worst = max(worst, np.abs(heard - model.joiner.project_encoder(frames).numpy()).max())
        worst = max(worst, np.abs(logit - wanted.numpy()).max())
    if not worst <= TOLERANCE:
        raise BundleError(
            f"the graphs for sherpa-onnx differ from the model by {worst:.2g}, more than {TOLERANCE:g}: not written"
        )


def _check(model: SpeechModel, tokenizer: Tokenizer, out: Path) -> None:
    if not isinstance(model.encoder, AttentionEncoder):
        raise ConfigError(
            f"a {model.config.encoder.kind} encoder does not fit sherpa-onnx's conformer transducer, whose states are "
            "caches of attention and convolution; train a conformer or transformer, or export a bundle"
        )
    if not isinstance(model.predictor, StatelessPredictor):
        raise ConfigError(
            f"a {model.config.predictor.kind} predictor does not fit sherpa-onnx's conformer transducer, whose decoder "
            "sees the last labels only; train with predictor kind stateless, or export a bundle"
        )
    if tokenizer.size != model.config.vocab:
        raise ConfigError(f"the tokenizer has {tokenizer.size} tokens, the model {model.config.vocab}")
    if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= set(FILES)):
        raise BundleError(f"{out}: exists and is no earlier export for sherpa-onnx; name another folder")
