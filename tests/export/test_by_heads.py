"""Bundles without a domain: the heads decide, and a private one gives no words at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sayso.audio.features import fbank
from sayso.core.bundle import read_bundle
from sayso.core.errors import BundleError
from sayso.core.trees import TreeSchema
from sayso.decoding.attention_beam import AttentionBeamConfig
from sayso.decoding.greedy import CtcGreedy, CtcGreedyConfig
from sayso.export.bundle import amend_bundle, export_bundle
from sayso.models.assembly import SpeechModel
from sayso.models.decoders.transformer import TransformerDecoderConfig
from sayso.models.fusion import FusionConfig
from sayso.models.heads import HeadConfig
from sayso.models.streaming import Context
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.nlu.trees import frames_of
from sayso.runtime.model import Model
from sayso.runtime.reading import read, states_of
from sayso.runtime.settings import FreeConfig
from sayso.training.parsing import parse

FREE = FreeConfig(search=CtcGreedyConfig())
# an untrained decoder would rather write no slot: long meanings are worth more to this search
SEARCH = AttentionBeamConfig(beam=3, top_k=None, ctc=0.0, bonus=6.0, limit=24)
VALUES = {"area": {"kitchen": "the kitchen"}}


def _changed(parts: Any, **changes: Any) -> SpeechModel:
    """The untrained model with other parts, loud enough that recordings sound different to it."""
    torch.manual_seed(5)
    model: SpeechModel = parts.model.config.model_copy(update=changes).build().eval()
    with torch.no_grad():
        for name, value in parts.model.state_dict().items():
            if name in model.state_dict() and model.state_dict()[name].shape == value.shape:
                model.state_dict()[name].copy_(value)
        for head, scale in ((model.intent, 60.0), (model.slots, 20.0)):
            if head is not None:
                head.out.weight.mul_(scale)
        if model.decoder is not None:
            model.decoder.out.weight.mul_(3)
            for layer in model.decoder.layers:
                layer.heard.out.weight.mul_(6)
    return model


@torch.no_grad()
def test_heads_mean_on_the_floor_what_they_mean_in_the_workshop(parts: Any, tmp_path: Path) -> None:
    model = _changed(parts)
    manifest = export_bundle(
        model, parts.tokenizer, None, tmp_path / "b", parts.config(int8=False, free=FREE), clips=parts.clips[:1]
    )
    floor, pieces, seen = Model(read_bundle(tmp_path / "b")), parts.tokenizer.pieces, set()
    assert [spec.name for spec in manifest.intents] == ["lock", "turn_on"] and not manifest.private
    assert model.intent is not None and model.slots is not None
    for clip in parts.clips:
        features = torch.from_numpy(fbank(clip))
        encoded, frames = model.encoder(features[None], torch.tensor([len(features)]), Context())
        result = floor.understand(clip)
        wanted = int(model.intent(encoded, frames)[0].argmax())
        name = None if wanted == 2 else ("lock", "turn_on")[wanted]
        assert (result.intent.name if result.intent else None) == name
        assert result.decision == {None: "reject", "lock": "clarify", "turn_on": "accept"}[name]
        assert result.reason == ("out_of_domain" if name is None else None)
        state = CtcGreedy().step(CtcGreedy().start(), model.ctc(encoded)[0].numpy())
        at = torch.tensor(state.frames) // model.ctc.rate
        read, count = torch.tensor([state.tokens]), torch.tensor([len(state.tokens)])
        tags = model.slots(encoded[:, at], read, count)[0].argmax(-1).tolist()
        opened = sum(
            tag != 0 and (i == 0 or pieces[t].startswith("▁"))
            for i, (t, tag) in enumerate(zip(state.tokens, tags, strict=True))
        )
        if name is not None:
            assert result.text == parts.tokenizer.decode(state.tokens)
            assert (len(result.slots) > 0) == (opened > 0)
            for slot in result.slots:
                inside = [w.text for w in result.words if slot.start <= w.start and w.end <= slot.end]
                assert slot.text == " ".join(inside) and slot.name == "area" and slot.source == "head"
        seen.add(name)
    assert len(seen) > 1, "clips sound too much alike to this network: little was compared"


def _fused(parts: Any) -> SpeechModel:
    """Heads that read as well: what is read changes the intent of some clips."""
    heads = parts.model.config.heads.model_copy(update={"fusion": FusionConfig(heads=2)})
    model = _changed(parts, heads=heads)
    assert model.fusion is not None and model.intent is not None and model.intent.read_score is not None
    with torch.no_grad():
        model.intent.read_score.bias.add_(1.0)
        model.fusion.embedding.weight.mul_(4)
    return model


@torch.no_grad()
def test_fused_heads_read_on_the_floor_what_they_read_in_the_workshop(parts: Any, tmp_path: Path) -> None:
    model = _fused(parts)
    config = parts.config(int8=False, free=FREE)
    manifest = export_bundle(model, parts.tokenizer, None, tmp_path / "b", config, checks=parts.clips[:2])
    assert manifest.graphs["slots"].inputs[-1] == "states" and manifest.passes[-1].graphs == ("fusion", "read", "slots")
    assert manifest.figures["verification"]["passed"]
    floor, changed = Model(read_bundle(tmp_path / "b")), 0
    assert model.fusion is not None and model.intent is not None and model.slots is not None
    for clip in parts.clips:
        stream = floor.stream()
        for start in range(0, len(clip), 4000):
            stream.accept(clip[start : start + 4000])
        stream.finish()
        heard = stream._utterance(floor.engine.free.finish(stream._free)[0][0])
        features = torch.from_numpy(fbank(clip))
        encoded, frames = model.encoder(features[None], torch.tensor([len(features)]), Context())
        sound, pool = model.intent.step(encoded, frames, model.intent.init_state(1))
        tokens, count = torch.tensor([heard.free.tokens]), torch.tensor([len(heard.free.tokens)])
        assert len(tokens[0]), "this network hears nothing in the clip: choose another"
        states = model.fusion(tokens, count, encoded, frames)
        meant = model.intent.read(pool, states, count)
        assert heard.intent is not None and heard.encoded is not None
        np.testing.assert_allclose(heard.intent, sound[0].numpy(), atol=1e-3)
        found = read(floor.engine, heard).intent
        assert found is not None
        np.testing.assert_allclose(found, meant[0].numpy(), atol=1e-3)
        empty = read(floor.engine, replace(heard, free=replace(heard.free, tokens=[]))).intent
        assert empty is heard.intent
        at = torch.tensor(heard.free.frames) // model.ctc.rate
        graph = floor.engine.graph("slots")
        assert graph is not None
        feed = {"frames": heard.encoded[None, at.numpy()], "tokens": tokens.numpy(), "lengths": count.numpy()}
        got = graph.run({**feed, **states_of(floor.engine, tokens.numpy(), count.numpy(), heard.encoded)})[0][
            "log_probs"
        ]
        wanted = torch.log_softmax(model.slots(encoded[:, at], tokens, count, states), -1)
        np.testing.assert_allclose(got, wanted.numpy(), atol=1e-3)
        result = floor.understand(clip)
        name = [*(spec.name for spec in manifest.intents), None][int(meant.argmax())]
        assert (result.intent.name if result.intent else None) == name
        changed += bool(meant.argmax() != sound.argmax())
    assert changed, "reading changed no intent: the result does not tell which one was taken"


@torch.no_grad()
def test_fused_heads_vote_beside_a_grammar_and_may_be_private(parts: Any, tmp_path: Path) -> None:
    model, wide = _fused(parts), {"beam": 1e4, "commit_beam": 1e4}
    config = parts.config(int8=False, search=wide, combine={"intent_weight": 1.0, "slot_weight": 0.5})
    export_bundle(model, parts.tokenizer, parts.automaton, tmp_path / "b", config, checks=parts.clips[:2])
    floor = Model(read_bundle(tmp_path / "b"))
    plain = amend_bundle(tmp_path / "b", combine={"intent_weight": 0.0, "slot_weight": 0.0}, out=tmp_path / "plain")
    alone, differ = Model(read_bundle(tmp_path / "plain")), 0
    assert plain.graphs.keys() >= {"fusion", "read", "slots"}
    for clip in parts.clips:
        voted, other = floor.stream(), alone.stream()
        for stream in (voted, other):
            stream.accept(clip)
            stream.finish()
        differ += [h.score for h in voted.outcome.hypotheses] != [h.score for h in other.outcome.hypotheses]
    assert differ
    private = parts.config(int8=False, private=True)
    export_bundle(model, parts.tokenizer, None, tmp_path / "p", private)
    untold = Model(read_bundle(tmp_path / "p"))
    assert set(untold.manifest.graphs) == {"encoder", "intent"}
    assert any(untold.understand(clip).intent for clip in parts.clips)


def test_the_intent_so_far_is_told_with_every_chunk(parts: Any, tmp_path: Path) -> None:
    model = _changed(parts)
    export_bundle(model, parts.tokenizer, None, tmp_path / "b", parts.config(int8=False, free=FREE))
    stream, clip = Model(read_bundle(tmp_path / "b")).stream(), parts.clips[0]
    features, scores = torch.from_numpy(fbank(clip)), []
    for start in range(0, len(clip), 5120):
        partial = stream.accept(clip[start : start + 5120])
        if partial.alternatives:
            scores.append([(other.intent, other.score) for other in partial.alternatives])
            assert partial.intent is None or partial.intent.name == partial.alternatives[0].intent
            assert [s for _, s in scores[-1]] == sorted((s for _, s in scores[-1]), reverse=True)
            assert float(np.exp([s for _, s in scores[-1]]).sum()) == pytest.approx(1.0, abs=1e-4)
    assert len(scores) >= 2 and scores[0] != scores[-1]
    assert model.intent is not None
    with torch.no_grad():
        context = Context(4, 8)
        state, pool = model.encoder.init_state(1, context), model.intent.init_state(1)
        heard, counts, _ = model.encoder.step(features[None, :32], torch.tensor([32]), state)
        said, _ = model.intent.step(heard, counts, pool)
    names = ["lock", "turn_on", None]
    assert dict(scores[0]) == pytest.approx(dict(zip(names, said[0].tolist(), strict=True)), abs=1e-3)


SCHEMA = TreeSchema(intents={"lock": ("area",), "turn_on": ("area",)}, form="decoupled")


@torch.no_grad()
def test_a_private_bundle_means_the_same_and_holds_nothing_that_writes(parts: Any, tmp_path: Path) -> None:
    decoder = TransformerDecoderConfig(width=24, layers=2, heads=2, feedforward=32, longest=24)
    model = _changed(parts, decoder=decoder, trees=SCHEMA)
    settings = {"int8": False, "parser": SEARCH, "free": FREE}
    export_bundle(model, parts.tokenizer, None, tmp_path / "open", parts.config(**settings), clips=parts.clips[:1])
    config = parts.config(**settings, private=True)
    manifest = export_bundle(model, parts.tokenizer, None, tmp_path / "b", config, checks=parts.clips[:2])
    assert manifest.private and set(manifest.graphs) == {"encoder", "intent", "memory", "decoder"}
    assert all(graph not in name for name in manifest.files for graph in ("ctc", "joiner", "predictor", "slots"))
    assert [step.search for step in manifest.passes] == [None, None, None, "parser"]
    assert manifest.figures["verification"]["streamed_agreement"] == 1.0
    with pytest.raises(BundleError, match="is private, and holds what can write words: ctc, joiner, predictor, slots"):
        amend_bundle(tmp_path / "open", private=True, out=tmp_path / "pretends")
        read_bundle(tmp_path / "pretends")
    told, untold = Model(read_bundle(tmp_path / "open")), Model(read_bundle(tmp_path / "b"))
    grammar, slots = TreeGrammar(SCHEMA, parts.tokenizer.pieces), 0
    for clip in parts.clips:
        features = torch.from_numpy(fbank(clip))
        encoded, frames = model.encoder(features[None], torch.tensor([len(features)]), Context())
        wanted = frames_of(grammar.decode(parse(model, encoded[0, : frames[0]], grammar, SEARCH)[0].tokens))
        result, other = untold.understand(clip), told.understand(clip)
        assert [(s.name, s.value) for f in result.frames for s in f.slots] == [
            (s.name, s.value) for f in wanted for s in f.slots
        ]
        assert result.intent == other.intent == wanted[0].intent and result.decision == other.decision
        slots += len(result.slots)
        stream = untold.stream()
        for answer in (result, stream.accept(clip), stream.finish()):
            assert (answer.text, answer.display, answer.stable, answer.words) == ("", "", "", ())
            every = [*answer.slots, *(slot for frame in answer.frames for slot in frame.slots)]
            assert not any(slot.text for slot in every) and not any(a.text for a in answer.alternatives)
        assert other.text, "the open bundle writes: the comparison says something"
    assert slots, "no slot was understood: nothing could have told its words"


def test_a_private_head_gives_the_intent_alone(parts: Any, tmp_path: Path) -> None:
    export_bundle(_changed(parts), parts.tokenizer, None, tmp_path / "b", parts.config(int8=False, private=True))
    floor = Model(read_bundle(tmp_path / "b"))
    assert set(floor.manifest.graphs) == {"encoder", "intent"}
    results = [floor.understand(clip) for clip in parts.clips]
    assert any(result.intent for result in results)
    assert not any(result.text or result.words or result.slots for result in results)


def test_words_stand_for_values(parts: Any, tmp_path: Path) -> None:
    config = parts.config(int8=False, free=FREE, values=VALUES)
    export_bundle(_changed(parts), parts.tokenizer, None, tmp_path / "b", config)
    engine = Model(read_bundle(tmp_path / "b")).engine
    assert json.loads((tmp_path / "b" / "bundle.json").read_text())["values"] == VALUES
    assert engine.values.slot("area", "kitchn").value == "the kitchen"


def test_what_cannot_be_private_or_exported_is_named(parts: Any, tmp_path: Path) -> None:
    private = parts.config(int8=False, private=True)
    coupled = TreeSchema(intents=SCHEMA.intents)
    decoder = TransformerDecoderConfig(width=24, layers=1, heads=2, feedforward=32, longest=24)
    for model, automaton in (
        (parts.model, parts.automaton),
        (_changed(parts, decoder=decoder, trees=coupled), None),
        (_changed(parts, heads=HeadConfig()), None),
    ):
        with pytest.raises(BundleError, match="a private bundle understands without words"):
            export_bundle(model, parts.tokenizer, automaton, tmp_path / "b", private)
