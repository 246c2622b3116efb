"""Who is there: API keys, and the web pages that may speak for a browser.

A key is 256 random bits, so a plain SHA-256 of it is enough to keep (there is nothing to guess), and checking one costs
no more than a request. Every stored hash is compared, in constant time, whether or not one before it matched. A key
comes in the header ``Authorization: Bearer KEY`` (or ``Token KEY``), or, from a browser's WebSocket, which cannot set
headers, as the subprotocol ``sayso-key.KEY`` beside the protocol's own name; in a URL it is refused, since URLs are
logged by everything between.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from sayso.serving.config import AuthConfig, Scope, is_loopback
from sayso.serving.refusal import Refusal

PREFIX = "sayso-"
SUBPROTOCOL = "sayso-key."
_IN_URL = {"key", "api_key", "apikey", "access_token", "token", "authorization"}


@dataclass(frozen=True)
class Client:
    """Who asks: a key's name, or an address where there are no keys. ``scopes`` is what it may do."""

    name: str
    scopes: frozenset[Scope]
    by_key: bool = True

    @property
    def label(self) -> str:
        """For records: the name of the key. Addresses are not kept."""
        return self.name if self.by_key else "-"

    def may(self, scope: Scope) -> None:
        """``Refusal`` where it may not."""
        if scope not in self.scopes:
            raise Refusal("forbidden", f"this key is not for that; it needs the scope '{scope}'")


def new_key(name: str) -> tuple[str, str]:
    """A fresh key, which is shown once, and the line of ``serve.toml`` that lets it in."""
    key = PREFIX + secrets.token_urlsafe(32)
    return key, f'{{name = "{name}", hash = "{hashed(key)}", scopes = ["understand"]}}'


def hashed(key: str) -> str:
    """What is kept of a key."""
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Gate:
    """Lets clients in by what they show. ``names``: under which this server may be addressed, beside loopback."""

    def __init__(self, config: AuthConfig, names: Iterable[str] = ()) -> None:
        self.config = config
        self._names = {name.lower() for name in (*config.hosts, *names)}

    def client(self, headers: Mapping[str, str], address: str, subprotocols: Iterable[str] = ()) -> Client:
        """Who shows this key; ``Refusal`` for none and for a wrong one. Without keys in the configuration: anybody."""
        if not self.config.keys:
            return Client(address, frozenset(("understand", "metrics", "admin")), by_key=False)
        key = presented(headers, subprotocols)
        if key is None:
            raise Refusal("unauthorized", "this service needs a key; send the header Authorization: Bearer KEY")
        mine, found = hashed(key), None
        for known in self.config.keys:
            if hmac.compare_digest(mine, known.hash) and not known.expired():
                found = found or known
        if found is None:
            raise Refusal("unauthorized", "this key is not known here, or has expired")
        return Client(found.name, frozenset(found.scopes))

    def check_page(self, headers: Mapping[str, str]) -> None:
        """``Refusal`` for a web page of somebody else's, and for a name that is not ours (DNS rebinding)."""
        host = _hostname(headers.get("host", ""))
        if not self.config.keys and not self._ours(host):
            raise Refusal("forbidden", "this server is not known by that name; list it in auth.hosts if it should be")
        origin = headers.get("origin")
        if origin is None or origin in self.config.origins:
            return
        if origin == "null" or urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            raise Refusal("forbidden", "pages of this origin may not use the service; list it in auth.origins")

    def _ours(self, host: str) -> bool:
        return self.config.open or is_loopback(host) or host in self._names


def presented(headers: Mapping[str, str], subprotocols: Iterable[str] = ()) -> str | None:
    """The key that a client shows, if any."""
    kind, _, key = headers.get("authorization", "").partition(" ")
    if kind.lower() in ("bearer", "token") and key.strip():
        return key.strip()
    for offered in subprotocols:
        if offered.startswith(SUBPROTOCOL):
            return offered.removeprefix(SUBPROTOCOL)
    return None


def check_url(query: str) -> None:
    """``Refusal`` for a key in a URL."""
    try:
        names = [name.lower() for name, _ in parse_qsl(query, keep_blank_values=True, max_num_fields=100)]
    except ValueError:
        raise Refusal("bad_request", "found more than 100 fields in the URL; legal are a few") from None
    for name in names:
        if name in _IN_URL:
            raise Refusal("bad_request", "keys do not belong in URLs, which are logged; use the Authorization header")


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
