"""``sayso evaluate``: the figures of DESIGN.md, in order, and failures that do not stop the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FIGURES = [
    "n", "wer", "cer", "intent_accuracy", "slot_f1", "slu_f1", "command_acceptance", "ece", "rejection_auroc", "rtf",
]  # fmt: skip
ROWS = [
    ("turn on the kitchen light", "turn_on", {"area": "Kitchen"}),
    ("turn off hall light", "turn_off", {"area": "hall"}),
    ("turn on hall light", "turn_on", {"area": "Kitchen"}),
    ("coffee", None, {}),
]


@pytest.fixture
def data(say: Any, tmp_path: Path) -> Path:
    rows = [{"audio": say(t).name, "text": t, "intent": intent, "slots": slots} for t, intent, slots in ROWS]
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_figures_as_json(sayso: Any, bundle: str, data: Path) -> None:
    ran = sayso("evaluate", "--bundle", bundle, "--data", data, "--json")
    assert ran.code == 0, ran.err
    figures = json.loads(ran.out)
    assert list(figures) == FIGURES and figures["n"] == 4 and len(ran.out.splitlines()) == 1
    assert figures["command_acceptance"]["value"] == pytest.approx(2 / 3)  # the third row expects another area
    assert figures["intent_accuracy"]["value"] == 1.0 and figures["wer"]["value"] == 0.0
    assert figures["ece"] is None and figures["rtf"]["value"] > 0


def test_files_that_it_writes_and_failures(sayso: Any, bundle: str, data: Path, tmp_path: Path) -> None:
    with data.open("a") as file:
        file.write('{"audio": "gone.wav", "intent": "call", "slots": {}}\n')
    predictions, report, details = tmp_path / "p.jsonl", tmp_path / "r.html", tmp_path / "d.json"
    files = ("--predictions", predictions, "--report", report, "--details", details)
    ran = sayso("evaluate", "--bundle", bundle, "--data", data, *files)
    assert ran.code == 1 and "gone.wav" in ran.err and ran.err.startswith("error: ")
    assert "command_acceptance  0.667" in ran.out
    lines = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert len(lines) == 4 and lines[0]["result"]["intent"]["name"] == "turn_on"
    more = json.loads(details.read_text())
    assert list(more["figures"]) == FIGURES and more["more"]["exact_match"]["value"] == 0.75
    page = report.read_text()
    assert "tones on labels.jsonl" in page and "gone.wav" in page and "http" not in page


def test_noise_changes_what_is_heard_the_same_way_each_time(
    sayso: Any, bundle: str, data: Path, say: Any, tmp_path: Path
) -> None:
    noise = say("uncle geoffrey", "noise.wav")
    line = ["evaluate", "--bundle", bundle, "--data", data, "--noise", noise, "--snr", "-30", "--seed", "1", "--json"]
    first, second = (json.loads(sayso(*line).out) for _ in range(2))
    assert first["wer"]["value"] > 0.3 and {**first, "rtf": 0} == {**second, "rtf": 0}
    ran = sayso(*line[:6], tmp_path / "none.wav", *line[7:])
    assert ran.code in (1, 2) and "none.wav" in ran.err and not ran.out


def test_slurp_files(sayso: Any, tmp_path: Path) -> None:
    gold, predictions = tmp_path / "test.jsonl", tmp_path / "predictions.jsonl"
    words = [{"surface": word} for word in ("wake", "me", "next", "friday")]
    row = {"slurp_id": 7, "scenario": "alarm", "action": "set", "tokens": words, "recordings": [{"file": "a.flac"}]}
    gold.write_text(json.dumps({**row, "entities": [{"type": "date", "span": [2, 3]}]}) + "\n")
    said = {"scenario": "alarm", "action": "set", "entities": [{"type": "date", "filler": "friday"}], "file": "a.flac"}
    predictions.write_text(json.dumps(said) + "\n")
    files = ("--slurp-gold", gold, "--slurp-predictions", predictions)
    ran = sayso("evaluate", *files, "--json")
    figures = json.loads(ran.out)
    assert ran.code == 0 and [round(figures[f"{name}_f1"]["value"], 4) for name in ("word", "char", "slu")] == [
        0.6667,
        0.6875,
        0.6769,
    ]
    assert "slu_f1" in sayso("evaluate", *files).out
    for wrong in (files[:2], (*files, "--bundle", "home"), ()):
        ran = sayso("evaluate", *wrong)
        assert ran.code == 2 and "--slurp-predictions" in ran.err and not ran.out


def test_live(sayso: Any, bundle: str, data: Path, tmp_path: Path) -> None:
    details, report = tmp_path / "d.json", tmp_path / "r.html"
    ran = sayso("evaluate", "--bundle", bundle, "--data", data, "--live", "--details", details, "--report", report)
    assert ran.code == 0, ran.err
    found = json.loads(details.read_text())
    assert found["figures"]["wer"]["value"] == 0.0 and found["latency"]["result_s"]["n"] >= 3
    assert found["latency"]["intent_s"]["p50"] < found["latency"]["result_s"]["p50"]
    assert "the result after speech ends" in report.read_text()


def test_several_talkers_and_words_that_matter(sayso: Any, bundle: str, say: Any, tmp_path: Path) -> None:
    audio = say("turn on the kitchen light").name
    said = [("ann", "turn on the", 0.0, 2.0), ("bob", "hall light", 0.4, 2.4), ("ann", "light", 2.5, 9.0)]
    rows = [{"audio": audio, "speaker": who, "text": text, "start": a, "end": b} for who, text, a, b in said]
    rows.append(
        {
            "audio": say("turn off hall light").name,
            "speaker": "cid",
            "text": "turn off hall lamp",
            "biased": "Hall lamp",
        }
    )
    data, details, heard = tmp_path / "labels.jsonl", tmp_path / "d.json", tmp_path / "heard.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = sayso("evaluate", "--bundle", bundle, "--data", data, "--details", details, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["wer"]["value"] == 1 / 4  # of the one recording of one talker
    more = json.loads(details.read_text())["more"]
    # one stream, "turn on the kitchen light", for two talkers of four words and two
    assert {name: round(more[name]["value"] * 6) for name in ("cp_wer", "orc_wer")} == {"cp_wer": 3, "orc_wer": 2}
    assert more["u_wer"]["value"] == 0.0 and more["b_wer"]["value"] == 0.5

    streams = [(0, "turn on the light"), (1, "the hall light")]  # the first talks on too early for its times
    times = [[(0.0, 0.6), (0.6, 1.2), (1.2, 1.9), (20.0, 21.0)], [(0.4, 0.6), (0.6, 1.2), (1.2, 2.4)]]
    lines = [
        {"audio": audio, "result": {"talker": talker, "text": text, "words": [
            {"text": word, "start": a, "end": b} for word, (a, b) in zip(text.split(), times[talker], strict=True)]}}
        for talker, text in streams
    ]  # fmt: skip
    lines.append({"audio": rows[-1]["audio"], "result": {"text": "turn off"}})
    heard.write_text("".join(json.dumps(line) + "\n" for line in lines))
    judged = ("evaluate", "--heard", heard, "--data", data, "--json")
    ran = sayso(*judged, "--details", details)
    assert ran.code == 0 and json.loads(ran.out)["wer"]["value"] == 0.5, ran.err
    more = json.loads(details.read_text())["more"]
    counted = {name: round(more[name]["value"] * 6) for name in ("cp_wer", "orc_wer", "tcp_wer")}
    assert counted == {"cp_wer": 1, "orc_wer": 1, "tcp_wer": 3}
    assert more["u_wer"]["value"] == 0.0 and more["b_wer"]["value"] == 1.0


def test_mistakes_about_talkers_and_words_are_named(sayso: Any, bundle: str, say: Any, tmp_path: Path) -> None:
    audio, data, heard = say("coffee").name, tmp_path / "labels.jsonl", tmp_path / "heard.jsonl"
    one = {"audio": audio, "speaker": "ann", "text": "coffee"}

    def refused(*rows: dict[str, Any], options: tuple[Any, ...] = ("--bundle", bundle)) -> str:
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        ran = sayso("evaluate", "--data", data, *options)
        assert ran.code == 2 and not ran.out
        return str(ran.err)

    two = {**one, "speaker": "bob"}
    assert "'speaker' and 'text'" in refused(one, two, {"audio": audio, "speaker": "ann"})
    assert "found '3' and '1'" in refused(one, {**two, "start": 3, "end": 1})
    assert "found 'soon' and '1'" in refused(one, {**two, "start": "soon", "end": 1})
    assert "either --bundle or --heard" in refused(one, options=("--bundle", bundle, "--heard", heard))
    assert "no such manifest" in refused(one, options=("--heard", heard))
    heard.write_text(json.dumps({"audio": audio, "result": {"texts": "coffee"}}) + "\n")
    assert ":1: 'result.texts'" in refused(one, options=("--heard", heard))
    heard.write_text(json.dumps({"audio": "other.wav", "result": {"text": "coffee"}}) + "\n")
    assert "says nothing of 1 recordings" in refused(one, options=("--heard", heard))
    heard.write_text(json.dumps({"audio": audio, "result": {"text": "a " * 20000, "talker": 0}}) + "\n")
    with heard.open("a") as file:
        file.write(json.dumps({"audio": audio, "result": {"text": "a " * 20000, "talker": 1}}) + "\n")
    details = ("--details", tmp_path / "d.json")
    assert "cut the recording" in refused(one, two, options=("--heard", heard, *details))
    assert "fit it" in refused(one, options=("--heard", heard, "--report", tmp_path / "r.html"))
