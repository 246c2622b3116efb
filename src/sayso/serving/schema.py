"""The messages of ``/v1/stream`` and the answers of ``/v1/understand``, as types; and their description for others.

The types are the schema: what parses a client's message here is what the AsyncAPI and OpenAPI descriptions are made
from. A message of version 1 keeps its fields for good; new ones may be added.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sayso.core.config import Config
from sayso.core.errors import nearest
from sayso.core.result import Result
from sayso.serving.events import HIGHEST_HZ, LOWEST_HZ, Ask, Encoding, Failure, Final, Partial
from sayso.serving.refusal import Code, Refusal
from sayso.serving.wire import Endpoint

VERSION: Literal[1] = 1
Value = str | tuple[str, str]


class Options(Config):
    """How something is to be understood. ``bundle``: by name, else by ``language``, else the server's default.

    ``lists`` replaces slot lists of the domain for this request, or says what an open slot may hold, by its name:
    values as spoken, or pairs of spoken and value. What took effect stands in the result's ``applied``. ``session`` is
    a name of your own for the dialogue that this is part of; nobody else's names are yours. ``applied.turn`` counts its
    utterances: where it is 1 again, what was before has been forgotten.
    """

    bundle: str | None = Field(default=None, max_length=100)
    language: str | None = Field(default=None, max_length=40)
    lists: dict[str, list[Value]] = Field(default_factory=dict)
    session: str | None = Field(default=None, min_length=1, max_length=100)


class Start(Options):
    """Opens a stream; binary messages with samples follow, mono, in ``encoding`` at ``sample_rate``."""

    type: Literal["start"] = "start"
    version: Literal[1] = VERSION
    sample_rate: int = Field(default=16000, ge=LOWEST_HZ, le=HIGHEST_HZ)
    encoding: Encoding = "pcm_s16le"
    partials: bool = True
    endpoint: Endpoint = "client"

    def ask(self) -> Ask:
        """For the session core."""
        return Ask(
            sample_rate=self.sample_rate,
            encoding=self.encoding,
            bundle=self.bundle,
            language=self.language,
            lists=self.lists or None,
            partials=self.partials,
            endpoint=self.endpoint,
            session=self.session,
        )


class End(Config):
    """No more samples; the result follows."""

    type: Literal["end"] = "end"


class Cancel(Config):
    """Forget this stream; nothing more comes of it."""

    type: Literal["cancel"] = "cancel"


class PartialMessage(BaseModel):
    """What is understood so far; ``result.stable`` will not change any more."""

    model_config = ConfigDict(frozen=True)
    type: Literal["partial"] = "partial"
    version: Literal[1] = VERSION
    utterance: int
    offset_s: float
    result: Result


class ResultMessage(BaseModel):
    """What an utterance meant; it does not change. Its times count from ``offset_s`` in the stream."""

    model_config = ConfigDict(frozen=True)
    type: Literal["result"] = "result"
    version: Literal[1] = VERSION
    utterance: int
    offset_s: float
    result: Result


class ErrorMessage(BaseModel):
    """Why there is no result. ``retry_after_s``: when trying again makes sense; null: it does not."""

    model_config = ConfigDict(frozen=True)
    type: Literal["error"] = "error"
    version: Literal[1] = VERSION
    code: Code
    message: str
    retry_after_s: float | None = None


class Problem(BaseModel):
    """The body of every HTTP error."""

    code: Code
    message: str


class ProblemBody(BaseModel):
    """The body of every HTTP error."""

    error: Problem


ClientMessage = Annotated[Start | End | Cancel, Field(discriminator="type")]
ServerMessage = Annotated[PartialMessage | ResultMessage | ErrorMessage, Field(discriminator="type")]
_CLIENT: TypeAdapter[Start | End | Cancel] = TypeAdapter(ClientMessage)
_SERVER: TypeAdapter[PartialMessage | ResultMessage | ErrorMessage] = TypeAdapter(ServerMessage)


def read_client(text: str) -> Start | End | Cancel:
    """A client's text message; ``Refusal`` (bad_message) says what is legal."""
    try:
        return _CLIENT.validate_json(text)
    except ValidationError as error:
        raise Refusal("bad_message", _explain(error)) from None


def read_server(text: str) -> PartialMessage | ResultMessage | ErrorMessage:
    """A server's message, for clients. Raises ``ValidationError``."""
    return _SERVER.validate_json(text)


def read_options(text: str) -> Options:
    """Options of one request as JSON; ``Refusal`` (bad_request)."""
    try:
        return Options.model_validate_json(text)
    except ValidationError as error:
        raise Refusal("bad_request", _explain(error)) from None


def message_of(event: Partial | Final | Failure) -> str:
    """An event as the message that a client gets."""
    if isinstance(event, Failure):
        return refused(event.refusal)
    kind = PartialMessage if isinstance(event, Partial) else ResultMessage
    return kind(utterance=event.utterance, offset_s=event.offset_s, result=event.result).model_dump_json()


def refused(refusal: Refusal) -> str:
    """A refusal as the message that a client gets."""
    answer = ErrorMessage(code=refusal.code, message=refusal.message, retry_after_s=refusal.retry_after_s)
    return answer.model_dump_json()


