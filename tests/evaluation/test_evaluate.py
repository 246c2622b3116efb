"""A small judged set worked out by hand, the frozen key order, and running over real files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sayso.core.errors import AudioError, UsageError
from sayso.core.result import Alternative, Example, Frame, Intent, Result, Slot, Timing
from sayso.evaluation.evaluate import evaluate
from sayso.evaluation.predict import NoiseCondition, Run, write_predictions

KEYS = ["n", "wer", "cer", "intent_accuracy", "slot_f1", "slu_f1", "command_acceptance"]
KEYS += ["ece", "rejection_auroc", "rtf"]


def _meant(intent: str, confidence: float | None, text: str = "", **slots: str) -> Result:
    frame = Frame(
        intent=Intent(name=intent, confidence=confidence),
        slots=tuple(Slot(name=name, value=value) for name, value in slots.items()),
    )
    return Result(intent=frame.intent, slots=frame.slots, frames=(frame,), decision="accept", text=text)


def _refused(guess: str | None, confidence: float = 0.0) -> Result:
    guesses = () if guess is None else (Alternative(text="", intent=guess, score=math.log(confidence)),)
    return Result(decision="reject", reason="low_confidence", alternatives=guesses)


def _command(intent: str, text: str | None = None, **slots: str) -> Example:
    return Example(
        audio="a.wav", intent=intent, text=text, slots=tuple(Slot(name=name, value=v) for name, v in slots.items())
    )


NEGATIVE = Example(audio="n.wav", negative=True)
PAIRS = [
    (_command("on", "Turn on 2 lamps!", area="hall"), _meant("on", 0.9, "turn on two lamps", area="hall")),
    (_command("on", "turn on the lamp", area="hall"), _meant("on", 0.8, "turn on a lamp", area="wall")),
    (_command("off"), _refused("off", 0.3)),
    (NEGATIVE, _refused("off", 0.2)),
    (NEGATIVE, _meant("off", 0.4)),
]


def _value(figures: object) -> float:
    assert isinstance(figures, dict)
    return float(figures["value"])


def test_worked_by_hand() -> None:
    figures = evaluate(PAIRS)
    assert list(figures) == KEYS
    assert figures["n"] == 5
    assert _value(figures["wer"]) == pytest.approx(1 / 8)
    assert _value(figures["intent_accuracy"]) == pytest.approx(3 / 5)
    assert _value(figures["slot_f1"]) == pytest.approx(0.5)
    assert _value(figures["command_acceptance"]) == pytest.approx(1 / 3)
    # scores of commands .9 .8 .3 against negatives .2 .4: five of six pairs in order
    assert _value(figures["rejection_auroc"]) == pytest.approx(5 / 6)
    # five examples make one bin: mean confidence .52, two guesses right (in the second the intent alone is)
    assert _value(figures["ece"]) == pytest.approx(abs(0.52 - 0.4))
    assert figures["rtf"] is None
    json.dumps(figures, allow_nan=False)


def test_what_does_not_apply_is_none() -> None:
    empty = evaluate([])
    assert list(empty) == KEYS and empty["n"] == 0
    assert all(empty[key] is None for key in KEYS[1:])
    transcribed = evaluate([(Example(audio="a", text="hi"), Result(text="hi"))])
    assert _value(transcribed["wer"]) == 0.0
    assert transcribed["intent_accuracy"] is None and transcribed["command_acceptance"] is None
    uncalibrated = evaluate([(_command("on"), _meant("on", None)), (NEGATIVE, _refused(None))])
    assert uncalibrated["ece"] is None and uncalibrated["rejection_auroc"] is None
    assert _value(uncalibrated["intent_accuracy"]) == 1.0
    assert uncalibrated["slot_f1"] is None


def _loud(samples: NDArray[np.float32], rate: int) -> Result:
    assert samples.dtype == np.float32 and rate == 16000
    return _meant("on", float(np.abs(samples).mean()))


def _tone(path: Path, hz: float) -> str:
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hz * np.arange(8000) / 16000), 16000)
    return str(path)


def test_run_goes_on_after_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("no audio")
    paths = [
        _tone(tmp_path / "a.wav", 300),
        str(tmp_path / "bad.wav"),
        str(tmp_path / "none.wav"),
        _tone(tmp_path / "b.wav", 500),
    ]
    done: list[int] = []
    run = Run(_loud, [Example(audio=path, intent="on") for path in paths], progress=lambda i, n: done.append(i))
    pairs = list(run)
    assert [pair[0].audio for pair in pairs] == [paths[0], paths[3]]
    assert [failure.audio for failure in run.failures] == paths[1:3]
    assert done == [1, 2, 3, 4]
    assert all(pair[1].timing.audio_s == 0.5 and (pair[1].timing.rtf or 0) > 0 for pair in pairs)
    assert evaluate(pairs)["rtf"] is not None


def test_measured_timing_is_not_overwritten(tmp_path: Path) -> None:
    timed = Result(timing=Timing(audio_s=9.0, rtf=0.5))
    [(_, result)] = Run(lambda samples, rate: timed, [Example(audio=_tone(tmp_path / "a.wav", 300))])
    assert result.timing == timed.timing


def test_noise_is_the_same_for_the_same_seed_and_place(tmp_path: Path) -> None:
    noise = tmp_path / "noise.wav"
    soundfile.write(noise, 0.1 * np.random.default_rng(0).standard_normal(40000), 16000)
    examples = [Example(audio=_tone(tmp_path / "a.wav", 300), intent="on")] * 2

    def heard(seed: int) -> list[Result]:
        heard: list[NDArray[np.float32]] = []
        condition = NoiseCondition(file=str(noise), snr_db=6, snr_kind="peak2048", seed=seed)
        run = Run(lambda samples, rate: heard.append(samples) or Result(), examples, noise=condition)  # type: ignore[func-returns-value]
        list(run)
        assert np.array_equal(run.heard(examples[0])[0], heard[0])
        return heard  # type: ignore[return-value]

    first, again, other = heard(0), heard(0), heard(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], first[1])
    assert np.abs(first[0]).max() == pytest.approx(0.5, abs=1e-3)


def test_missing_noise_is_an_error_at_once(tmp_path: Path) -> None:
    run = Run(_loud, [], noise=NoiseCondition(file=str(tmp_path / "none.wav"), snr_db=6))
    with pytest.raises(AudioError):
        list(run)


def test_predictions_are_whole_or_absent(tmp_path: Path) -> None:
    path = write_predictions(tmp_path / "p.jsonl", PAIRS)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [Result.model_validate(row["result"]) for row in rows] == [result for _, result in PAIRS]
    assert rows[0]["audio"] == "a.wav" and rows[0]["expected"]["intent"] == "on"

    def broken() -> object:
        yield PAIRS[0]
        raise KeyboardInterrupt

    before = path.read_text()
    with pytest.raises(KeyboardInterrupt):
        write_predictions(path, broken())  # type: ignore[arg-type]
    assert path.read_text() == before
    assert [item.name for item in tmp_path.iterdir()] == ["p.jsonl"]
    with pytest.raises(UsageError, match="is a folder"):
        write_predictions(tmp_path, PAIRS)
    with pytest.raises(UsageError, match="cannot be written"):
        write_predictions(tmp_path / "no" / "p.jsonl", PAIRS)
