"""A shipped bundle's intent head learns an intent that an update added: what is fitted, what stays, the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sayso.build.teach import TeachConfig, fit_rows, teach, unknown
from sayso.cli.main import main
from sayso.core.bundle import copy_bundle, read_bundle
from sayso.core.errors import BundleError, DataError, UsageError
from sayso.export.bundle import export_bundle
from sayso.export.head import last_layer, widened
from sayso.operations.update import Change, Head, rollback_bundle, update_bundle
from sayso.runtime.engine import Chunk, Engine
from sayso.runtime.load import load

Floats = NDArray[np.float32]
NEW = Change(sentences={"stop": ("ring it", "ring the {area} light")})
OUTSIDE = None


def tone(low: float, high: float, rng: np.random.Generator) -> Floats:
    """About a second of a tone between two frequencies (Hz), in noise."""
    size = int(rng.integers(12000, 20000))
    sound = 0.3 * np.sin(2 * np.pi * float(rng.uniform(low, high)) * np.arange(size) / 16000)
    return (sound + 0.02 * rng.normal(size=size)).astype(np.float32)


def clips(seed: int, count: int = 30) -> list[tuple[Floats, str | None]]:
    """New ones are high, old ones low, others noise."""
    rng = np.random.default_rng(seed)
    found: list[tuple[Floats, str | None]] = []
    for _ in range(count):
        found.append((tone(2500, 3500, rng), "stop"))
        found.append((tone(300, 600, rng), "lock"))
        found.append((tone(700, 1100, rng), "turn_on"))
        found.append(((0.1 * rng.normal(size=16000)).astype(np.float32), OUTSIDE))
    return found


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def heard(path: Path, samples: Floats) -> Floats:
    """The intent head's log-probabilities at the end of a recording, chunk by chunk."""
    engine = Engine(read_bundle(path))
    features = engine.features.build()
    rows, state, out = np.concatenate([features.accept(samples), features.finish()]), engine.start(), None
    for at in range(0, len(rows), engine.chunk):
        out = engine.step([state], [Chunk(features=rows[at : at + engine.chunk])])[0].intent
    assert out is not None
    return out


