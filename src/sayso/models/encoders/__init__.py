"""Encoders. A new one is one file here and one line in the table."""

from __future__ import annotations

from sayso.models.encoders.conformer import Conformer, ConformerConfig

ENCODERS = {"conformer": ConformerConfig}
EncoderConfig = ConformerConfig
Encoder = Conformer
