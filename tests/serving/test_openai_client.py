"""OpenAI's own clients, unmodified: the same text and meaning as in this process, errors in their form."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_service import ROOT, SPEECH, Server, eventually, serving, timeless
from numpy.typing import NDArray

from sayso.core.result import Result
from sayso.serving.client import ServiceError

KITCHEN = ROOT / "examples" / "turn-on-the-kitchen-lights.flac"


@pytest.fixture(scope="module")
def client(service: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=service.url + "/v1", api_key="none is needed", max_retries=0)


def meaning(answer: Any) -> Result:
    """Of the extra key, which the client hands through."""
    return timeless(Result.model_validate(answer.slu))


def test_json(client: openai.OpenAI, truth: dict[str, Result]) -> None:
    for path in SPEECH[:3]:
        answer = client.audio.transcriptions.create(model="gpt-transcribe", file=path)
        assert answer.text == truth[path.stem].text
        assert meaning(answer) == timeless(truth[path.stem])
        assert answer.usage is not None and answer.usage.type == "duration"
        assert answer.usage.seconds == truth[path.stem].timing.audio_s


def test_verbose_json(client: openai.OpenAI, truth: dict[str, Result]) -> None:
    expected = truth[KITCHEN.stem]
    answer = client.audio.transcriptions.create(
        model="home", file=KITCHEN, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert (answer.text, answer.language, answer.duration) == (expected.text, "en", expected.timing.audio_s)
    assert [(word.word, word.start, word.end) for word in answer.words or []] == [
        (word.text, word.start, word.end) for word in expected.words
    ]
    (segment,) = answer.segments or []
    assert (segment.text, segment.start, segment.end) == (
        expected.text,
        expected.words[0].start,
        expected.words[-1].end,
    )
    assert meaning(answer) == timeless(expected)
    plain = client.audio.transcriptions.create(model="home", file=KITCHEN, response_format="verbose_json")
    assert plain.words is None and plain.segments


def test_a_stream(client: openai.OpenAI, truth: dict[str, Result]) -> None:
    """Pieces that add up to the text, then the whole."""
    events = list(client.audio.transcriptions.create(model="home", file=KITCHEN, stream=True))
    *deltas, done = events
    assert done.type == "transcript.text.done" and all(event.type == "transcript.text.delta" for event in deltas)
    assert "".join(event.delta for event in deltas) == done.text == truth[KITCHEN.stem].text
    found, expected = meaning(done), timeless(truth[KITCHEN.stem])
    assert found == expected


def test_other_forms(client: openai.OpenAI, truth: dict[str, Result]) -> None:
    expected = truth[KITCHEN.stem]
    text, srt, vtt = [
        str(client.audio.transcriptions.create(model="home", file=KITCHEN, response_format=form))
        for form in ("text", "srt", "vtt")
    ]
    assert text == expected.text
    number, times, said = srt.strip().split("\n")
    assert (number, said) == ("1", expected.text)
    assert times == f"00:00:{expected.words[0].start:06.3f} --> 00:00:{expected.words[-1].end:06.3f}".replace(".", ",")
    assert vtt == f"WEBVTT\n\n{times.replace(',', '.')}\n{expected.text}\n\n"


def test_options_of_ours(client: openai.OpenAI) -> None:
    lists = {"lists": {"area": [["kitchen", "Room 7"]]}}
    answer = client.audio.transcriptions.create(
        model="whisper-1", file=KITCHEN, language="en", extra_body={"slu": json.dumps(lists)}
    )
    assert [slot.value for slot in meaning(answer).slots] == ["Room 7"]
    assert meaning(answer).applied.lists == {"area": 1}


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["home"]
    assert client.models.retrieve("home").object == "model"
    with pytest.raises(openai.NotFoundError, match="did you mean 'home'"):
        client.models.retrieve("hoem")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"file": ("x.wav", b"RIFF")}, "the recording: found 4 bytes"),
        ({"response_format": "diarized_json"}, "legal: json, text, verbose_json, srt, vtt"),
        ({"language": "xx"}, "no bundle for language 'xx'"),
        ({"stream": True, "response_format": "srt"}, "use json"),
        ({"stream": True, "file": ("x.wav", b"RIFF")}, "the recording: found 4 bytes"),
        ({"extra_body": {"colour": "red"}}, "'colour' is not a known field"),
        ({"extra_body": {"slu": '{"lists": {"aera": ["sauna"]}}'}}, "did you mean 'area'"),
    ],
)
def test_errors_are_of_their_form(client: openai.OpenAI, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.transcriptions.create(**{"model": "home", "file": KITCHEN, **wrong})
    body = refused.value.body
    assert isinstance(body, dict) and set(body) == {"message", "type", "param", "code"}
    assert says in body["message"] and body["type"] == "invalid_request_error"
    assert body["code"] in ("bad_audio", "bad_request")


def test_curl(service: Server, truth: dict[str, Result]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")

    def curl(*arguments: str) -> str:
        url = service.url + "/v1/audio/transcriptions"
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", *arguments, url]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout

    expected = truth[KITCHEN.stem]
    assert curl("-F", f"file=@{KITCHEN}", "-F", "model=home", "-F", "response_format=text") == expected.text
    answer = json.loads(curl("-F", f"file=@{KITCHEN}", "-F", "model=home"))
    assert answer["text"] == expected.text and timeless(Result.model_validate(answer["slu"])) == timeless(expected)
    lines = curl("-F", f"file=@{KITCHEN}", "-F", "model=home", "-F", "stream=true").split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert json.loads(lines[-3].removeprefix("data: "))["text"] == expected.text


SCRIPT = """
import fs from "node:fs";
import { createRequire } from "node:module";
const OpenAI = createRequire(process.env.NODE_PATH + "/")("openai").default;
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const file = () => fs.createReadStream(process.argv[3]);
const plain = await client.audio.transcriptions.create({ model: "home", file: file() });
let pieces = "", done;
for await (const event of await client.audio.transcriptions.create({ model: "home", file: file(), stream: true }))
  event.type === "transcript.text.delta" ? (pieces += event.delta) : (done = event);
