"""Two decoders that write while they hear, each an ordinary one that may listen to a part of the frames only.

``chunk`` (Zeineldeen et al. 2024, arXiv:2309.08436) hears one chunk of frames at a time; the token that ends a sequence
elsewhere here ends a chunk, and then the next one is heard. Lessons are aligned: each label belongs to the chunk in
which CTC's forced alignment first says it.

``triggered`` (Moritz et al. 2019; with a Transformer 2020) hears all frames up to the one in which CTC says the label,
and ``ahead_frames`` more. Lessons take these triggers from the forced alignment, the search takes them from CTC's beam.

Which frames a place may hear is a mask in training; a search hands over the frames themselves.

Shape letters: ``B`` batch, ``T`` encoder frames, ``E`` their width, ``U`` labels, ``K`` chunks, ``S`` = U + K places.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, Tag, model_validator
from torch import Tensor

from sayso.core.config import one_of
from sayso.models.decoders.base import Decoder, DecoderSettings, Lesson, Memory, ended
from sayso.models.decoders.lstm import LstmDecoderConfig
from sayso.models.decoders.transformer import TransformerDecoderConfig
from sayso.models.masks import length_mask
from sayso.models.streaming import State

CoreConfig = Annotated[
    Annotated[TransformerDecoderConfig, Tag("transformer")] | Annotated[LstmDecoderConfig, Tag("lstm")],
    one_of("transformer"),
]


class _MaskedConfig(DecoderSettings):
    core: Any

    @model_validator(mode="after")
    def _any_frames(self) -> Self:
        if isinstance(self.core, LstmDecoderConfig) and self.core.location:
            raise ValueError(
                f"core.location = {self.core.location}: attention that knows places cannot listen to parts of the "
                "frames; set it to 0"
            )
        return self


class ChunkDecoderConfig(_MaskedConfig):
    """``chunk_frames`` of 80 ms are heard together, with ``left_frames`` before them. The core is an LSTM as in the
    paper: it may write for ever."""

    kind: Literal["chunk"] = "chunk"
    chunk_frames: int = Field(default=8, ge=1)
    left_frames: int = Field(default=0, ge=0)
    core: LstmDecoderConfig = LstmDecoderConfig(location=0)

    def build(self, encoder_width: int, vocab: int) -> ChunkDecoder:
        """Decoder of ``vocab`` labels over frames of this width."""
        return ChunkDecoder(self, encoder_width, vocab)


class TriggeredDecoderConfig(_MaskedConfig):
    """``ahead_frames`` of 80 ms are heard after the trigger, and before it ``left_frames`` (None: all)."""

    kind: Literal["triggered"] = "triggered"
    ahead_frames: int = Field(default=2, ge=0)
    left_frames: int | None = Field(default=None, ge=0)
    core: CoreConfig = TransformerDecoderConfig()

    def build(self, encoder_width: int, vocab: int) -> TriggeredDecoder:
        """Decoder of ``vocab`` labels over frames of this width."""
        return TriggeredDecoder(self, encoder_width, vocab)


class _Masked(Decoder[Any]):
    streams, aligned = True, True

    def __init__(self, config: _MaskedConfig, encoder_width: int, vocab: int) -> None:
        super().__init__()
        self.core: Decoder[Any] = config.core.build(encoder_width, vocab)
        self.width = self.core.width

    @property
    def longest(self) -> int | None:
        """The core's."""
        return self.core.longest

    @property
    def out(self) -> Any:
        """The last layer."""
        return self.core.out

    def attended(
        self, labels: Tensor, encoded: Tensor, lengths: Tensor, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The core's."""
        return self.core.attended(labels, encoded, lengths, seen)

    def memory(self, encoded: Tensor, lengths: Tensor) -> Memory:
        """The core's."""
        return self.core.memory(encoded, lengths)

    def init_state(self, batch: int, frames: int | None = None) -> State:
        """The core's, for frames that come and go."""
        found: State = self.core.init_state(batch)
        return found

    def step(self, labels: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        """The core's."""
        return self.core.step(labels, state, memory)


class ChunkDecoder(_Masked):
    """See the module."""

    config: ChunkDecoderConfig

    def __init__(self, config: ChunkDecoderConfig, encoder_width: int, vocab: int) -> None:
        super().__init__(config, encoder_width, vocab)
        self.config = config

    def lesson(
        self, labels: Tensor, counts: Tensor, encoded: Tensor, lengths: Tensor, end: int, times: Tensor | None = None
    ) -> Lesson:
        """The labels of each chunk and its end; rows without times teach nothing."""
        assert times is not None, "a chunk's lesson needs times"
        c, known = self.config, _known(times, counts)
        targets, places = chunk_targets(labels, counts, times, lengths, c.chunk_frames, end)
        ends = (targets[:, :-1] == end).long().cumsum(1)  # the chunk of every place but the first
        chunk = torch.nn.functional.pad(ends, (1, 0))[:, :, None] * c.chunk_frames
        frame = torch.arange(encoded.shape[1], device=encoded.device)
        seen = (frame >= chunk - c.left_frames) & (frame < chunk + c.chunk_frames)
        logits, attention = self.attended(targets[:, :-1], encoded, lengths, seen)
        return Lesson(logits, targets, torch.where(known, places, 0), attention)


class TriggeredDecoder(_Masked):
    """See the module."""

    config: TriggeredDecoderConfig

    def __init__(self, config: TriggeredDecoderConfig, encoder_width: int, vocab: int) -> None:
        super().__init__(config, encoder_width, vocab)
        self.config = config

    def lesson(
        self, labels: Tensor, counts: Tensor, encoded: Tensor, lengths: Tensor, end: int, times: Tensor | None = None
    ) -> Lesson:
        """Each label from what is heard at its trigger, the end from everything; rows without times teach nothing."""
        assert times is not None, "a triggered lesson needs times"
        c, known = self.config, _known(times, counts)
        last = ended(times + c.ahead_frames, counts, 0).scatter(1, counts[:, None], lengths[:, None] - 1)[:, :, None]
        frame = torch.arange(encoded.shape[1], device=encoded.device)
        seen = frame <= last
        if c.left_frames is not None:
            seen = seen & (frame >= last - c.ahead_frames - c.left_frames)
        logits, attention = self.attended(labels, encoded, lengths, seen)
        return Lesson(logits, ended(labels, counts, end), torch.where(known, counts + 1, 0), attention)


def chunk_targets(
    labels: Tensor, counts: Tensor, times: Tensor, lengths: Tensor, chunk_frames: int, end: int
) -> tuple[Tensor, Tensor]:
    """Labels (B,U) with the ends of ``ceil(lengths / chunk_frames)`` chunks between them, (B,S), and how many there
    are.

    A label stands in the chunk of its frame ``times`` (B,U); beyond a row's places everything is ``end``.
    """
    chunks = -(-lengths // chunk_frames)
    real = length_mask(counts, labels.shape[1])
    chunk = times.clamp(min=0) // chunk_frames
    size = labels.shape[1] + int(chunks.max())
    places = torch.arange(labels.shape[1], device=labels.device) + chunk  # every chunk before it ended once
    found = torch.full((labels.shape[0], size + 1), end, dtype=labels.dtype, device=labels.device)
    found.scatter_(1, torch.where(real, places, size), labels)  # the one more place takes the padding
    return found[:, :size], counts + chunks


def _known(times: Tensor, counts: Tensor) -> Tensor:
    """Rows (B,) that say when each of their labels was said."""
    return (~length_mask(counts, times.shape[1]) | (times >= 0)).all(1)
