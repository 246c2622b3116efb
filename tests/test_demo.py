"""The bundled model on the bundled recordings: what a person sees who types ``make demo``."""

from __future__ import annotations

from pathlib import Path

import pytest

import sayso
from sayso.audio.decode import read
from sayso.evaluation.evaluate import evaluate
from sayso.evaluation.examples import read_examples

ROOT = Path(__file__).parents[1]
# What this version reaches (9 of 11 commands); the aim is all but one. Raise it with the model, never lower it.
REACHED = 10 / 11


@pytest.fixture(scope="module")
def home() -> sayso.Model:
    return sayso.load("home")


def test_the_demo_understands(home: sayso.Model) -> None:
    examples = read_examples(ROOT / "examples" / "expected.jsonl")
    pairs = [(example, home.understand(example.audio)) for example in examples]
    assert len(pairs) >= 8 and any(example.negative for example in examples)
    for example, result in pairs:
        if example.negative:
            assert result.decision == "reject" and result.intent is None and result.reason is not None
    acceptance = evaluate(pairs)["command_acceptance"]
    assert acceptance is not None and acceptance["value"] >= REACHED - 1e-9


def test_a_stream_ends_where_the_whole_does(home: sayso.Model) -> None:
    """Packets of 100 ms and the whole file give the same final result, but for the times it took."""
    path = ROOT / "examples" / "turn-on-the-kitchen-lights.flac"
    whole = home.understand(path)
    stream = home.stream()
    samples = read(path)
    stable = ""
    for start in range(0, len(samples), 1600):
        partial = stream.accept(samples[start : start + 1600])
        assert not partial.final and partial.stable.startswith(stable)
        stable = partial.stable
    final = stream.finish()
    assert final.final and final.model_copy(update={"timing": whole.timing}) == whole
