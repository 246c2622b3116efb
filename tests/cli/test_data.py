"""``sayso data``: what is held is counted right, what cannot be read is named, what is spoken can be judged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def labels(say: Any, tmp_path: Path) -> Path:
    rows = [
        {
            "audio": say("call anna").name,
            "intent": "call",
            "slots": {"contacts": "anna"},
            "speaker": "a",
            "duration": 9,
        },
        {"audio": say("call bob").name, "intent": "call", "slots": {"contacts": "bob"}, "speaker": "b", "duration": 9},
        {"audio": say("coffee").name, "intent": None, "text": "coffee", "speaker": "b", "duration": 18},
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_show_and_card(sayso: Any, labels: Path) -> None:
    held = json.loads(sayso("data", "show", labels, "--json").out)
    assert held["n"] == 3 and held["hours"] == 0.01 and held["speakers"] == 2 and held["with_text"] == 1
    assert held["intents"] == {"call": 2, "(must be rejected)": 1} and held["slots"] == {"contacts": 2}
    shown = sayso("data", "show", labels).out
    assert "call: 2" in shown and "0.01" in shown
    card = sayso("data", "card", labels.parent)  # the folder holds one manifest
    assert card.code == 0 and "| call | 2 |" in card.out and card.out.startswith("# ")


def test_check_opens_every_recording(sayso: Any, labels: Path) -> None:
    ran = sayso("data", "check", labels)
    assert ran.code == 0 and ran.out.startswith("ok: 3 of 3 recordings")
    (labels.parent / "call-bob.wav").write_bytes(b"RIFF")
    ran = sayso("data", "check", labels)
    assert ran.code == 1 and "2 of 3" in ran.out and "ok" not in ran.out and "call-bob.wav" in ran.err
    with labels.open("a") as file:
        file.write("{\n")
    ran = sayso("data", "check", labels)
    assert ran.code == 2 and "labels.jsonl:4" in ran.err and not ran.out


def test_synth_speaks_a_domain(sayso: Any, tones: Any, tmp_path: Path) -> None:
    pytest.importorskip("sayso.data.synthesise", exc_type=ImportError)
    out = tmp_path / "spoken"
    domain = tones.folder / "domain.yaml"
    ran = sayso("data", "synth", domain, "--out", out, "--engine", "espeak")
    assert ran.code == 2 and "did you mean 'espeak-ng'" in ran.err and not (out / "cuts.jsonl.gz").exists()
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    line = ["-n", "3", "--voices-each", "1", "--processes", "1", "--engine", "espeak-ng", "--seed", "5"]
    ran = sayso("data", "synth", domain, "--out", out, *line)
    assert ran.code == 0 and ran.out.strip() == str(out / "cuts.jsonl.gz"), ran.err
    held = json.loads(sayso("data", "show", out, "--json").out)
    assert held["n"] == 3 and held["with_text"] == 3 and sum(held["slots"].values()) == 3
    assert sayso("data", "check", out).code == 0
