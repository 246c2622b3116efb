"""The protocols that are spoken, one file each; this table is all that knows them."""

from __future__ import annotations

from sayso.serving.adapter import Adapter
from sayso.serving.protocols import native, openai, page, rest, vosk, wyoming

ADAPTERS: tuple[Adapter, ...] = (
    native.ADAPTER,
    rest.ADAPTER,
    openai.ADAPTER,
    vosk.ADAPTER,
    wyoming.ADAPTER,
    page.ADAPTER,
)
