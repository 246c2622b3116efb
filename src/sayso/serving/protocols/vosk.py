"""Vosk's WebSocket protocol at ``/vosk`` (vosk-server, Apache-2.0): every frame of samples gets exactly one reply.

Text messages are ``{"config": {...}}`` (no reply), ``{"eof": 1}`` and ``{"reset": 1}`` (one reply, the last of an
utterance); binary ones are 16-bit little-endian mono. A reply is ``{"partial"}``, or ``{"text", "result"}`` once an
utterance is over. Clients send, then read, in turn, so a reply too many or too few would leave both waiting: results
that come between frames wait here for the next one, each frame takes one, and the last reply takes them all. What the
speech means is in the key ``slu``. ``model`` names one of the bundles that are served; nothing else can be loaded.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from sayso.core.result import Result
from sayso.serving.adapter import Adapter, Site
from sayso.serving.events import HIGHEST_HZ, LOWEST_HZ, Ask, Failure, Final
from sayso.serving.refusal import Refusal
from sayso.serving.schema import Options
from sayso.serving.session import MOST_FINALS, Utterance
from sayso.serving.websocket import Socket, websocket_route

DEFAULT_HZ = 8000  # Vosk's own
_MESSAGES = "a text message is a JSON object with one of config, eof, reset"


class SluOptions(Options):
    """``config.slu``: how it is to be understood. ``endpoint``: whether pauses end utterances, or the client alone."""

    endpoint: Literal["client", "always"] = "always"


class VoskConfig(BaseModel):
    """``config``; keys of Vosk that do nothing here are left unread."""

    sample_rate: float = Field(default=DEFAULT_HZ, ge=LOWEST_HZ, le=HIGHEST_HZ)
    words: bool = True
    max_alternatives: int = Field(default=0, ge=0, le=100)
    model: str | None = Field(default=None, max_length=100)
    slu: SluOptions = SluOptions()

    def ask(self) -> Ask:
        """For the session core."""
        return Ask(
            sample_rate=round(self.sample_rate),
            bundle=self.slu.bundle or self.model,
            language=self.slu.language,
            lists=self.slu.lists or None,
            endpoint=self.slu.endpoint,
            session=self.slu.session,
        )


class VoskMessage(BaseModel):
    """A text message of a client."""

    config: VoskConfig = VoskConfig()
    eof: Any = None
    reset: Any = None


class _Heard:
    """What came of a stream and has not been told."""

    def __init__(self, utterance: Utterance) -> None:
        self.utterance = utterance
        self.partial: Result | None = None
        self.over = asyncio.Event()
        self._finals: deque[Final] = deque()
        self._told = asyncio.Event()

    async def collect(self) -> None:
        """Until the stream is over and all its results have been told. Raises the ``Refusal`` that ended it."""
        failure: Refusal | None = None
        try:
            async for event in self.utterance.events():
                if isinstance(event, Failure):
                    failure = event.refusal
                elif isinstance(event, Final):
                    self.partial = None
                    self._finals.append(event)
                    if len(self._finals) > MOST_FINALS:
                        raise Refusal("slow_reader", f"{MOST_FINALS} results wait to be read; send shorter frames")
                else:
                    self.partial = event.result
        finally:
            self.over.set()
        while self._finals:
            self._told.clear()
            await self._told.wait()
        if failure is not None:
            raise failure

    def take(self, most: int) -> list[Final]:
        """Results that are about to be told, oldest first."""
        taken = [self._finals.popleft() for _ in range(min(most, len(self._finals)))]
        self._told.set()
        return taken


async def talk(socket: Socket) -> None:
    """One conversation."""
    config, heard, collecting = VoskConfig(), None, None
    while (message := await socket.receive()) is not None:
        if isinstance(message, bytes):
            if heard is None:
                heard = _Heard(socket.visit.open(config.ask()))
                collecting = socket.help(heard.collect())
            await heard.utterance.audio(message)
            finals = heard.take(1)
            await socket.send(_final(finals, config) if finals else _partial(heard.partial))
            continue
        asked = _read(message)
        if not asked.model_fields_set & {"eof", "reset"}:
            if heard is not None:
                raise Refusal("bad_message", "found config while an utterance is open; send it first, or after reset")
            config = asked.config
            continue
        finals = []
        if heard is not None and collecting is not None:
            heard.utterance.end()
            await heard.over.wait()
            finals = heard.take(MOST_FINALS)
            if not finals:
                await collecting
        await socket.send(_final(finals, config))
        if "eof" in asked.model_fields_set:
            return
        if collecting is not None:
            await collecting
        heard = collecting = None


def _read(text: str) -> VoskMessage:
    try:
        message = VoskMessage.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in problem["loc"])
        raise Refusal("bad_message", f"{where}: {problem['msg']}" if where else _MESSAGES) from None
    if not message.model_fields_set:
        raise Refusal("bad_message", _MESSAGES)
    return message


def _partial(result: Result | None) -> str:
    if result is None:
        return json.dumps({"partial": ""})
    return json.dumps({"partial": result.text, "slu": result.model_dump(mode="json")})


def _final(finals: list[Final], config: VoskConfig) -> str:
    """One reply for these results, usually one; of several, ``meanings`` holds those of all."""
    text = " ".join(final.result.text for final in finals if final.result.text)
    words = [
        {"conf": word.confidence, "start": _at(word.start, final), "end": _at(word.end, final), "word": word.text}
        for final in finals
        for word in final.result.words
    ]
    reply: dict[str, Any] = {"text": text, **({"result": words} if words and config.words else {})}
    if config.max_alternatives:
        reply = {"alternatives": _alternatives(reply, finals[-1:], config.max_alternatives)}
    meanings = [final.result.model_dump(mode="json") for final in finals]
    if meanings:
        reply["slu"] = meanings[-1]
    if len(meanings) > 1:
        reply["meanings"] = meanings
    return json.dumps(reply)


def _at(seconds: float, final: Final) -> float:
    """From the beginning of the stream, as Vosk counts."""
    return round(final.offset_s + seconds, 4)


def _alternatives(best: dict[str, Any], finals: list[Final], most: int) -> list[dict[str, Any]]:
    """The best one and its runners-up; ``confidence`` is a logarithm, as Vosk's is, where there is one."""
    found = [best]
    for result in (final.result for final in finals):
        if result.intent is not None and result.intent.confidence:
            best["confidence"] = math.log(result.intent.confidence)
        found += [{"text": other.text, "confidence": other.score} for other in result.alternatives]
    return found[:most]


def _refused(refusal: Refusal) -> str:
    return json.dumps({"error": {"code": refusal.code, "message": refusal.message}})


def _routes(site: Site) -> list[Any]:
    return [websocket_route("/vosk", site, "vosk", talk, _refused)]


ADAPTER = Adapter(name="vosk", endpoints=("ws /vosk",), routes=_routes)
