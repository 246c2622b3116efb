"""SLURP's scorer: the published golden, its quirks one by one, and an independent plain version on random files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest

from sayso.core.errors import DataError
from sayso.evaluation.slurp import read_gold, score_files

Row = dict[str, Any]


def _write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _gold(number: int, sentence: str, intent: str, entities: list[tuple[str, list[int]]], takes: int = 1) -> Row:
    scenario, action = intent.split("_", 1)
    return {
        "slurp_id": number,
        "sentence": sentence,
        "intent": "not_read",
        "scenario": scenario,
        "action": action,
        "tokens": [{"surface": word, "id": index} for index, word in enumerate(sentence.split())],
        "recordings": [{"file": f"audio-{number}-{take}.flac", "wer": 0.0} for take in range(takes)],
        "entities": [{"type": name, "span": span} for name, span in entities],
    }


def _said(name: str, intent: str, *entities: tuple[str, str], key: str = "file") -> Row:
    scenario, action = intent.split("_", 1)
    found = [{"type": kind, "filler": filler} for kind, filler in entities]
    return {"text": "", "scenario": scenario, "action": action, "entities": found, key: name}


def _values(folder: Path, gold: list[Row], predicted: list[Row]) -> dict[str, Any]:
    figures = score_files(_write(folder / "test.jsonl", gold), _write(folder / "predictions.jsonl", predicted))
    return {name: value["value"] if isinstance(value, dict) else value for name, value in figures.items()}


def test_the_golden(tmp_path: Path) -> None:
    gold = [_gold(1, "wake me next Friday", "alarm_set", [("date", [2, 3])])]
    values = _values(tmp_path, gold, [_said("audio-1-0.flac", "alarm_set", ("date", "friday"))])
    assert values["word_f1"] == pytest.approx(0.6667, abs=5e-5)
    assert values["char_f1"] == pytest.approx(0.6875, abs=5e-5)
    assert values["slu_f1"] == pytest.approx(0.6769, abs=5e-5)
    assert values["entity_f1"] == 0.0 and values["intent_accuracy"] == 1.0 and values["n"] == 1


def test_quirks(tmp_path: Path) -> None:
    gold = [
        _gold(1, "play Jazz", "play_music", [("genre", [1])], takes=2),
        _gold(2, "stop", "play_stop", []),
        _gold(3, "lights off please", "iot_hue_lightoff", [("what", [0])]),
    ]
    predicted = [
        _said("audio-1-0.flac", "play_stop", ("genre", "rock")),  # the later line of this name counts
        _said("audio-1-0.flac", "play_music", ("genre", "jazz")),
        _said("audio-3-0.flac", "iot_query", ("what", "Lights")),  # a prediction is not lower-cased
        _said("audio-9-0.flac", "iot_query"),
    ]
    values = _values(tmp_path, gold, predicted)
    assert (values["n"], values["not_predicted"], values["unknown"]) == (2, 2, 1)
    assert values["scenario_accuracy"] == 1.0 and values["action_accuracy"] == values["intent_accuracy"] == 0.5
    assert values["entity_f1"] == 0.5 and values["char_f1"] == pytest.approx(2 / (2 + 1 / 6))
    del gold[0]["entities"][0]["type"]
    assert read_gold(_write(tmp_path / "g", gold))["audio-1-1.flac"].entities[0].name == "unknown"


def test_partners_are_taken_greedily_in_order(tmp_path: Path) -> None:
    """``a b`` takes ``a`` (one insertion, as far as ``c d``'s two): then ``a`` is left with ``c d`` and never exact."""
    gold = [_gold(1, "a c d", "x_y", [("t", [0]), ("t", [1, 2])])]
    values = _values(tmp_path, gold, [_said("audio-1-0.flac", "x_y", ("t", "a b"), ("t", "a"))])
    assert values["word_f1"] == pytest.approx(4 / (4 + 2 * (1 + 1)))
    values = _values(tmp_path, gold, [_said("audio-1-0.flac", "x_y", ("t", "a"), ("t", "a b"))])
    assert values["word_f1"] == pytest.approx(4 / (4 + 2 * (0 + 1)))


def _letters(gold: str, predicted: str) -> float:
    row = list(range(len(predicted) + 1))
    for i, letter in enumerate(gold, 1):
        above, row = row, [i]
        for j, other in enumerate(predicted, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != other)))
    return row[-1] / max(len(gold), len(predicted), 1)


