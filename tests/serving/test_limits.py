"""A client that asks for too much, sends too slowly or does not read: each limit, and that nobody else pays for it.

One service with keys and narrow limits, whose bundle is a copy that the tests exchange and damage.
"""

from __future__ import annotations

import asyncio
import hmac
import io
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from live_service import ROOT, Server, eventually, pcm16, serving, timeless
from numpy.typing import NDArray
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sayso.core.bundle import copy_bundle, read_bundle, resolve, write_bundle
from sayso.core.result import Result
from sayso.serving import guard
from sayso.serving.auth import SUBPROTOCOL, Gate, hashed, new_key
from sayso.serving.client import ServiceError
from sayso.serving.config import AuthConfig
from sayso.serving.refusal import Refusal
from sayso.serving.schema import ErrorMessage, read_server

KEYS = {name: new_key("panel")[0] for name in ("old", "new", "expired", "other", "admin")}
RECORDING = ROOT / "examples" / "turn-on-the-kitchen-lights.flac"
LIMITS: dict[str, Any] = {
    "streams": 4,
    "connections": 16,
    "connections_per_key": 3,
    "header_s": 2.0,
    "body_s": 4.0,
    "body_bytes": 200_000,
    "message_bytes": 65_536,
    "messages_per_s": 100.0,
    "first_audio_s": 4.0,
    "idle_s": 6.0,
    "send_s": 4.0,
    "utterance_s": 6.0,
    "rate": 8.0,
    "burst_s": 1.0,
}


def _key(which: str, name: str, *scopes: str, expires: datetime | None = None) -> dict[str, Any]:
    return {"name": name, "hash": hashed(KEYS[which]), "scopes": scopes or ("understand",), "expires": expires}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "copy.bundle"
    copy_bundle(read_bundle(resolve("home")), folder)
    return folder


