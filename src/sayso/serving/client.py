"""A Python client: recordings to results over HTTP, streams over ``/v1/stream``.

    client = Client("http://127.0.0.1:8080", key="sayso-...")
    result = client.understand("my.wav")

    async with client.connect() as connection:
        stream = await connection.start(sample_rate=16000)
        await stream.send(pcm)                      # bytes of little-endian int16, or int16 or float samples
        await stream.end()
        async for message in stream:                # PartialMessage, then ResultMessage
            print(message.result.text)

What the service refuses is raised as ``ServiceError`` with the service's code.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import numpy as np
from numpy.typing import NDArray

from sayso.core.errors import SaysoError, UsageError, require
from sayso.core.result import Result
from sayso.serving.schema import (
    ErrorMessage,
    Options,
    PartialMessage,
    ResultMessage,
    Start,
    Value,
    read_server,
)

Lists = Mapping[str, list[Value]]


class ServiceError(SaysoError):
    """What a service says instead of a result. ``status``: of HTTP, None on a stream."""

    def __init__(
        self, code: str, message: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        """``code`` is one of ``sayso.serving.refusal.Code``."""
        super().__init__(message)
        self.code, self.message, self.status, self.retry_after_s = code, message, status, retry_after_s


class Client:
    """A service at ``url`` (http or https)."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"'{url}' is not the address of a service; write http://HOST:PORT")
        self._parts, self._timeout_s = parts, timeout_s
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def understand(
        self, audio: str | Path | bytes, *, bundle: str | None = None, language: str | None = None,
        lists: Lists | None = None, session: str | None = None,
    ) -> Result:  # fmt: skip
        """One recording: a path, or what is in the file. ``session``: a name for the dialogue that it is part of.
        Raises ``ServiceError``."""
        data = audio if isinstance(audio, bytes) else Path(audio).read_bytes()
        if lists:
            given = {name: list(values) for name, values in lists.items()}
            options = Options(bundle=bundle, language=language, lists=given, session=session)
            body, kind = _form({"options": options.model_dump_json().encode(), "audio": data})
            return Result.model_validate_json(self._ask("POST", "/v1/understand", body, kind))
        named = {"bundle": bundle, "language": language, "session": session}
        query = urlencode({name: value for name, value in named.items() if value is not None})
        path = "/v1/understand" + (f"?{query}" if query else "")
        return Result.model_validate_json(self._ask("POST", path, data, "application/octet-stream"))

    def bundles(self) -> list[dict[str, Any]]:
        """What is served: name, domain, languages, version, intents."""
        found: list[dict[str, Any]] = json.loads(self._ask("GET", "/v1/bundles"))["bundles"]
        return found

    def reload(self, bundle: str) -> str:
        """Have a bundle loaded again from its place; the version that is served now."""
        answer: dict[str, str] = json.loads(self._ask("POST", f"/v1/bundles/{quote(bundle, safe='')}/reload"))
        return answer["version"]

    def get(self, path: str) -> str:
        """Any page, such as ``/metrics``, as text."""
        return self._ask("GET", path).decode()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """A connection for streams, one after another. Raises ``ServiceError`` where it is refused."""
        client = require("websockets.asyncio.client", extra="serve", purpose="streaming to a service")
        exceptions = require("websockets.exceptions", extra="serve", purpose="streaming to a service")
        scheme = "wss" if self._parts.scheme == "https" else "ws"
        url = f"{scheme}://{self._parts.netloc}/v1/stream"
        try:
            socket = await client.connect(
                url,
                subprotocols=["sayso.v1"],
                additional_headers=self._headers,
                compression=None,
                proxy=None,
                open_timeout=self._timeout_s,
                ping_timeout=self._timeout_s,
                max_size=16 << 20,
            )
        except exceptions.InvalidStatus as error:
            response = error.response
            raise _error(response.status_code, response.body, response.headers.get("Retry-After")) from None
        try:
            yield Connection(socket, exceptions.ConnectionClosed)
        finally:
            await socket.close()

    def _ask(self, method: str, path: str, body: bytes | None = None, kind: str | None = None) -> bytes:
        parts = self._parts
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = make(parts.hostname or "", parts.port, timeout=self._timeout_s)
        headers = self._headers if kind is None else {**self._headers, "Content-Type": kind}
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise _error(response.status, data, response.headers.get("Retry-After"))
        return data


