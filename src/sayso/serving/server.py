"""The process: engines, protocols, signals; started whole, stopped without losing a result.

SIGTERM and Ctrl-C drain: not ready any more, nobody new, streams finish, connections close (1001), records are written,
exit 0. A second one stops at once. SIGHUP loads every bundle again, and the certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sayso.core.errors import BundleError, ConfigError, UsageError, require
from sayso.serving.adapter import Site
from sayso.serving.auth import Client, Gate
from sayso.serving.config import ServeConfig
from sayso.serving.guard import GOODBYE_S, guarded
from sayso.serving.http import answer, http_route
from sayso.serving.hub import Hub
from sayso.serving.pool import Pool
from sayso.serving.protocols import ADAPTERS
from sayso.serving.session import Service
from sayso.serving.telemetry import Telemetry, log_to_stderr, say

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

STOPPED_AT_ONCE = 128 + signal.SIGTERM


@dataclass
class Running:
    """A service that answers; ``endpoints`` are what to tell people."""

    service: Service
    endpoints: list[str]
    port: int
    tls: ssl.SSLContext | None = None
    _parts: list[Any] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """Drain and end; a second time: end at once."""
        if self._stop.is_set():
            for engine in self.service.pool.engines:
                engine.kill()
            os._exit(STOPPED_AT_ONCE)
        self._stop.set()

    async def wait(self) -> None:
        """Until it has been stopped and everything is done."""
        await self._stop.wait()
        await drain(self.service)
        server, task, listeners = self._parts
        for listener in listeners:
            listener.close()
        server.should_exit = True
        await task
        await self.service.pool.close()
        self.service.hub.close()
        self.service.telemetry.close()
        say("stopped")


async def start(config: ServeConfig) -> Running:
    """Start everything; it answers when this returns. Raises ``BundleError``, ``ConfigError``, ``UsageError``."""
    telemetry = Telemetry(config.telemetry)
    pool = Pool(config.engines, config.limits, telemetry)
    doors = _listen(config.host, config.port)
    await pool.start()
    hub = Hub(config.bundles, pool)
    try:
        service = Service(config, pool, hub, telemetry)
        site = Site(service, Gate(config.auth, (config.host,)))
        server = _server(config, site)
        await hub.open()
        listeners = {adapter.name: found for adapter in ADAPTERS if (found := await adapter.listen(site)) is not None}
        task = asyncio.create_task(server.serve(sockets=[doors]))
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        if task.done():
            task.result()
    except BaseException:
        await pool.close()
        hub.close()
        telemetry.close()
        doors.close()
        raise
    port: int = doors.getsockname()[1]
    endpoints = _endpoints(config, port) + [_address(name, listener) for name, listener in listeners.items()]
    running = Running(service, endpoints, port, server.config.ssl, [server, task, [*listeners.values()]])
    say("ready", port=port, engines=config.engines)
    return running


async def drain(service: Service) -> None:
    """No new streams; wait for those that run, at most ``drain_s`` and what their finals may take."""
    service.drain()
    say("draining", streams=len(service.utterances))
    until = time.monotonic() + service.limits.drain_s
    for utterance in list(service.utterances):
        if utterance.ask.endpoint == "always":
            utterance.end()  # it would never end by itself
    while (service.utterances or not service.closed) and time.monotonic() < until:
        await asyncio.sleep(0.02)
    for utterance in list(service.utterances):
        utterance.end()
    until = time.monotonic() + service.limits.final_s + GOODBYE_S
    while service.visits and time.monotonic() < until:
        await asyncio.sleep(0.02)


def run(config: ServeConfig, announce: Callable[[str], None]) -> int:
    """The whole life of the process; ``announce`` gets a line per endpoint. The exit code."""
    log_to_stderr(config.telemetry.log)
    return asyncio.run(_live(config, announce))


async def _live(config: ServeConfig, announce: Callable[[str], None]) -> int:
    loop = asyncio.get_running_loop()
    running = await start(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.stop)
    reloading: set[asyncio.Task[None]] = set()

    def again() -> None:
        task = loop.create_task(_reload_all(running))
        reloading.add(task)
        task.add_done_callback(reloading.discard)

    loop.add_signal_handler(signal.SIGHUP, again)
    for line in running.endpoints:
        announce(line)
    await running.wait()
    return 0


async def _reload_all(running: Running) -> None:
    service = running.service
    if running.tls is not None:
        try:
            _tls(service.config)  # alone first: half a pair must not get into the one that is used
            running.tls.load_cert_chain(str(service.config.tls_certificate), str(service.config.tls_key))
        except ConfigError:
            say("reload", certificate=str(service.config.tls_certificate), outcome="failed")
        else:
            say("reload", certificate=str(service.config.tls_certificate), outcome="ok")
    for edition in service.hub.editions:
        try:
            fresh = await service.hub.reload(edition.name)
        except BundleError:
            service.telemetry.reloads.labels("failed").inc()
            say("reload", bundle=edition.name, outcome="failed")
        else:
            service.telemetry.reloads.labels("ok").inc()
            say("reload", bundle=edition.name, outcome="ok", version=fresh.revision)


def _health(site: Site) -> list[Any]:
    service = site.service

    async def live(request: Request) -> Response:
        return answer("alive\n", "text/plain")

    async def ready(request: Request) -> Response:
        if service.ready:
            return answer("ready\n", "text/plain")
        why = "stopping" if service.draining.is_set() else "no engine is ready"
        return answer(f"{why}\n", "text/plain", 503, {"Retry-After": "1"})

    async def metrics(request: Request, client: Client) -> Response:
        client.may("metrics")
        return answer(service.telemetry.exposition(), "text/plain; version=0.0.4; charset=utf-8")

    routing = require("starlette.routing", extra="serve", purpose="the service")
    routes = [routing.Route("/health/live", live), routing.Route("/health/ready", ready)]
    return routes + ([http_route("/metrics", site, "GET", metrics)] if service.config.telemetry.metrics else [])


def _server(config: ServeConfig, site: Site) -> Any:
    """Uvicorn with our limits, without its signals and its log."""
    uvicorn = require("uvicorn", extra="serve", purpose="the service")
    applications = require("starlette.applications", extra="serve", purpose="the service")
    routes = [*_health(site), *(route for adapter in ADAPTERS for route in adapter.routes(site))]
    http, websocket = guarded(config.limits)
    settings = uvicorn.Config(
        applications.Starlette(routes=routes, middleware=_other_pages(config)),
        http=http,
        ws=websocket,
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws_max_size=config.limits.message_bytes,
        ws_ping_interval=None,  # a client that we make wait would not be heard to answer; idle_s ends what is dead
        ws_per_message_deflate=False,
        timeout_keep_alive=round(config.limits.header_s) or 1,
        timeout_graceful_shutdown=round(GOODBYE_S),
        h11_max_incomplete_event_size=1 << 16,
    )
    settings.load()
    if config.tls_certificate is not None and config.tls_key is not None:
        settings.ssl = _tls(config)

    class Server(uvicorn.Server):  # type: ignore[misc, name-defined]
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Server(settings)


def _other_pages(config: ServeConfig) -> list[Any]:
    """Browsers let pages of ``auth.origins`` read answers, and load the module for browsers."""
    if not config.auth.origins:
        return []
    middleware = require("starlette.middleware", extra="serve", purpose="the service").Middleware
    cors = require("starlette.middleware.cors", extra="serve", purpose="the service").CORSMiddleware
    methods, headers = ["GET", "POST"], ["Authorization", "Content-Type"]
    return [
        middleware(
            cors,
            allow_origins=config.auth.origins,
            allow_methods=methods,
            allow_headers=headers,
            expose_headers=["Retry-After"],
        )
    ]


def _tls(config: ServeConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(str(config.tls_certificate), str(config.tls_key))
    except OSError as error:
        raise ConfigError(
            f"{config.tls_certificate}, {config.tls_key}: not a certificate and its key ({error})"
        ) from None
    return context


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host.strip("[]"), port))
        door.listen(512)
    except OSError as error:
        door.close()
        raise UsageError(f"cannot listen on {host}:{port} ({error.strerror}); choose another --port") from None
    door.setblocking(False)
    return door


def _endpoints(config: ServeConfig, port: int) -> list[str]:
    secure = "s" if config.tls_certificate is not None else ""
    host = f"[{config.host}]" if ":" in config.host else config.host
    words = [words for adapter in ADAPTERS for words in adapter.endpoints]
    words += ["http /health/ready", *(["http /metrics"] if config.telemetry.metrics else [])]
    return [f"{kind}{secure}://{host}:{port}{path}" for kind, _, path in (word.partition(" ") for word in words)]


def _address(name: str, listener: asyncio.Server) -> str:
    host, port = listener.sockets[0].getsockname()[:2]
    return f"tcp://[{host}]:{port} ({name})" if ":" in host else f"tcp://{host}:{port} ({name})"
