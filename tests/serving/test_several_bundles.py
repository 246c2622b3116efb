"""Two bundles in one service: by name, by language, in the words of every protocol, and on the page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import openai
import pytest
from browser import SPOKEN, Page, chromium, ready, recording
from live_service import Server, pcm16, serving
from other_clients import VoskClient, hear
from wyoming.client import AsyncTcpClient

from sayso.audio.decode import read
from sayso.core.bundle import read_bundle, resolve, write_bundle
from sayso.core.result import Result
from sayso.serving.client import ServiceError

OTHER = "haus"
LANGUAGES = {"home": "en", OTHER: "de"}  # the second is the first under another name, so its results tell it apart


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    whole = read_bundle(resolve("home"))
    place = tmp_path_factory.mktemp("bundles") / "other.bundle"
    files = {name: whole.file(name) for name in whole.manifest.files}
    write_bundle(whole.manifest.model_copy(update={"languages": ("de",)}), files, place)
    with serving(bundles={"home": "home", OTHER: str(place)}, wyoming_port=0) as found:
        yield found


def test_by_name_and_by_language(both: Server) -> None:
    client, path = both.client(), recording(SPOKEN)
    assert [bundle["name"] for bundle in client.bundles()] == ["home", OTHER]
    assert client.understand(path).language == "en"  # the first
    for name, language in LANGUAGES.items():
        for asked in ({"bundle": name}, {"language": f"{language}-AT"}, {"bundle": name, "language": language}):
            result = client.understand(path, **asked)
            assert (result.language, result.applied.language) == (language, language)
            assert result.text == "turn on the kitchen lights"
    for wrong, says in (
        ({"bundle": "home", "language": "de"}, "legal: en"),
        ({"language": "fr"}, "legal: de, en"),
        ({"bundle": "huas"}, "did you mean 'haus'"),
    ):
        with pytest.raises(ServiceError, match=says):
            client.understand(path, **wrong)


def test_streams_of_both_run_at_once(both: Server) -> None:
    """On one engine, whose turns hold steps of two networks then."""
    sound = pcm16(read(recording(SPOKEN)))

    async def one(name: str) -> tuple[str, str]:
        async with both.client().connect() as connection:
            stream = await connection.start(bundle=name)
            for start in range(0, len(sound), 6400):
                await stream.send(sound[start : start + 6400])
                await asyncio.sleep(0.01)
            await stream.end()
            result = await stream.result()
            return result.language, result.text

    async def together() -> list[tuple[str, str]]:
        return await asyncio.gather(*(one(name) for name in [*LANGUAGES] * 2))

    assert asyncio.run(together()) == [(language, "turn on the kitchen lights") for language in LANGUAGES.values()] * 2


def test_every_protocol_can_say_which(both: Server) -> None:
    sound, path = pcm16(read(recording(SPOKEN))), recording(SPOKEN)
    clients = openai.OpenAI(base_url=both.url + "/v1", api_key="none is needed", max_retries=0)
    assert [model.id for model in clients.models.list()] == ["home", OTHER]
    answers = (
        clients.audio.transcriptions.create(model=OTHER, file=path),
        clients.audio.transcriptions.create(model="whisper-1", file=path, language="de"),
        clients.audio.transcriptions.create(model="whisper-1", file=path, extra_body={"languages": ["fr", "de"]}),
    )
    meanings = [answer.slu for answer in answers]  # type: ignore[attr-defined]
    for config in ({"model": OTHER}, {"slu": {"language": "de"}}, {"slu": {"bundle": OTHER}}):
        with VoskClient(both.port) as vosk:
            vosk.config(**config)
            vosk.ask(sound)
            meanings.append(vosk.ask('{"eof" : 1}')["slu"])

    async def over_wyoming() -> dict[str, object]:
        async with AsyncTcpClient("127.0.0.1", both.wyoming_port) as client:
            events = await hear(client, sound, language="de")
            (transcript,) = [event for event in events if event.type == "transcript"]
            return dict(transcript.data["slu"])

    meanings.append(asyncio.run(over_wyoming()))
    results = [Result.model_validate(meaning) for meaning in meanings]
    assert [(one.language, one.text) for one in results] == [("de", "turn on the kitchen lights")] * len(meanings)


def test_one_is_exchanged_and_the_other_is_not(both: Server) -> None:
    numbers = {edition.name: edition.number for edition in both.running.service.hub.editions}
    both.client().reload(OTHER)
    after = {edition.name: edition.number for edition in both.running.service.hub.editions}
    assert after["home"] == numbers["home"] and after[OTHER] > numbers[OTHER]
    assert both.client().understand(recording(SPOKEN), bundle=OTHER).language == "de"


@chromium
def test_the_page_switches(tab: Page, both: Server) -> None:
    """What is chosen is what the next recording is understood with."""
    ready(tab, both.url)
    listed = tab.run("[...document.querySelectorAll('#bundle option')].map((option) => option.textContent)")
    assert listed == ["home (en)", f"{OTHER} (de)"]
    versions = {edition.name: edition.revision for edition in both.running.service.hub.editions}
    for number, name in enumerate((OTHER, "home"), 1):
        before = {each: finals(both, version) for each, version in versions.items()}
        tab.run(f"""(() => {{
          const list = document.querySelector('#bundle');
          list.value = '{name}';
          list.dispatchEvent(new Event('change'));
        }})()""")
        tab.drop(recording(SPOKEN))
        tab.wait(f"document.querySelectorAll('#earlier li').length === {number}")
        after = {each: finals(both, version) for each, version in versions.items()}
        assert after == {**before, name: before[name] + 1}
    assert not tab.problems


def finals(server: Server, version: str) -> float:
    """Results that a version of a bundle has given."""
    metrics = server.client().get("/metrics")
    return sum(float(n) for n in re.findall(rf'^slu_intents_total{{.*version="{version}"}} (\S+)$', metrics, re.M))