class Connection:
    """An open connection; ``start`` streams on it one after another."""

    def __init__(self, socket: Any, closed: type[Exception]) -> None:
        self.socket, self._closed = socket, closed

    async def start(
        self,
        *,
        sample_rate: int = 16000,
        lists: Lists | None = None,
        **options: Any,
    ) -> Stream:
        """Begin a stream; ``options`` are the other fields of ``schema.Start``, such as ``session``."""
        values = {name: list(values) for name, values in (lists or {}).items()}
        start = Start(sample_rate=sample_rate, lists=values, **options)
        stream = Stream(self.socket, self._closed, start)
        await stream.tell(start.model_dump_json())
        return stream


class Stream:
    """One stream. Read its messages with ``async for`` (they end with the result), or wait for ``result``."""

    def __init__(self, socket: Any, closed: type[Exception], start: Start) -> None:
        self._socket, self._closed, self._start = socket, closed, start
        self._over = False

    async def tell(self, message: str | bytes) -> None:
        """A message. Where the service has closed the connection nothing is said here: its reason waits to be read."""
        with suppress(self._closed):
            await self._socket.send(message)

    async def send(self, pcm: bytes | NDArray[Any]) -> None:
        """Samples: bytes in the encoding of the stream, or int16 or float samples (n,), which are converted to it."""
        if isinstance(pcm, bytes):
            await self.tell(pcm)
            return
        floats = pcm.astype(np.float32) / (32768 if pcm.dtype == np.int16 else 1)
        if self._start.encoding == "pcm_f32le":
            await self.tell(floats.astype("<f4").tobytes())
        else:
            await self.tell(np.clip(np.round(floats * 32768), -32768, 32767).astype("<i2").tobytes())

    async def end(self) -> None:
        """No more samples."""
        await self.tell('{"type": "end"}')

    async def result(self) -> Result:
        """Read on to the (next) final result. Raises ``ServiceError``."""
        async for message in self:
            if isinstance(message, ResultMessage):
                return message.result
        raise ServiceError("internal", "the stream ended without a result")

    def __aiter__(self) -> AsyncIterator[PartialMessage | ResultMessage]:
        """Messages; with ``endpoint='always'`` until the connection is closed."""
        return self._messages()

    async def _messages(self) -> AsyncIterator[PartialMessage | ResultMessage]:
        while not self._over:
            try:
                message = read_server(await self._socket.recv())
            except self._closed as error:
                raise ServiceError("closed", f"the connection was closed ({error})") from None
            if isinstance(message, ErrorMessage):
                raise ServiceError(message.code, message.message, retry_after_s=message.retry_after_s)
            self._over = isinstance(message, ResultMessage) and self._start.endpoint != "always"
            yield message


def _form(parts: Mapping[str, bytes]) -> tuple[bytes, str]:
    """A multipart body and its content type."""
    boundary = "sayso-form-boundary"
    while any(boundary.encode() in part for part in parts.values()):
        boundary += "-"
    body = b""
    for name, part in parts.items():
        file = '; filename="audio"' if name == "audio" else ""
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + part + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _error(status: int, body: bytes | None, retry_after: str | None) -> ServiceError:
    wait_s = float(retry_after) if retry_after is not None and retry_after.isdigit() else None
    try:
        error = json.loads(body or b"")["error"]
        return ServiceError(error["code"], error["message"], status=status, retry_after_s=wait_s)
    except (ValueError, KeyError, TypeError):
        return ServiceError("http", f"the service answered with status {status}", status=status, retry_after_s=wait_s)
