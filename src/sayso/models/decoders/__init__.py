"""Attention decoders: they write tokens one after the other while they look at all encoder frames. A new one is one
file here and one line in the table."""

from __future__ import annotations

from typing import Annotated

from pydantic import Tag

from sayso.core.config import one_of
from sayso.models.decoders.transformer import TransformerDecoder, TransformerDecoderConfig

DECODERS = {"transformer": TransformerDecoderConfig}
DecoderConfig = Annotated[Annotated[TransformerDecoderConfig, Tag("transformer")], one_of("transformer")]
Decoder = TransformerDecoder

__all__ = ["DECODERS", "Decoder", "DecoderConfig"]
