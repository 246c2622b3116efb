"""One graph for chunks of any length, and a second pass that is the model hearing the whole utterance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sayso.audio.features import fbank
from sayso.core.bundle import read_bundle
from sayso.core.manifest import WHOLE
from sayso.decoding.graph import GraphConfig
from sayso.export.bundle import amend_bundle, export_bundle, quantise_bundle
from sayso.export.onnx import Exported, hears_whole
from sayso.export.quantise import chunks, quantise, whole_frames
from sayso.export.verify import verify_bundle
from sayso.models.encoders.lstm import LstmConfig
from sayso.models.encoders.transformer import TransformerConfig
from sayso.models.streaming import Context
from sayso.runtime.engine import Chunk
from sayso.runtime.graphs import Graph
from sayso.runtime.model import Model

CHUNK, LEFT = 4, 8


@pytest.fixture(scope="module")
def once(fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The same bundle without the second pass."""
    out = tmp_path_factory.mktemp("once") / "b"
    amend_bundle(fp32, passes=[p for p in read_bundle(fp32).manifest.passes if p.name != WHOLE], out=out)
    return Model(read_bundle(out))


def timeless(model: Model, clip: Any) -> Any:
    result, outcome = model.explain(clip)
    return result.model_dump(exclude={"timing"}), outcome


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 3, 4, 8, 9, 40])
def test_chunks_of_any_length_are_the_models(parts: Any, loaded: Model, frames: int) -> None:
    """Longer and shorter than the cache, a short last one, two streams of different age."""
    graph, model = loaded.engine.graph("encoder"), parts.model
    assert graph is not None
    rng = np.random.default_rng(frames)
    state, memory = model.encoder.init_state(2, Context(CHUNK, LEFT)), graph.start(2)
    for step in range(4):
        size = 8 * (frames if step != 1 else CHUNK)
        x = rng.normal(10.0, 4.0, (2, size, 80)).astype(np.float32)
        lengths = torch.tensor([size, size if step < 3 else size - 5])
        expected, counts, state = model.encoder.step(torch.from_numpy(x), lengths, state)
        out, memory = graph.run({"x": x, "lengths": lengths.numpy()}, memory)
        np.testing.assert_allclose(out["out"], expected.numpy(), atol=1e-4)
        assert out["out_lengths"].tolist() == counts.tolist()
        for name, tensor in state.named().items():
            assert memory[name].shape == tuple(tensor.shape)
            np.testing.assert_allclose(memory[name], tensor.numpy(), atol=1e-4)


@torch.no_grad()
def test_the_second_pass_is_the_model_hearing_everything(parts: Any, loaded: Model, once: Model) -> None:
    engine, model, compared, changed = loaded.engine, parts.model, 0, 0
    for clip in parts.clips:
        features = fbank(clip)
        encoded, frames = model.encoder(torch.from_numpy(features)[None], torch.tensor([len(features)]), Context())
        rows, intent = model.ctc(encoded)[0].numpy(), model.intent(encoded, frames)[0].numpy()
        (heard,) = engine.step([engine.start()], [Chunk(features=features)])
        assert heard.intent is not None and len(heard.encoded) == int(frames[0])
        np.testing.assert_allclose(heard.encoded, encoded[0].numpy(), atol=1e-4)
        np.testing.assert_allclose(heard.log_probs, rows, atol=1e-4)
        np.testing.assert_allclose(heard.intent, intent, atol=1e-4)
        search = GraphConfig().build(parts.automaton)
        state = search.step(search.start(), rows)
        wanted = search.nbest(state, 4, final=False)  # noise is no whole sentence
        stream = loaded.stream()
        stream.accept(clip)
        stream.finish()
        assert stream._search is not None and stream._graph is not None
        found, outcome = stream._search.nbest(stream._graph, 4, final=False), stream.outcome
        assert [h.tokens for h in found] == [h.tokens for h in wanted]
        np.testing.assert_allclose([h.score for h in found], [h.score for h in wanted], atol=1e-3)
        assert stream._search.margin(stream._graph, final=False) == pytest.approx(
            search.margin(state, final=False), abs=1e-3
        )
        free = engine.free.finish(engine.free.step(engine.free.start(), encoded[0].numpy()))[0][0]
        assert outcome.texts[0][0] == engine.tokenizer.decode(free.tokens)
        compared += sum(len(h.tokens) for h in wanted)
        changed += outcome.texts != once.explain(clip)[1].texts
    assert compared and changed, "nothing was compared, or both passes hear the same"


