"""A WebSocket that keeps the service's limits, and the route that lets a client have one.

Who may not come in, or does not fit, is told before the upgrade, as HTTP. After it every way in which a client can
waste our time has an end: no audio, nothing at all, too long a session, messages faster than the limit (which wait),
answers that are not read. A protocol adapter gives a route two functions: ``talk``, which has the conversation, and
``refused``, which puts a refusal into its protocol's words.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from sayso.core.errors import require
from sayso.serving.adapter import Site
from sayso.serving.auth import check_url
from sayso.serving.refusal import Refusal
from sayso.serving.session import Service, Utterance, Visit
from sayso.serving.telemetry import complain

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

LAST_LOOK_S = 0.05  # at what has come, before a client is called silent
Talk = Callable[["Socket"], Awaitable[None]]
Refused = Callable[[Refusal], str | None]


class Wire(Protocol):
    """What carries messages: Starlette's WebSocket, or what a protocol on a port of its own puts in its place."""

    async def receive(self) -> MutableMapping[str, Any]:
        """The next ASGI message: ``websocket.receive`` with ``text`` or ``bytes``, or ``websocket.disconnect``."""

    async def send_text(self, data: str, /) -> None:
        """Send a text; waits while the client does not read."""

    async def close(self, code: int, reason: str, /) -> None:
        """End the connection."""


class Socket:
    """One accepted connection. ``receive`` and ``send`` raise ``Refusal`` where a limit is passed.

    A protocol whose connections are for more than streams gets ``visit`` None and puts one there while it streams.
    """

    def __init__(self, websocket: Wire, service: Service, visit: Visit | None) -> None:
        self.service, self.limits = service, service.limits
        self._websocket, self._visit = websocket, visit
        self._began = self._active_at = time.monotonic()
        self._heard_audio = False
        self._receiving: asyncio.Task[Any] | None = None
        self._helper: asyncio.Task[None] | None = None
        self._draining = asyncio.create_task(self.service.draining.wait())
        self._tokens, self._tokens_at = self.limits.messages_per_s, self._began

    async def receive(self) -> str | bytes | None:
        """The next message; None once the client has gone. An error of the ``helper`` comes out here."""
        await self._pace()
        self._active_at = time.monotonic()  # what the client has sent while we made it wait is still to be read
        while True:
            if self.service.closed and not self._busy:
                raise Refusal("going_away", "the service is stopping; use another, or try again in a moment")
            self._receiving = self._receiving or asyncio.create_task(self._websocket.receive())
            helper = self._helper
            waiting: set[asyncio.Task[Any]] = {self._receiving}
            waiting |= {helper} if helper is not None else set()
            waiting |= {self._draining} if not self._draining.done() else set()
            left_s, why = self._patience()
            patience = max(left_s, LAST_LOOK_S)
            done, _ = await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if helper is not None and helper.done():
                self._helper = None
                helper.result()
            elif self._receiving.done():
                message, self._receiving = self._receiving.result(), None
                self._active_at = time.monotonic()
                return self._content(message)
            if not done and left_s <= 0:
                raise Refusal("timeout", why)

    def help(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do ``work`` beside ``receive``: one at a time, usually sending events."""
        assert self._helper is None or self._helper.done(), "one at a time"
        self._helper = asyncio.create_task(work)
        return self._helper

    async def send(self, text: str) -> None:
        """A text message; ``Refusal`` (slow_reader) where the client does not take it in time."""
        try:
            async with asyncio.timeout(self.limits.send_s):
                await self._websocket.send_text(text)
        except TimeoutError:
            raise Refusal("slow_reader", "answers were not read in time") from None
        self._active_at = time.monotonic()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye; a client that has gone, or does not read, is left alone."""
        for task in (self._helper, self._receiving, self._draining):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
        with suppress(Exception):
            async with asyncio.timeout(1.0):
                await self._websocket.close(code, reason[:100])

    @property
    def visit(self) -> Visit:
        """The place that streams run on."""
        assert self._visit is not None, "a visit comes before a stream"
        return self._visit

    @visit.setter
    def visit(self, visit: Visit | None) -> None:
        self._visit = visit

    @property
    def _utterance(self) -> Utterance | None:
        return self._visit.utterance if self._visit is not None else None

    @property
    def _busy(self) -> bool:
        """Whether something is under way that must not be cut off."""
        running = self._utterance is not None and not self._utterance.over
        return running or (self._helper is not None and not self._helper.done())

    def _patience(self) -> tuple[float, str]:
        """Seconds until a limit is passed, and what to say then."""
        now, limits, utterance = time.monotonic(), self.limits, self._utterance
        if self._draining.done() and not self.service.closed:
            return LAST_LOOK_S, ""
        session_s = self._began + limits.session_s - now
        quiet_s = self._active_at + limits.idle_s - now
        if not self._heard_audio:
            quiet_s = min(quiet_s, self._began + limits.first_audio_s - now)
        if session_s <= quiet_s or (utterance is not None and utterance.ended and not utterance.over):  # our turn
            return session_s, f"a session ends after {limits.session_s:g} s; connect again"
        return quiet_s, "nothing came for too long; connect when there is something to say"

    async def _pace(self) -> None:
        """Wait where messages come faster than they may."""
        now, rate = time.monotonic(), self.limits.messages_per_s
        self._tokens = min(rate, self._tokens + (now - self._tokens_at) * rate) - 1.0
        self._tokens_at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / rate)

    def _content(self, message: MutableMapping[str, Any]) -> str | bytes | None:
        if message["type"] != "websocket.receive":
            return None
        data = message.get("bytes")
        if data is None:
            text: str = message.get("text") or ""
            return text
        self._heard_audio = True
        return bytes(data)


