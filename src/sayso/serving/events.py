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
    """How a stream is wanted. ``endpoint``: see ``wire.Endpoint``. ``bundle`` None: by ``language``, or the default."""

    sample_rate: int = 16000
    encoding: Encoding = "pcm_s16le"
    bundle: str | None = None
    language: str | None = None
    lists: Lists | None = None
    partials: bool = True
    endpoint: Endpoint = "client"