def test_partials_are_of_the_first_pass_whatever_the_packets(parts: Any, loaded: Model, once: Model) -> None:
    for seed, clip in enumerate(parts.clips[:3]):
        rng = np.random.default_rng(seed)
        places = np.sort(rng.integers(0, len(clip), 12))
        twice, first = loaded.stream(), once.stream()
        for packet in np.split(clip, places):
            shown, wanted = twice.accept(packet), first.accept(packet)
            assert shown.model_dump(exclude={"timing"}) == wanted.model_dump(exclude={"timing"})
        assert (twice.finish().model_dump(exclude={"timing"}), twice.outcome) == timeless(loaded, clip)
        assert (first.finish().model_dump(exclude={"timing"}), first.outcome) == timeless(once, clip)


def test_too_long_ones_and_bundles_without_it_keep_the_first_pass(
    fp32: Path, parts: Any, once: Model, tmp_path: Path
) -> None:
    amend_bundle(fp32, stream={"vad": False, "whole_s": 1.0}, out=tmp_path / "b")
    short, lengths = Model(read_bundle(tmp_path / "b")), [len(clip) / 16000 for clip in parts.clips]
    assert min(lengths) < 1.0 < max(lengths)
    differ = 0
    for clip, length in zip(parts.clips, lengths, strict=True):
        same = timeless(short, clip) == timeless(once, clip)
        assert same or length <= 1.0
        differ += not same
    assert differ


def test_is_declared(loaded: Model) -> None:
    (spec,) = [p for p in loaded.manifest.passes if p.name == WHOLE]
    assert (spec.when, spec.search) == ("endpoint", "graph") and loaded.manifest.hears_whole
    assert spec.graphs == ("encoder", "ctc", "predictor", "joiner", "intent")
    assert loaded.engine.limits.whole_s == 15.0


@pytest.mark.parametrize(
    ("encoder", "whole"),
    [
        (LstmConfig(channels=24, width=32, layers=2, hidden=24), False),
        (TransformerConfig(channels=24, width=32, layers=2, heads=2, feedforward=48), True),
    ],
)
def test_it_is_left_out_where_it_is_of_no_use_or_not_wanted(
    parts: Any, tmp_path: Path, encoder: Any, whole: bool
) -> None:
    """An encoder that sees no future has nothing to hear again, and a graph of fixed chunks; others have a switch."""
    torch.manual_seed(0)
    model = parts.model.config.model_copy(update={"encoder": encoder}).build().eval()
    assert hears_whole(model) == whole
    out = tmp_path / "b"
    config = parts.config(intents=(), whole=not whole)
    manifest = export_bundle(model, parts.tokenizer, None, out, config, clips=parts.clips[:2])
    assert [p.name for p in manifest.passes] == ["first", "choose"] and manifest.precision == "int8"
    assert not manifest.hears_whole
    assert verify_bundle(out, parts.clips[:1]).passed


def test_int8_hears_the_whole_closely(
    fp32: Path, parts: Any, loaded: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = quantise_bundle(fp32, tmp_path / "b", parts.clips)
    assert not capsys.readouterr().out  # stdout is for what a command answers
    bundle, spec = read_bundle(tmp_path / "b"), manifest.graphs["encoder"]
    exact, rounded = loaded.engine.graph("encoder"), Graph(bundle.file(spec.file), spec, where="t")
    assert exact is not None
    for clip in parts.clips:
        features = fbank(clip)
        ((x, length),) = chunks(features, whole_frames(features))
        feed = {"x": x, "lengths": np.array([length])}
        a, b = exact.run(feed)[0]["out"], rounded.run(feed)[0]["out"]
        assert 1e-5 < np.sqrt(np.mean((a - b) ** 2) / np.mean(a**2)) < 0.05
    given = Exported(data=loaded.engine.bundle.file(spec.file), spec=spec)
    heard = [fbank(clip) for clip in parts.clips]
    assert quantise(given, heard, 8 * CHUNK, whole=True).data == bundle.file(spec.file)
    assert quantise(given, heard, 8 * CHUNK).data != bundle.file(spec.file), "scales saw no whole clip"
