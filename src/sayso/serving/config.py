"""Everything that can be set about the service: ``serve.toml``, read strictly.

All defaults are safe for a machine at home: loopback, and limits on whatever a client controls. Listening elsewhere
needs keys, or ``auth.open``, which says that leaving them out is meant. An unknown key is an error that names the
nearest legal one, as everywhere.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from sayso.core.config import Config, parse, read_toml

Scope = Literal["understand", "metrics", "admin"]
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


class KeyConfig(Config):
    """One API key: the hash of it, whose it is, and what it opens. Two keys of one ``name`` overlap in a rotation.

    ``sayso serve --new-key NAME`` makes one. ``expires`` without a zone is UTC.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    hash: str
    scopes: tuple[Scope, ...] = ("understand",)
    expires: datetime | None = None

    @field_validator("hash")
    @classmethod
    def _is_a_hash(cls, value: str) -> str:
        if not _HASH.fullmatch(value):
            raise ValueError("'hash' is sha256: and 64 hex digits; make a key with sayso serve --new-key NAME")
        return value

    def expired(self, now: datetime | None = None) -> bool:
        """Whether it no longer opens anything."""
        expires = self.expires
        if expires is None:
            return False
        return (now or datetime.now(UTC)) >= (expires if expires.tzinfo else expires.replace(tzinfo=UTC))


class AuthConfig(Config):
    """Who may come in. Without keys everyone may, which only loopback allows, or ``open`` on purpose."""

    keys: tuple[KeyConfig, ...] = ()
    open: bool = False
    origins: tuple[str, ...] = ()  # of web pages beside the service's own, e.g. "https://home.example"
    hosts: tuple[str, ...] = ()  # names under which the service is reached, beside loopback and its address


class Limits(Config):
    """Bounds on everything that a client controls. Seconds of wall time unless it says audio."""

    streams: int = Field(default=64, ge=1)  # at once, over all engines
    admission: Literal["measured", "fixed"] = "measured"  # by headroom as well, or by ``streams`` alone
    headroom: float = Field(default=0.8, gt=0, le=4)  # share of an engine's time that streams may fill
    connections: int = Field(default=256, ge=1)  # of all kinds
    connections_per_key: int = Field(default=64, ge=1)  # or per address, where there are no keys
    header_s: float = Field(default=5.0, gt=0)
    body_s: float = Field(default=30.0, gt=0)
    body_bytes: int = Field(default=16 << 20, ge=1)
    message_bytes: int = Field(default=1 << 20, ge=1024)
    messages_per_s: float = Field(default=200.0, gt=0)  # faster clients wait
    first_audio_s: float = Field(default=10.0, gt=0)
    idle_s: float = Field(default=30.0, gt=0)
    send_s: float = Field(default=10.0, gt=0)  # for a client to take what it is sent
    utterance_s: float = Field(default=60.0, gt=0)  # audio; of an uploaded file too
    session_s: float = Field(default=3600.0, gt=0)
    rate: float = Field(default=8.0, ge=1)  # audio per second of wall time; faster clients wait
    burst_s: float = Field(default=5.0, ge=0)  # audio that is free of ``rate``
    final_s: float = Field(default=10.0, gt=0)  # from the end of the audio to the final result
    lists: int = Field(default=16, ge=0)  # lists that a request may replace
    list_values: int = Field(default=500, ge=1)  # in all of them
    list_chars: int = Field(default=100, ge=1)  # of one value
    dialogues: int = Field(default=10_000, ge=1)  # that are remembered
    dialogues_per_key: int = Field(default=1000, ge=1)  # or per address; the one longest unused makes room
    dialogue_s: float = Field(default=600.0, gt=0)  # without an utterance, until one is forgotten
    drain_s: float = Field(default=30.0, ge=0)  # for streams to finish after SIGTERM


class TelemetryConfig(Config):
    """What is written about requests; never what was said. ``usage`` is a SQLite file, none where it is absent."""

    metrics: bool = True
    log: Literal["json", "off"] = "json"
    usage: Path | None = None
    usage_queue: int = Field(default=1000, ge=1)


class ServeConfig(Config):
    """All of ``serve.toml``. ``bundles`` gives each bundle the name that requests use; the first is the default."""

    kind: Literal["serve"] = "serve"
    bundles: dict[str, str] = Field(default_factory=lambda: {"home": "home"}, min_length=1)
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    wyoming_port: int | None = Field(default=None, ge=0, le=65535)
    wyoming_host: str = "127.0.0.1"
    wyoming_allow: tuple[str, ...] = ("127.0.0.1/32", "::1/128")  # networks; the protocol has no keys
    engines: int = Field(default=1, ge=1, le=64)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    limits: Limits = Limits()
    auth: AuthConfig = AuthConfig()
    telemetry: TelemetryConfig = TelemetryConfig()

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if not is_loopback(self.host) and not self.auth.keys and not self.auth.open:
            raise ValueError(
                f"host '{self.host}' can be reached from elsewhere and there are no keys; add auth.keys (make one with "
                "sayso serve --new-key NAME), or auth.open=true where something else guards the door"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together; give both or neither")
        for network in self.wyoming_allow:
            ipaddress.ip_network(network)
        return self


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def read_config(path: Path | None, given: dict[str, Any]) -> ServeConfig:
    """``serve.toml`` (None: nothing) with what the command line says over it. Raises ``ConfigError``."""
    data = {} if path is None else read_toml(path)
    return parse(ServeConfig, {**data, **given}, where="serve" if path is None else str(path))
