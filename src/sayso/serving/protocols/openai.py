"""OpenAI's speech to text: ``POST /v1/audio/transcriptions`` and ``GET /v1/models``, for clients written for it.

``model`` is the name of a bundle, or any other string, which means the default. What the speech means is in the key
``slu`` wherever an answer is JSON, and options of ours come in a form part of that name. ``stream=true`` sends server
sent events: pieces of text that stay, then the whole text, which counts where a last look changed it.
"""

from __future__ import annotations

import asyncio
import json as _json
import math
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

from sayso.core.errors import require
from sayso.core.result import Result
from sayso.serving.adapter import Adapter, Site
from sayso.serving.auth import Client
from sayso.serving.config import Limits
from sayso.serving.events import Ask, Event, Failure, Final, Growth
from sayso.serving.http import answer, feed, http_route, json, read_form, understand
from sayso.serving.hub import Edition, Hub
from sayso.serving.refusal import Refusal
from sayso.serving.schema import Options, read_options
from sayso.serving.session import Utterance, Visit
from sayso.serving.telemetry import complain

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

FORMATS = ("json", "text", "verbose_json", "srt", "vtt")
FIELDS = (
    "file", "model", "language", "languages", "keywords", "prompt", "response_format", "temperature",
    "timestamp_granularities", "include", "chunking_strategy", "stream", "slu",
)  # fmt: skip
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
Form = dict[str, list[str | bytes]]


def problem(refusal: Refusal) -> dict[str, Any]:
    """An error in OpenAI's form."""
    kind = _TYPES.get(refusal.status, "server_error" if refusal.status >= 500 else "invalid_request_error")
    return {"error": {"message": refusal.message, "type": kind, "param": None, "code": refusal.code}}


def _routes(site: Site) -> list[Any]:
    service, limits = site.service, site.service.limits

    async def transcribe(request: Request, client: Client) -> Response:
        async with AsyncExitStack() as stack:
            visit = await stack.enter_async_context(service.visit(client, "openai"))
            form = _plain(await read_form(request, limits))
            form_of_answer, streamed = _kind(form)
            audio = form.get("file", [""])[0]
            if not isinstance(audio, bytes):
                raise Refusal("bad_request", "there is no file; send the recording as the form part 'file'")
            utterance = visit.open(_ask(form, service.hub, streamed))
            if not streamed:
                return _answer(await understand(utterance, audio, limits), form_of_answer, _texts(form, _WHEN))
            events = _understood(utterance, audio, limits)
            first = await anext(events)
            stack.pop_all()
            return _stream(visit, _told(first, events))

    async def models(request: Request, client: Client) -> Response:
        client.may("understand")
        return json({"object": "list", "data": [_model(edition) for edition in service.hub.editions]})

    async def model(request: Request, client: Client) -> Response:
        client.may("understand")
        return json(_model(service.hub.find(str(request.path_params["name"]))))

    return [
        http_route("/v1/audio/transcriptions", site, "POST", transcribe, problem),
        http_route("/v1/models", site, "GET", models, problem),
        http_route("/v1/models/{name}", site, "GET", model, problem),
    ]


_WHEN = "timestamp_granularities"


def _plain(form: Form) -> Form:
    """``name[]`` is how clients write fields that have several values."""
    found: Form = {}
    for name, values in form.items():
        plain = name.removesuffix("[]")
        if plain not in FIELDS:
            raise Refusal("bad_request", f"'{name[:40]}' is not a known field; legal: {', '.join(FIELDS)}")
        found.setdefault(plain, []).extend(values)
    return found


def _texts(form: Form, name: str) -> list[str]:
    values = form.get(name, [])
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        raise Refusal("bad_request", f"'{name}' is a file; it must be a text")
    return texts


def _text(form: Form, name: str, default: str = "") -> str:
    return next(iter(_texts(form, name)), default)


def _kind(form: Form) -> tuple[str, bool]:
    """The form of the answer, and whether it comes in pieces."""
    kind, streamed = _text(form, "response_format") or "json", _text(form, "stream", "false").lower()
    if kind not in FORMATS:
        raise Refusal("bad_request", f"response_format '{kind[:40]}' is not spoken here; legal: {', '.join(FORMATS)}")
    if streamed not in ("true", "false", "1", "0"):
        raise Refusal("bad_request", f"stream is true or false, found '{streamed[:40]}'")
    if streamed in ("true", "1") and kind != "json":
        raise Refusal("bad_request", f"a stream of response_format '{kind}' is not possible; use json")
    return kind, streamed in ("true", "1")


