"""A decoder on the floor: the same graph in ONNX, and meanings out of a bundle without a domain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sayso.audio.features import fbank
from sayso.core.bundle import read_bundle
from sayso.core.trees import TreeSchema
from sayso.decoding.attention_beam import AttentionBeamConfig
from sayso.decoding.greedy import CtcGreedyConfig
from sayso.export.bundle import export_bundle
from sayso.export.verify import verify_bundle
from sayso.models.assembly import SpeechModel
from sayso.models.decoders.transformer import TransformerDecoderConfig
from sayso.models.heads import HeadConfig
from sayso.models.streaming import Context
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.nlu.trees import frames_of, words
from sayso.runtime.graphs import stack
from sayso.runtime.model import Model
from sayso.runtime.settings import FreeConfig
from sayso.training.parsing import parse

SCHEMA = TreeSchema(intents={"lock": ("area",), "turn_on": ("area", "at")}, nested={"at": ("lock",)})
SEARCH = AttentionBeamConfig(beam=3, top_k=None, ctc=0.2, bonus=1.0, limit=24)


@pytest.fixture(scope="module")
def writing(parts: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[SpeechModel, Model, Path]:
    torch.manual_seed(5)
    changes = {
        "decoder": TransformerDecoderConfig(width=24, layers=2, heads=2, feedforward=32, longest=24),
        "trees": SCHEMA,
        "heads": HeadConfig(),
    }
    model = parts.model.config.model_copy(update=changes).build().eval()
    with torch.no_grad():
        for name, value in parts.model.state_dict().items():
            if name in model.state_dict():
                model.state_dict()[name].copy_(value)
        model.decoder.out.weight.mul_(3)
        for layer in model.decoder.layers:
            layer.heard.out.weight.mul_(6)
    out: Path = tmp_path_factory.mktemp("writing") / "small.bundle"
    free = FreeConfig(search=CtcGreedyConfig())
    export_bundle(
        model, parts.tokenizer, None, out, parts.config(int8=False, parser=SEARCH, free=free), clips=parts.clips[:1]
    )
    return model, Model(read_bundle(out)), out


@torch.no_grad()
def test_many_steps_are_the_models(writing: tuple[SpeechModel, Model, Path]) -> None:
    model, floor, _ = writing
    memory_graph, graph = floor.engine.graph("memory"), floor.engine.graph("decoder")
    assert memory_graph is not None and graph is not None and model.decoder is not None
    assert [pair.input for pair in graph.spec.states] == ["keys", "values", "fill", "covered"]
    generator = torch.Generator().manual_seed(0)
    for length in (1, 2, 17):
        frames, counts = torch.randn(3, length, model.encoder.width, generator=generator), torch.tensor([length, 1, 1])
        memory, state = model.decoder.memory(frames, counts), model.decoder.init_state(3, length)
        kept, _ = memory_graph.run({"x": frames.numpy(), "lengths": counts.numpy()})
        cache = stack([graph.start(frames=length)] * 3)
        for step in range(24):
            labels = torch.randint(0, 30, (3,), generator=generator) if step else torch.zeros(3, dtype=torch.int64)
            expected, state = model.decoder.step(labels, state, memory)
            out, cache = graph.run({"labels": labels.numpy(), **kept}, cache)
            np.testing.assert_allclose(out["logits"], expected.numpy(), atol=1e-4)


@torch.no_grad()
def test_the_floor_means_what_the_workshop_means(writing: tuple[SpeechModel, Model, Path], parts: Any) -> None:
    model, floor, _ = writing
    grammar, seen = TreeGrammar(SCHEMA, parts.tokenizer.pieces), set()
    for clip in parts.clips:
        features = torch.from_numpy(fbank(clip))
        encoded, frames = model.encoder(features[None], torch.tensor([len(features)]), Context())
        best = parse(model, encoded[0, : frames[0]], grammar, SEARCH)[0]
        meaning, result = grammar.decode(best.tokens), floor.understand(clip)
        wanted = frames_of(meaning)
        assert [(f.intent, f.parent) for f in result.frames] == [(f.intent, f.parent) for f in wanted]
        assert [[(s.name, s.value) for s in f.slots] for f in result.frames] == [
            [(s.name, s.value) for s in f.slots] for f in wanted
        ]
        assert result.text == " ".join(words(meaning)) == " ".join(word.text for word in result.words)
        times = [(word.start, word.end) for word in result.words]
        assert frames_of(meaning, times) == result.frames
        assert (result.intent, result.slots) == (result.frames[0].intent, result.frames[0].slots)
        assert result.decision == ("clarify" if wanted[0].intent.name == "lock" else "accept")
        seen.add(result.text)
    assert len(seen) >= 3, "clips sound too much alike to this network: little was compared"


def test_streams_and_batches_mean_the_same(writing: tuple[SpeechModel, Model, Path], parts: Any) -> None:
    found = verify_bundle(writing[2], parts.clips[:2])
    assert found.passed and found.streamed_agreement == found.batched_agreement == 1.0


def test_what_the_bundle_says_of_it(writing: tuple[SpeechModel, Model, Path], parts: Any, tmp_path: Path) -> None:
    model, floor, _ = writing
    manifest = floor.engine.manifest
    assert manifest.trees == SCHEMA and AttentionBeamConfig(**manifest.parser) == SEARCH
    assert [(p.name, p.when, p.search) for p in manifest.passes] == [
        ("first", "chunk", "free"),
        ("whole", "endpoint", "free"),
        ("choose", "endpoint", None),
        ("parse", "endpoint", "parser"),
    ]
    assert [spec.name for spec in manifest.intents] == ["lock", "turn_on"]
    silence = floor.stream().finish()
    assert (silence.decision, silence.reason, silence.frames) == ("reject", "no_speech", ())
    beside = export_bundle(model, parts.tokenizer, parts.automaton, tmp_path / "both", parts.config(int8=False))
    assert not {"memory", "decoder"} & set(beside.graphs) and beside.trees is None and len(beside.passes) == 3
