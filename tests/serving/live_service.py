"""A real service on loopback, in this process but for its engines, and what its tests share."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayso.audio.decode import read
from sayso.core.config import parse
from sayso.core.result import Result, Timing
from sayso.serving import server
from sayso.serving.client import Client
from sayso.serving.config import ServeConfig

ROOT = Path(__file__).resolve().parents[2]
SPEECH = sorted((ROOT / "examples").glob("*.flac"))
# how fast this machine is must not decide what a test sees
FIXED = {"admission": "fixed", "final_s": 120.0, "idle_s": 300.0, "first_audio_s": 300.0}


class Server:
    """A service in a thread with an event loop of its own."""

    def __init__(self, **config: Any) -> None:
        config = {"port": 0, "telemetry": {"log": "off"}, **config}
        config["limits"] = {**FIXED, **config.get("limits", {})}
        self.config = parse(ServeConfig, config, where="test")
        self.loop = asyncio.new_event_loop()
        self._up: Future[server.Running] = Future()
        self._told = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.running = self._up.result(300)  # on a machine that trains beside it
        self.port = self.running.port
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def wyoming_port(self) -> int:
        (line,) = [line for line in self.running.endpoints if line.startswith("tcp://")]
        return int(line.split()[0].rpartition(":")[2])

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            running = self.loop.run_until_complete(server.start(self.config))
        except BaseException as error:
            self._up.set_exception(error)
            return
        self._up.set_result(running)
        self.loop.run_until_complete(running.wait())

    def client(self, key: str | None = None) -> Client:
        return Client(self.url, key=key, timeout_s=300)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run a function in the service's loop."""
        found: Future[Any] = Future()
        self.loop.call_soon_threadsafe(lambda: found.set_result(function()))
        return found.result(60)

    def drain(self) -> None:
        """Tell it to stop, once: told again it would stop at once, and this process with it."""
        if not self._told:
            self._told = True
            self.loop.call_soon_threadsafe(self.running.stop)

    def stop(self) -> None:
        self.drain()
        self._thread.join(120)
        assert not self._thread.is_alive(), "the service did not stop"


class Voice(dict[str, Path]):
    """Sentences as flite says them, each made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __missing__(self, text: str) -> Path:
        path = self._folder / f"{text.replace(' ', '-')}.wav"
        subprocess.run(["flite", "-voice", "slt", "-t", text, "-o", str(path)], check=True, capture_output=True)
        self[text] = path
        return path

    def sound(self, text: str) -> NDArray[np.float32]:
        """16 kHz."""
        return read(self[text])


@contextmanager
def serving(**config: Any) -> Iterator[Server]:
    found = Server(**config)
    try:
        yield found
    finally:
        if found._thread.is_alive():
            found.stop()


def timeless(result: Result) -> Result:
    """Without how long it took."""
    return result.model_copy(update={"timing": Timing(audio_s=result.timing.audio_s)})


def pcm16(samples: NDArray[np.float32]) -> bytes:
    return np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def certify(folder: Path) -> tuple[Path, Path]:
    """A fresh certificate for loopback, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    make += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


def eventually(what: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.02)