def websocket_route(
    path: str, site: Site, protocol: str, talk: Talk, refused: Refused, *, subprotocol: str | None = None
) -> Any:
    """A Starlette route on which ``talk`` has conversations; ``subprotocol`` is taken where a client offers it."""
    service = site.service

    async def endpoint(websocket: WebSocket) -> None:
        try:
            check_url(websocket.url.query)
            site.gate.check_page(websocket.headers)
            offered = [str(name) for name in websocket.scope.get("subprotocols", ())]
            address = websocket.client.host if websocket.client else "-"
            visit = service.visit(site.gate.client(websocket.headers, address, offered), protocol)
        except Refusal as refusal:
            await websocket.send_denial_response(_denial(refusal))
            return
        async with visit:
            await websocket.accept(subprotocol=subprotocol if subprotocol in offered else None)
            await converse(Socket(websocket, service, visit), talk, refused)

    route: WebSocketRoute = require("starlette.routing", extra="serve", purpose="the service").WebSocketRoute(
        path, endpoint
    )
    return route


async def converse(socket: Socket, talk: Talk, refused: Refused) -> None:
    """One conversation to its end, whatever that is; the client is told why."""
    code, reason = 1000, ""
    try:
        await talk(socket)
    except Refusal as refusal:
        code, reason = refusal.close, refusal.code
        socket.service.telemetry.refused(refusal)
        if (text := refused(refusal)) is not None and refusal.code != "slow_reader":
            with suppress(Exception):
                await socket.send(text)
    except Exception as error:
        if not _gone(error):
            complain("websocket", error)
            code = 1011
    finally:
        await socket.close(code, reason)


def _gone(error: Exception) -> bool:
    """Whether the client left in the middle of something; that is its right."""
    return isinstance(error, OSError) or type(error).__name__ in ("WebSocketDisconnect", "ClientDisconnected")


def _denial(refusal: Refusal) -> Response:
    responses = require("starlette.responses", extra="serve", purpose="the service")
    answer: Response = responses.JSONResponse(
        {"error": {"code": refusal.code, "message": refusal.message}},
        status_code=refusal.status,
        headers=headers_of(refusal),
    )
    return answer


def headers_of(refusal: Refusal) -> dict[str, str]:
    """What HTTP says of a refusal beside its status: when to come back, or how to show a key."""
    found = {"WWW-Authenticate": "Bearer"} if refusal.code == "unauthorized" else {}
    if refusal.retry_after_s is not None:
        found["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    return found