def _plain(gold: list[Row], predicted: list[Row], key: str) -> dict[str, float]:
    """The definitions written down once more: counters by label, summed at the end, F1 of precision and recall."""
    known: dict[str, Row] = {}
    for row in gold:
        for name in [str(row["slurp_id"])] if key == "slurp_id" else [item["file"] for item in row["recordings"]]:
            known[name] = row
    said = {row[key]: row for row in predicted}
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("scenario", "action", "exact", "word", "char")}
    for name, row in known.items():
        if name not in said:
            continue
        for field in ("scenario", "action"):
            counts[field]["tp" if row[field] == said[name][field] else "fp"] += 1
            counts[field]["fn"] += row[field] != said[name][field]
        truth = [
            (item["type"], " ".join(row["tokens"][place]["surface"].lower() for place in item["span"]))
            for item in row["entities"]
        ]
        found = [(item["type"], item["filler"]) for item in said[name]["entities"]]
        left = list(truth)
        for item in found:
            counts["exact"]["tp" if item in left else "fp"] += 1
            if item in left:
                left.remove(item)
        counts["exact"]["fn"] += len(left)
        for unit, distance in (("word", jiwer.wer), ("char", _letters)):
            left = list(truth)
            for label, filler in found:
                same = [item for item in left if item[0] == label]
                if same:
                    near = min(same, key=lambda item: distance(item[1], filler))
                    left.remove(near)
                    counts[unit].update({"tp": 1, "fp": distance(near[1], filler), "fn": distance(near[1], filler)})
                else:
                    counts[unit]["fp"] += 1
            counts[unit]["fn"] += len(left)
    counts["slu"] = counts["word"] + counts["char"]
    result = {}
    for name, count in counts.items():
        precision, recall = count["tp"] / (count["tp"] + count["fp"]), count["tp"] / (count["tp"] + count["fn"])
        result[name] = 2 * precision * recall / (precision + recall)
    return result


def _random_files(seed: int, key: str) -> tuple[list[Row], list[Row]]:
    rng = np.random.default_rng(seed)
    words = ["next", "friday", "Monday", "the", "kitchen", "light", "lights", "at", "noon"]
    gold, predicted = [], []
    for number in range(60):
        spoken = [words[i] for i in rng.integers(0, len(words), 8)]
        spans = [(str(rng.choice(["date", "area"])), [2 * i, 2 * i + 1][: rng.integers(1, 3)]) for i in range(4)]
        chosen = spans[: rng.integers(0, 5)]
        intent = str(rng.choice(["alarm_set", "alarm_query", "iot_set"]))
        gold.append(_gold(number, " ".join(spoken), intent, chosen, takes=int(rng.integers(1, 3))))
        heard = [
            (name if rng.random() < 0.8 else "time", " ".join(words[i] for i in rng.integers(0, 9, rng.integers(1, 4))))
            if rng.random() < 0.5
            else (name, " ".join(spoken[i].lower() for i in span))
            for name, span in chosen
            if rng.random() < 0.9
        ] + [("date", "noon")] * int(rng.random() < 0.2)
        rng.shuffle(heard)
        guess = intent if rng.random() < 0.7 else "iot_query"
        name = str(number) if key == "slurp_id" else gold[-1]["recordings"][0]["file"]
        predicted.append(_said(name, guess, *[(str(a), str(b)) for a, b in heard], key=key))
    return gold, predicted[:50]


@pytest.mark.parametrize("key", ["file", "slurp_id"])
def test_random_files_equal_the_plain_version(key: str, tmp_path: Path) -> None:
    for seed in range(5):
        gold, predicted = _random_files(seed, key)
        values, plain = _values(tmp_path, gold, predicted), _plain(gold, predicted, key)
        called = {
            "scenario_accuracy": "scenario", "action_accuracy": "action", "entity_f1": "exact", "word_f1": "word",
            "char_f1": "char", "slu_f1": "slu",
        }  # fmt: skip
        assert {name: values[name] for name in called} == pytest.approx({n: plain[p] for n, p in called.items()})
        names = 60 if key == "slurp_id" else sum(len(row["recordings"]) for row in gold)
        assert (values["n"], values["not_predicted"], values["unknown"]) == (50, names - 50, 0)


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ({"tokens": "x"}, {}, r"g\.jsonl:1: 'tokens' must be a list"),
        ({"entities": [{"type": "t", "span": [7]}]}, {}, r"entities\[0\]: 'span' must list tokens, 0 to 0"),
        ({}, {"scenario": None}, r"p\.jsonl:1: 'scenario' must be a string"),
        ({}, {"entities": [{"type": "t", "filler": "x", "score": 1}]}, "found type, filler, score; leave"),
        ({}, {"file": "audio-1-0.wav"}, r"it has 'audio-1-0\.wav', the gold has 'audio-1-0\.flac'"),
    ],
)
def test_mistakes_name_line_and_field(gold: Row, predicted: Row, message: str, tmp_path: Path) -> None:
    first = _write(tmp_path / "g.jsonl", [{**_gold(1, "stop", "play_stop", []), **gold}])
    second = _write(tmp_path / "p.jsonl", [{**_said("audio-1-0.flac", "play_stop"), **predicted}])
    with pytest.raises(DataError, match=message):
        score_files(first, second)
