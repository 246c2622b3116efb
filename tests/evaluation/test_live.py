"""The clock of live judging, with a listener whose work takes known time."""

from __future__ import annotations

import numpy as np
import pytest

from sayso.core.result import Intent, Result, Word
from sayso.evaluation.live import Live

RATE = 16000


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class _Listener:
    """Says a word after a second, guesses an intent, changes its mind at 1.5 s; each packet takes ``work`` seconds."""

    complete = False

    def __init__(self, clock: _Clock, work: float) -> None:
        self.clock, self.work, self.heard = clock, work, 0

    def accept(self, pcm: np.ndarray) -> Result:
        self.heard += len(pcm)
        self.clock.now += self.work
        heard_s = self.heard / RATE
        intent = None if heard_s < 1.0 else Intent(name="off" if heard_s < 1.5 else "on")
        return Result(text="light" if heard_s >= 1.0 else "", intent=intent)

    def finish(self) -> Result:
        self.clock.now += 0.03
        words = (Word(text="light", start=0.4, end=0.9), Word(text="on", start=1.0, end=2.0))
        return Result(text="light on", words=words, intent=Intent(name="on"), decision="accept")


def _play(work: float, *, end_s: float = 2.7, packet_s: float = 0.1, seconds: float = 2.2) -> tuple[Live, int]:
    clock = _Clock()
    listener = _Listener(clock, work)

    def ended(packet: np.ndarray, complete: bool) -> bool:
        return (listener.heard + len(packet)) / RATE >= end_s - 1e-9

    live = Live(lambda rate: listener, lambda: ended, packet_s=packet_s, clock=clock)
    assert live(np.zeros(round(seconds * RATE), np.float32), RATE).decision == "accept"
    return live, listener.heard


def test_a_quick_listener_waits_for_the_speech() -> None:
    live, heard = _play(0.02)
    [trace] = live.traces
    assert heard == round(2.7 * RATE)  # silence follows the recording until the endpoint
    assert trace.first_words_s == pytest.approx(1.0 + 0.02 - 0.4)
    assert trace.intent_s == pytest.approx(1.5 + 0.02 - 2.0)  # right before speech ended, and it stayed
    assert trace.result_s == pytest.approx(2.7 + 0.02 + 0.03 - 2.0)


def test_a_slow_listener_falls_behind() -> None:
    [trace] = _play(0.15)[0].traces  # 27 packets of 0.1 s, each 0.15 s of work, the first arriving at 0.1 s
    assert trace.result_s == pytest.approx(0.1 + 27 * 0.15 + 0.03 - 2.0)
    assert trace.first_words_s == pytest.approx(0.1 + 10 * 0.15 - 0.4)


def test_an_intent_that_only_the_end_brings_and_no_words() -> None:
    [trace] = _play(0.0, end_s=1.2)[0].traces  # an endpoint too early: the guess was another
    assert trace.intent_s == trace.result_s == pytest.approx(1.2 + 0.03 - 2.0)
    live = Live(lambda rate: _Silent(), lambda: lambda packet, complete: False)
    live(np.zeros(0, np.float32), RATE)
    assert live.traces == [(None, None, None)]


class _Silent:
    complete = False

    def accept(self, pcm: np.ndarray) -> Result:
        return Result()

    def finish(self) -> Result:
        return Result(reason="no_speech")
