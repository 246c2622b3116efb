"""A predictor with a state on the floor: the same graph in ONNX, the same tokens through a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sayso.audio.features import fbank
from sayso.core.bundle import read_bundle
from sayso.decoding.decoders import TRANSDUCER_DECODERS
from sayso.export.bundle import export_bundle
from sayso.models.assembly import SpeechModel
from sayso.models.joiners import GatedConfig
from sayso.models.predictors import LstmConfig
from sayso.models.streaming import Context
from sayso.runtime.graphs import stack
from sayso.runtime.model import Model
from sayso.training.transducing import transducer_greedy


@pytest.fixture(scope="module")
def recurrent(parts: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[SpeechModel, Model]:
    torch.manual_seed(5)
    changes = {"predictor": LstmConfig(width=12, layers=2), "joiner": GatedConfig(width=16)}
    model = parts.model.config.model_copy(update=changes).build().eval()
    with torch.no_grad():
        for name, value in parts.model.state_dict().items():
            if not name.startswith(("predictor", "joiner")):
                model.state_dict()[name].copy_(value)
        model.predictor.embedding.weight.mul_(3)
        for tensor in model.predictor.lstm.parameters():
            tensor.mul_(3)
        model.joiner.out.weight.mul_(6)
        model.joiner.out.bias[0] += 0.5
    out: Path = tmp_path_factory.mktemp("recurrent") / "small.bundle"
    export_bundle(model, parts.tokenizer, None, out, parts.config(int8=False, intents=()), clips=parts.clips[:1])
    return model, Model(read_bundle(out))


@torch.no_grad()
def test_many_steps_are_the_models(recurrent: tuple[SpeechModel, Model]) -> None:
    model, floor = recurrent
    graph = floor.engine.graph("predictor")
    assert graph is not None and [pair.input for pair in graph.spec.states] == ["hidden", "cell"]
    rng = np.random.default_rng(0)
    state, memory = model.predictor.init_state(3), stack([graph.start()] * 3)
    for _ in range(12):
        labels = rng.integers(0, model.config.vocab, (3, 1))
        expected, state = model.predictor.advance(torch.from_numpy(labels), state)
        out, memory = graph.run({"labels": labels}, memory)
        np.testing.assert_allclose(out["out"], expected.numpy(), atol=1e-5)
    first, _ = graph.run({"labels": labels})
    np.testing.assert_allclose(first["out"], model.predictor.step(torch.from_numpy(labels)).numpy(), atol=1e-5)


@torch.no_grad()
def test_the_floor_reads_what_the_workshop_reads(recurrent: tuple[SpeechModel, Model], parts: Any) -> None:
    model, floor = recurrent
    engine, total = floor.engine, set()
    for clip in parts.clips[:3]:
        features = torch.from_numpy(fbank(clip))
        encoded, frames = model.encoder(features[None], torch.tensor([len(features)]), Context(4, 8))
        (wanted,) = transducer_greedy(model, encoded, frames)
        for kind in ("greedy", "modified"):
            decoder = TRANSDUCER_DECODERS[kind]().build(engine.predictor, engine.join)
            (found,) = decoder.finish(decoder.step(decoder.start(), encoded[0].numpy()))
            if kind == "greedy":
                assert list(found[0].tokens) == wanted
            assert len(found[0].tokens) > 0
        assert floor.understand(clip).final
        total |= set(wanted)
    assert len(total) >= 3
