"""The web page at ``/``: press and speak, or drop a recording, and see what is understood while it is spoken.

Some files beside this package, read once when the service starts; nothing on the page comes from elsewhere, and its
Content-Security-Policy lets nothing else in. It is shown without a key, since it holds no secret: what it then asks of
the service needs the key that its user types. ``sayso.js`` among its files is a client for anybody's page.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from sayso.core.errors import require
from sayso.serving.adapter import Adapter, Site
from sayso.serving.auth import check_url
from sayso.serving.http import answer, json, problem
from sayso.serving.refusal import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def _routes(site: Site) -> list[Any]:
    folder = files("sayso.serving").joinpath("page")
    kinds = {file.name: TYPES.get("." + file.name.rpartition(".")[2]) for file in folder.iterdir()}
    pages = {name: (folder.joinpath(name).read_bytes(), kind) for name, kind in kinds.items() if kind is not None}

    async def show(request: Request) -> Response:
        try:
            check_url(request.url.query)
            site.gate.check_page(request.headers)
            found = pages.get(request.path_params.get("name", "index.html"))
            if found is None:
                raise Refusal("not_found", f"there is no such file; legal: {', '.join(sorted(pages))}")
        except Refusal as refusal:
            return json(problem(refusal), refusal.status)
        return answer(found[0], found[1], headers=HEADERS)

    route = require("starlette.routing", extra="serve", purpose="the service").Route
    return [route("/", show), route("/page/{name}", show)]


ADAPTER = Adapter(name="page", endpoints=("http /",), routes=_routes)