console.log(JSON.stringify({ plain, pieces, done }));
"""


def test_node(service: Server, truth: dict[str, Result], tmp_path: Path) -> None:
    """Where npm's ``openai`` is in the folder that NODE_PATH names: npm install openai@6.49.0."""
    modules = Path(os.environ.get("NODE_PATH") or ROOT / "node_modules")
    if shutil.which("node") is None or not (modules / "openai").is_dir():
        pytest.skip("needs node, and npm's openai in NODE_PATH")
    (tmp_path / "client.mjs").write_text(SCRIPT)
    run = subprocess.run(
        ["node", str(tmp_path / "client.mjs"), service.url + "/v1", str(KITCHEN)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "NODE_PATH": str(modules)},
    )
    assert run.returncode == 0, run.stderr
    found, expected = json.loads(run.stdout), truth[KITCHEN.stem]
    assert found["plain"]["text"] == found["pieces"] == found["done"]["text"] == expected.text
    for answer in (found["plain"], found["done"]):
        assert timeless(Result.model_validate(answer["slu"])) == timeless(expected)


def test_limits_and_a_drain(speech: dict[str, NDArray[np.float32]]) -> None:
    """Busy and too large in their form; a client that leaves gives its place up; who is served when it stops, is."""
    sound = np.concatenate([speech[KITCHEN.stem], np.zeros(16000 * 6, np.float32)])
    recording = io.BytesIO()
    soundfile.write(recording, sound, 16000, format="WAV")
    limits = {"streams": 1, "body_bytes": 1 << 19, "rate": 1.0, "burst_s": 0.5}
    with serving(limits=limits) as service, ThreadPoolExecutor(1) as threads:
        client = openai.OpenAI(base_url=service.url + "/v1", api_key="x", max_retries=0, timeout=600)

        def listen(**fields: Any) -> openai.Stream[Any]:
            """Returns when the first words are there, which takes its time at this rate."""
            return client.audio.transcriptions.create(model="home", stream=True, **fields)

        talking = threads.submit(listen, file=("long.wav", recording.getvalue()))
        eventually(lambda: bool(service.running.service.utterances))
        with pytest.raises(openai.InternalServerError) as busy:
            client.audio.transcriptions.create(model="home", file=KITCHEN)
        assert busy.value.status_code == 503 and busy.value.response.headers["Retry-After"] == "1"
        assert isinstance(busy.value.body, dict) and busy.value.body["code"] == "overloaded"
        talking.result(600).close()
        eventually(lambda: not service.running.service.visits, 300)
        with pytest.raises(openai.APIStatusError) as large:
            client.audio.transcriptions.create(model="home", file=("long.wav", bytes(1 << 19)))
        assert large.value.status_code == 413 and isinstance(large.value.body, dict)
        eventually(lambda: not service.running.service.visits)
        talking = threads.submit(listen, file=KITCHEN)
        eventually(lambda: bool(service.running.service.utterances))
        service.drain()
        done = [event.text for event in talking.result(600) if event.type == "transcript.text.done"]
        assert done == ["turn on the kitchen lights"]


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    fields=st.lists(
        st.tuples(
            st.sampled_from(["file", "model", "language", "languages[]", "response_format", "stream", "slu", "x", ""]),
            st.one_of(
                st.sampled_from(["true", "json", "srt", "en", "{}", "[]", '{"lists": 1}', '{"endpoint": 1}', "\0"]),
                st.text(max_size=30),
                st.binary(max_size=60),
            ),
            st.booleans(),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_requests_by_anybody(service: Server, fields: list[tuple[str, str | bytes, bool]]) -> None:
    """Whatever the form holds: an error in OpenAI's form, never a trace of ours."""
    body = b""
    for name, value, is_file in fields:
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"' + ('; filename="f"' if is_file else "")
        content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        body += head.encode() + b"\r\n\r\n" + content + b"\r\n"
    with pytest.raises(ServiceError) as refused:
        service.client()._ask(
            "POST", "/v1/audio/transcriptions", body + b"--b--\r\n", "multipart/form-data; boundary=b"
        )
    assert refused.value.status in (400, 404, 413) and "Traceback" not in str(refused.value)
