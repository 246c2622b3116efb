"""Attention decoders: they write tokens one after the other while they look at encoder frames. A new one is one file
here and one line in the table; one that writes while it hears needs a search of its own name as well
(``decoding/decoders.py``)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Tag

from sayso.core.config import one_of
from sayso.models.decoders.base import Decoder, DecoderSettings, Lesson, Memory
from sayso.models.decoders.lstm import LstmDecoderConfig
from sayso.models.decoders.masked import ChunkDecoderConfig, TriggeredDecoderConfig
from sayso.models.decoders.mocha import MochaDecoderConfig
from sayso.models.decoders.transformer import TransformerDecoderConfig

DECODERS = {
    "transformer": TransformerDecoderConfig,
    "lstm": LstmDecoderConfig,
    "chunk": ChunkDecoderConfig,
    "mocha": MochaDecoderConfig,
    "triggered": TriggeredDecoderConfig,
}
DecoderConfig = Annotated[
    Annotated[TransformerDecoderConfig, Tag("transformer")]
    | Annotated[LstmDecoderConfig, Tag("lstm")]
    | Annotated[ChunkDecoderConfig, Tag("chunk")]
    | Annotated[MochaDecoderConfig, Tag("mocha")]
    | Annotated[TriggeredDecoderConfig, Tag("triggered")],
    one_of("transformer"),
]
STREAMING = ("chunk", "mocha", "triggered")  # write while they hear

__all__ = ["DECODERS", "STREAMING", "Decoder", "DecoderConfig", "DecoderSettings", "Lesson", "Memory"]
