"""Loading: what is wrong with a bundle is said before anything runs; the floor stays free of torch."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sayso.core.bundle import copy_bundle, read_bundle
from sayso.core.errors import AudioError, BundleError
from sayso.core.manifest import GraphSpec, StatePair
from sayso.runtime.graphs import Graph, split, stack
from sayso.runtime.load import load
from sayso.runtime.model import Model


def test_folder_and_zip_answer_the_same(tones: Any, tmp_path: Path) -> None:
    folder = tones.bundle()
    copy_bundle(read_bundle(folder), tmp_path / "tones.zip")
    samples = tones.say("turn on hall light")
    first, second = (
        load(path).understand(samples).model_dump(exclude={"timing"}) for path in (folder, tmp_path / "tones.zip")
    )
    assert first == second and first["text"] == "turn on hall light"


def test_a_file_as_its_samples(model: Model, tones: Any, tmp_path: Path) -> None:
    samples = np.round(tones.say("call anna") * 32767).astype("<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.repeat(samples, 2).tobytes())
    from_file = model.understand(tmp_path / "a.wav")
    assert from_file.text == "call anna"
    assert from_file.model_dump(exclude={"timing"}) == model.understand(samples).model_dump(exclude={"timing"})
    with pytest.raises(AudioError, match="no such file"):
        model.understand(tmp_path / "b.wav")


def test_home_is_the_bundled_one_or_says_what_to_do() -> None:
    try:
        assert load("home").manifest.domain == "home"
    except BundleError as error:
        assert "sayso build" in str(error)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"search": {"beem": 3}}, "did you mean 'beam'"),
        ({"combine": {"intent_weight": -1}}, "intent_weight"),
        ({"calibration": "c.json", "files": {"c.json": b"{"}}, "not a calibration"),
        ({"files": {"ctc.onnx": b"\0" * 40}}, r"ctc\.onnx: onnxruntime cannot load"),
    ],
)
def test_unusable_bundles(tones: Any, fields: dict[str, Any], what: str) -> None:
    with pytest.raises(BundleError, match=what):
        tones.model(**fields)


def test_a_domain_of_another_tokenizer(tones: Any, tmp_path: Path) -> None:
    from sayso.text.tokenizer import train_tokenizer

    train_tokenizer(["turn on the kitchen light hall call anna bob off"] * 9, tmp_path / "other.model", vocab=28)
    with pytest.raises(BundleError, match="another tokenizer"):
        tones.model(files={"tokenizer.model": (tmp_path / "other.model").read_bytes()})


def test_a_graph_that_is_not_what_the_manifest_says(tones: Any) -> None:
    bundle = read_bundle(tones.bundle())
    spec = bundle.manifest.graphs["encoder"]
    with pytest.raises(BundleError, match="not those of the manifest: last"):
        Graph(bundle.file(spec.file), spec.model_copy(update={"states": spec.states[1:]}), where="b")
    wrong = GraphSpec(file="ctc.onnx", inputs=("x",), outputs=("probabilities",))
    with pytest.raises(BundleError, match="probabilities"):
        Graph(bundle.file("ctc.onnx"), wrong, where="b")


def test_optional_inputs_take_their_default(tones: Any) -> None:
    bundle = read_bundle(tones.bundle())
    spec = bundle.manifest.graphs["encoder"]
    optional = GraphSpec(
        file=spec.file, inputs=("x",), outputs=spec.outputs, states=spec.states, optional={"lengths": 9}
    )
    graph = Graph(bundle.file(spec.file), optional, where="b")
    x = np.zeros((1, 32, 80), np.float32)
    with pytest.raises(Exception, match="lengths"):  # a scalar where the graph wants (B,): onnxruntime refuses
        graph.run({"x": x}, graph.start())
    assert graph.run({"x": x, "lengths": np.array([17])}, graph.start())[0]["out_lengths"].tolist() == [3]


def test_states_stack_and_split(tones: Any) -> None:
    bundle = read_bundle(tones.bundle())
    spec = bundle.manifest.graphs["encoder"]
    graph = Graph(bundle.file(spec.file), spec, where="b")
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(3, 32, 80)).astype(np.float32)
    lengths = np.array([32, 8, 1])
    apart = [graph.run({"x": xs[i : i + 1], "lengths": lengths[i : i + 1]}, graph.start()) for i in range(3)]
    together = graph.run({"x": xs, "lengths": lengths}, stack([graph.start() for _ in range(3)]))
    for i, state in enumerate(split(together[1], 3)):
        assert set(state) == {"last", "count"}
        for name, value in state.items():
            np.testing.assert_allclose(value, apart[i][1][name], atol=1e-6)
            assert value.base is None, "a row must not keep the batch alive"
    assert together[1]["count"].tolist() == [4, 1, 1]


def test_initial_values() -> None:
    pairs = (
        StatePair(input="a", output="b", shape=(2, 3), initial=-1e4),
        StatePair(input="n", output="m", shape=(), dtype="int64"),
    )
    graph = Graph.__new__(Graph)
    graph.spec = GraphSpec(file="f", inputs=(), outputs=(), states=pairs)
    state = graph.start(4)
    assert state["a"].shape == (4, 2, 3) and (state["a"] == -1e4).all() and state["a"].dtype == np.float32
    assert state["n"].shape == (4,) and state["n"].dtype == np.int64 and not state["n"].any()


def test_threads_share_one_model(model: Model, tones: Any) -> None:
    texts = ["turn on the kitchen light", "turn off hall light", "call anna", "call bob"] * 3
    found: dict[int, str] = {}

    def work(index: int) -> None:
        found[index] = model.understand(tones.say(texts[index])).text

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(len(texts))] == texts


def test_the_floor_loads_no_torch() -> None:
    code = (
        "import sys, sayso.runtime.load; print([m for m in ('torch', 'lhotse', 'onnx', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_nothing_is_reported_to_anybody(tmp_path: Path) -> None:
    """onnxruntime keeps a session file of its telemetry where it is on."""
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    code = "import sayso; sayso.load('home')"
    environment |= {"TMPDIR": str(tmp_path), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2] / "src")
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    assert list(tmp_path.rglob("*")) == []
