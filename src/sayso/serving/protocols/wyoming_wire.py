"""Wyoming's frames on TCP as the messages of a ``Socket``, with a bound on every part of them.

A frame is a line of JSON, ``{"type", "data"?, "data_length"?, "payload_length"?}``, then ``data_length`` bytes of JSON,
which are merged over ``data``, then ``payload_length`` bytes (OHF-Voice/wyoming 1.10, README). The lengths are the
client's, so they are looked at before anything of that length is read, and every part has its time.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sayso.serving.config import Limits
from sayso.serving.guard import UNREAD_BYTES
from sayso.serving.refusal import Refusal

LINE_BYTES = 1 << 16
SPOKEN = "1.10.2"  # version of the protocol
_FRAME = "a frame is a line of JSON, {type, data, data_length, payload_length}"


@dataclass(frozen=True)
class Event:
    """A frame: what it is, what it says, and samples where it has any."""

    type: str
    data: dict[str, Any]
    payload: bytes = b""


def pack(kind: str, data: dict[str, Any]) -> str:
    """A frame without a payload, as a client reads it."""
    said = json.dumps(data)  # ASCII: as many bytes as characters
    head = {"type": kind, "version": SPOKEN, "data_length": len(said)}
    return f"{json.dumps(head)}\n{said}"


def unpack(message: str | bytes) -> Event:
    """The event in a message of ``Line``."""
    head, payload = message.split(b"\n", 1) if isinstance(message, bytes) else (message, b"")
    return Event(**json.loads(head), payload=payload)


class Line:
    """One TCP connection (``websocket.Wire``). A frame with a payload is a binary message, any other a text.

    ``receive`` raises ``Refusal`` (bad_message, too_large, timeout) for what is no frame, or not within the limits.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: Limits) -> None:
        """``reader`` has the limit ``LINE_BYTES``."""
        self._reader, self._writer, self._limits = reader, writer, limits
        writer.transport.set_write_buffer_limits(high=UNREAD_BYTES)

    async def receive(self) -> dict[str, Any]:
        """The next frame, once all of it is there."""
        try:
            first = await self._reader.read(1)  # waits as long as the Socket does
            async with asyncio.timeout(self._limits.header_s):
                line = first + await self._reader.readuntil(b"\n") if first != b"\n" else first
            head = _object(line)
            sizes = [self._size(head, name) for name in ("data_length", "payload_length")]
            async with asyncio.timeout(self._limits.body_s):
                said, payload = [await self._reader.readexactly(size) for size in sizes]
        except (asyncio.IncompleteReadError, ConnectionError):
            return {"type": "websocket.disconnect"}
        except asyncio.LimitOverrunError:
            raise Refusal("too_large", f"found a line longer than the legal {LINE_BYTES} bytes") from None
        except TimeoutError:
            raise Refusal("timeout", "the rest of a frame did not come in time; send it whole") from None
        kind, data = head.get("type"), head.get("data") or {}
        if not isinstance(kind, str) or not isinstance(data, dict):
            raise Refusal("bad_message", _FRAME + "; type is a text and data an object")
        event = json.dumps({"type": kind, "data": {**data, **(_object(said) if said else {})}})
        if payload:
            return {"type": "websocket.receive", "bytes": event.encode() + b"\n" + payload}
        return {"type": "websocket.receive", "text": event}

    async def send_text(self, data: str, /) -> None:
        """Send a frame; waits while the client does not read."""
        self._writer.write(data.encode())
        await self._writer.drain()

    async def close(self, code: int, reason: str, /) -> None:
        """End the connection; what the client still sends is read away, so that it gets to read what we said."""
        try:
            with suppress(OSError):
                self._writer.write_eof()
                while await self._reader.read(LINE_BYTES):
                    pass
        finally:
            self._writer.transport.abort()

    def _size(self, head: dict[str, Any], name: str) -> int:
        size = head.get(name) or 0
        if not isinstance(size, int) or size < 0:
            raise Refusal("bad_message", f"{name} is a number of bytes")
        if size > self._limits.message_bytes:
            raise Refusal("too_large", f"found a {name} over the legal {self._limits.message_bytes} bytes")
        return size


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise Refusal("bad_message", _FRAME) from None
    if not isinstance(found, dict):
        raise Refusal("bad_message", _FRAME)
    return found
