"""A real Chromium without a window, driven over the DevTools protocol: keys, files, a microphone that plays a file.

``websockets`` is all it needs. The protocol is described at chromedevtools.github.io/devtools-protocol.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from live_service import ROOT
from websockets.sync.client import ClientConnection, connect

from sayso.audio.decode import read

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--mute-audio",
    "--remote-debugging-port=0",
    "--use-fake-device-for-media-stream",
)
KEYS = {" ": ("Space", 32), "Escape": ("Escape", 27), "Enter": ("Enter", 13), "Tab": ("Tab", 9)}
PATIENCE_S = 120.0  # machines that train beside it
PROGRAM = next((path for name in NAMES if (path := shutil.which(name)) is not None), None)
chromium = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium: apt install chromium")
SPOKEN, LEAD_S = "turn-on-the-kitchen-lights", 1.0  # what the microphone hears, and the silence before it


def recording(name: str) -> Path:
    """One of the examples."""
    return ROOT / "examples" / f"{name}.flac"


def spoken(folder: Path) -> Path:
    """A file for the microphone: silence, a command, silence."""
    around = np.zeros(round(LEAD_S * 16000), np.float32), np.zeros(4 * 16000, np.float32)
    path = folder / "spoken.wav"
    sf.write(path, np.concatenate([around[0], read(recording(SPOKEN)), around[1]]), 16000, subtype="PCM_16")
    return path


class Page:
    """One tab. ``problems`` holds what its console and its Content-Security-Policy complained of."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0
        self.problems: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A method of the protocol, for this tab."""
        return self._call(method, self._session, **parameters)

    def open(self, url: str, width: int = 1100, height: int = 900, dark: bool = False, scale: float = 1) -> None:
        """Go there, in a window of that size; phones are those narrower than 600."""
        self.size(width, height, scale)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def size(self, width: int, height: int, scale: float = 1) -> None:
        mobile = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )

    def run(self, script: str) -> Any:
        """The value of an expression, a promise's too. An exception fails the test."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, within_s: float = PATIENCE_S) -> Any:
        """Until an expression is true; its value."""
        until = time.monotonic() + within_s
        while not (value := self.run(script)):
            assert time.monotonic() < until, f"it did not come to {script}; {self.problems}; {self.seen()}"
            time.sleep(0.05)
        return value

    def seen(self) -> str:
        """All text that is shown."""
        return str(self.run("document.body.innerText"))

    def key(self, name: str, kind: str = "press") -> None:
        """``down``, ``up`` or ``press``."""
        code, number = KEYS[name]
        for part in ("down", "up") if kind == "press" else (kind,):
            text = {"text": "\r" if name == "Enter" else name} if part == "down" and name in (" ", "Enter") else {}
            self.call(
                "Input.dispatchKeyEvent", type=f"key{part.title()}", key=name, code=code, windowsVirtualKeyCode=number,
                **text,
            )  # fmt: skip

    def mouse(self, selector: str, kind: str = "press") -> None:
        """``down``, ``up`` or ``press`` in the middle of an element."""
        x, y = self._middle(selector)
        for part in ("down", "up") if kind == "press" else (kind,):
            event = {"down": "mousePressed", "up": "mouseReleased"}[part]
            self.call("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", clickCount=1)

    def write(self, text: str) -> None:
        """Into what has the focus."""
        self.call("Input.insertText", text=text)

    def drop(self, path: Path) -> None:
        """Drag a file onto the page."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file in an input."""
        node = self.call("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self.call("DOM.setFileInputFiles", files=[str(path)], objectId=node["result"]["objectId"])

    def picture(self) -> bytes:
        """What it looks like, a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def _middle(self, selector: str) -> tuple[float, float]:
        box = self.run(f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while (answer := json.loads(self._socket.recv(PATIENCE_S))).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"])[:500])
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            # a page of another test that names no icon is asked for one, and may be answered when ours is open
            if not parameters["entry"].get("url", "").endswith("/favicon.ico"):
                self.problems.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.problems.append(json.dumps(parameters["args"])[:500])


def ready(page: Page, url: str, **size: Any) -> None:
    """Open the page of a service and wait until it may be used."""
    page.problems.clear()
    page.open(f"{url}/", **size)
    page.wait("document.querySelector('#state').dataset.state === 'ready'")


@contextmanager
def browser(microphone: Path | None, allow: bool = True) -> Iterator[Page]:
    """A tab of a fresh browser whose microphone plays ``microphone`` once each time it is opened (None: there is none),
    and is given to pages if ``allow``."""
    assert PROGRAM is not None, "tests skip where there is no browser"
    hears = [] if microphone is None else [f"--use-file-for-fake-audio-capture={microphone}%noloop"]
    if allow:
        hears.append("--use-fake-ui-for-media-stream")
    flags = [flag for flag in FLAGS if microphone is not None or not flag.startswith("--use-fake")]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        environment = {**os.environ, "HOME": home}
        process = subprocess.Popen(
            [PROGRAM, *flags, *hears, f"--user-data-dir={home}/profile", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        try:
            with connect(_address(process, Path(home) / "profile"), max_size=None, compression=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait(60)


def _address(process: subprocess.Popen[bytes], profile: Path) -> str:
    """Where it listens, which it writes into its profile."""
    until = time.monotonic() + PATIENCE_S
    file = profile / "DevToolsActivePort"
    while not file.exists() or len(file.read_text().splitlines()) < 2:
        assert process.poll() is None, "the browser ended at once"
        assert time.monotonic() < until, "the browser did not start"
        time.sleep(0.05)
    port, path = file.read_text().splitlines()[:2]
    return f"ws://127.0.0.1:{port}{path}"