def _ask(form: Form, hub: Hub, streamed: bool) -> Ask:
    options = read_options(_text(form, "slu")) if "slu" in form else Options()
    model = _text(form, "model")
    bundle = options.bundle or (model if model in [edition.name for edition in hub.editions] else None)
    languages = [options.language, *_texts(form, "language"), *_texts(form, "languages")]
    language = _first(hub, bundle, [name for name in languages if name])
    return Ask(
        bundle=bundle,
        language=language,
        lists=options.lists or None,
        partials=streamed,
        session=options.session,
    )


def _first(hub: Hub, bundle: str | None, languages: list[str]) -> str | None:
    """The first language that is known here; where none is, the first, to be refused in the core's words."""
    for language in languages:
        with suppress(Refusal):
            hub.find(bundle, language)
            return language
    return next(iter(languages), None)


def _answer(result: Result, kind: str, granularities: list[str]) -> Response:
    if kind == "text":
        return answer(result.text, "text/plain; charset=utf-8")
    if kind in ("srt", "vtt"):
        return answer(_cues(result, kind), "text/vtt" if kind == "vtt" else "application/x-subrip")
    found: dict[str, Any] = {"text": result.text}
    if kind == "verbose_json":
        found |= {"task": "transcribe", "language": result.language, "duration": result.timing.audio_s}
        if "segment" in granularities or not granularities:
            found["segments"] = [_segment(result)] if result.text else []
        if "word" in granularities:
            found["words"] = [{"word": word.text, "start": word.start, "end": word.end} for word in result.words]
    found |= {"usage": {"type": "duration", "seconds": result.timing.audio_s}, "slu": result.model_dump(mode="json")}
    return json(found)


def _segment(result: Result) -> dict[str, Any]:
    """The whole, as the one segment that it is, in Whisper's terms; its tokens are not ours."""
    start, end = _span(result)
    sure = [word.confidence for word in result.words if word.confidence]
    said = result.text.encode()
    return {
        "id": 0,
        "seek": 0,
        "start": start,
        "end": end,
        "text": result.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": sum(map(math.log, sure)) / len(sure) if sure else 0.0,
        "compression_ratio": len(said) / len(zlib.compress(said)),
        "no_speech_prob": float(result.reason == "no_speech"),
    }


def _span(result: Result) -> tuple[float, float]:
    return (result.words[0].start, result.words[-1].end) if result.words else (0.0, result.timing.audio_s)


def _cues(result: Result, kind: str) -> str:
    point = "." if kind == "vtt" else ","
    head = "WEBVTT\n\n" if kind == "vtt" else ""
    if not result.text:
        return head
    start, end = (_clock(seconds, point) for seconds in _span(result))
    number = "" if kind == "vtt" else "1\n"
    return f"{head}{number}{start} --> {end}\n{result.text}\n\n"


def _clock(seconds: float, point: str) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{thousandths:03}"


def _model(edition: Edition) -> dict[str, Any]:
    loaded = int(edition.folder.stat().st_mtime)
    return {"id": edition.name, "object": "model", "created": loaded, "owned_by": "sayso"}


async def _understood(utterance: Utterance, audio: bytes, limits: Limits) -> AsyncIterator[Event]:
    """Events of a recording while it is read. Raises the ``Refusal`` that comes in place of a result."""

    async def read() -> None:
        try:
            await feed(utterance, audio, limits)
            utterance.end()
        except Refusal as refusal:
            utterance.fail(refusal)
        except Exception as error:
            complain("openai", error)
            utterance.fail(Refusal("internal", "something went wrong here"))

    reading = asyncio.create_task(read())
    try:
        async for event in utterance.events():
            if isinstance(event, Failure):
                raise event.refusal
            yield event
    finally:
        reading.cancel()


async def _told(first: Event, rest: AsyncIterator[Event]) -> AsyncIterator[str]:
    """Server sent events."""
    growth = Growth()
    try:
        event: Event | None = first
        while event is not None:
            assert not isinstance(event, Failure)
            if piece := growth.piece(event.result):
                yield _sent({"type": "transcript.text.delta", "delta": piece})
            if isinstance(event, Final):
                meaning = event.result.model_dump(mode="json")
                yield _sent({"type": "transcript.text.done", "text": event.result.text, "slu": meaning})
            event = await anext(rest, None)
    except Refusal as refusal:
        yield _sent({"type": "error", **problem(refusal)})
    yield "data: [DONE]\n\n"


def _sent(content: dict[str, Any]) -> str:
    return f"data: {_json.dumps(content)}\n\n"


def _stream(visit: Visit, events: AsyncIterator[str]) -> Response:
    """Events as they come; the visit is over when they are, or the client has gone."""
    responses = require("starlette.responses", extra="serve", purpose="the service")

    class Events(responses.StreamingResponse):  # type: ignore[misc, name-defined]
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async with visit:
                await super().__call__(scope, receive, send)

    made: Response = Events(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    return made


ADAPTER = Adapter(name="openai", endpoints=("http /v1/audio/transcriptions", "http /v1/models"), routes=_routes)