@pytest.fixture(scope="module")
def strict(place: Path) -> Iterator[Server]:
    now = datetime.now(UTC)
    keys = [
        _key("old", "panel", expires=now + timedelta(days=1)),
        _key("new", "panel"),
        _key("expired", "panel", expires=now - timedelta(seconds=1)),
        _key("other", "other"),
        _key("admin", "admin", "understand", "metrics", "admin"),
    ]
    auth = {"keys": keys, "origins": ["https://home.example"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "UNREAD_BYTES", 4096)  # so that a deaf client is full soon
        with serving(bundles={"home": str(place)}, auth=auth, limits=LIMITS) as found:
            yield found


def ws(server: Server, key: str | None = "new", **options: Any) -> Any:
    headers = {} if key is None else {"Authorization": f"Bearer {KEYS[key]}"}
    headers |= options.pop("headers", {})
    url = f"ws://127.0.0.1:{server.port}/v1/stream" + options.pop("query", "")
    return connect(url, additional_headers=headers, proxy=None, **options)


def free(server: Server) -> None:
    """All places of earlier tests have been given up."""
    eventually(lambda: not server.running.service.visits)


def raw(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


async def refusal(server: Server, *messages: str | bytes, key: str = "new") -> tuple[list[str], int | None]:
    """The codes of the errors in a conversation, and the close code after them."""
    async with ws(server, key) as link:
        codes: list[str] = []
        try:
            for message in messages:
                await link.send(message)
            while True:
                answer = read_server(await link.recv())
                codes += [answer.code] if isinstance(answer, ErrorMessage) else []
        except ConnectionClosed as closed:
            return codes, closed.rcvd.code if closed.rcvd else None


START = '{"type": "start"}'


def test_keys(strict: Server, truth: dict[str, Result]) -> None:
    expected = timeless(truth[RECORDING.stem])
    for key in ("old", "new", "other"):  # two of one name: a rotation
        assert timeless(strict.client(KEYS[key]).understand(RECORDING)) == expected
    for wrong in (None, "", "nonsense", KEYS["new"][:-1], KEYS["expired"]):
        with pytest.raises(ServiceError) as refused:
            strict.client(wrong).understand(RECORDING)
        assert (refused.value.status, refused.value.code) == (401, "unauthorized")
    for path, key, status in (("/metrics", "new", 403), ("/metrics?api_key=x", "admin", 400)):
        with pytest.raises(ServiceError) as refused:
            strict.client(KEYS[key]).get(path)
        assert refused.value.status == status
    assert "slu_streams_total" in strict.client(KEYS["admin"]).get("/metrics")
    with pytest.raises(ServiceError) as refused:
        strict.client(KEYS["new"]).reload("home")
    assert refused.value.code == "forbidden"


def test_keys_are_compared_in_the_same_time(strict: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever key it is, and whether it is one: every hash is compared, whole."""
    compared: list[tuple[str, str]] = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return compare_digest(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    gate = Gate(strict.config.auth)
    known = [key.hash for key in strict.config.auth.keys]
    for shown in (KEYS["old"], KEYS["admin"], "nonsense"):
        compared.clear()
        with suppress(Refusal):
            gate.client({"authorization": f"Bearer {shown}"}, "127.0.0.1")
        assert compared == [(hashed(shown), key) for key in known]
    assert gate.client({"authorization": f"token {KEYS['new']}"}, "127.0.0.1").name == "panel"


@pytest.mark.parametrize(
    ("settings", "host", "comes_in"),
    [
        ({}, "127.0.0.1:8080", True),
        ({}, "panel.local:8080", False),  # a page whose name was made to point here (DNS rebinding)
        ({"hosts": ["panel.local"]}, "Panel.local:8080", True),
        ({"hosts": ["panel.local"]}, "other.local", False),
        ({"open": True}, "anything.example", True),
    ],
)
def test_a_service_without_keys_goes_by_names_that_it_knows(
    settings: dict[str, Any], host: str, comes_in: bool
) -> None:
    gate = Gate(AuthConfig.model_validate(settings))
    with nullcontext() if comes_in else pytest.raises(Refusal, match=r"auth\.hosts"):
        gate.check_page({"host": host})
    with pytest.raises(Refusal, match=r"auth\.origins" if comes_in else r"auth\.hosts"):
        gate.check_page({"host": host, "origin": "https://evil.example"})


def test_keys_and_pages_before_the_upgrade(strict: Server) -> None:
    async def status(key: str | None, **options: Any) -> int:
        try:
            async with ws(strict, key, **options):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    async def all_of_them() -> None:
        assert await status(None) == 401
        assert await status("new", query="?token=" + KEYS["new"]) == 400
        own = f"http://127.0.0.1:{strict.port}"
        for origin, answer in ((own, 101), ("https://home.example", 101), ("https://evil.example", 403), ("null", 403)):
            assert await status("new", origin=origin) == answer
        async with ws(strict, None, subprotocols=["sayso.v1", SUBPROTOCOL + KEYS["new"]]) as link:
            assert link.subprotocol == "sayso.v1"
            assert link.protocol.extensions == []  # none that blows a message up: compression is not spoken

    asyncio.run(all_of_them())
    free(strict)


def test_a_name_that_is_not_ours_is_refused_without_keys(service: Server) -> None:
    """DNS rebinding: the page's origin and the name it asks for agree, and both are somebody else's."""
    with raw(service) as link:
        link.sendall(b"GET /v1/bundles HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\r\n")
        assert link.recv(1000).startswith(b"HTTP/1.1 403")


def test_no_room(strict: Server) -> None:
    """The fourth of one key gets 429, the fifth of all 503; both before the upgrade, at once, with Retry-After."""

    async def talk(link: Any) -> None:  # so that no place comes free for being idle
        await link.send(START)
        while True:
            await link.send(bytes(320))
            await asyncio.sleep(0.3)

    async def fill() -> None:
        async with asyncio.TaskGroup() as talking, AsyncExitStack() as open_ones:
            tasks = []
            for key, status in (*[("new", 101)] * 3, ("old", 429), ("other", 101), ("other", 503)):
                began = time.monotonic()
                try:
                    link = await open_ones.enter_async_context(ws(strict, key))
                    tasks.append(talking.create_task(talk(link)))
                    assert status == 101
                except InvalidStatus as refused:
                    assert refused.response.status_code == status
                    assert int(refused.response.headers["Retry-After"]) >= 1
                    assert time.monotonic() - began < 5.0  # 50 ms where nothing else runs: benchmarks/serve.py
            with pytest.raises(ServiceError) as also:
                await asyncio.to_thread(strict.client(KEYS["admin"]).understand, RECORDING)
            assert also.value.status == 503 and also.value.retry_after_s is not None
            for task in tasks:
                task.cancel()

    asyncio.run(fill())
    free(strict)
    assert strict.client(KEYS["new"]).understand(RECORDING).intent is not None


def test_what_is_too_much(strict: Server, speech: dict[str, NDArray[np.float32]]) -> None:
    second = bytes(32000)
    silence = io.BytesIO()
    sf.write(silence, np.zeros(16000 * 300), 16000, format="FLAC")
    assert len(silence.getvalue()) < LIMITS["body_bytes"]  # five minutes in a few kilobytes
    noise = np.random.default_rng(0).bytes(LIMITS["body_bytes"] + 1)
    for body, code in ((silence.getvalue(), "too_long"), (noise, "too_large"), (noise[:999], "bad_audio")):
        with pytest.raises(ServiceError) as refused:
            strict.client(KEYS["new"]).understand(body)
        assert refused.value.code == code and "/proc" not in str(refused.value)
    many = {"area": ["sauna"] * 501}
    for lists in (many, {"area": ["x" * 101]}, {f"list {number}": ["x"] for number in range(17)}):
        with pytest.raises(ServiceError) as refused:
            strict.client(KEYS["new"]).understand(RECORDING, lists=lists)  # type: ignore[arg-type]
        assert refused.value.code == "too_large"

    async def on_streams() -> None:
        assert await refusal(strict, START, bytes(70_000)) == ([], 1009)
        codes, _ = await refusal(strict, START, *[second] * 7, '{"type": "end"}')
        assert codes == ["too_long", "timeout"]  # the first is of that stream alone; then nothing more came

    asyncio.run(on_streams())


def test_silent_clients_are_sent_away(strict: Server) -> None:
    async def wait(*messages: str | bytes) -> float:
        began = time.monotonic()
        assert await refusal(strict, *messages) == (["timeout"], 1008)
        return time.monotonic() - began

    async def all_of_them() -> None:
        cases = (((), 4.0), ((START,), 4.0), ((START, bytes(3200)), 6.0))
        waits = await asyncio.gather(*(wait(*messages) for messages, _ in cases))
        for waited, (_, seconds) in zip(waits, cases, strict=True):
            assert 0.9 * seconds < waited < 5 * seconds

    asyncio.run(all_of_them())


def test_fast_clients_wait(strict: Server) -> None:
    async def timed(pieces: list[bytes]) -> float:
        async with ws(strict) as link:
            began = time.monotonic()
            await link.send(START)
            for piece in pieces:
                await link.send(piece)
            await link.send('{"type": "end"}')
            while '"result"' not in (await link.recv())[:20]:
                pass
            return time.monotonic() - began

    assert asyncio.run(timed([bytes(16000)] * 11)) > (5.5 - 1.0) / 8 * 0.95
    assert asyncio.run(timed([b"\0"] * 200)) > 0.95  # half a sample each; a hundred messages are free


def test_slow_senders_cost_nobody_anything(strict: Server, truth: dict[str, Result]) -> None:
    """Heads and bodies that trickle in; meanwhile another client is served, and then the trickle has been cut."""
    head = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
    key = KEYS["new"].encode()
    body = b"POST /v1/understand HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + key
    body += b"\r\nContent-Length: 9000\r\n\r\nx"
    slow = [raw(strict) for _ in range(6)]
    for link in slow[:5]:
        link.sendall(head)
    slow[5].sendall(body)
    result = strict.client(KEYS["other"]).understand(RECORDING)
    assert timeless(result) == timeless(truth[RECORDING.stem])
    for link in slow[:5]:
        eventually(lambda link=link: _cut(link, b"x"), within_s=10 * LIMITS["header_s"])  # type: ignore[misc]
    assert slow[5].recv(1000).startswith(b"HTTP/1.1 408")
    for link in slow:
        link.close()


def _cut(link: socket.socket, more: bytes) -> bool:
    """Whether the other side has had enough; else it gets ``more``."""
    try:
        link.sendall(more)
        return not link.recv(100, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_connections_are_bounded_before_anything_is_read(strict: Server) -> None:
    held = [raw(strict) for _ in range(LIMITS["connections"])]
    eventually(lambda: _answer(strict).startswith(b"HTTP/1.1 503"))
    for link in held:
        link.close()
    eventually(lambda: _answer(strict).startswith(b"HTTP/1.1 200"))


def _answer(server: Server) -> bytes:
    with raw(server) as link:
        link.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return link.recv(100)


def test_a_client_that_does_not_read_is_cut_off(strict: Server, speech: dict[str, NDArray[np.float32]]) -> None:
    """It gets some kilobytes of backlog, loses partials, then its place; others go on."""
    sound = pcm16(np.concatenate([*speech.values()] * 3))

    async def deaf() -> None:
        quiet = socket.socket()
        quiet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        quiet.connect(("127.0.0.1", strict.port))
        link = await ws(strict, sock=quiet, max_queue=1, ping_interval=None)
        link.transport.pause_reading()
        await link.send('{"type": "start", "endpoint": "always"}')
        (visit,) = strict.running.service.visits
        place = 0
        while visit in strict.running.service.visits and place < len(sound):
            with suppress(TimeoutError, ConnectionClosed, OSError):
                async with asyncio.timeout(0.5):
                    await link.send(sound[place : place + 16000])
            place += 16000
        await asyncio.to_thread(eventually, lambda: visit not in strict.running.service.visits)
        link.transport.abort()

    asyncio.run(deaf())
    free(strict)
    assert strict.client(KEYS["new"]).understand(RECORDING).intent is not None


def test_a_bundle_is_exchanged_while_people_speak(
    strict: Server, place: Path, speech: dict[str, NDArray[np.float32]]
) -> None:
    """Damaged: nothing changes. Another: new streams get it, a running one ends on the old, which then goes."""
    admin, before = strict.client(KEYS["admin"]), strict.running.service.hub.editions[0]
    whole = read_bundle(place)
    files = {name: whole.file(name) for name in whole.manifest.files}
    (place / "ctc.onnx").write_bytes(files["ctc.onnx"][:-1] + b"!")
    with pytest.raises(ServiceError) as damaged:
        admin.reload("home")
    assert damaged.value.status == 409 and "ctc.onnx" in str(damaged.value)
    assert strict.running.service.hub.editions == [before]
    manifest = write_bundle(whole.manifest.model_copy(update={"description": "another"}), files, place)

    async def across() -> Result:
        async with strict.client(KEYS["new"]).connect() as connection:
            stream = await connection.start()
            samples = pcm16(speech[RECORDING.stem])
            await stream.send(samples[:32000])
            reloading = asyncio.create_task(asyncio.to_thread(admin.reload, "home"))
            while not reloading.done():  # or the stream would be taken for an idle one
                await stream.send(b"")
                await asyncio.sleep(0.1)
            reloaded = reloading.result()
            assert reloaded == manifest.sha256[:12] != before.revision
            assert before.users == 1 and before.folder.exists()
            assert admin.bundles()[0]["description"] == "another"
            await stream.send(samples[32000:])
            await stream.end()
            return await stream.result()

    assert asyncio.run(across()).text == "turn on the kitchen lights"
    eventually(lambda: before.users == 0 and not before.folder.exists())
    assert before.number not in strict.running.service.pool.engines[0].editions
    assert admin.understand(RECORDING).intent is not None
