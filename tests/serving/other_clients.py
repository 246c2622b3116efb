"""Clients of other people's protocols, as tests use them; where there is an unmodified one, it is that."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event, read_event

RATE = 16000


class VoskClient:
    """As Vosk's own examples: send, then receive, in turn."""

    def __init__(self, port: int, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else None
        self.link: ClientConnection = connect(
            f"ws://127.0.0.1:{port}/vosk", proxy=None, additional_headers=headers, legacy=True
        )

    def __enter__(self) -> VoskClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()

    def config(self, **config: Any) -> None:
        self.link.send(json.dumps({"config": {"sample_rate": RATE, **config}}))

    def ask(self, message: str | bytes) -> dict[str, Any]:
        """One reply, or the ``error`` that ended it."""
        with suppress(ConnectionClosed):  # why is still to be read
            self.link.send(message)
        return self.read()

    def read(self) -> dict[str, Any]:
        reply = json.loads(self.link.recv(timeout=120))
        assert isinstance(reply, dict)
        return reply

    def silent(self) -> bool:
        """Whether there is no reply that nobody asked for."""
        try:
            self.link.recv(timeout=0.02)
        except TimeoutError:
            return True
        return False

    def closed(self) -> int:
        """The code with which the other side ended it."""
        try:
            while True:
                self.link.recv(timeout=120)
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code


async def hear(client: AsyncTcpClient, sound: bytes, *, size: int = 3200, **wanted: Any) -> list[Event]:
    """Speech through Wyoming's own client; all events up to ``transcript-stop`` or the end."""
    await client.write_event(Transcribe(**wanted).event())
    await client.write_event(AudioStart(RATE, 2, 1).event())
    for start in range(0, len(sound), size):
        await client.write_event(AudioChunk(RATE, 2, 1, sound[start : start + size]).event())
    await client.write_event(AudioStop().event())
    return await events(client)


async def events(client: AsyncTcpClient) -> list[Event]:
    found: list[Event] = []
    while (event := await client.read_event()) is not None:
        found.append(event)
        if event.type in ("transcript-stop", "error"):
            break
    return found


class Raw:
    """Bytes on Wyoming's port; answers are read by its own library."""

    def __init__(self, port: int) -> None:
        self.link = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._file = self.link.makefile("rb")

    def send(self, *parts: bytes | dict[str, Any]) -> None:
        with suppress(ConnectionError):  # why is still to be read
            self.link.sendall(b"".join(p if isinstance(p, bytes) else json.dumps(p).encode() + b"\n" for p in parts))

    def chunk(self, sound: bytes, rate: int = RATE) -> None:
        data = {"rate": rate, "width": 2, "channels": 1}
        self.send({"type": "audio-chunk", "data": data, "payload_length": len(sound)}, sound)

    def start(self, rate: int = RATE, width: int = 2, channels: int = 1) -> None:
        self.send({"type": "audio-start", "data": {"rate": rate, "width": width, "channels": channels}})

    def read(self) -> Event | None:
        return read_event(self._file)

    def ended(self) -> str:
        """The code of the error with which the other side ended it; nothing may follow."""
        while (event := self.read()) is not None:
            if event.type == "error":
                assert set(event.data) == {"text", "code"} and "Traceback" not in event.data["text"]
                assert self.read() is None
                return str(event.data["code"])
        raise AssertionError("the end came without a word")

    def close(self) -> None:
        self._file.close()
        self.link.close()


@contextmanager
def raw(port: int) -> Iterator[Raw]:
    found = Raw(port)
    try:
        yield found
    finally:
        found.close()
