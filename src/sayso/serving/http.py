"""Requests and answers over HTTP, within the limits: who may ask, how large and how slow a body may be.

A body is read into memory, never onto a disk: audio is not stored. Form parts are too. An upload is decoded in a thread
and in pieces, so what it claims to hold costs nothing, and what it really holds ends at the limit of an utterance.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sayso.audio import decode
from sayso.core.errors import AudioError, require
from sayso.core.result import Result
from sayso.serving.adapter import Site
from sayso.serving.auth import Client, check_url
from sayso.serving.config import Limits
from sayso.serving.refusal import Refusal
from sayso.serving.session import Utterance
from sayso.serving.telemetry import complain
from sayso.serving.websocket import headers_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

Handler = Callable[["Request", Client], Awaitable["Response"]]
Body = Callable[[Refusal], Any]
BLOCK_S = 0.5
_FIELDS = 30


def problem(refusal: Refusal) -> dict[str, Any]:
    """The body of an error, in our words; other protocols bring theirs."""
    return {"error": {"code": refusal.code, "message": refusal.message}}


def http_route(path: str, site: Site, method: str, handler: Handler, body: Body = problem) -> Any:
    """A Starlette route for clients that may come in; a ``Refusal`` becomes its status with ``body`` as JSON."""

    async def endpoint(request: Request) -> Response:
        try:
            check_url(request.url.query)
            site.gate.check_page(request.headers)
            address = request.client.host if request.client else "-"
            return await handler(request, site.gate.client(request.headers, address))
        except Refusal as refusal:
            return json(body(refusal), refusal.status, headers_of(refusal))
        except Exception as error:
            if type(error).__name__ != "ClientDisconnect":
                complain("http", error)
            broken = Refusal("internal", "something went wrong here")
            return json(body(broken), broken.status)

    return require("starlette.routing", extra="serve", purpose="the service").Route(path, endpoint, methods=[method])


def json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer; a text is taken as JSON already."""
    return answer(content if isinstance(content, str) else None, "application/json", status, headers, content)


def answer(
    text: str | bytes | None, media: str, status: int = 200, headers: dict[str, str] | None = None, content: Any = None
) -> Response:
    """An answer of any media type; where ``text`` is None, ``content`` as JSON."""
    responses = require("starlette.responses", extra="serve", purpose="the service")
    plain = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    made: Response = (
        responses.JSONResponse(content, status, headers=plain)
        if text is None
        else responses.Response(text, status, headers=plain, media_type=media)
    )
    return made


async def read_body(request: Request, limits: Limits) -> bytes:
    """All of the body; ``Refusal`` (too_large, timeout) past the limits."""
    return b"".join([piece async for piece in _pieces(request, limits)])


async def read_form(request: Request, limits: Limits) -> dict[str, list[str | bytes]]:
    """A multipart form: texts, and files as bytes. ``Refusal`` for what is none."""
    formparsers = require("starlette.formparsers", extra="serve", purpose="uploads")
    require("python_multipart", extra="serve", purpose="uploads")
    most = limits.body_bytes
    parser = formparsers.MultiPartParser(
        request.headers, _pieces(request, limits), max_files=_FIELDS, max_fields=_FIELDS, max_part_size=most
    )
    parser.spool_max_size = most + 1  # in memory, whatever its size
    try:
        form = await parser.parse()
        found: dict[str, list[str | bytes]] = {}
        for name, value in form.multi_items():
            found.setdefault(name, []).append(value if isinstance(value, str) else await value.read())
        await form.close()
        return found
    except Refusal:
        raise
    except (formparsers.MultiPartException, KeyError, ValueError):
        raise Refusal(
            "bad_request", "the body is no multipart form; send multipart/form-data with a boundary"
        ) from None


async def understand(utterance: Utterance, audio: bytes, limits: Limits) -> Result:
    """The final result of an uploaded recording (wav, flac, ogg, mp3). Raises ``Refusal``.

    Its events may be read by another task meanwhile; then use ``feed``.
    """
    await feed(utterance, audio, limits)
    return await utterance.result()


async def feed(utterance: Utterance, audio: bytes, limits: Limits) -> None:
    """Decode a recording and give it to a stream at the stream's rate. ``Refusal`` for what is no audio."""
    with _in_memory(audio) as path:
        blocks = decode.blocks(path, utterance.ask.sample_rate, BLOCK_S)
        heard_s = 0.0
        while (block := await asyncio.to_thread(_next, blocks)) is not None and not utterance.over:
            heard_s += len(block) / utterance.ask.sample_rate
            if heard_s > limits.utterance_s + BLOCK_S:
                raise Refusal("too_long", f"found more than {limits.utterance_s:g} s of audio; send shorter ones")
            await utterance.audio(block)


def _next(blocks: Iterator[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    try:
        return next(blocks, None)
    except AudioError as error:
        raise Refusal("bad_audio", _without_path(str(error))) from None


def _without_path(message: str) -> str:
    """A decoder's message begins with the file's name, which is none of the client's."""
    return "the recording: " + message.partition(": ")[2]


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A path to read ``data`` from that is on no disk, where the system can do that; else a file that is removed."""
    if not data:
        raise Refusal("bad_audio", "found no audio; send a wav, flac, ogg or mp3 recording")
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("audio")
        try:
            with os.fdopen(os.dup(number), "wb") as file:
                file.write(data)
            yield f"/proc/self/fd/{number}"
        finally:
            os.close(number)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name


async def _pieces(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limits.body_bytes:
        raise Refusal("too_large", f"found a body of {declared[:20]} bytes; legal are {limits.body_bytes}")
    size = 0
    try:
        async with asyncio.timeout(limits.body_s):
            async for piece in request.stream():
                size += len(piece)
                if size > limits.body_bytes:
                    raise Refusal("too_large", f"found a body of more than the legal {limits.body_bytes} bytes")
                yield piece
    except TimeoutError:
        raise Refusal("timeout", f"the body did not come within {limits.body_s:g} s") from None
