"""Why the service refuses, in one table: what a client is told on HTTP, on a WebSocket, and whether to come back.

A ``Refusal`` is the only error that reaches a client. Its message names what was found, what is legal and what to do;
it holds nothing of ours (no paths, no traces). Before an upgrade it is an HTTP answer with ``Retry-After`` where trying
again makes sense, after it an ``error`` message and a close code (RFC 6455, 7.4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sayso.core.errors import SaysoError

Code = Literal[
    "bad_request",
    "bad_audio",
    "bad_message",
    "unauthorized",
    "forbidden",
    "not_found",
    "not_allowed",
    "bad_bundle",
    "session_busy",
    "timeout",
    "too_large",
    "too_long",
    "too_many",
    "overloaded",
    "going_away",
    "deadline",
    "engine_lost",
    "slow_reader",
    "internal",
]
CODES: tuple[Code, ...] = get_args(Code)


@dataclass(frozen=True)
class Meaning:
    """HTTP status, WebSocket close code, and seconds after which trying again makes sense (None: it does not)."""

    status: int
    close: int
    retry_after_s: float | None = None


MEANINGS: dict[Code, Meaning] = {
    "bad_request": Meaning(400, 1008),
    "bad_audio": Meaning(400, 1007),
    "bad_message": Meaning(400, 1007),
    "unauthorized": Meaning(401, 1008),
    "forbidden": Meaning(403, 1008),
    "not_found": Meaning(404, 1008),
    "not_allowed": Meaning(405, 1008),
    "bad_bundle": Meaning(409, 1008),
    "session_busy": Meaning(409, 1008, 1.0),
    "timeout": Meaning(408, 1008),
    "too_large": Meaning(413, 1009),
    "too_long": Meaning(413, 1009),
    "too_many": Meaning(429, 1008, 1.0),
    "overloaded": Meaning(503, 1013, 1.0),
    "going_away": Meaning(503, 1001, 1.0),
    "deadline": Meaning(503, 1013, 1.0),
    "engine_lost": Meaning(503, 1012, 1.0),
    "slow_reader": Meaning(503, 1008),
    "internal": Meaning(500, 1011),
}


class Refusal(SaysoError):
    """What a client is told instead of a result."""

    def __init__(self, code: Code, message: str, *, retry_after_s: float | None = None) -> None:
        """``retry_after_s`` replaces the table's."""
        super().__init__(message)
        self.code, self.message = code, message
        self.counted = False  # by the telemetry, whichever of the places that it passes comes first
        self.status, self.close = MEANINGS[code].status, MEANINGS[code].close
        self.retry_after_s = MEANINGS[code].retry_after_s if retry_after_s is None else retry_after_s
