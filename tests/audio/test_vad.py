"""Endpoints: the rules on scripted probabilities, and the real detector on synthesised speech with random packets."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from sayso.audio import decode
from sayso.audio.vad import HOP, HOP_S, EndpointConfig, Endpointer, Event, Vad
from sayso.core.config import parse
from sayso.core.errors import ConfigError


class Scripted:
    """A detector whose probability is the first sample of each hop: the test writes probabilities as audio."""

    def __init__(self) -> None:
        self.rest = np.zeros(0, np.float32)

    def accept(self, samples: np.ndarray) -> list[float]:
        """See ``SpeechDetector``."""
        joined = np.concatenate([self.rest, samples])
        whole = len(joined) - len(joined) % HOP
        self.rest = joined[whole:]
        return [float(probability) for probability in joined[:whole:HOP]]

    def reset(self) -> None:
        """See ``SpeechDetector``."""
        self.rest = np.zeros(0, np.float32)


def _audio(*runs: tuple[float, int]) -> np.ndarray:
    """(probability, hops) runs as samples for ``Scripted``."""
    return np.concatenate([np.full(HOP * hops, probability, np.float32) for probability, hops in runs])


CONFIG = EndpointConfig(
    min_speech_ms=3 * 32,
    trailing_silence_ms=20 * 32,
    complete_silence_ms=8 * 32,
    max_utterance_s=100 * HOP_S,
    pad_ms=32,
)


def _events(
    audio: np.ndarray, *, complete: bool = False, config: EndpointConfig = CONFIG
) -> list[tuple[str, float, str]]:
    """(kind, time in hops, reason) of one call."""
    return [
        (event.kind, round(event.time_s / HOP_S, 6), event.reason or "")
        for event in Endpointer(config, Scripted()).accept(audio, complete)
    ]


def test_silence_ends_an_utterance_after_exactly_the_trailing_time() -> None:
    assert _events(_audio((0, 10), (0.9, 5), (0, 20))) == [("start", 9, ""), ("end", 16, "silence")]
    assert _events(_audio((0, 10), (0.9, 5), (0, 19))) == [("start", 9, "")]
    events = Endpointer(CONFIG, Scripted()).accept(_audio((0, 10), (0.9, 5), (0, 20)))
    assert [round(event.decided_s / HOP_S, 6) for event in events] == [13, 35]


def test_complete_shortens_the_silence_also_that_already_heard() -> None:
    assert _events(_audio((0.9, 5), (0, 8)), complete=True) == [("start", 0, ""), ("end", 6, "complete")]
    assert _events(_audio((0.9, 5), (0, 7)), complete=True) == [("start", 0, "")]
    endpointer = Endpointer(CONFIG, Scripted())
    assert [event.kind for event in endpointer.accept(_audio((0.9, 5), (0, 12)))] == ["start"]
    (end,) = endpointer.accept(np.zeros(0, np.float32), complete=True)
    assert (end.kind, end.reason) == ("end", "complete")
    assert not endpointer.speaking
    assert endpointer.silence_s == 0


def test_hysteresis() -> None:
    assert _events(_audio((0.4, 50))) == []  # between exit and threshold: never opens
    assert _events(_audio((0.9, 3), (0.4, 40))) == [("start", 0, "")]  # but it holds
    assert _events(_audio((0.9, 1), (0.4, 2))) == [("start", 0, "")]  # and lets a beginning count
    assert _events(_audio((0.9, 3), (0.34, 20))) == [("start", 0, ""), ("end", 4, "silence")]


def test_too_short_to_be_speech() -> None:
    assert _events(_audio((0.9, 2), (0, 30), (0.9, 2), (0, 30))) == []


def test_a_pause_is_not_an_end() -> None:
    assert _events(_audio((0.9, 5), (0, 19), (0.9, 5), (0, 20))) == [("start", 0, ""), ("end", 30, "silence")]


def test_the_longest_utterance_then_the_next() -> None:
    assert _events(_audio((0.9, 103))) == [("start", 0, ""), ("end", 100, "length"), ("start", 100, "")]


def test_padding_never_overlaps_the_utterance_before() -> None:
    config = EndpointConfig(min_speech_ms=32, trailing_silence_ms=64, complete_silence_ms=64, pad_ms=320)
    assert _events(_audio((0.9, 3), (0, 2), (0.9, 3), (0, 2)), config=config) == [
        *[("start", 0, ""), ("end", 5, "silence")],
        *[("start", 5, ""), ("end", 10, "silence")],
    ]


def test_random_probabilities_any_packets_alternate_and_never_go_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        audio = _audio(*((float(rng.uniform()), int(rng.integers(1, 40))) for _ in range(30)))
        complete = bool(rng.integers(2))
        whole = Endpointer(CONFIG, Scripted()).accept(audio, complete)
        assert _in_packets(Endpointer(CONFIG, Scripted()), audio, rng, complete) == whole
        assert [event.kind for event in whole] == (["start", "end"] * len(whole))[: len(whole)]
        times = [event.time_s for event in whole]
        assert times == sorted(times)
        assert all(event.time_s <= event.decided_s for event in whole)


def _in_packets(
    endpointer: Endpointer, audio: np.ndarray, rng: np.random.Generator, complete: bool = False
) -> list[Event]:
    events, at = [], 0
    while at < len(audio):
        size = int(rng.choice([0, 1, 37, 160, 512, 1600, 8000]))
        events += endpointer.accept(audio[at : at + size], complete)
        at += size
    return events


def test_reset_is_a_new_stream() -> None:
    audio = _audio((0, 3), (0.9, 5), (0, 25))
    endpointer = EndpointConfig().build()
    fresh = Endpointer(CONFIG, Scripted())
    first = fresh.accept(audio)
    fresh.accept(audio[: 7 * HOP + 5])
    fresh.reset()
    assert fresh.accept(audio) == first
    assert not endpointer.speaking


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ValidationError, match="must not be above threshold"):
        EndpointConfig(threshold=0.3, exit=0.6)
    with pytest.raises(ConfigError, match="trailing_silence_ms"):
        parse(EndpointConfig, {"trailing_silence_ms": 100, "complete_silence_ms": 200}, where="recipe")
    with pytest.raises(ConfigError, match="did you mean 'trailing_silence_ms'"):
        parse(EndpointConfig, {"trailing_silence": 100}, where="recipe")


@pytest.fixture(scope="module")
def two_commands(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Two spoken commands in faint noise with long pauses, and where they lie (seconds)."""
    program = shutil.which("espeak-ng")
    if program is None:
        pytest.skip("espeak-ng is not installed, so there is no speech to detect")
    folder: Path = tmp_path_factory.mktemp("speech")
    pieces, spans, at = [], [], 0
    for index, text in enumerate(["turn on the kitchen lights please", "what is the weather like tomorrow"]):
        path = folder / f"{index}.wav"
        subprocess.run([program, "-v", "en-us", "-w", str(path), text], check=True, capture_output=True)
        spoken = decode.read(path)
        loud = np.flatnonzero(np.abs(spoken) > 0.02)
        spoken = spoken[loud[0] : loud[-1] + 1]
        pieces += [np.zeros(24_000, np.float32), spoken]
        spans.append(((at + 24_000) / 16_000, (at + 24_000 + len(spoken)) / 16_000))
        at += 24_000 + len(spoken)
    audio = np.concatenate([*pieces, np.zeros(24_000, np.float32)])
    return audio + np.random.default_rng(0).normal(0, 1e-4, len(audio)).astype(np.float32), spans


