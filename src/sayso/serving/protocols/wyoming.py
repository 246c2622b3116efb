"""Wyoming on TCP (OHF-Voice/wyoming), as Home Assistant speaks it: speech to text, and what the text means.

``transcribe``, ``audio-start``, ``audio-chunk``, ``audio-stop`` give ``transcript``, inside ``transcript-start``,
``-chunk`` and ``-stop`` for clients that read them; its data has what was meant in the key ``slu``. Home Assistant asks
for intents on a second connection, with a ``transcript`` event that holds the text alone. So what speech meant is kept
for a while, for the address that it came from, and answered there: ``intent`` or ``not-recognized``. Utterances whose
``transcribe`` has the same ``context.conversation_id`` are one dialogue.

The protocol has no keys: only the networks of ``wyoming_allow`` may come in. Clients do not read ``error`` events for
sure, but all of them notice the end of a connection, so every error ends it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from sayso.core.errors import UsageError
from sayso.core.result import Frame, Result
from sayso.serving.adapter import Adapter, Site
from sayso.serving.auth import Client
from sayso.serving.events import HIGHEST_HZ, LOWEST_HZ, Ask, Failure, Final, Growth
from sayso.serving.hub import Edition
from sayso.serving.protocols.wyoming_wire import LINE_BYTES, Event, Line, pack, unpack
from sayso.serving.refusal import Refusal
from sayso.serving.session import Service, Utterance, Visit
from sayso.serving.websocket import Socket, converse

KEPT_S = 30.0  # from a transcript to the question what it means
Kind = TypeVar("Kind", bound=BaseModel)
KEPT_EACH, KEPT = 16, 1024  # meanings of one address, and of all


class Transcribe(BaseModel):
    """How the speech that follows is to be understood."""

    name: str | None = Field(default=None, max_length=100)
    language: str | None = Field(default=None, max_length=40)
    context: dict[str, Any] | None = None


class Format(BaseModel):
    """Of samples."""

    rate: int = Field(ge=LOWEST_HZ, le=HIGHEST_HZ)
    width: int = 2
    channels: int = 1


class Said(BaseModel):
    """A text whose meaning is asked for."""

    text: str
    context: dict[str, Any] | None = None


class Meanings:
    """What was understood lately, by whose it was and its text; few, and not for long."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: OrderedDict[tuple[str, str], tuple[float, Result]] = OrderedDict()

    def __len__(self) -> int:
        self._forget()
        return len(self._kept)

    def keep(self, client: str, result: Result) -> None:
        """Until it is old, or there is newer."""
        key = client, _key(result.text)
        self._kept.pop(key, None)
        self._kept[key] = self._now() + KEPT_S, result
        own = [key for key in self._kept if key[0] == client]
        for old in own[:-KEPT_EACH]:
            del self._kept[old]
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        asyncio.get_running_loop().call_later(KEPT_S, self._forget)

    def find(self, client: str, text: str) -> Result | None:
        """What this client's speech meant, if it was this text."""
        self._forget()
        found = self._kept.get((client, _key(text)))
        return None if found is None else found[1]

    def _forget(self) -> None:
        while self._kept and next(iter(self._kept.values()))[0] <= self._now():
            self._kept.popitem(last=False)


class _Talk:
    """One conversation."""

    def __init__(self, socket: Socket, client: Client, meanings: Meanings) -> None:
        self.socket, self.client, self.meanings = socket, client, meanings
        self.wanted = Transcribe()
        self.format: Format | None = None
        self.utterance: Utterance | None = None
        self.telling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until the client has gone."""
        while (message := await self.socket.receive()) is not None:
            event = unpack(message)
            if event.type == "audio-chunk":
                await self._audio(event)
            elif event.type == "transcribe":
                self.wanted = _read(Transcribe, event)
            elif event.type == "audio-start":
                await self._start(_read(Format, event))
            elif event.type == "audio-stop":
                if self.utterance is None:
                    raise Refusal("bad_message", "found audio-stop before any audio-start")
                self.utterance.end()
            elif event.type in ("transcript", "recognize"):  # the first is what Home Assistant sends
                said = _read(Said, event)
                for answer in answers(self.meanings.find(self.client.name, said.text), said):
                    await self.socket.send(answer)
            elif event.type == "describe":
                await self.socket.send(pack("info", info(self.socket.service.hub.editions)))
            elif event.type == "ping":
                text = event.data.get("text")
                await self.socket.send(pack("pong", {"text": text} if isinstance(text, str) else {}))

    async def _start(self, found: Format) -> None:
        if self.utterance is not None and not self.utterance.ended and not self.utterance.over:
            raise Refusal("bad_message", "found audio-start while a stream is open; send audio-stop first")
        if (found.width, found.channels) != (2, 1):
            raise Refusal("bad_audio", f"found samples of {found.width} bytes, {found.channels} channels; legal: 2, 1")
        if self.telling is not None:
            await self.telling
        self.format = found
        visit = self.socket.service.visit(self.client, "wyoming")
        self.socket.visit = visit
        try:
            ask = Ask(
                sample_rate=found.rate,
                bundle=self.wanted.name,
                language=self.wanted.language,
                session=conversation(self.wanted.context),
            )
            self.utterance = visit.open(ask)
        except Refusal:
            visit.leave()
            raise
        self.telling = self.socket.help(self._tell(visit, self.utterance, self.wanted.context))

    async def _audio(self, event: Event) -> None:
        if self.utterance is None:
            raise Refusal("bad_message", "found audio-chunk before any audio-start")
        if "rate" in event.data and _read(Format, event) != self.format:
            raise Refusal("bad_message", "found a chunk of another format than audio-start said")
        await self.utterance.audio(event.payload)

    async def _tell(self, visit: Visit, utterance: Utterance, context: dict[str, Any] | None) -> None:
        growth = Growth()
        beside = {} if context is None else {"context": context}
        try:
            await self.socket.send(pack("transcript-start", beside))
            async for event in utterance.events():
                if isinstance(event, Failure):
                    raise event.refusal
                result = event.result
                piece = growth.piece(result)
                if piece:
                    await self.socket.send(pack("transcript-chunk", {"text": piece}))
                if isinstance(event, Final):
                    self.meanings.keep(self.client.name, result)
                    said = {"text": result.text, "language": result.language, "slu": result.model_dump(mode="json")}
                    await self.socket.send(pack("transcript", {**said, **beside}))
                    await self.socket.send(pack("transcript-stop", {}))
        finally:
            visit.leave()


def conversation(context: dict[str, Any] | None) -> str | None:
    """Home Assistant's name for a conversation, where the client says one."""
    name = (context or {}).get("conversation_id")
    if name is None:
        return None
    if not isinstance(name, str) or not 1 <= len(name) <= 100:
        raise Refusal("bad_message", "context.conversation_id is a text of 1 to 100 characters")
    return name


