"""Streams over the native protocol and REST: the same as in this process, however many there are at once."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import numpy as np
import pytest
from live_service import ROOT, SPEECH, Server, pcm16, timeless
from numpy.typing import NDArray

import sayso
from sayso.core.result import Result
from sayso.serving.auth import Client
from sayso.serving.client import ServiceError
from sayso.serving.events import Ask, Event, Final
from sayso.serving.schema import PartialMessage, ResultMessage

Speech = dict[str, NDArray[np.float32]]


def test_a_recording_means_what_it_means_in_process(service: Server, truth: dict[str, Result]) -> None:
    for path in SPEECH[:3]:
        assert timeless(service.client().understand(path)) == timeless(truth[path.stem])


def test_streams_are_equal_to_in_process_and_their_stable_text_stays(
    service: Server, speech: Speech, home: sayso.Model
) -> None:
    async def one(name: str, connection: Any) -> None:
        samples = pcm16(speech[name])
        stream = await connection.start()
        for start in range(0, len(samples), 3001):  # cuts samples in half
            await stream.send(samples[start : start + 3001])
        await stream.end()
        messages = [message async for message in stream]
        stable = ""
        for message in messages[:-1]:
            assert isinstance(message, PartialMessage) and not message.result.final
            assert message.result.stable.startswith(stable)
            stable = message.result.stable
        assert isinstance(messages[-1], ResultMessage)
        expected = home.understand(np.frombuffer(samples, "<i2"))
        assert timeless(messages[-1].result) == timeless(expected)

    async def all_on_one_connection() -> None:
        async with service.client().connect() as connection:
            for name in list(speech)[3:5]:
                await one(name, connection)

    asyncio.run(all_on_one_connection())


def test_interleaved_streams_each_get_their_own(service: Server, speech: Speech, truth: dict[str, Result]) -> None:
    """Sixteen at once, packets of random sizes, in random order."""
    short = sorted(speech, key=lambda name: len(speech[name]))[:5]
    names = [short[number % len(short)] for number in range(16)]
    dice = random.Random(0)

    async def one(name: str) -> tuple[str, Result]:
        async with service.client().connect() as connection:
            stream = await connection.start(encoding="pcm_f32le", partials=False)
            samples, place = speech[name], 0
            while place < len(samples):
                size = dice.randrange(1, 8000)
                await stream.send(samples[place : place + size])
                place += size
                await asyncio.sleep(dice.random() * 0.01)
            await stream.end()
            return name, await stream.result()

    async def together() -> list[tuple[str, Result]]:
        return await asyncio.gather(*(one(name) for name in names))

    for name, result in asyncio.run(together()):
        assert timeless(result) == timeless(truth[name])


def test_lists_of_a_request_take_effect_for_it_alone(service: Server, home: sayso.Model) -> None:
    recording = ROOT / "examples" / "turn-on-the-kitchen-lights.flac"
    lists: dict[str, Any] = {"area": ["sauna", ("kitchen", "Room 7"), "attic"]}
    result = service.client().understand(recording, lists=lists)
    assert result.applied.lists == {"area": 3}
    assert {slot.name: slot.value for slot in result.slots} == {"area": "Room 7"}
    assert timeless(result) == timeless(home.understand(recording, lists=lists))
    assert service.client().understand(recording).applied.lists == {}
    milk = ROOT / "examples" / "add-oat-milk-to-the-shopping-list.flac"  # an open slot, whatever it hears
    (heard,) = service.client().understand(milk).slots
    (found,) = service.client().understand(milk, lists={"item": [(heard.text, "Article 7")]}).slots
    assert (heard.source, found.value, found.source) == ("open", "Article 7", "list:item")
    with pytest.raises(ServiceError, match="has no list 'aera'; did you mean 'area'") as wrong:
        service.client().understand(recording, lists={"aera": ["sauna"]})
    assert wrong.value.status == 400 and wrong.value.code == "bad_request"


def test_the_server_ends_utterances_where_asked(service: Server, speech: Speech) -> None:
    """Two commands with a pause between: two results, and where in the stream they began."""
    pause = np.zeros(24000, np.float32)
    first, second = speech["turn-on-the-kitchen-lights"], speech["lock-the-front-door"]
    sound = pcm16(np.concatenate([pause, first, pause, second, pause]))

    async def play(endpoint: str, results: int) -> list[ResultMessage]:
        async with service.client().connect() as connection:
            stream = await connection.start(endpoint=endpoint)
            for start in range(0, len(sound), 6400):
                await stream.send(sound[start : start + 6400])
            found: list[ResultMessage] = []
            async for message in stream:
                found += [message] if isinstance(message, ResultMessage) else []
                if len(found) == results:
                    break
            return found

    both = asyncio.run(play("always", 2))
    assert [message.result.text for message in both] == ["turn on the kitchen lights", "lock the front door"]
    assert [message.utterance for message in both] == [0, 1]
    began = [message.offset_s + message.result.words[0].start for message in both]
    assert began[0] == pytest.approx(1.5, abs=0.35)
    assert began[1] == pytest.approx(3.0 + len(first) / 16000, abs=0.35)
    assert [message.result.text for message in asyncio.run(play("once", 1))] == ["turn on the kitchen lights"]


def test_who_does_not_read_loses_partials_and_no_result(service: Server, speech: Speech) -> None:
    """Two commands, nothing read before all is over: both results, and not one of the partials before them."""
    pause = np.zeros(24000, np.float32)
    sound = np.concatenate([speech["turn-on-the-kitchen-lights"], pause, speech["lock-the-front-door"], pause])

    async def unread() -> list[Event]:
        late_reader = Client("late", frozenset(("understand",)), by_key=False)
        async with service.running.service.visit(late_reader, "native") as visit:
            utterance = visit.open(Ask(endpoint="always"))
            await utterance.audio(sound)
            utterance.end()
            while not utterance.over:
                await asyncio.sleep(0.02)
            return [event async for event in utterance.events()]

    events = asyncio.run_coroutine_threadsafe(unread(), service.loop).result(300)
    texts = [event.result.text for event in events if isinstance(event, Final)]
    assert texts == ["turn on the kitchen lights", "lock the front door"] and len(events) == 2


def test_other_rates_and_languages(service: Server, speech: Speech) -> None:
    samples = speech["turn-on-the-kitchen-lights"]

    async def at(rate: int, **options: Any) -> Result:
        async with service.client().connect() as connection:
            stream = await connection.start(sample_rate=rate, **options)
            if "bundle" in options or options.get("language") == "xx":  # it is told and left before it speaks
                await connection.socket.wait_closed()
            await stream.send(np.repeat(samples, rate // 16000))
            await stream.end()
            return await stream.result()

    assert asyncio.run(at(48000, language="en-GB")).text == "turn on the kitchen lights"
    for options, code in (({"language": "xx"}, "bad_request"), ({"bundle": "hoem"}, "not_found")):
        with pytest.raises(ServiceError) as refused:
            asyncio.run(at(16000, **options))
        assert refused.value.code == code
    assert "did you mean 'home'" in str(refused.value)


def test_what_is_served_is_listed(service: Server, home: sayso.Model) -> None:
    (only,) = service.client().bundles()
    assert only["name"] == "home" and only["version"] == home.manifest.sha256[:12]
    assert json.loads(service.client().get("/openapi.json"))["openapi"] == "3.1.0"
