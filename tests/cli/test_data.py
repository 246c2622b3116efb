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


def test_import_and_split(sayso: Any, labels: Path, tmp_path: Path) -> None:
    pytest.importorskip("lhotse")
    cuts, train, valid = (tmp_path / name for name in ("cuts.jsonl.gz", "train.jsonl.gz", "valid.jsonl.gz"))
    ran = sayso("data", "import", labels, "--format", "labels", "--out", cuts)
    assert ran.code == 0 and "3 recordings" in ran.out, ran.err
    held = json.loads(sayso("data", "show", cuts, "--json").out)
    assert held["intents"] == {"call": 2, "(must be rejected)": 1} and held["speakers"] == 2
    assert "--force" in sayso("data", "import", labels, "--format", "labels", "--out", cuts).err
    ran = sayso("data", "import", labels, "--format", "label", "--out", tmp_path / "x.jsonl")
    assert ran.code == 2 and "did you mean 'labels'" in ran.err
    ran = sayso("data", "split", cuts, "--train", train, "--valid", valid, "--per-mille", "1")
    assert ran.code == 2 and "validation part would be empty" in ran.err and not train.exists()
    rows = [json.loads(line) for line in labels.read_text().splitlines()]
    for number, row in enumerate(rows * 14):
        audio = f"{number}-{row['audio']}"
        shutil.copy(labels.parent / row["audio"], labels.parent / audio)
        rows.append({**row, "audio": audio, "speaker": f"s{number // 2}"})
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sayso("data", "import", labels, "--format", "labels", "--out", cuts, "--force")
    ran = sayso("data", "split", cuts, "--train", train, "--valid", valid, "--per-mille", "400")
    assert ran.code == 0, ran.err
    sides = [json.loads(sayso("data", "show", side, "--json").out) for side in (train, valid)]
    assert sum(side["n"] for side in sides) == 45 and sum(side["speakers"] for side in sides) == 23


def test_check_compares_manifests(sayso: Any, say: Any, labels: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "valid.jsonl"
    other.parent.mkdir()
    shutil.copy(tmp_path / "coffee.wav", other.parent / "again.wav")
    rows = [{"audio": "again.wav", "intent": None, "text": "Coffee", "speaker": "c", "accent": "scottish"}]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = sayso("data", "check", labels, other)
    assert ran.code == 1 and "share 1 by sound" in ran.out and "share 1 by sentence" in ran.out
    assert "speaker" not in ran.out and "coffee" in ran.out
    assert "not 18.00 s" in ran.out  # what the fixture says of its recordings is not so
    assert sayso("data", "check", other).code == 0
    card = sayso("data", "card", other)
    assert "accent or dialect" in card.out.lower() and "| scottish | 1 |" in card.out
    held = json.loads(sayso("data", "show", other, "--json").out)
    assert f"`{held['sha256']}`" in card.out and held["traits"] == {"accent": {"scottish": 1}}
    cuts = tmp_path / "cuts.jsonl.gz"
    pytest.importorskip("lhotse")
    sayso("data", "import", other, "--format", "labels", "--out", cuts)
    assert json.loads(sayso("data", "show", cuts, "--json").out)["traits"] == held["traits"]


def test_bad_lines_are_named_and_the_others_come_in(sayso: Any, labels: Path, tmp_path: Path) -> None:
    pytest.importorskip("lhotse")
    with labels.open("a") as file:
        file.write('{"audio": "lost.wav", "intent": "call"}\n{"intent": "call"}\n')
    ran = sayso("data", "import", labels, "--format", "labels", "--out", tmp_path / "cuts.jsonl")
    assert ran.code == 1 and "3 recordings" in ran.out
    assert "labels.jsonl:4" in ran.err and "lost.wav" in ran.err and "labels.jsonl:5" in ran.err
