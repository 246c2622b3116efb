"""Recordings in, results out: JSON and nothing else, partials in order, one bad file among good ones."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sayso.audio.microphone import record
from sayso.audio.vad import EndpointConfig, Endpointer
from sayso.cli.listen import hear
from sayso.core.errors import AudioError, MissingExtra
from sayso.core.result import Result
from sayso.runtime.load import load


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_json_line_per_file_and_the_others_are_done(command: Any, say: Any, bundle: str, tmp_path: Path) -> None:
    good, other = say("turn on the kitchen light"), say("call anna")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.mp3").write_text("not audio at all\n" * 40)
    (tmp_path / "folder").mkdir()
    given = [good, tmp_path / "missing.wav", tmp_path / "empty.wav", tmp_path / "text.mp3", tmp_path / "folder", other]
    ran = command("understand", *given, "--bundle", bundle, "--json")  # mpg123 has comments of its own on text.mp3
    assert ran.code == 1
    first, second = lines(ran.out)
    assert first.pop("audio") == str(good) and second["audio"] == str(other)
    assert Result.model_validate(first).intent is not None
    assert first["intent"]["name"] == "turn_on" and first["final"] is True
    assert first["slots"][0]["value"] == "Kitchen" and second["decision"] == "clarify"
    complaints = ran.err.splitlines()
    assert len(complaints) == 4 and all(line.startswith("error: ") for line in complaints)
    for name, line in zip(("missing.wav", "empty.wav", "text.mp3", "folder"), complaints, strict=True):
        assert name in line
    assert "Traceback" not in ran.err


def test_a_block_for_people(sayso: Any, say: Any, bundle: str) -> None:
    ran = sayso("understand", say("turn on the kitchen light"), say("call anna"), say("coffee"), "--bundle", bundle)
    assert ran.code == 0 and not ran.err
    first, second, third = ran.out.split(".wav\n")[1:]
    assert "Turn on the kitchen light" in first and "turn_on" in first and "area=Kitchen" in first
    assert "accept" in first and "RTF" in first and "confidence  -" in first
    assert 'clarify, ask "Call whom?"' in second or "clarify" in second
    assert "reject" in third and "\x1b" not in ran.out


def test_partials_grow_and_the_last_line_is_final(sayso: Any, say: Any, bundle: str) -> None:
    path = say("turn on the kitchen light")
    ran = sayso("understand", path, "--bundle", bundle, "--stream", "--json", "--chunk-ms", "200")
    *partials, final = lines(ran.out)
    assert ran.code == 0 and final["final"] and final["text"] == "turn on the kitchen light"
    assert len(partials) > 2 and not any(item["final"] for item in partials)
    stable = [item["stable"] for item in partials]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(stable))
    assert final["text"].startswith(stable[-1])
    whole = lines(sayso("understand", path, "--bundle", bundle, "--json").out)[0]
    assert {**whole, "timing": 0} == {**final, "timing": 0}


def test_partials_for_people_are_lines_off_a_terminal(sayso: Any, say: Any, bundle: str) -> None:
    ran = sayso("understand", say("turn off hall light"), "--bundle", bundle, "--stream")
    partials = [line for line in ran.out.splitlines() if " s  " in line and "|" in line]
    assert ran.code == 0 and len(partials) > 1 and "turn_off" in ran.out and "\r" not in ran.out


def test_lists_from_files(sayso: Any, say: Any, bundle: str, tmp_path: Path) -> None:
    (tmp_path / "people.txt").write_text("uncle geoffrey\t+49 30\nanna\n")
    people = f"contacts={tmp_path / 'people.txt'}"
    ran = sayso("understand", say("call anna"), "--bundle", bundle, "--json", "--list", people)
    assert lines(ran.out)[0]["applied"]["lists"] == {"contacts": 2}
    for wrong, what in (
        ("contacts", "NAME=FILE"),
        ("contact=" + people.split("=")[1], "did you mean 'contacts'"),
        ("contacts=nowhere.txt", "nowhere.txt"),
    ):
        ran = sayso("understand", say("call anna"), "--bundle", bundle, "--list", wrong)
        assert ran.code == 2 and what in ran.err and not ran.out


def test_a_closed_pipe_is_quiet(start: Callable[..., subprocess.Popen[str]], say: Any, bundle: str) -> None:
    with start("understand", *[say("call anna")] * 40, "--bundle", bundle, "--json") as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait(60) == 141


def test_ctrl_c_leaves_with_130(start: Callable[..., subprocess.Popen[str]], say: Any, bundle: str) -> None:
    with start("understand", *[say("call anna")] * 2000, "--bundle", bundle, "--stream") as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
        assert running.returncode == 130


class Loud:
    """Speech is what is loud: the tone language is not speech to a detector trained on people."""

    def __init__(self) -> None:
        self.rest = np.zeros(0, np.float32)

    def accept(self, samples: Any) -> list[float]:
        self.rest = np.concatenate([self.rest, samples])
        whole = len(self.rest) // 512
        hops, self.rest = self.rest[: whole * 512].reshape(whole, 512), self.rest[whole * 512 :]
        return [float(np.abs(hop).max() > 0.05) for hop in hops]

    def reset(self) -> None:
        self.rest = np.zeros(0, np.float32)


def test_listening_gives_one_result_per_utterance(tones: Any, bundle: str) -> None:
    quiet = np.zeros(16000, np.float32)
    said = ["turn on the kitchen light", "turn off hall light", "call bob"]
    sound = np.concatenate([part for text in said for part in (quiet, tones.say(text), quiet)])

    def blocks() -> Iterator[Any]:
        yield from np.split(sound, range(1600, len(sound), 1600))

    endpointer = Endpointer(EndpointConfig(complete_silence_ms=400), Loud())
    results = list(hear(load(bundle).stream, blocks(), endpointer))
    assert [result.text for result in results if result.final] == said
    assert any(not result.final for result in results)
    assert results[-1].timing.audio_s < 6  # an utterance is heard alone, not everything since the beginning


def test_listening_without_a_device_says_so(sayso: Any, bundle: str) -> None:
    try:
        next(record(16000, 0.1))
    except AudioError:
        pass
    except MissingExtra:
        pytest.skip("sounddevice is not installed")
    else:
        pytest.skip("there is a microphone here")
    ran = sayso("listen", "--bundle", bundle)
    assert ran.code == 1 and ran.err.startswith("error: microphone") and "Traceback" not in ran.err


def test_home_is_the_default(sayso: Any) -> None:
    if not (resources.files("sayso") / "bundles" / "home").is_dir():
        pytest.skip("the bundled model is not in this checkout")
    ran = sayso("bundle", "verify")
    assert ran.code == 0 and ran.out.startswith("ok: home")


def test_asking_for_help_loads_nothing_else() -> None:
    code = (
        "import sys; from sayso.cli.main import main; main(['--help']); "
        "print(sorted({'torch', 'lhotse', 'rich', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_odd_recordings_are_understood_or_rejected_and_bad_ones_named(
    sayso: Any, tones: Any, bundle: str, tmp_path: Path
) -> None:
    samples = tones.say("call anna")
    rng = np.random.default_rng(0)
    odd = {
        "silent.wav": (np.zeros(16000), 16000, "PCM_16"),
        "short.wav": (samples[:800], 16000, "PCM_16"),
        "clipped.wav": (np.clip(samples * 50, -1, 1), 16000, "PCM_16"),
        "deep.wav": (samples, 16000, "PCM_24"),
        "double.wav": (samples, 16000, "DOUBLE"),
        "eight.flac": (np.repeat(samples[:, None], 8, 1), 16000, "PCM_16"),
        "noise.ogg": (0.1 * rng.standard_normal(48000), 48000, "VORBIS"),
    }
    bad = {
        "nan.wav": (np.where(np.arange(len(samples)) == 900, np.nan, samples), 16000, "FLOAT"),
        "inf.wav": (np.where(np.arange(len(samples)) == 900, np.inf, samples), 16000, "FLOAT"),
    }
    for name, (content, rate, kind) in {**odd, **bad}.items():
        soundfile.write(tmp_path / name, content, rate, subtype=kind)
    ran = sayso("understand", *(tmp_path / name for name in (*bad, *odd)), "--bundle", bundle, "--json")
    assert ran.code == 1
    results = {Path(item["audio"]).name: item for item in lines(ran.out)}
    assert list(results) == list(odd)
    assert results["silent.wav"]["decision"] == results["short.wav"]["decision"] == "reject"
    assert {results[name]["text"] for name in ("deep.wav", "double.wav", "eight.flac")} == {"call anna"}
    complaints = ran.err.splitlines()
    assert len(complaints) == 2 and all(name in line for name, line in zip(bad, complaints, strict=True))


def test_a_terminal_gets_one_line_that_is_rewritten(say: Any, bundle: str) -> None:
    pty = pytest.importorskip("pty")
    line = [sys.executable, "-m", "sayso.cli.main", "understand", str(say("turn on hall light")), "--stream"]
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    environment |= {"COLUMNS": "40", "LINES": "10", "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    with subprocess.Popen(
        [*line, "--bundle", bundle], stdout=theirs, stderr=subprocess.PIPE, env=environment
    ) as running:
        os.close(theirs)
        shown = b""
        while True:
            try:
                packet = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side has closed
                break
            if not packet:
                break
            shown += packet
        assert running.stderr is not None and running.stderr.read() == b"" and running.wait(60) == 0
    os.close(ours)
    text = shown.decode()
    assert text.count("\r\x1b[K") > 3 and "\x1b[1mturn on\x1b[0m" in text
    rewritten = [part.split("\n")[0] for part in text.split("\r\x1b[K")[1:]]
    plain = [re.sub(r"\x1b\[\d*m", "", part).rstrip("\r") for part in rewritten]
    assert all(len(part) < 40 for part in plain)
    assert "turn_on" in text.split("\r\x1b[K")[-1]


def test_recordings_are_turns_of_a_dialogue(sayso: Callable[..., Any], bundle: str, say: Callable[..., Path]) -> None:
    files = [say(text) for text in ("turn on the kitchen light", "no hall", "call bob", "no anna", "okay")]
    for more in ([], ["--stream"]):
        ran = sayso("understand", *files, "--bundle", bundle, "--session", "--json", *more)
        results = [row for line in ran.out.splitlines() if (row := json.loads(line))["final"]]
        found = [(row["decision"], row["slots"][0]["value"]) for row in results]
        assert found == [
            ("accept", "Kitchen"), ("accept", "hall"), ("clarify", "bob"), ("clarify", "anna"), ("accept", "anna"),
        ]  # fmt: skip
        assert ran.code == 0 and results[3]["prompt"] == "Call whom: anna?"
    alone = sayso("understand", *files, "--bundle", bundle, "--json")
    assert [json.loads(line)["decision"] for line in alone.out.splitlines()] == [
        "accept", "reject", "clarify", "reject", "reject",
    ]  # fmt: skip
