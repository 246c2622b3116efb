"""Whatever a client says: an answer in the protocol's words, no trace of ours, and the service goes on."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from live_service import ROOT, Server, eventually, pcm16
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from sayso.audio.decode import read
from sayso.serving.client import ServiceError
from sayso.serving.refusal import MEANINGS
from sayso.serving.schema import ErrorMessage, PartialMessage, ResultMessage, read_server

NAME = "turn-on-the-kitchen-lights"
SOUND = pcm16(read(ROOT / "examples" / f"{NAME}.flac")[:16000])
WRONG = [
    "", "[]", "{", "null", "1e400", '{"type": "start", "type": 1}', '{"type": []}', '{"type": "stop"}', "[" * 5000,
    '{"type": "start", "version": 2}', '{"type": "start", "sample_rate": 0}', '{"type": "start", "sample_rate": 1e300}',
    '{"type": "start", "encoding": "mp3"}', '{"type": "start", "lists": [[]]}', '{"type": "start", "endpoint": null}',
    '{"type": "start", "lists": {"area": [["a", "b", "c"]]}}', '{"type": "start", "bundle": "../../etc"}',
    '{"type": "start", "language": "\\ud800"}', '{"type": "start", "config": {"model": 1}}', '{"type": "end", "x": 1}',
    '{"type": "start", "lists": {"area": [""]}}', '{"type": "start", "lists": {"area": []}}', "Done", '{"eof": 1}',
]  # fmt: skip
CLOSES = {meaning.close for meaning in MEANINGS.values()}


class Conversation(RuleBasedStateMachine):
    """The native protocol by a client that knows its messages and nothing of their order.

    A model of what must come: a stream that was ended gives exactly one result or error; a wrong word ends the
    conversation with an ``error`` and a close code of the table.
    """

    server: Server

    @initialize()
    def arrive(self) -> None:
        url = f"ws://127.0.0.1:{self.server.port}/v1/stream"
        self.link: ClientConnection = connect(url, proxy=None, legacy=True)
        self.streaming = self.ended = self.over = False

    @precondition(lambda self: self.over)
    @rule()
    def return_(self) -> None:
        self.link.close()
        self.arrive()

    @precondition(lambda self: not self.over)
    @rule(partials=st.booleans(), rate=st.sampled_from([8000, 16000, 44100]), encoding=st.sampled_from([2, 4]))
    def start(self, partials: bool, rate: int, encoding: int) -> None:
        name = "pcm_s16le" if encoding == 2 else "pcm_f32le"
        message = {"type": "start", "partials": partials, "sample_rate": rate, "encoding": name}
        if self.streaming and not self.ended:
            self.leave_after(json.dumps(message), "bad_message")
            return
        self.link.send(json.dumps(message))
        self.streaming, self.ended = True, False

    @precondition(lambda self: not self.over)
    @rule(size=st.integers(0, 9000), at=st.integers(0, len(SOUND)))
    def audio(self, size: int, at: int) -> None:
        data = SOUND[at : at + size]
        if not self.streaming:
            self.leave_after(data, "bad_message")
        else:
            self.link.send(data)

    @precondition(lambda self: not self.over and self.streaming and not self.ended)
    @rule()
    def finish(self) -> None:
        self.link.send('{"type": "end"}')
        self.ended = True
        while not isinstance(message := read_server(self.link.recv(timeout=60)), ResultMessage):
            if isinstance(message, ErrorMessage):
                assert message.code == "bad_audio"  # bytes that are no floats
                return
            assert isinstance(message, PartialMessage)
        assert message.result.final

    @precondition(lambda self: not self.over and self.streaming)
    @rule()
    def cancel(self) -> None:
        self.link.send('{"type": "cancel"}')
        self.ended = True

    @precondition(lambda self: not self.over)
    @rule(message=st.sampled_from(WRONG))
    def nonsense(self, message: str) -> None:
        legal = '"../../etc"' in message or '"area": [""]' in message or '"area": []' in message
        self.leave_after(message, None if legal else "bad_message")

    def leave_after(self, message: str | bytes, code: str | None) -> None:
        """The conversation is over after this; what else comes before that is of the protocol."""
        self.over = True
        self.link.send(message)
        codes: list[str] = []
        with suppress(ConnectionClosed):
            self.link.send('{"type": "end"}')  # legal after what only looked wrong
            self.link.send("nonsense")
        try:
            while True:
                answer = read_server(self.link.recv(timeout=60))
                codes += [answer.code] if isinstance(answer, ErrorMessage) else []
        except ConnectionClosed as closed:
            assert closed.rcvd is not None and closed.rcvd.code in CLOSES
        assert codes and (code is None or code in codes)

    def teardown(self) -> None:
        self.link.close()


def test_conversations(service: Server) -> None:
    Conversation.server = service
    machine = Conversation.TestCase
    machine.settings = settings(
        max_examples=20, stateful_step_count=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    machine("runTest").runTest()
    eventually(lambda: not service.running.service.visits)
    assert service.client().understand(ROOT / "examples" / f"{NAME}.flac").text == "turn on the kitchen lights"


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    body=st.one_of(st.binary(max_size=300), st.integers(1, 60).map(lambda cut: _wav()[:-cut])),
    kind=st.sampled_from(["audio/wav", "audio/pcm", "audio/pcm;rate=0", "audio/pcm;rate=x", "multipart/form-data",
                          "multipart/form-data; boundary=b", "", "application/json", "audio/pcm;rate=9999999"]),
    query=st.sampled_from(["", "?bundle=", "?language=%00", "?x=1", "?bundle=%ff", "?language=" + "e" * 500]),
)  # fmt: skip
def test_requests(service: Server, body: bytes, kind: str, query: str) -> None:
    client = service.client()
    try:
        client._ask("POST", "/v1/understand" + query, body, kind)
    except ServiceError as error:
        assert error.status in (400, 404, 413) and error.code in MEANINGS
        assert "Traceback" not in str(error) and "/proc" not in str(error)


def _wav(*, channels: int = 1, rate: int = 16000, kind: int = 1, bits: int = 16, data: bytes = SOUND[:3200]) -> bytes:
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * block & 0xFFFFFFFF, block & 0xFFFF, bits)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + (
        struct.pack("<I", len(data)) + data
    )  # fmt: skip


@pytest.mark.parametrize(
    "audio",
    [
        _wav(channels=0),
        _wav(rate=0),
        _wav(rate=1),
        _wav(rate=2**31),
        _wav(data=b""),
        b"this is a letter, not a recording\n" * 40,
        b"<!doctype html><html></html>\n" * 40,
        _wav(kind=3, bits=64, data=struct.pack("<2d", math.nan, math.inf) * 100),
        _wav().replace(b"data", b"dat\0"),
        _wav()[:30],
        b"RIFF\xff\xff\xff\xffWAVE" + b"fmt \0\0\0\0" * 50,
        b"fLaC" + bytes(200),
        b"OggS" + bytes(200),
        b"ID3" + b"\xff" * 300,
    ],
    ids=lambda audio: audio[:4].decode("latin-1") + str(len(audio)),
)
def test_recordings_that_make_no_sense(service: Server, audio: bytes) -> None:
    with pytest.raises(ServiceError) as refused:
        service.client().understand(audio)
    assert refused.value.code == "bad_audio" and "the recording: found" in str(refused.value)


def test_heads_that_make_no_sense(service: Server) -> None:
    """Bytes on the port: something of HTTP, or the end of the connection; never a word of ours."""
    for data in (b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01" * 50, b"A" * 70_000):
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as link:
            link.sendall(data)
            answer = link.recv(4096)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
            assert b"Traceback" not in answer


def test_half_a_sample_a_message(service: Server, speech: dict[str, NDArray[np.float32]]) -> None:
    """One byte a message for a while, then the rest at once: the same samples, the same meaning."""
    data = pcm16(speech[NAME])

    async def run() -> Any:
        async with service.client().connect() as connection:
            stream = await connection.start()
            for number in range(101):
                await stream.send(data[number : number + 1])
            await stream.send(data[101:])
            await stream.end()
            return await stream.result()

    assert asyncio.run(run()).text == "turn on the kitchen lights"
