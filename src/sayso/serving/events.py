"""What goes into a stream and what comes out of it, whatever the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sayso.core.result import Result
from sayso.serving.refusal import Refusal
from sayso.serving.wire import Endpoint

LOWEST_HZ, HIGHEST_HZ = 1000, 192_000
Encoding = Literal["pcm_s16le", "pcm_f32le"]
Lists = Mapping[str, Sequence[str | tuple[str, str]]]


@dataclass(frozen=True, kw_only=True)
class Partial:
    """What is understood so far of utterance number ``utterance``, which began at ``offset_s``."""

    utterance: int
    offset_s: float
    result: Result


@dataclass(frozen=True, kw_only=True)
class Final:
    """What an utterance meant."""

    utterance: int
    offset_s: float
    result: Result


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why there will be nothing more."""

    refusal: Refusal


Event = Partial | Final | Failure


@dataclass(frozen=True, kw_only=True)
class Ask:
    """How a stream is wanted. ``endpoint``: see ``wire.Endpoint``. ``bundle`` None: by ``language``, or the default.
    ``session``: the client's name for the dialogue that this is part of; None: of none."""

    sample_rate: int = 16000
    encoding: Encoding = "pcm_s16le"
    bundle: str | None = None
    language: str | None = None
    lists: Lists | None = None
    partials: bool = True
    endpoint: Endpoint = "client"
    session: str | None = None


class Growth:
    """The text of a stream as pieces, for protocols that only ever add to it: words that stay, then the rest.

    A final result that is no longer text than was given (it may have been heard again) gives no piece: where a protocol
    says the whole text at the end too, that counts.
    """

    def __init__(self) -> None:
        self._given = ""

    def piece(self, result: Result) -> str:
        """What is new in this result, perhaps nothing."""
        text = result.text if result.final else result.stable
        if not text.startswith(self._given):
            return ""
        piece, self._given = text[len(self._given) :], text
        return piece
