"""What the service and its engine processes say to each other: frames on a pipe.

A frame is its length, its kind, the number of the stream it is about, and a payload: samples, or JSON. Nothing is
pickled, so what comes out of a process that a hostile recording took over is still only data. One class reads frames in
both places: bytes in, whole frames out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Literal, NamedTuple

from pydantic import Field

from sayso.core.config import Config
from sayso.core.result import Result
from sayso.runtime.session import SessionState

HEADER = struct.Struct("<IBI")
LARGEST = 16 << 20

Endpoint = Literal["client", "once", "always"]
"""Who ends an utterance: the client alone; the first pause too, and with it the stream; or every pause, stream after
stream."""


class Kind(IntEnum):
    """What a frame means. The first seven go to an engine, the others come from it."""

    OPEN = 1  # Opening
    PCM16 = 2  # little-endian int16
    FLOAT = 3  # little-endian float32
    END = 4
    CANCEL = 5
    LOAD = 6  # {"edition", "path"}
    DROP = 7  # {"edition"}
    LOADED = 20  # {"edition", "error", "rtf"}
    HEARD = 21  # a float64: seconds of audio taken since the last such frame of this stream
    PARTIAL = 22  # Said
    RESULT = 23  # Said
    DONE = 24  # the last frame of a stream
    FAILED = 25  # {"code", "message"}; the last frame of a stream
    STATS = 26  # Stats


class Opening(Config):
    """A stream to be opened: of which edition of which bundle, and how."""

    edition: int
    sample_rate: int
    lists: dict[str, list[str | tuple[str, str]]] = Field(default_factory=dict)
    partials: bool = True
    endpoint: Endpoint = "client"
    dialogue: SessionState | None = None  # what was said before; None: a single utterance


class Said(Config):
    """A partial or a final result. ``utterance`` counts those of one stream, ``offset_s`` is where in the stream this
    one began (its own times count from there); ``waited_s`` of a final is the wall time since its endpoint was decided,
    ``endpoint_delay_s`` what that took after the end of speech, where the server decided it; ``dialogue`` is what to
    remember then, where the stream is part of one."""

    utterance: int
    offset_s: float
    waited_s: float = 0.0
    endpoint_delay_s: float | None = None
    result: Result
    dialogue: SessionState | None = None


class Stats(Config):
    """What an engine did since the last such frame; lists hold at most some hundred samples."""

    wall_s: float
    busy_s: float
    audio_s: float
    streams: int
    skipped_partials: int = 0
    batch: list[int] = Field(default_factory=list)
    compute_s: list[float] = Field(default_factory=list)
    queue_s: list[float] = Field(default_factory=list)


class Frame(NamedTuple):
    """One message about one stream (0: about none)."""

    kind: Kind
    stream: int
    payload: bytes


def pack(kind: Kind, stream: int, payload: bytes = b"") -> bytes:
    """A frame as bytes."""
    assert len(payload) <= LARGEST, "callers cut what is long"
    return HEADER.pack(len(payload), kind, stream) + payload


class Unpacker:
    """Frames out of bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take bytes; the frames that are complete with them. ``ValueError`` where these are no frames."""
        self._rest += data
        while len(self._rest) >= HEADER.size:
            length, kind, stream = HEADER.unpack_from(self._rest)
            if length > LARGEST:
                raise ValueError("a frame longer than any")
            if len(self._rest) < HEADER.size + length:
                return
            payload = bytes(self._rest[HEADER.size : HEADER.size + length])
            del self._rest[: HEADER.size + length]
            yield Frame(Kind(kind), stream, payload)
