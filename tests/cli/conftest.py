"""The tone language of ``tests/runtime`` (a bundle whose speech is exact) for the command, and ways to run it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sayso.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("tone_language", ROOT / "tests" / "runtime" / "conftest.py")
assert _spec is not None and _spec.loader is not None
_language = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_language)


@dataclass
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return _language.Tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="session")
def bundle(tones: Any) -> str:
    return str(tones.bundle())


@pytest.fixture
def sayso(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """The command in this process."""

    def run(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        heard = capsys.readouterr()
        return Ran(code, heard.out, heard.err)

    return run


def process(*arguments: str | Path, cwd: Path | None = None, **kwargs: Any) -> subprocess.Popen[str]:
    """The real command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "sayso.cli.main", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment,
        # a suite that a shell runs in the background is deaf to Ctrl-C, and would hand that on
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        **kwargs,
    )


@pytest.fixture
def command() -> Callable[..., Ran]:
    """The real command, run to its end."""

    def run(*arguments: str | Path, cwd: Path | None = None) -> Ran:
        with process(*arguments, cwd=cwd) as running:
            out, err = running.communicate(timeout=120)
            return Ran(running.returncode, out, err)

    return run


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    return process


@pytest.fixture
def say(tones: Any, tmp_path: Path) -> Callable[..., Path]:
    """A recording of a sentence of the tone language."""

    def write(text: str, name: str | None = None, folder: Path | None = None) -> Path:
        path = (folder or tmp_path) / (name or f"{text.replace(' ', '-')}.wav")
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(np.round(tones.say(text) * 32767).astype("<i2").tobytes())
        return path

    return write
