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
