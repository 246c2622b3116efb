"""The protocols that are spoken, one file each; this table is all that knows them."""

from __future__ import annotations

from sayso.serving.adapter import Adapter
from sayso.serving.protocols import native, page, rest

ADAPTERS: tuple[Adapter, ...] = (native.ADAPTER, rest.ADAPTER, page.ADAPTER)
