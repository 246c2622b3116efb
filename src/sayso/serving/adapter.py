"""What a protocol brings: routes on the HTTP port, or a port of its own. One file, one line in the table.

An adapter that needs a port of its own (Wyoming) gives ``listen``, which starts an asyncio server and returns it, or
None where the configuration does not ask for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sayso.serving.auth import Gate
from sayso.serving.session import Service


@dataclass(frozen=True)
class Site:
    """Where an adapter works: the session core, and who may come in."""

    service: Service
    gate: Gate


def _no_routes(site: Site) -> list[Any]:
    return []


async def _no_listener(site: Site) -> asyncio.Server | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A protocol. ``endpoints``: what is printed of its routes, such as ``ws /v1/stream``."""

    name: str
    endpoints: tuple[str, ...] = ()
    routes: Callable[[Site], list[Any]] = _no_routes
    listen: Callable[[Site], Awaitable[asyncio.Server | None]] = _no_listener
