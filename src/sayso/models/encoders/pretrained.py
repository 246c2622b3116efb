"""Encoders that others trained on much speech: Whisper (Radford et al. 2022), wav2vec 2.0 (Baevski et al. 2020), HuBERT
(Hsu et al. 2021) and WavLM (Chen et al. 2022), from ``transformers``.

They hear whole recordings of samples and stay in the workshop: as the encoder of a model that understands speech, or as
the teacher of one that streams. What their layers say is mixed by weights that are learnt (Yang et al. 2021, SUPERB),
the mean over every 80 ms is projected to our width. Samples come as rows of 10 ms, (B,T,160), so that lengths and
padding are counted as those of features are.

Padding changes nothing: wav2vec 2.0 and its kin get a mask where their convolutions are normalised frame by frame, and
hear every row by itself where a group norm runs over time; Whisper makes log-mels of its own of every row and always
hears as much as it was made for (30 s), the rest of it silence, as it was trained.

Shape letters: ``B`` batch, ``T`` rows of 10 ms, ``M`` frames of 20 ms, ``n`` encoder frames, ``L`` layers, ``D`` width.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from sayso.core.errors import ConfigError, DataError, require
from sayso.models.encoders.base import SAMPLES, Encoder, EncoderSettings
from sayso.models.masks import length_mask
from sayso.models.streaming import Context, State
from sayso.models.subsampling import FACTOR

KINDS = ("wav2vec2", "hubert", "wavlm", "whisper")
RATE, PER_FRAME = 16000, 4  # of 20 ms in an encoder frame
_LEAST = 400  # samples that the first frame of 20 ms is made of
_UNUSED = ("mels", "channels", "layers", "chunk_frames", "left_frames")


class PretrainedConfig(EncoderSettings):
    """``source`` is a local folder or the name of a hub's model; of its layers the last ``trained_layers`` are trained
    further (0: it is frozen; "all": and what is below the layers). ``weighted`` mixes all layers, otherwise the last is
    taken.

    ``architecture`` and ``normalise`` are what was found there: a checkpoint says them, so that it can be read where
    the source is not; then its weights are the checkpoint's.
    """

    hears: ClassVar[Literal["features", "samples"]] = "samples"
    kind: Literal["pretrained"] = "pretrained"
    source: str
    trained_layers: Annotated[int, Field(ge=0)] | Literal["all"] = 0
    weighted: bool = True
    architecture: dict[str, Any] | None = None
    normalise: bool | None = None

    @model_validator(mode="after")
    def _sizes_are_the_sources(self) -> Self:
        for name in _UNUSED:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"a pretrained encoder is as large as its source; leave '{name}' out")
        return self

    def build(self) -> Pretrained:
        """With the weights of the source; random ones where ``architecture`` is known."""
        return Pretrained(self)


@dataclass
class NoState(State):
    """There is none: nothing here streams."""


class Pretrained(Encoder[NoState]):
    """See the module."""

    config: PretrainedConfig
    streams: ClassVar[bool] = False

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config, stages=None)
        body, architecture = _body(config)
        count, width = body.config.num_hidden_layers, body.config.hidden_size
        if config.trained_layers != "all" and config.trained_layers > count:
            raise ConfigError(
                f"{config.source}: trained_layers = {config.trained_layers}, but it has {count} layers; "
                "give at most as many, or 'all'"
            )
        normalise = _normalised(config, body) if config.normalise is None else config.normalise
        self.config = config.model_copy(update={"architecture": architecture, "normalise": normalise})
        self.whisper = body.config.model_type == "whisper"
        self.together = not self.whisper and body.config.feat_extract_norm == "layer"
        self.body = body
        self.mix = nn.Parameter(torch.zeros(count + 1)) if config.weighted else None
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(width, config.width)
        kept = frozenset(self.frozen)
        for name, weight in self.named_parameters():
            weight.requires_grad_(name not in kept)
        if self.whisper:
            self._log_mel = _log_mel(body.config)

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of the parameters that training leaves as they are."""
        trained = self.config.trained_layers
        names = [f"body.{name}" for name, _ in self.body.named_parameters()]
        if trained == "all":
            return tuple(name for name in names if name == "body.embed_positions.weight")  # Whisper's are fixed
        count, layers = self.body.config.num_hidden_layers, "body.layers." if self.whisper else "body.encoder.layers."
        last = tuple(f"{layers}{number}." for number in range(count - trained, count))
        return tuple(name for name in names if not name.startswith(last))

    def train(self, mode: bool = True) -> Self:
        """As ever; what is frozen as a whole hears without dropout."""
        super().train(mode)
        self.body.train(mode and self.config.trained_layers != 0)
        return self

    def lookahead_ms(self, context: Context | None = None) -> float | None:
        """Everything."""
        return None

    def receptive_field_ms(self, context: Context | None = None) -> float | None:
        """Everything."""
        return None

    def forward(
        self, x: Tensor, lengths: Tensor, context: Context | None = None, passed: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """As the contract says, for samples x (B,T,160); ``context`` is of no use here. Only the output is passed."""
        frames = -(-lengths // FACTOR)
        mixed = self.mixed(self.hidden(x, lengths), lengths, x.shape[1])
        out = self.projection(self.dropout(mixed)) * length_mask(frames, mixed.shape[1])[:, :, None]
        if passed is not None:
            passed.append(out)
        return out, frames

    def init_state(self, batch: int, context: Context | None = None) -> NoState:
        """Raises ValueError: it hears whole recordings."""
        raise ValueError("a pretrained encoder hears whole recordings; distil it into one that streams")

    def step(
        self, x: Tensor, lengths: Tensor, state: NoState, context: Context | None = None, final: bool = False
    ) -> tuple[Tensor, Tensor, NoState]:
        """Raises ValueError, as ``init_state``."""
        raise ValueError("a pretrained encoder hears whole recordings; distil it into one that streams")

    def hidden(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        """What every layer says (L+1 of (B,M,D)): of each row its own frames of 20 ms, and anything behind them."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.trained_layers != 0):
            if self.whisper:
                return self._heard(input_features=self._log_mels(x, lengths))
            samples = [self._samples(row, length) for row, length in zip(x, lengths.tolist(), strict=True)]
            if self.together:
                sizes = torch.tensor([len(row) for row in samples], device=x.device)
                wave = nn.utils.rnn.pad_sequence(samples, batch_first=True)
                return self._heard(input_values=wave, attention_mask=length_mask(sizes, wave.shape[1]).long())
            alone = [self._heard(input_values=row[None]) for row in samples]
        return [
            nn.utils.rnn.pad_sequence([part[0] for part in layer], batch_first=True)
            for layer in zip(*alone, strict=True)
        ]

    def mixed(self, layers: list[Tensor], lengths: Tensor, longest: int) -> Tensor:
        """(B,ceil(T/8),D): the layers by their weights, the mean over every 80 ms. Frames that the convolutions have
        no room for, at the end, repeat the last."""
        if self.mix is None:
            heard = layers[-1]
        else:
            heard = torch.einsum("l,lbmd->bmd", torch.softmax(self.mix, 0), torch.stack(layers))
        count = -(-longest // FACTOR) * PER_FRAME
        last = self._frames(lengths.clamp(min=1)).clamp(max=heard.shape[1]) - 1
        place = torch.arange(count, device=heard.device)[None].minimum(last[:, None])
        rows = heard.gather(1, place[:, :, None].expand(-1, -1, heard.shape[2]))
        pooled: Tensor = rows.reshape(len(rows), count // PER_FRAME, PER_FRAME, rows.shape[2]).mean(2)
        return pooled

    def _heard(self, **given: Tensor) -> list[Tensor]:
        return list(self.body(**given, output_hidden_states=True).hidden_states)

    def _frames(self, lengths: Tensor) -> Tensor:
        """Frames of 20 ms that are a row's own."""
        if self.whisper:
            return -(-lengths // FACTOR) * PER_FRAME  # behind a row's end there is silence to hear
        size = (lengths * SAMPLES).clamp(min=_LEAST)
        for kernel, stride in zip(self.body.config.conv_kernel, self.body.config.conv_stride, strict=True):
            size = (size - kernel) // stride + 1
        return size

    def _samples(self, row: Tensor, length: int) -> Tensor:
        """The samples of a row (T,160), by mean and deviation where the source wants them so."""
        samples = row[:length].flatten()
        if self.config.normalise and len(samples):
            samples = (samples - samples.mean()) / torch.sqrt(samples.var(correction=0) + 1e-7)
        return nn.functional.pad(samples, (0, max(0, _LEAST - len(samples))))

    def _log_mels(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Whisper's own features (B,mels,2 x positions)."""
        most = 2 * self.body.config.max_source_positions
        if int(lengths.max()) > most:
            raise DataError(
                f"a recording of {int(lengths.max()) / 100:.1f} s: this encoder hears {most / 100:.0f} s at most; "
                "leave longer ones out with 'longest_s'"
            )
        rows = [row[:length].flatten().cpu().numpy() for row, length in zip(x, lengths.tolist(), strict=True)]
        with torch.autocast("cpu", enabled=False):  # they are made by torch, there
            found = self._log_mel(rows, sampling_rate=RATE, return_tensors="np")["input_features"]
        return torch.from_numpy(np.asarray(found)).to(x)


def _body(config: PretrainedConfig) -> tuple[Any, dict[str, Any]]:
    """The network, without a decoder, and its own settings."""
    package = require("transformers", extra="pretrained", purpose="a pretrained encoder")
    if config.architecture is not None:
        settings = dict(config.architecture)
        body = package.AutoModel.from_config(package.AutoConfig.for_model(settings.pop("model_type"), **settings))
    else:
        try:
            known = package.AutoConfig.from_pretrained(config.source)
            if known.model_type not in KINDS:
                raise ConfigError(f"{config.source}: is a '{known.model_type}'; legal are {', '.join(KINDS)}")
            body = package.AutoModel.from_pretrained(config.source)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f"encoder.source = '{config.source}': neither a folder that transformers saved nor a model that can be "
                f"fetched ({error})"
            ) from None
    settings = body.config
    # masks and dropped layers of its own pretraining: the recipe has those it wants, with its seed
    for name in ("apply_spec_augment", "layerdrop", "encoder_layerdrop"):
        if hasattr(settings, name):
            setattr(settings, name, type(getattr(settings, name))(0))
    body = body.encoder if settings.model_type == "whisper" else body
    if hasattr(body, "layerdrop"):
        body.layerdrop = 0.0
    return body.float(), json.loads(settings.to_json_string())


def _normalised(config: PretrainedConfig, body: Any) -> bool:
    """Whether the source wants every recording at mean 0 and deviation 1; those that do not say: as their norm goes."""
    if body.config.model_type == "whisper":
        return False
    package = require("transformers", extra="pretrained", purpose="a pretrained encoder")
    try:
        return bool(package.AutoFeatureExtractor.from_pretrained(config.source).do_normalize)
    except (OSError, ValueError):
        return bool(body.config.feat_extract_norm == "layer")


def _log_mel(settings: Any) -> Any:
    package = require("transformers", extra="pretrained", purpose="a pretrained encoder")
    seconds = settings.max_source_positions * 2 // 100
    return package.WhisperFeatureExtractor(feature_size=settings.num_mel_bins, chunk_length=seconds)
