"""Wyoming's own client and bench, unmodified: the same text, and its meaning on a second connection."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from live_service import Server, eventually, pcm16, serving, timeless
from numpy.typing import NDArray
from other_clients import Raw, events, hear, raw
from wyoming.asr import Transcript
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.intent import Intent, NotRecognized, Recognize
from wyoming.ping import Ping, Pong

import sayso
from sayso.core.result import Frame, Result, Slot
from sayso.core.result import Intent as Meant
from sayso.serving.protocols.wyoming import KEPT_EACH, KEPT_S, Meanings, Said, answers
from sayso.serving.protocols.wyoming_wire import LINE_BYTES, unpack

Speech = dict[str, NDArray[np.float32]]
KITCHEN, DOOR, MUSEUM = "turn-on-the-kitchen-lights", "lock-the-front-door", "the-museum-has-a-new-painting-of-a-ship"
TIMEOUT_S = 300.0


def connection(port: int) -> AsyncTcpClient:
    return AsyncTcpClient("127.0.0.1", port, connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S)


async def ask(port: int, event: Event) -> Event:
    async with connection(port) as client:
        await client.write_event(event)
        answer = await client.read_event()
        assert answer is not None
        return answer


def test_what_is_served_is_described(service: Server, home: sayso.Model) -> None:
    info = Info.from_event(asyncio.run(ask(service.wyoming_port, Describe().event())))
    for (program,) in (info.asr, info.intent):
        (model,) = program.models
        assert (model.name, model.languages, model.version) == ("home", ["en"], home.manifest.sha256[:12])
    assert info.asr[0].supports_transcript_streaming and info.asr[0].installed
    pong = asyncio.run(ask(service.wyoming_port, Ping(text="there?").event()))
    assert Pong.from_event(pong).text == "there?"


def test_as_home_assistant_speaks_it(service: Server, speech: Speech, home: sayso.Model) -> None:
    """A connection for the speech; another, which holds the text alone, for what it means."""
    context = {"conversation_id": "7"}

    async def speak(name: str) -> list[Event]:
        async with connection(service.wyoming_port) as client:
            return await hear(client, pcm16(speech[name]), language="en", context=context, size=3001)

    session = home.session()  # the same conversation
    for name in (KITCHEN, MUSEUM):
        expected = session.understand(np.frombuffer(pcm16(speech[name]), "<i2"))
        start, *chunks, transcript, stop = asyncio.run(speak(name))
        assert (start.type, transcript.type, stop.type) == ("transcript-start", "transcript", "transcript-stop")
        assert {event.type for event in chunks} == {"transcript-chunk"}
        if expected.intent is not None:  # what is refused is a free transcript, which the second hearing may change
            assert "".join(event.data["text"] for event in chunks) == expected.text
        text = Transcript.from_event(transcript)
        assert (text.text, text.language, text.context) == (expected.text, "en", context)
        assert timeless(Result.model_validate(transcript.data["slu"])) == timeless(expected)
        for question in (text.event(), Recognize(text=text.text.upper() + " ", context=context).event()):
            answer = asyncio.run(ask(service.wyoming_port, question))
            if expected.intent is None:
                assert NotRecognized.from_event(answer) == NotRecognized(text=expected.prompt, context=context)
            else:
                intent = Intent.from_event(answer)
                assert (intent.name, intent.context) == (expected.intent.name, context)
                assert [(one.name, one.value) for one in intent.entities] == [
                    (slot.name, slot.value) for slot in expected.slots
                ]
    answer = asyncio.run(ask(service.wyoming_port, Transcript(text="open the pod bay doors").event()))
    assert NotRecognized.is_type(answer.type)


def test_utterances_follow_each_other_on_a_connection(
    service: Server, speech: Speech, truth: dict[str, Result]
) -> None:
    async def speak() -> list[str]:
        async with connection(service.wyoming_port) as client:
            await client.write_event(Event("select-program", {"name": "sayso"}))
            found = []
            for name in (KITCHEN, DOOR):
                found += [
                    one.data["text"] for one in await hear(client, pcm16(speech[name])) if one.type == "transcript"
                ]
            return found

    assert asyncio.run(speak()) == [truth[KITCHEN].text, truth[DOOR].text]


def test_the_bench_of_others_measures_it(service: Server, speech: Speech, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "kitchen.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(pcm16(speech[KITCHEN]))
    (tmp_path / "kitchen.txt").write_text("turn on the kitchen lights")
    where = f"127.0.0.1:{service.wyoming_port}"

    def bench(*arguments: str) -> str:
        command = [sys.executable, "-m", "wyoming_bench.cli", *arguments]
        run = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    assert "asr  sayso (transcript streaming)" in bench("info", where)
    report = bench("stt", where, "--corpus", str(tmp_path), "--rounds", "1", "--warmup", "0", "--timeout", "300", "-v")
    for mode in ("non_streaming", "streaming"):
        assert f"[{mode}] ok=1 fail=0" in report, report
    assert report.count("WER=0.0%") >= 2, report


def test_meanings_are_kept_for_whom_they_are_few_and_not_for_long() -> None:
    now = [0.0]

    async def run() -> None:
        meanings = Meanings(lambda: now[0])
        for number in range(KEPT_EACH + 5):
            meanings.keep("here", Result(text=f"text {number}"))
        assert len(meanings) == KEPT_EACH
        assert meanings.find("here", "text 0") is None
        found = meanings.find("here", "  Text  20 ")
        assert found is not None and found.text == "text 20"
        assert meanings.find("there", "text 20") is None
        now[0] = KEPT_S / 2
        meanings.keep("here", Result(text="text 20", language="de"))
        now[0] = KEPT_S
        assert len(meanings) == 1
        found = meanings.find("here", "text 20")
        assert found is not None and found.language == "de"
        now[0] = 2 * KEPT_S
        assert meanings.find("here", "text 20") is None and len(meanings) == 0

    asyncio.run(run())


def test_several_intents_and_questions_back() -> None:
    def told(**fields: Any) -> list[tuple[str, dict[str, Any]]]:
        found = []
        for answer in answers(Result(text="x", **fields), Said(text="x", context={"id": 1})):
            head, data = answer.split("\n")
            event = unpack('{"type": "", "data": ' + data + "}")
            found.append((str(head).split('"type": "')[1].split('"')[0], event.data))
        return found

    frames = tuple(
        Frame(intent=Meant(name=name), slots=(Slot(name="area", value=name),)) for name in ("turn_on", "lock")
    )
    context = {"context": {"id": 1}}
    assert [kind for kind, _ in told(decision="accept", frames=frames)] == [
        "intents-start", "intent", "intent", "intents-stop",
    ]  # fmt: skip
    assert told(decision="accept", frames=frames[:1]) == [
        ("intent", {"name": "turn_on", "entities": [{"name": "area", "value": "turn_on"}], **context})
    ]
    assert told(decision="clarify", frames=frames, prompt="Which one?") == [
        ("not-recognized", {"text": "Which one?", **context})
    ]
    assert told(decision="reject") == [("not-recognized", context)]


BAD_LINES: list[tuple[bytes, str]] = [
    (b"\n", "bad_message"),
    (b"[]\n", "bad_message"),
    (b"{}\n", "bad_message"),
    (b"\xff\xfe\n", "bad_message"),
    (b"[" * 60000 + b"\n", "bad_message"),
    (b'{"type": 1}\n', "bad_message"),
    (b'{"type": "describe", "data": [1]}\n', "bad_message"),
    (b'{"type": "describe", "data_length": "5"}\n', "bad_message"),
    (b'{"type": "describe", "data_length": -5}\n', "bad_message"),
    (b'{"type": "describe", "data_length": 1.5}\n', "bad_message"),
    (b'{"type": "describe", "data_length": 2}\n[]', "bad_message"),
    (b'{"type": "describe", "data_length": 2}\n{{', "bad_message"),
    (b'{"type": "describe", "data_length": 99999999999}\n', "too_large"),
    (b'{"type": "audio-chunk", "payload_length": 99999999999}\n', "too_large"),
    (b'{"type": "audio-chunk", "payload_length": 1' + b"0" * 5000 + b"}\n", "bad_message"),
    (b"{" + b" " * LINE_BYTES * 3, "too_large"),
    (b'{"type": "audio-stop"}\n', "bad_message"),
    (b'{"type": "audio-chunk", "payload_length": 2}\n..', "bad_message"),
    (b'{"type": "audio-start"}\n', "bad_message"),
    (b'{"type": "audio-start", "data": {"rate": 0}}\n', "bad_message"),
    (b'{"type": "audio-start", "data": {"rate": 16000, "width": 4}}\n', "bad_audio"),
    (b'{"type": "audio-start", "data": {"rate": 16000, "channels": 2}}\n', "bad_audio"),
    (b'{"type": "transcribe", "data": {"name": ["home"]}}\n', "bad_message"),
    (b'{"type": "recognize"}\n', "bad_message"),
    (b'{"type": "transcribe", "data": {"name": "../x"}}\n{"type": "audio-start", "data": {"rate": 8000}}\n',
     "not_found"),
    (b'{"type": "transcribe", "data": {"language": "xx"}}\n{"type": "audio-start", "data": {"rate": 8000}}\n',
     "bad_request"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "code"), BAD_LINES, ids=lambda value: repr(value)[:40])
def test_what_is_no_frame_is_told(service: Server, line: bytes, code: str) -> None:
    with raw(service.wyoming_port) as client:
        client.send(line)
        assert client.ended() == code


def test_limits(speech: Speech) -> None:
    """Each with an error and an end; and what one client does costs the others nothing."""
    limits = {"streams": 1, "message_bytes": 20000, "utterance_s": 3.0, "header_s": 0.5, "body_s": 0.5,
              "connections_per_key": 4, "idle_s": 300.0, "first_audio_s": 300.0}  # fmt: skip
    with serving(limits=limits, wyoming_port=0) as service:
        port, idle = service.wyoming_port, lambda: not service.running.service.visits
        with raw(port) as talker, raw(port) as second:
            talker.start()
            talker.chunk(bytes(3200))
            eventually(lambda: len(service.running.service.visits) == 1)
            second.send({"type": "describe"})
            answer = second.read()
            assert answer is not None and answer.type == "info"  # questions need no room for a stream
            second.start()
            assert second.ended() == "overloaded"
        eventually(idle)  # the first left in the middle
        with raw(port) as client:
            client.start()
            for _ in range(12):
                client.chunk(bytes(9600))
            assert client.ended() == "too_long"
        for part in (b'{"type": ', b'{"type": "x", "data_length": 9}\n{', b'{"type": "x", "payload_length": 9}\n.'):
            with raw(port) as slow:  # never the rest of it
                slow.send(part)
                assert slow.ended() == "timeout"
        with raw(port) as client:
            client.send({"type": "audio-chunk", "payload_length": 20001})
            assert client.ended() == "too_large"
        many = [Raw(port) for _ in range(5)]
        assert many[-1].ended() == "too_many"
        for client in many:
            client.close()
        assert 'slu_rejections_total{reason="overloaded"}' in service.client().get("/metrics")
    with serving(wyoming_port=0, wyoming_allow=["10.0.0.0/8"]) as service, raw(service.wyoming_port) as stranger:
        assert stranger.ended() == "forbidden"


def test_who_sends_faster_than_speech_is_slowed_down(speech: Speech) -> None:
    limits = {"rate": 2.0, "burst_s": 0.2}
    sound = pcm16(speech[KITCHEN])
    with serving(limits=limits, wyoming_port=0) as service:

        async def speak() -> list[Event]:
            async with connection(service.wyoming_port) as client:
                return await hear(client, sound)

        began = time.monotonic()
        transcript = asyncio.run(speak())[-2]
        assert time.monotonic() - began >= (len(sound) / 32000 - 0.2) / 2.0 - 0.1
        assert transcript.data["text"] == "turn on the kitchen lights"


def test_a_drain_loses_no_transcript(speech: Speech) -> None:
    """Half is heard when the service is told to stop; nobody new comes in; the transcript comes, then the end."""
    sound = pcm16(speech[KITCHEN])
    middle = len(sound) // 4 * 2

    async def speak(service: Server) -> list[Event]:
        async with connection(service.wyoming_port) as client, connection(service.wyoming_port) as idle:
            await client.write_event(Event("audio-start", {"rate": 16000, "width": 2, "channels": 1}))
            form = {"rate": 16000, "width": 2, "channels": 1}
            await client.write_event(Event("audio-chunk", form, sound[:middle]))
            await asyncio.to_thread(eventually, lambda: len(service.running.service.utterances) == 1)
            service.drain()
            assert [event.data["code"] for event in await events(idle)] == ["going_away"]
            await client.write_event(Event("audio-chunk", form, sound[middle:]))
            await client.write_event(Event("audio-stop"))
            found = await events(client)
            assert [event.data["code"] for event in await events(client)] == ["going_away"]
            return found

    with serving(wyoming_port=0) as service:
        found = asyncio.run(speak(service))
        assert [one.data["text"] for one in found if one.type == "transcript"] == ["turn on the kitchen lights"]


class Conversation(RuleBasedStateMachine):
    """A client that knows the events and nothing of their order."""

    server: Server

    @initialize()
    def arrive(self) -> None:
        self.client = Raw(self.server.wyoming_port)
        self.open = self.heard = self.over = False

    @precondition(lambda self: self.over)
    @rule()
    def again(self) -> None:
        self.client.close()
        self.arrive()

    def leave(self, code: str) -> None:
        assert self.client.ended() == code
        self.over = True

    def answer(self, kind: str) -> None:
        event = self.client.read()
        while event is not None and event.type in ("transcript-start", "transcript-chunk"):
            event = self.client.read()
        assert event is not None and event.type == kind

    @precondition(lambda self: not self.over)
    @rule(asked=st.sampled_from([("describe", "info"), ("ping", "pong"), ("recognize", "not-recognized")]))
    def ask(self, asked: tuple[str, str]) -> None:
        self.client.send({"type": asked[0], "data": {"text": "no such thing"}})
        self.answer(asked[1])

    @precondition(lambda self: not self.over)
    @rule(kind=st.sampled_from(["select-program", "synthesize", "Done", "", "transcribe"]))
    def not_answered(self, kind: str) -> None:
        self.client.send({"type": kind, "data": {"name": None, "x": [1]}, "more": 1})

    @precondition(lambda self: not self.over)
    @rule(rate=st.sampled_from([8000, 16000, 44100]))
    def start(self, rate: int) -> None:
        self.client.start(rate)
        if self.open:
            self.leave("bad_message")
        self.open, self.rate, self.heard = True, rate, True

    @precondition(lambda self: not self.over)
    @rule(size=st.integers(1, 9000), same=st.booleans())
    def chunk(self, size: int, same: bool) -> None:
        rate = self.rate if self.heard and same else 22050
        self.client.chunk(bytes(size), rate)
        if not (self.heard and same):
            self.leave("bad_message")

    @precondition(lambda self: not self.over)
    @rule()
    def stop(self) -> None:
        self.client.send({"type": "audio-stop"})
        if not self.heard:
            self.leave("bad_message")
        elif self.open:
            self.answer("transcript")
            self.answer("transcript-stop")
            self.open = False

    @precondition(lambda self: not self.over)
    @rule(line=st.sampled_from([b"null\n", b'{"type": null}\n', b'{"type": "x", "payload_length": "1"}\n', b"\0\n"]))
    def nonsense(self, line: bytes) -> None:
        self.client.send(line)
        self.leave("bad_message")

    def teardown(self) -> None:
        self.client.close()


def test_conversations(service: Server) -> None:
    Conversation.server = service
    machine = Conversation.TestCase
    machine.settings = settings(
        max_examples=15, stateful_step_count=7, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    machine("runTest").runTest()
    eventually(lambda: not service.running.service.visits)
