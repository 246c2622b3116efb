"""Dialogues in the service, spoken: what was said before counts for whose it is, for a while, and for nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from live_service import Server, Voice, eventually, pcm16, serving, timeless
from numpy.typing import NDArray
from other_clients import hear
from wyoming.client import AsyncTcpClient

import sayso
from sayso.core.result import Result
from sayso.runtime.session import SessionState
from sayso.serving.auth import Client, new_key
from sayso.serving.client import Connection, ServiceError, Stream
from sayso.serving.config import Limits
from sayso.serving.dialogues import Dialogues
from sayso.serving.hub import Edition
from sayso.serving.protocols.wyoming import conversation
from sayso.serving.refusal import Refusal

Floats = NDArray[np.float32]
ROOMS = ("turn on the kitchen lights", "and the bedroom")
DOORS = ("unlock the front door", "no the back door", "yes")
LEVELS = ("set the kitchen lights to thirty percent", "no fifty percent")
SHORT = pcm16(np.zeros(4800, np.float32))  # an utterance in which nobody speaks


def alone(model: sayso.Model, voice: Voice, said: Sequence[str]) -> list[Result]:
    """The same dialogue in this process."""
    session = model.session()
    return [timeless(session.understand(np.frombuffer(pcm16(voice.sound(text)), "<i2"), 16000)) for text in said]


async def say(connection: Connection, sound: Floats | bytes, **options: Any) -> Result:
    stream = await connection.start(**options)
    await stream.send(sound if isinstance(sound, bytes) else pcm16(sound))
    await stream.end()
    return timeless(await stream.result())


async def once(server: Server, sound: Floats | bytes, key: str | None = None, **options: Any) -> Result:
    async with server.client(key).connect() as connection:
        return await say(connection, sound, **options)


def slots(result: Result) -> dict[str, str]:
    return {slot.name: slot.value for slot in result.slots}


def test_a_question_and_its_answer_by_voice(service: Server, voice: Voice, home: sayso.Model) -> None:
    """On one connection; what the service asks is in ``prompt``, and the answer is understood as one."""

    async def talk() -> list[Result]:
        async with service.client().connect() as connection:
            return [await say(connection, voice.sound(text), session="doors") for text in DOORS]

    asked, again, done = asyncio.run(talk())
    assert (asked.decision, asked.prompt) == ("clarify", "Which door should I unlock: front door?")
    assert (again.decision, again.prompt) == ("clarify", "Which door should I unlock: back door?")
    assert (done.decision, done.prompt, slots(done)) == ("accept", None, {"door": "back door"})
    assert [asked, again, done] == alone(home, voice, DOORS)
    assert [result.applied.turn for result in (asked, again, done)] == [1, 2, 3]


def test_without_a_session_nothing_came_before(service: Server, voice: Voice) -> None:
    async def talk() -> list[Result]:
        async with service.client().connect() as connection:
            return [await say(connection, voice.sound(text)) for text in ROOMS]

    first, second = asyncio.run(talk())
    assert (first.decision, second.decision, second.intent) == ("accept", "reject", None)
    assert first.applied.turn is second.applied.turn is None


def test_a_dialogue_goes_on_over_any_connection(service: Server, voice: Voice) -> None:
    """A stream, then a recording, then OpenAI's client, then a form with lists, then a stream that the server ends."""
    first = asyncio.run(once(service, voice.sound(ROOMS[0]), session="house"))
    second = service.client().understand(voice[ROOMS[1]], session="house")
    client = openai.OpenAI(base_url=service.url + "/v1", api_key="none is needed", max_retries=0)
    with voice["and the hallway"].open("rb") as file:
        answer: Any = client.audio.transcriptions.create(
            model="home", file=file, extra_body={"slu": '{"session": "house"}'}
        )
    third = Result.model_validate(answer.slu)
    fourth = service.client().understand(voice[ROOMS[1]], session="house", lists={"area": ["bedroom", "sauna"]})
    silence = np.zeros(24000, np.float32)
    sound = np.concatenate([silence, voice.sound("and the office"), silence])
    fifth = asyncio.run(once(service, sound, session="house", endpoint="once"))
    found = [first, second, third, fourth, fifth]
    assert [result.applied.turn for result in found] == [1, 2, 3, 4, 5]
    assert [slots(result) for result in found] == [
        {"area": area} for area in ("kitchen", "bedroom", "hallway", "bedroom", "office")
    ]
    assert {result.intent.name for result in found if result.intent} == {"turn_on"}
    assert fourth.applied.lists == {"area": 2}


