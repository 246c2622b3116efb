"""One service for all tests that change nothing about it; real speech; what the bundle says of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Page, browser, ready, spoken
from live_service import ROOT, SPEECH, Server, Voice, serving
from numpy.typing import NDArray

import sayso
from sayso.audio.decode import read
from sayso.core.result import Result


@pytest.fixture(scope="session")
def service() -> Iterator[Server]:
    """One for all tests that change nothing about it."""
    with serving(engines=2, wyoming_port=0) as found:
        yield found


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the microphone of a browser hears."""
    return spoken(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="session")
def tab(sound: Path) -> Iterator[Page]:
    """One browser for all tests that need no other."""
    with browser(sound) as page:
        yield page


@pytest.fixture
def page(tab: Page, service: Server) -> Page:
    """The web page of the service that all share, ready."""
    ready(tab, service.url)
    return tab


@pytest.fixture(scope="session")
def home() -> sayso.Model:
    return sayso.load("home")


@pytest.fixture(scope="session")
def speech() -> dict[str, NDArray[np.float32]]:
    """Recordings by name, 16 kHz."""
    return {path.stem: read(path) for path in SPEECH}


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Voice:
    if shutil.which("flite") is None:
        pytest.skip("flite is not installed, so nobody says what may follow")
    return Voice(tmp_path_factory.mktemp("voice"))


class Truth(dict[str, Result]):
    """What a model makes of recordings, by name; each is asked for once, when it is needed."""

    def __init__(self, model: sayso.Model) -> None:
        super().__init__()
        self._model = model

    def __missing__(self, name: str) -> Result:
        self[name] = self._model.understand(ROOT / "examples" / f"{name}.flac")
        return self[name]


@pytest.fixture(scope="session")
def truth(home: sayso.Model) -> dict[str, Result]:
    """What the bundle makes of the recordings in this process."""
    return Truth(home)