@pytest.fixture(scope="module")
def shipped(parts: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that carries its domain file."""
    folder = tmp_path_factory.mktemp("shipped")
    (folder / "small.yaml").write_text(
        """
language: en
intents:
  turn_on: {data: [{sentences: ["turn on [the] {area} light"]}]}
  lock: {data: [{sentences: ["lock the {area} door"]}]}
lists: {area: {values: [kitchen, hall]}}
"""
    )
    config = parts.config(int8=False, whole=False, source=str(folder / "small.yaml"), combine={"intent_weight": 0.5})
    export_bundle(parts.model, parts.tokenizer, parts.automaton, folder / "s.bundle", config, clips=parts.clips)
    return folder / "s.bundle"


@pytest.fixture(scope="module")
def taught(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """It with one more intent, by its graph and then by its head; and what was said meanwhile."""
    said: list[str] = []
    out = tmp_path_factory.mktemp("taught") / "t.bundle"
    update_bundle(shipped, NEW, out=out)
    assert unknown(read_bundle(out)) == ("stop",)
    graph, classes = teach(read_bundle(out), clips(0, 20), TeachConfig(), said.append)
    update_bundle(out, Change(head=Head(graph, classes)))
    return out, said


def test_the_head_learns_the_new_intent_and_nothing_else_changes(shipped: Path, taught: tuple[Path, list[str]]) -> None:
    before, after = read_bundle(shipped).manifest, read_bundle(taught[0]).manifest
    same = [role for role, spec in before.graphs.items() if before.files[spec.file] == after.files[spec.file]]
    assert "encoder" in same and sorted(before.graphs) == sorted([*same, "intent"])
    assert after.revision == 2 and after.intent_classes == ("lock", "turn_on", "stop")
    assert unknown(read_bundle(taught[0])) == ()
    hits = {"stop": 0, "else": 0}
    for samples, intent in clips(1, 10):
        best = int(heard(taught[0], samples).argmax())
        hits["stop" if intent == "stop" else "else"] += best == 2 if intent == "stop" else best != 2
    assert hits["stop"] >= 9 and hits["else"] >= 29, "unheard clips: nine in ten of the new, all but one of the others"
    assert any(line.startswith("kept back: the head finds") for line in taught[1])


def test_old_classes_keep_their_distances_and_old_answers_stay(shipped: Path, taught: tuple[Path, list[str]]) -> None:
    for samples, intent in clips(2, 4):
        old, new = heard(shipped, samples), heard(taught[0], samples)
        kept = new[[0, 1, 3]]
        np.testing.assert_allclose(kept - kept[0], old - old[0], atol=1e-4)
        np.testing.assert_allclose(np.exp(new).sum(), 1, atol=1e-5)
        if intent != "stop":
            assert kept.argmax() == old.argmax()
    model, other = load(shipped), load(taught[0])
    for samples, intent in clips(3, 4):
        if intent in ("lock", "turn_on"):
            one, two = model.understand(samples), other.understand(samples)
            assert (one.decision, one.intent and one.intent.name) == (two.decision, two.intent and two.intent.name)
            assert one.text == two.text or two.text.startswith("ring")  # the new sentence may be nearer to a tone


def test_rolling_back_gives_every_byte(shipped: Path, taught: tuple[Path, list[str]], tmp_path: Path) -> None:
    place = tmp_path / "r.bundle"
    copy_bundle(read_bundle(taught[0]), place)
    assert rollback_bundle(place).revision == 1 and rollback_bundle(place).revision == 0
    assert contents(place) == contents(shipped)


def test_the_command_teaches_by_recordings(shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, rows = tmp_path / "n.bundle", []
    update_bundle(shipped, NEW, out=place)
    encoder = read_bundle(place).manifest.files["encoder.onnx"]
    for number, (samples, intent) in enumerate(clips(5, 6)):
        soundfile.write(tmp_path / f"{number}.wav", samples, 16000)
        rows.append(json.dumps({"audio": f"{number}.wav", "intent": intent}))
    (tmp_path / "said.jsonl").write_text("\n".join(rows))
    assert main(["bundle", "teach", str(place), "--recordings", str(tmp_path / "said.jsonl")]) == 0
    assert "revision 2" in capsys.readouterr().out
    manifest = read_bundle(place).manifest
    assert manifest.intent_classes == ("lock", "turn_on", "stop") and manifest.files["encoder.onnx"] == encoder
    assert main(["bundle", "teach", str(place), "--recordings", str(tmp_path / "said.jsonl")]) != 0
    assert "knows all intents" in capsys.readouterr().err


def test_rows_are_the_best_by_their_gradient() -> None:
    """Of a convex loss: finite differences at the answer are zero, and any step away costs more."""
    rng = np.random.default_rng(4)
    pooled, logits = rng.normal(size=(40, 5)), rng.normal(size=(40, 3))
    target = rng.integers(0, 5, 40)  # two old, two new, the last
    rows = fit_rows(pooled, logits, target, 2, 0.01).astype(np.float64)

    def loss(rows: NDArray[np.float64]) -> float:
        every = np.concatenate([logits[:, :-1], pooled @ rows[:, :-1].T + rows[:, -1], logits[:, -1:]], 1)
        log_probs = every - np.log(np.exp(every).sum(1, keepdims=True))
        return float(-log_probs[np.arange(40), target].mean() + 0.01 * ((rows[:, :-1] * pooled.std(0)) ** 2).sum())

    for place in np.ndindex(*rows.shape):
        step = np.zeros_like(rows)
        step[place] = 1e-3
        assert (loss(rows + step) - loss(rows - step)) / 2e-3 == pytest.approx(0, abs=1e-5)
        assert loss(rows + 50 * step) > loss(rows) < loss(rows - 50 * step)


def test_rows_stand_before_the_last(shipped: Path) -> None:
    bundle = read_bundle(shipped)
    data = bundle.file(bundle.manifest.graphs["intent"].file)
    weight, bias = last_layer(data)
    rows = np.arange(2 * weight.shape[1], dtype=np.float32).reshape(2, -1)
    more, other = last_layer(widened(data, rows, np.array([7.0, 8.0], np.float32)))
    assert np.array_equal(more, np.concatenate([weight[:-1], rows, weight[-1:]]))
    assert np.array_equal(other, np.concatenate([bias[:-1], [7.0, 8.0], bias[-1:]]))
    with pytest.raises(BundleError, match="no last layer that can grow"):
        last_layer(bundle.file(bundle.manifest.graphs["ctc"].file))
    with pytest.raises(ValueError, match="expected weight"):
        widened(data, rows[:, :-1], np.zeros(2, np.float32))


def test_what_cannot_be_taught_says_so(shipped: Path, taught: tuple[Path, list[str]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="knows all intents"):
        teach(read_bundle(shipped), clips(0, 6), TeachConfig(), print)
    update_bundle(shipped, NEW, out=tmp_path / "n.bundle")
    few = [(samples, intent) for samples, intent in clips(0, 8) if intent != "stop"] + clips(0, 3)
    with pytest.raises(DataError, match="3 clips of 'stop' are too few"):
        teach(read_bundle(tmp_path / "n.bundle"), few, TeachConfig(), print)
    before = contents(taught[0])
    bundle = read_bundle(taught[0])
    data = bundle.file(bundle.manifest.graphs["intent"].file)
    with pytest.raises(BundleError, match="has not the 3 classes"):
        update_bundle(taught[0], Change(head=Head(data, ("lock", "turn_on"))))
    with pytest.raises(UsageError, match="nothing to change"):
        update_bundle(taught[0], Change())
    assert contents(taught[0]) == before
