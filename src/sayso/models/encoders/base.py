"""The contract of every encoder, on one page: features in, one frame for every eight of them out.

``forward`` hears whole recordings, ``step`` a stream piece by piece, and both give the same numbers. What is counted in
frames is in encoder frames of 80 ms. Shapes: ``B`` batch, ``T`` features, ``F`` mel bins, ``n`` encoder frames, ``D``
width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from sayso.core.config import Config
from sayso.models.streaming import Context, State
from sayso.models.subsampling import FACTOR, STAGES, Subsampling

FEATURE_MS = 10.0
SAMPLES = 160  # of 16 kHz in 10 ms: a row of what an encoder of samples hears
S = TypeVar("S", bound=State)


class EncoderSettings(Config):
    """What every encoder is asked; ``chunk_frames`` and ``left_frames`` are the defaults of a stream."""

    hears: ClassVar[Literal["features", "samples"]] = "features"  # (B,T,mels) or (B,T,160), rows of 10 ms
    kind: str
    mels: int = 80
    channels: int = 192  # of the first convolution of the subsampling
    width: int = 256
    layers: int = Field(default=8, ge=1)
    dropout: float = 0.1
    chunk_frames: int = Field(default=4, ge=1)
    left_frames: int = Field(default=32, ge=0)

    def build(self) -> Encoder[Any]:
        """Randomly initialised encoder; every kind says which."""
        raise NotImplementedError


class Encoder(nn.Module, ABC, Generic[S]):
    """Normalisation and subsampling, which all that stream share, and what an encoder must answer.

    One that does not ``streams`` hears whole recordings.
    """

    streams: ClassVar[bool] = True
    config: EncoderSettings
    mean: Tensor  # (F,) of the training features
    scale: Tensor  # (F,) inverse standard deviation

    def __init__(self, config: EncoderSettings, stages: int | None = STAGES) -> None:
        """``stages``: of the subsampling; an encoder with fewer than three reduces time further itself, and one that
        hears samples has none (None)."""
        super().__init__()
        self.config = config
        self.width = config.width
        if stages is None:
            return
        self.subsampling = Subsampling(config.mels, config.channels, config.width, stages)
        self.register_buffer("mean", torch.zeros(config.mels))
        self.register_buffer("scale", torch.ones(config.mels))

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of the parameters that no training changes."""
        return ()

    @property
    def default_context(self) -> Context:
        """The context a stream gets when none is named."""
        return Context(self.config.chunk_frames, self.config.left_frames)

    @abstractmethod
    def lookahead_ms(self, context: Context | None = None) -> float | None:
        """The most future that a frame depends on, beyond its own 80 ms; None: everything."""

    @abstractmethod
    def receptive_field_ms(self, context: Context | None = None) -> float | None:
        """How long a stretch of features a frame depends on at most; None: no bound."""

    @abstractmethod
    def forward(
        self, x: Tensor, lengths: Tensor, context: Context | None = None, passed: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B,T,F), lengths (B,); returns (B,ceil(T/8),D), zero beyond each row's length, and frame counts. Layers'
        outputs, shaped so, are appended to ``passed``: for losses on the way."""

    @abstractmethod
    def init_state(self, batch: int, context: Context | None = None) -> S:
        """The state before the first sample, all zeros; ValueError for a context that cannot be streamed."""

    @abstractmethod
    def step(
        self, x: Tensor, lengths: Tensor, state: S, context: Context | None = None, final: bool = False
    ) -> tuple[Tensor, Tensor, S]:
        """The next features of a stream, or none: x (B,8n,F), zero where a row's ``lengths`` is shorter (its last).

        ``context`` is what the state was made for; None: x is one chunk of it. Returns frames (B,m,D), their counts
        (B,) and the next state. Frames that wait for a look-ahead come with a later step, and with ``final`` at the
        latest: it ends all rows of the batch. A row that was short must not be stepped again.
        """

    def reduced(self, x: Tensor, lengths: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Features padded to whole frames, normalised and subsampled; as ``Subsampling.forward``."""
        x = nn.functional.pad(x, (0, 0, 0, -x.shape[1] % FACTOR))
        x = (x - self.mean) * self.scale
        state = self.subsampling.init_state(x.shape[0], x) if state is None else state
        result: tuple[Tensor, Tensor, Tensor] = self.subsampling(x, lengths, state)
        return result