def test_speech_is_found_where_it_is(two_commands: tuple[np.ndarray, list[tuple[float, float]]]) -> None:
    audio, spans = two_commands
    events = Endpointer(EndpointConfig(pad_ms=0)).accept(audio)
    assert [event.kind for event in events] == ["start", "end"] * 2
    for (start, end), begins, ends in zip(spans, events[::2], events[1::2], strict=True):
        assert abs(begins.time_s - start) < 0.25
        assert abs(ends.time_s - end) < 0.25
        assert ends.reason == "silence"
        assert 0.7 <= ends.decided_s - ends.time_s < 0.7 + 2 * HOP_S


def test_packets_change_nothing_and_streams_share_nothing(
    two_commands: tuple[np.ndarray, list[tuple[float, float]]],
) -> None:
    audio, _ = two_commands
    whole = Vad().accept(audio)
    assert len(whole) == len(audio) // HOP
    assert 0 <= min(whole) < 0.1 < 0.9 < max(whole) <= 1
    first, second = Vad(), Vad()
    rng = np.random.default_rng(1)
    got, at = [], 0
    while at < len(audio):
        size = int(rng.integers(1, 3000))
        got += first.accept(audio[at : at + size])
        second.accept(rng.normal(0, 0.3, 700).astype(np.float32))  # a loud neighbour
        at += size
    assert got == whole
    first.reset()
    assert first.accept(audio[: HOP * 40]) == whole[:40]
    events = Endpointer().accept(audio)
    assert _in_packets(Endpointer(), audio, rng) == events
    early = Endpointer().accept(audio, complete=True)
    assert {event.reason for event in early if event.kind == "end"} == {"complete"}


def test_silence_is_not_speech() -> None:
    assert max(Vad().accept(np.zeros(HOP * 30, np.float32))) < 0.3
    assert Endpointer().accept(np.zeros(HOP * 30, np.float32), complete=True) == []
    assert Vad().accept(np.zeros(0, np.float32)) == []


def test_the_detector_keeps_to_one_thread() -> None:
    """A team of threads for a tenth of a millisecond of work costs twenty times that."""
    if not Path("/proc/self/task").exists():
        pytest.skip("needs /proc to count threads")
    code = (
        "import os, numpy as np; from sayso.audio.vad import HOP, Vad\n"
        "before = os.listdir('/proc/self/task'); Vad().accept(np.zeros(50 * HOP, np.float32))\n"
        "assert os.listdir('/proc/self/task') == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_stream_holds_its_state_alone() -> None:
    """The network is one for all: a thousand streams of an object each would hold over a gigabyte."""
    noise = np.random.default_rng(2).normal(0, 0.1, 100 * HOP + 7).astype(np.float32)
    Vad().accept(noise)
    tracemalloc.start()
    streams = [Vad() for _ in range(50)]
    for stream in streams:
        stream.accept(noise)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / len(streams) < 8192


def test_threads_share_the_network(two_commands: tuple[np.ndarray, list[tuple[float, float]]]) -> None:
    audio, _ = two_commands
    levels = [0.2, 0.5, 1.0, 1.5]
    alone = [Vad().accept(audio * np.float32(level)) for level in levels]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda level: Vad().accept(audio * np.float32(level)), levels)) == alone