def test_one_stream_of_many_utterances_is_a_dialogue(service: Server, voice: Voice) -> None:
    """``always``: the second utterance follows the first, and the next connection follows both."""
    pause = np.zeros(24000, np.float32)
    sound = np.concatenate([pause, voice.sound(ROOMS[0]), pause, voice.sound(ROOMS[1]), pause])

    async def talk() -> list[Result]:
        async with service.client().connect() as connection:
            stream = await connection.start(endpoint="always", session="stream")
            for start in range(0, len(sound), 3200):
                await stream.send(sound[start : start + 3200])
            found = [await stream.result(), await stream.result()]
            with pytest.raises(ServiceError) as busy:  # it is still open
                await once(service, SHORT, session="stream")
            assert busy.value.code == "session_busy"
            return found

    first, second = asyncio.run(talk())
    assert (slots(first), slots(second)) == ({"area": "kitchen"}, {"area": "bedroom"})
    eventually(lambda: not service.call(lambda: bool(service.running.service.utterances)))
    third = asyncio.run(once(service, voice.sound("and the hallway"), session="stream"))
    assert (slots(third), third.applied.turn) == ({"area": "hallway"}, 3)


def test_wyoming_says_which_conversation(service: Server, voice: Voice) -> None:
    async def speak(text: str, context: dict[str, Any] | None) -> Result:
        async with AsyncTcpClient("127.0.0.1", service.wyoming_port, connect_timeout=300, read_timeout=300) as client:
            told = await hear(client, pcm16(voice.sound(text)), language="en", context=context, size=3001)
        return Result.model_validate(told[-2].data["slu"])

    context = {"conversation_id": "01J", "device_id": "kitchen"}
    first, second = (asyncio.run(speak(text, context)) for text in ROOMS)
    assert (slots(first), slots(second), second.applied.turn) == ({"area": "kitchen"}, {"area": "bedroom"}, 2)
    other = asyncio.run(speak(ROOMS[1], {"conversation_id": "01K"}))
    single = asyncio.run(speak(ROOMS[1], None))
    assert (other.decision, other.applied.turn, single.applied.turn) == ("reject", 1, None)
    assert conversation({"device_id": "x"}) is None
    for wrong in ("", 7, "x" * 101):
        with pytest.raises(Refusal, match="a text of 1 to 100 characters"):
            conversation({"conversation_id": wrong})


def test_sessions_that_run_at_once_do_not_mix(service: Server, voice: Voice, home: sayso.Model) -> None:
    """Twelve dialogues on two engines, their packets between each other's."""
    kinds = [ROOMS, DOORS, LEVELS]
    truth = [alone(home, voice, said) for said in kinds]

    async def talk(number: int) -> list[Result]:
        found = []
        async with service.client().connect() as connection:
            for text in kinds[number % 3]:
                stream = await connection.start(session=f"mix-{number}")
                sound = pcm16(voice.sound(text))
                for start in range(0, len(sound), 4000):
                    await stream.send(sound[start : start + 4000])
                    await asyncio.sleep(0)
                await stream.end()
                found.append(timeless(await stream.result()))
        return found

    async def all_of_them() -> list[list[Result]]:
        return await asyncio.gather(*(talk(number) for number in range(12)))

    for number, found in enumerate(asyncio.run(all_of_them())):
        assert found == truth[number % 3]


def test_one_utterance_at_a_time(service: Server, voice: Voice) -> None:
    """The second is refused and the first goes on; who leaves in the middle leaves the dialogue as it was."""
    client = service.client()

    async def talk() -> Result:
        assert slots(await once(service, voice.sound(ROOMS[0]), session="one")) == {"area": "kitchen"}
        async with client.connect() as connection:
            stream: Stream = await connection.start(session="one")
            await stream.send(pcm16(voice.sound(ROOMS[1])))
            eventually(lambda: len(service.running.service.utterances) > 0)
            with pytest.raises(ServiceError) as busy:
                await once(service, SHORT, session="one")
            assert (busy.value.code, busy.value.retry_after_s) == ("session_busy", 1.0)
            with pytest.raises(ServiceError) as too:
                await asyncio.to_thread(client.understand, voice[ROOMS[0]], session="one")
            assert (too.value.status, too.value.code) == (409, "session_busy")
            await once(service, SHORT, session="another")
            await stream.end()
            second = await stream.result()
            assert (slots(second), second.applied.turn) == ({"area": "bedroom"}, 2)
        async with client.connect() as connection:
            gone: Stream = await connection.start(session="one")
            await gone.send(pcm16(voice.sound(ROOMS[0])))
            # the client does not wait until the service has heard of it, and what has not begun is not over
            await asyncio.to_thread(eventually, lambda: len(service.running.service.utterances) > 0)
        await asyncio.to_thread(eventually, lambda: not service.running.service.utterances)
        return await once(service, voice.sound("and the hallway"), session="one")

    third = asyncio.run(talk())
    assert (slots(third), third.applied.turn) == ({"area": "hallway"}, 3)


def test_a_dialogue_survives_the_engine_that_heard_it(service: Server, voice: Voice) -> None:
    """All engines are killed between two turns, and in the middle of one: that is lost, and what was before stays."""
    engines = service.running.service.pool.engines

    def kill() -> None:
        victims = [engine.pid for engine in engines]
        for victim in victims:
            assert victim is not None
            os.kill(victim, signal.SIGKILL)
        eventually(lambda: all(e.alive and e.pid not in victims and e.editions for e in engines), within_s=300)

    async def talk() -> list[Result]:
        first = await once(service, voice.sound(ROOMS[0]), session="engines")
        await asyncio.to_thread(kill)
        async with service.client().connect() as connection:
            stream = await connection.start(session="engines")
            await stream.send(pcm16(voice.sound("and the hallway"))[:16000])
            await asyncio.to_thread(eventually, lambda: bool(service.running.service.utterances))
            await asyncio.to_thread(kill)
            with pytest.raises(ServiceError) as lost:
                await stream.end()
                await stream.result()
            assert lost.value.code == "engine_lost"
            return [first, await say(connection, voice.sound(ROOMS[1]), session="engines")]

    first, second = asyncio.run(talk())
    assert (slots(first), slots(second), second.applied.turn) == ({"area": "kitchen"}, {"area": "bedroom"}, 2)


