"""Encoders. A new one is one file here and one line in the table; ``docs/add_an_encoder.md`` shows it."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

from sayso.models.encoders.base import Encoder, EncoderSettings
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.encoders.lstm import LstmConfig
from sayso.models.encoders.pretrained import PretrainedConfig
from sayso.models.encoders.transformer import TransformerConfig

_Table = (
    ConformerConfig
    | LstmConfig
    | TransformerConfig
)  # fmt: skip
_Whole = PretrainedConfig  # hears whole recordings; never in a bundle


def _said(value: Any) -> Any:
    """Settings that name no kind are a Conformer's."""
    return {"kind": "conformer", **value} if isinstance(value, dict) else value


EncoderConfig = Annotated[_Table | _Whole, Field(discriminator="kind"), BeforeValidator(_said)]
ENCODERS: dict[str, type[EncoderSettings]] = {kind.model_fields["kind"].default: kind for kind in get_args(_Table)}

__all__ = ["ENCODERS", "Encoder", "EncoderConfig", "EncoderSettings"]
