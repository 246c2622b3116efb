"""A lock-step Vosk client: one reply a frame, the same text and meaning as in this process, whatever it sends."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from live_service import Server, eventually, pcm16, serving, timeless
from numpy.typing import NDArray
from other_clients import VoskClient
from websockets.exceptions import InvalidStatus

import sayso
from sayso.core.result import Result

Speech = dict[str, NDArray[np.float32]]
KITCHEN, DOOR = "turn-on-the-kitchen-lights", "lock-the-front-door"
FRAME = 6400  # bytes: 0.2 s, as in Vosk's examples
PAUSE = bytes(2 * 24000)
EOF, RESET = '{"eof" : 1}', '{"reset" : 1}'


def frames(sound: bytes, size: int = FRAME) -> list[bytes]:
    return [sound[start : start + size] for start in range(0, len(sound), size)]


def meaning(reply: dict[str, Any]) -> Result:
    return timeless(Result.model_validate(reply["slu"]))


def test_an_utterance_of_the_client_is_what_it_is_in_process(
    service: Server, speech: Speech, home: sayso.Model
) -> None:
    with VoskClient(service.port) as client:
        client.config(slu={"endpoint": "client"})
        for name, last in ((KITCHEN, RESET), (DOOR, EOF)):
            sound = pcm16(speech[name])
            for frame in frames(sound, 8001):  # cuts samples in half
                assert "partial" in client.ask(frame)
            reply, expected = client.ask(last), home.understand(np.frombuffer(sound, "<i2"))
            assert reply["text"] == expected.text and meaning(reply) == timeless(expected)
            assert reply["result"] == [
                {"conf": word.confidence, "start": word.start, "end": word.end, "word": word.text}
                for word in expected.words
            ]
        assert client.closed() == 1000


def test_pauses_end_utterances_and_no_reply_is_left_over(
    service: Server, speech: Speech, truth: dict[str, Result]
) -> None:
    """As Vosk does: results come in place of partials, the rest at eof."""
    names = (KITCHEN, DOOR)
    sound = PAUSE + b"".join(pcm16(speech[name]) + PAUSE for name in names)
    with VoskClient(service.port) as client:
        client.config(words=False)
        replies = [client.ask(frame) for frame in frames(sound)]
        replies.append(client.ask(EOF))
        assert client.closed() == 1000
    finals = [reply for reply in replies if "partial" not in reply]
    assert " ".join(reply["text"] for reply in finals if reply["text"]) == " ".join(truth[name].text for name in names)
    found = [Result.model_validate(one) for reply in finals for one in _meanings(reply)]
    assert [result.intent for result in found if result.intent is None] == []
    assert [[(slot.name, slot.value) for slot in result.slots] for result in found] == [
        [(slot.name, slot.value) for slot in truth[name].slots] for name in names
    ]
    assert all("result" not in reply for reply in finals)


def _meanings(reply: dict[str, Any]) -> list[dict[str, Any]]:
    meanings: list[dict[str, Any]] = reply.get("meanings") or ([reply["slu"]] if "slu" in reply else [])
    assert not meanings or meanings[-1] == reply["slu"]
    return meanings


def test_words_are_timed_from_the_beginning_and_others_are_given(service: Server, speech: Speech) -> None:
    with VoskClient(service.port) as client:
        client.config(max_alternatives=3, model="home")
        replies = [client.ask(frame) for frame in frames(PAUSE + pcm16(speech[KITCHEN]))]
        replies.append(client.ask(EOF))
    (final,) = [reply for reply in replies if reply.get("alternatives", [{}])[0].get("text")]
    best, *others = final["alternatives"]
    assert best["text"] == "turn on the kitchen lights" and 1 <= len(others) <= 2
    assert best["result"][0]["start"] == pytest.approx(1.5 + 0.12, abs=0.35)
    assert best["confidence"] > others[0]["confidence"]


def test_other_rates(service: Server, speech: Speech) -> None:
    with VoskClient(service.port) as client:
        client.config(sample_rate=48000.0, slu={"endpoint": "client", "language": "en-GB"})
        sound = pcm16(np.repeat(speech[KITCHEN], 3))
        assert all("partial" in client.ask(frame) for frame in frames(sound, 32000))
        assert client.ask(EOF)["text"] == "turn on the kitchen lights"


@pytest.mark.parametrize(
    ("config", "code", "says"),
    [
        ({"model": "/etc/passwd"}, "not_found", "there is no bundle"),
        ({"model": "hoem"}, "not_found", "did you mean 'home'"),
        ({"sample_rate": 0}, "bad_message", "config.sample_rate"),
        ({"sample_rate": "fast"}, "bad_message", "config.sample_rate"),
        ({"slu": {"endpoint": "once"}}, "bad_message", "config.slu.endpoint"),
        ({"slu": {"list": {}}}, "bad_message", "config.slu.list"),
        ({"slu": {"lists": {"aera": ["sauna"]}}}, "bad_request", "did you mean 'area'"),
    ],
)
def test_what_is_not_legal_is_told(service: Server, config: dict[str, Any], code: str, says: str) -> None:
    with VoskClient(service.port) as client:
        client.config(**config)
        client.link.send(bytes(FRAME))
        reply = client.read()
        while "error" not in reply:
            reply = client.ask(bytes(FRAME))
        assert reply["error"]["code"] == code and says in reply["error"]["message"]
        assert client.closed() in (1007, 1008)


def test_limits() -> None:
    """Refused before the upgrade, or with an error and a code; the next one is served."""
    limits = {"streams": 1, "message_bytes": 20000, "utterance_s": 3.0, "idle_s": 1.0, "first_audio_s": 1.0}
    with serving(limits=limits) as service:
        with VoskClient(service.port) as client:
            with pytest.raises(InvalidStatus) as refused:
                VoskClient(service.port)
            assert refused.value.response.status_code == 503 and refused.value.response.headers["Retry-After"]
            client.config(slu={"endpoint": "client"})
            reply: dict[str, Any] = {}
            while "error" not in reply:
                reply = client.ask(bytes(16000))
            assert reply["error"]["code"] == "too_long" and client.closed() == 1009
        eventually(lambda: not service.running.service.visits)
        with VoskClient(service.port) as client:
            client.link.send(bytes(20001))
            assert client.closed() == 1009
        eventually(lambda: not service.running.service.visits)
        with VoskClient(service.port) as client:
            assert client.read()["error"]["code"] == "timeout" and client.closed() == 1008
        eventually(lambda: not service.running.service.visits)
        with VoskClient(service.port) as client:  # leaves in the middle
            assert "partial" in client.ask(bytes(16000))
            client.link.socket.close()
        eventually(lambda: not service.running.service.visits and not service.running.service.utterances)


class Conversation(RuleBasedStateMachine):
    """A client that keeps to one thing, the turns: each frame and each eof or reset gets one reply, config none."""

    server: Server

    @initialize()
    def arrive(self) -> None:
        self.client = VoskClient(self.server.port)
        self.streaming = self.over = False

    @precondition(lambda self: self.over)
    @rule()
    def again(self) -> None:
        self.client.link.close()
        self.arrive()

    @precondition(lambda self: not self.over)
    @rule(
        rate=st.sampled_from([8000, 16000, 44100.0]),
        words=st.booleans(),
        endpoint=st.sampled_from(["client", "always"]),
    )
    def config(self, rate: float, words: bool, endpoint: str) -> None:
        self.client.config(sample_rate=rate, words=words, slu={"endpoint": endpoint}, phrase_list=["one"])
        if self.streaming:
            self.leave("bad_message")

    @precondition(lambda self: not self.over)
    @rule(size=st.integers(0, 9000), loud=st.integers(0, 255))
    def frame(self, size: int, loud: int) -> None:
        reply = self.client.ask(bytes([loud, loud // 2]) * (size // 2) + bytes(size % 2))
        self.streaming = True
        assert isinstance(reply.get("partial", reply.get("text")), str)

    @precondition(lambda self: not self.over)
    @rule(last=st.sampled_from([EOF, RESET]))
    def finish(self, last: str) -> None:
        assert isinstance(self.client.ask(last)["text"], str)
        self.streaming = False
        if last == EOF:
            assert self.client.closed() == 1000
            self.over = True

    @precondition(lambda self: not self.over)
    @rule(
        words=st.sampled_from(
            [
                "",
                "[]",
                "{}",
                "null",
                "Done",
                "1",
                '{"config": []}',
                '{"config": null}',
                '{"x": 1}',
                '{"config": {"max_alternatives": -1}}',
                "[" * 9000,
                '{"config": {"sample_rate": 1e999}}',
            ]
        )
    )
    def nonsense(self, words: str) -> None:
        self.client.link.send(words)
        self.leave("bad_message")

    def leave(self, code: str) -> None:
        reply = self.client.read()
        assert reply["error"]["code"] == code and "Traceback" not in json.dumps(reply)
        assert self.client.closed() == 1007
        self.over = True

    def teardown(self) -> None:
        if not self.over:
            assert self.client.silent()
        self.client.link.close()


def test_conversations(service: Server) -> None:
    Conversation.server = service
    machine = Conversation.TestCase
    machine.settings = settings(
        max_examples=15, stateful_step_count=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    machine("runTest").runTest()
    eventually(lambda: not service.running.service.visits)


@pytest.mark.parametrize("endpoint", ["client", "always"])
def test_a_drain_loses_no_result(speech: Speech, endpoint: str) -> None:
    """Half of the speech is heard when the service is told to stop: the client gets its result and a 1001 or 1000."""
    sound = frames(pcm16(speech[KITCHEN]) + PAUSE[:8000])
    with serving() as service, VoskClient(service.port) as client:
        client.config(slu={"endpoint": endpoint})
        for frame in sound[: len(sound) // 2]:
            assert "partial" in client.ask(frame)
        service.drain()
        eventually(service.running.service.draining.is_set)
        replies = []
        for frame in sound[len(sound) // 2 :]:
            replies.append(client.ask(frame))
            if "partial" not in replies[-1]:
                break
        else:
            replies.append(client.ask(EOF))
        assert replies[-1]["text"].startswith("turn on")
        assert endpoint == "always" or replies[-1]["text"] == "turn on the kitchen lights"
        assert client.closed() in (1000, 1001)