@pytest.fixture(scope="module")
def small() -> Iterator[tuple[Server, str, str]]:
    """With two keys, room for few dialogues, and a short memory."""
    (one, first), (two, second) = new_key("one"), new_key("two")
    keys = [{"name": name, "hash": line.split('"')[3], "scopes": ["understand", "admin"]}
            for name, line in (("one", first), ("two", second))]  # fmt: skip
    limits = {"dialogues": 3, "dialogues_per_key": 2, "dialogue_s": 3.0}
    with serving(auth={"keys": keys}, limits=limits) as found:
        yield found, one, two


def test_another_key_has_other_sessions(small: tuple[Server, str, str], voice: Voice) -> None:
    server, one, two = small
    mine = asyncio.run(once(server, voice.sound(ROOMS[0]), one, session="s"))
    theirs = asyncio.run(once(server, voice.sound(ROOMS[1]), two, session="s"))
    assert (slots(mine), theirs.decision, theirs.applied.turn) == ({"area": "kitchen"}, "reject", 1)

    async def beside() -> Result:
        """A session of one key that is busy does not keep another's from its own, nor say that it exists."""
        async with server.client(one).connect() as connection:
            await connection.start(session="held")
            await asyncio.to_thread(eventually, lambda: bool(server.running.service.utterances))
            return await once(server, SHORT, two, session="held")

    assert asyncio.run(beside()).applied.turn == 1


def test_what_is_forgotten(small: tuple[Server, str, str], voice: Voice) -> None:
    """After a while without an utterance; where a client has more dialogues than it may; with another bundle."""
    server, one, _ = small
    kept = server.running.service.dialogues

    def turn(session: str) -> int | None:
        return asyncio.run(once(server, SHORT, one, session=session)).applied.turn

    eventually(lambda: len(kept) == 0)
    assert [turn("a"), turn("a"), turn("b")] == [1, 2, 1]
    assert len(kept) == 2
    assert turn("c") == 1  # in the place of the one that was not used for longest
    assert len(kept) == 2
    assert turn("a") == 1
    began = time.monotonic()
    eventually(lambda: len(kept) == 0)
    assert time.monotonic() - began < 60
    assert turn("a") == 1
    assert slots(asyncio.run(once(server, voice.sound(ROOMS[0]), one, session="r"))) == {"area": "kitchen"}
    server.client(one).reload("home")
    after = asyncio.run(once(server, voice.sound(ROOMS[1]), one, session="r"))
    assert (after.decision, after.applied.turn) == ("reject", 1)


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_names_that_are_none(service: Server, name: str) -> None:
    with pytest.raises(ServiceError, match="1 to 100 characters") as wrong:
        service.client().understand(b"RIFF", session=name)
    assert (wrong.value.status, wrong.value.code) == (400, "bad_request")

    async def stream() -> None:
        async with service.client().connect() as connection:
            await connection.socket.send(f'{{"type": "start", "session": "{name}"}}')
            await connection.socket.recv()
            await connection.socket.recv()

    with pytest.raises(Exception, match="1007"):
        asyncio.run(stream())


def test_places_are_bounded() -> None:
    """A client takes its own idle places again, never another's; when all are taken it is told."""
    limits = Limits(dialogues=3, dialogues_per_key=2)
    ann, bob, eve = (Client(name, frozenset()) for name in ("ann", "bob", "eve"))
    edition = Edition(1, "home", None, Path())  # type: ignore[arg-type]  # its manifest is nothing to them

    async def run() -> None:
        kept = Dialogues(limits)
        first, second = (kept.take(ann, edition, name) for name in "ab")
        with pytest.raises(Refusal, match="all sessions are taken") as full:
            kept.take(ann, edition, "c")
        assert full.value.code == "overloaded" and full.value.retry_after_s
        kept.take(bob, edition, "a")
        with pytest.raises(Refusal, match="all sessions are taken"):
            kept.take(eve, edition, "a")
        assert first is not None and second is not None
        second.state = SessionState(utterances=7)
        kept.leave(second)
        kept.leave(first)
        with pytest.raises(Refusal, match="all sessions are taken"):  # ann's are not eve's to take
            kept.take(eve, edition, "a")
        assert kept.take(ann, edition, "c") is not None and len(kept) == 3
        assert kept.take(ann, edition, "a") is first
        with pytest.raises(Refusal, match="being heard"):
            kept.take(ann, edition, "a")
        assert kept.take(ann, edition, None) is None

    asyncio.run(run())