def answers(result: Result | None, said: Said) -> list[str]:
    """What a text meant: an intent, several between a start and a stop, or that it is not known; frames as packed.

    A question back (``decision`` clarify) is the text of ``not-recognized``, which Home Assistant says aloud.
    """
    beside = {} if said.context is None else {"context": said.context}
    if result is None or result.decision != "accept" or not result.frames:
        text = {"text": result.prompt} if result is not None and result.prompt else {}
        return [pack("not-recognized", {**text, **beside})]
    intents = [pack("intent", {**_intent(frame), **beside}) for frame in result.frames]
    if len(intents) == 1:
        return intents
    return [pack("intents-start", beside), *intents, pack("intents-stop", beside)]


def _intent(frame: Frame) -> dict[str, Any]:
    entities = [{"name": slot.name, "value": slot.value} for slot in frame.slots]
    return {"name": frame.intent.name, "entities": entities}


def info(editions: list[Edition]) -> dict[str, Any]:
    """What is served: one program that hears and one that knows intents, with a model a bundle."""
    attribution = {"name": "Sayso", "url": ""}

    def program(models: list[Edition], **more: bool) -> dict[str, Any]:
        listed = [
            {
                "name": edition.name,
                "languages": list(edition.manifest.languages),
                "attribution": attribution,
                "installed": True,
                "description": edition.manifest.description,
                "version": edition.revision,
            }
            for edition in models
        ]
        head = {"name": "sayso", "attribution": attribution, "installed": True, "version": editions[0].revision}
        return {**head, "description": "Speech straight to meaning", "models": listed, **more}

    meaning = [edition for edition in editions if edition.manifest.intents]
    return {
        "asr": [program(editions, supports_transcript_streaming=True, requires_external_vad=True)],
        "intent": [program(meaning)] if meaning else [],
    }


def refused(refusal: Refusal) -> str:
    """An error in Wyoming's form."""
    return pack("error", {"text": refusal.message, "code": refusal.code})


def _key(text: str) -> str:
    return " ".join(text.split()).casefold()


def _read(kind: type[Kind], event: Event) -> Kind:
    try:
        return kind.model_validate(event.data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in problem["loc"])
        raise Refusal("bad_message", f"{event.type}: {where}: {problem['msg']}") from None


class _Door:
    """Who may come in, and how many at once."""

    def __init__(self, service: Service) -> None:
        self.service, self.limits = service, service.limits
        self.networks = [ipaddress.ip_network(network) for network in service.config.wyoming_allow]
        self.meanings = Meanings()
        self._open: Counter[str] = Counter()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        address = _address(writer)
        client = Client(address, frozenset(("understand",)), by_key=False)

        async def talk(socket: Socket) -> None:
            self._check(address)
            await _Talk(socket, client, self.meanings).run()

        self._open[address] += 1
        try:
            await converse(Socket(Line(reader, writer, self.limits), self.service, None), talk, refused)
        finally:
            self._open[address] -= 1
            self._open += Counter()  # without those that are not there any more

    def _check(self, address: str) -> None:
        if not any(ipaddress.ip_address(address) in network for network in self.networks):
            raise Refusal("forbidden", "this address may not come in; list its network in wyoming_allow")
        if self._open.total() > self.limits.connections:
            raise Refusal("overloaded", "too many connections are open")
        most = self.limits.connections_per_key
        if self._open[address] > most:
            raise Refusal("too_many", f"{most} connections of this client are open; legal are at most {most}")


def _address(writer: asyncio.StreamWriter) -> str:
    """Of the other end; IPv4 as such, whatever the socket is."""
    address = ipaddress.ip_address(str(writer.get_extra_info("peername")[0]).partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)


async def _listen(site: Site) -> asyncio.Server | None:
    config = site.service.config
    if config.wyoming_port is None:
        return None
    door = _Door(site.service)
    try:
        return await asyncio.start_server(
            door.answer, config.wyoming_host.strip("[]"), config.wyoming_port, limit=LINE_BYTES, backlog=512
        )
    except OSError as error:
        where = f"{config.wyoming_host}:{config.wyoming_port}"
        raise UsageError(f"cannot listen on {where} ({error.strerror}); choose another --wyoming-port") from None


ADAPTER = Adapter(name="wyoming", listen=_listen)
