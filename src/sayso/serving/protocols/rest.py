"""One recording, one answer: ``POST /v1/understand``; and what is served, ``GET /v1/bundles``.

The body is the recording itself (any format that Sayso reads), with ``bundle``, ``language`` and ``session`` in the
query, or raw samples with ``Content-Type: audio/pcm;rate=16000``, or a form with the parts ``audio`` and ``options``
(JSON), which can bring lists too. The answer is the Result. ``POST /v1/bundles/NAME/reload`` exchanges a bundle (scope
``admin``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sayso.core.errors import BundleError
from sayso.serving.adapter import Adapter, Site
from sayso.serving.auth import Client
from sayso.serving.events import Ask
from sayso.serving.http import http_route, json, read_body, read_form, understand
from sayso.serving.refusal import Refusal
from sayso.serving.schema import Options, openapi, read_options
from sayso.serving.telemetry import say

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

PCM = "audio/pcm"
_QUERY = ("bundle", "language", "session")


def _routes(site: Site) -> list[Any]:
    service, limits = site.service, site.service.limits

    async def post(request: Request, client: Client) -> Response:
        with_rate, kind = _content_type(request)
        unknown = [name for name in request.query_params if name not in _QUERY]
        if unknown:
            raise Refusal("bad_request", f"'{unknown[0][:40]}' is not a known field; legal: {', '.join(_QUERY)}")
        async with service.visit(client, "rest") as visit:
            if kind == "multipart/form-data":
                audio, options = _form(await read_form(request, limits))
            else:
                audio, options = await read_body(request, limits), _options(request)
            ask = Ask(
                sample_rate=with_rate,
                bundle=options.bundle,
                language=options.language,
                lists=options.lists or None,
                partials=False,
                session=options.session,
            )
            utterance = visit.open(ask)
            if kind == PCM:
                await utterance.audio(audio)
                result = await utterance.result()
            else:
                result = await understand(utterance, audio, limits)
            return json(result.model_dump_json())

    async def bundles(request: Request, client: Client) -> Response:
        client.may("understand")
        found = [
            {
                "name": edition.name,
                "domain": edition.manifest.domain,
                "languages": edition.manifest.languages,
                "version": edition.revision,
                "description": edition.manifest.description,
                "intents": [intent.name for intent in edition.manifest.intents],
            }
            for edition in service.hub.editions
        ]
        return json({"bundles": found})

    async def reload(request: Request, client: Client) -> Response:
        client.may("admin")
        name = str(request.path_params["name"])
        try:
            edition = await service.hub.reload(name)
        except BundleError as error:
            service.telemetry.reloads.labels("failed").inc()
            say("reload", bundle=name, outcome="failed")
            raise Refusal("bad_bundle", str(error)) from None
        service.telemetry.reloads.labels("ok").inc()
        say("reload", bundle=name, outcome="ok", version=edition.revision)
        return json({"name": name, "version": edition.revision})

    async def description(request: Request, client: Client) -> Response:
        return json(openapi())

    return [
        http_route("/v1/understand", site, "POST", post),
        http_route("/v1/bundles", site, "GET", bundles),
        http_route("/v1/bundles/{name}/reload", site, "POST", reload),
        http_route("/openapi.json", site, "GET", description),
    ]


def _options(request: Request) -> Options:
    """What the query says."""
    query = request.query_params
    bundle, language, session = (query.get(name) for name in _QUERY)
    if len(bundle or "") > 100 or len(language or "") > 40:
        raise Refusal("bad_request", "a bundle's name has at most 100 characters, a language 40")
    if session is not None and not 1 <= len(session) <= 100:
        raise Refusal("bad_request", "a session's name has 1 to 100 characters")
    return Options(bundle=bundle, language=language, session=session)


def _content_type(request: Request) -> tuple[int, str]:
    """The rate to ask for, and the media type."""
    kind, _, rest = request.headers.get("content-type", "").partition(";")
    rate = 16000
    for parameter in rest.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "rate":
            if not value.isdigit() or len(value) > 7:
                raise Refusal(
                    "bad_request", "the rate of audio/pcm is a number of Hz, for example audio/pcm;rate=16000"
                )
            rate = int(value)
    kind = kind.strip().lower()
    return (rate if kind == PCM else 16000), kind


def _form(form: dict[str, list[str | bytes]]) -> tuple[bytes, Options]:
    unknown = [name for name in form if name not in ("audio", "options")]
    if unknown:
        raise Refusal("bad_request", f"'{unknown[0][:40]}' is not a known part; legal: audio, options")
    audio = form.get("audio", [b""])[0]
    options = form.get("options", ["{}"])[0]
    text = options if isinstance(options, str) else options.decode("utf-8", "replace")
    return (audio.encode("utf-8", "surrogateescape") if isinstance(audio, str) else audio), read_options(text)


ADAPTER = Adapter(
    name="rest", endpoints=("http /v1/understand", "http /v1/bundles", "http /openapi.json"), routes=_routes
)