def _explain(error: ValidationError) -> str:
    """The first problem, without what the client sent except for the names of unknown keys."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        kinds: dict[str, type[Config]] = {"start": Start, "end": End, "cancel": Cancel}
        kind = kinds.get(place[0], Options)
        return f"'{place[-1][:40]}' is not a known key; {nearest(place[-1][:40], kind.model_fields)}"
    if problem["type"] in ("union_tag_not_found", "union_tag_invalid"):
        return "a message is a JSON object whose 'type' is start, end or cancel"
    if problem["type"] == "json_invalid":
        return "this is not JSON; a text message is one JSON object"
    where = ".".join(part[:40] for part in place) or "the message"
    return f"{where}: {problem['msg']}"


def asyncapi() -> dict[str, Any]:
    """The description of ``/v1/stream`` (AsyncAPI 3)."""
    kinds = {kind.__name__: kind for kind in (Start, End, Cancel, PartialMessage, ResultMessage, ErrorMessage)}
    schemas: dict[str, Any] = {}
    for name, kind in kinds.items():
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    audio = {"name": "Samples", "contentType": "application/octet-stream", "summary": "Mono samples, cut anywhere"}
    messages: dict[str, Any] = {
        name: {
            "name": name,
            "contentType": "application/json",
            "summary": (kind.__doc__ or "").splitlines()[0],
            "payload": {"$ref": f"#/components/schemas/{name}"},
        }
        for name, kind in kinds.items()
    }
    listed = {name: {"$ref": f"#/components/messages/{name}"} for name in (*messages, "Samples")}

    def refer(*names: str) -> list[dict[str, str]]:
        return [{"$ref": f"#/channels/stream/messages/{name}"} for name in names]

    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Sayso stream",
            "version": str(VERSION),
            "description": "Speech in, meaning out, as it comes",
        },
        "channels": {"stream": {"address": "/v1/stream", "messages": listed}},
        "operations": {
            "speak": {
                "action": "receive",
                "channel": {"$ref": "#/channels/stream"},
                "messages": refer("Start", "Samples", "End", "Cancel"),
            },
            "understand": {
                "action": "send",
                "channel": {"$ref": "#/channels/stream"},
                "messages": refer("PartialMessage", "ResultMessage", "ErrorMessage"),
            },
        },
        "components": {"messages": {**messages, "Samples": audio}, "schemas": schemas},
    }


def openapi() -> dict[str, Any]:
    """The description of ``/v1/understand`` and what stands beside it (OpenAPI 3.1)."""
    schemas: dict[str, Any] = {}
    for kind in (Result, Options, ProblemBody):
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[kind.__name__] = schema

    def body(name: str) -> dict[str, Any]:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    def problem(text: str) -> dict[str, Any]:
        return {"description": text, "content": body("ProblemBody")}

    thing, words = {"application/json": {"schema": {"type": "object"}}}, {"text/plain": {"schema": {"type": "string"}}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = {
        "schema": {
            "type": "object",
            "required": ["audio"],
            "properties": {
                "audio": {"type": "string", "format": "binary"},
                "options": {"type": "string", "description": "JSON of Options"},
            },
        }
    }
    statuses = {"400": "wrong request or audio", "401": "no or wrong key", "403": "not with this key or origin",
                "404": "no such bundle", "408": "too slow", "409": "not usable, or busy; what there was goes on",
                "413": "too large or too long", "429": "too many",
                "503": "busy or stopping; see Retry-After"}  # fmt: skip

    def answers(what: str, *refusals: str, **kind: Any) -> dict[str, Any]:
        listed = ("400", "401", "403", *refusals)
        return {"200": {"description": what, **kind}, **{status: problem(statuses[status]) for status in listed}}

    query = [
        {"name": name, "in": "query", "schema": {"type": "string"}, "description": text}
        for name, text in (
            ("bundle", "Name of the bundle"),
            ("language", "Language of the speech"),
            ("session", "Your name for the dialogue that this is part of"),
        )
    ]
    understand = {
        "summary": "Understand one recording",
        "parameters": query,
        "requestBody": {"required": True, "content": {"audio/*": binary, "multipart/form-data": form}},
        "responses": answers("what was understood", "404", "408", "409", "413", "429", "503", content=body("Result")),
    }
    reload = {
        "summary": "Load a bundle again from its place, and switch to it",
        "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
        "responses": answers("switched", "404", "409", content=thing),
    }
    plain = {"200": {"description": "yes", "content": words}, "503": {"description": "no", "content": words}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sayso", "version": str(VERSION)},
        "paths": {
            "/v1/understand": {"post": understand},
            "/v1/bundles": {"get": {"summary": "What is served", "responses": answers("bundles", content=thing)}},
            "/v1/bundles/{name}/reload": {"post": reload},
            "/health/live": {"get": {"summary": "Whether the process works", "responses": plain}},
            "/health/ready": {"get": {"summary": "Whether new streams are welcome", "responses": plain}},
            "/metrics": {"get": {"summary": "Prometheus metrics", "responses": answers("text", content=words)}},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def dump(description: dict[str, Any]) -> str:
    """A description as JSON."""
    return json.dumps(description, indent=1)
