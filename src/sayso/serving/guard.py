"""What uvicorn's parsers lack against clients that waste a server's time.

A bound on connections that holds before anything is read, a deadline for the head of every request, small buffers for
answers, and an end to connections whose client does not read, or does not take the goodbye.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from sayso.core.errors import require
from sayso.serving.config import Limits

GOODBYE_S = 2.0
UNREAD_BYTES = 1 << 15  # here, and as much again in the kernel, for a client that does not read
_BUSY_BODY = b'{"error": {"code": "overloaded", "message": "too many connections are open"}}'
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_BUSY_BODY), _BUSY_BODY)
)


def guarded(limits: Limits) -> tuple[Any, Any]:
    """Uvicorn's two parsers with bounds of ours."""
    h11_impl = require("uvicorn.protocols.http.h11_impl", extra="serve", purpose="the service")
    sansio = require("uvicorn.protocols.websockets.websockets_sansio_impl", extra="serve", purpose="the service")
    h11 = require("h11", extra="serve", purpose="the service")

    class Impatient:
        """A client that does not read what it is sent is cut off after ``send_s``."""

        _deaf: asyncio.TimerHandle | None = None
        loop: asyncio.AbstractEventLoop
        transport: asyncio.Transport

        def pause_writing(self) -> None:
            super().pause_writing()  # type: ignore[misc]
            self._deaf = self._deaf or self.loop.call_later(limits.send_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()  # type: ignore[misc]
            if self._deaf is not None:
                self._deaf.cancel()
                self._deaf = None

    class Http(Impatient, h11_impl.H11Protocol):  # type: ignore[misc, name-defined]
        """A head must be complete within ``header_s``, the first and every later one."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=UNREAD_BYTES)
            door = transport.get_extra_info("socket")
            door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES)
            if len(self.connections) > limits.connections:
                transport.write(_BUSY)
                transport.close()
                return
            self._timer = self.loop.call_later(limits.header_s, transport.abort)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._forget()
            elif self._timer is None:
                self._timer = self.loop.call_later(limits.header_s, self.transport.abort)

        def on_response_complete(self) -> None:
            self._forget()
            super().on_response_complete()
            if self.transport.is_closing():
                self.loop.call_later(limits.send_s, self.transport.abort)

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            self.loop.call_later(limits.send_s, self.transport.abort)

        def handle_websocket_upgrade(self, event: Any) -> None:
            self._forget()
            super().handle_websocket_upgrade(event)

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _forget(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    class WebSocket(Impatient, sansio.WebSocketsSansIOProtocol):  # type: ignore[misc, name-defined]
        """When the conversation is over, so is the connection, whether or not the client reads."""

        async def run_asgi(self) -> None:
            self.close_timeout = GOODBYE_S
            await super().run_asgi()
            self.loop.call_later(2 * GOODBYE_S, self.transport.abort)

    return Http, WebSocket
