"""Attention decoders on the floor: the same graph in ONNX, the same text as the workshop's, and those that stream write
while they hear."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from sayso.audio.features import fbank
from sayso.core.bundle import read_bundle
from sayso.core.errors import BundleError
from sayso.core.trees import TreeSchema
from sayso.decoding.align import align
from sayso.decoding.attention_beam import AttentionBeamConfig
from sayso.decoding.speller import joined
from sayso.decoding.triggered_beam import TriggeredBeamConfig
from sayso.decoding.words import spans_of
from sayso.export.bundle import export_bundle
from sayso.export.verify import verify_bundle
from sayso.losses import ctc_loss
from sayso.models.assembly import SpeechModel
from sayso.models.decoders import DECODERS, STREAMING, DecoderConfig
from sayso.models.heads import HeadConfig
from sayso.models.streaming import Context
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.nlu.values import tag_spans
from sayso.runtime.model import Model
from sayso.runtime.settings import FreeConfig
from sayso.runtime.speller import GraphSpeller
from sayso.training.batches import Batch, Item, collate
from sayso.training.objective import decoder_losses
from sayso.training.parsing import ModelSpeller, parse, transcribe
from sayso.training.recipe import LossWeights

TRANSFORMER = {"kind": "transformer", "width": 24, "layers": 2, "heads": 2, "feedforward": 32, "longest": 40}
LSTM = {"kind": "lstm", "width": 24, "attention": 16}
SIZES: dict[str, dict[str, Any]] = {
    "transformer": TRANSFORMER,
    "lstm": {**LSTM, "location": 3, "kernel": 5},
    "chunk": {"core": {**LSTM, "location": 0}, "chunk_frames": 4, "left_frames": 1},
    "mocha": {**LSTM, "kind": "mocha", "chunk_frames": 3, "bias": -0.01},
    "triggered": {"core": TRANSFORMER, "ahead_frames": 1},
}
CHUNK, LEFT = 4, 8  # of the streams, in encoder frames
SEARCH = AttentionBeamConfig(beam=3, ctc=0.2, limit=24)


TEXTS = ("lock", "the hall", "turn on", "kitchen", "light", "the door")  # what each clip is taught to say


@pytest.fixture(scope="module")
def ear(parts: Any) -> tuple[SpeechModel, Batch]:
    """An encoder and a CTC head that know the six clips by heart, in a stream and whole, and the lesson."""
    model = deepcopy(parts.model).train()
    heard = [fbank(clip) for clip in parts.clips]
    tokens = [tuple(parts.tokenizer.encode(text)) for text in TEXTS]
    batch = collate(heard, [Item(0, i, len(heard[i]), tokens[i], tree=tokens[i]) for i in range(len(TEXTS))])
    learnt = [*model.encoder.parameters(), *model.ctc.parameters()]
    optimiser = torch.optim.Adam(learnt, 3e-3)
    torch.manual_seed(1)
    for step in range(160):
        context = Context(CHUNK, LEFT) if step % 2 else Context()
        encoded, frames = model.encoder(batch.features, batch.lengths, context)
        loss = ctc_loss(model.ctc(encoded), batch.targets, frames, batch.target_lengths)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 2.0)
        optimiser.step()
    return model.eval(), batch


def taught(model: SpeechModel, batch: Batch) -> None:
    """A decoder that writes what the batch says, from frames that stay as they are."""
    assert model.decoder is not None
    weights = LossWeights(ctc=0.0, transducer=0.0, decoder=1.0, decoder_smoothing=0.0, quantity=1.0)
    optimiser = torch.optim.Adam(model.decoder.parameters(), 1e-2)
    context = Context(CHUNK, LEFT) if model.decoder.streams else Context()
    with torch.no_grad():
        encoded, frames = model.encoder(batch.features, batch.lengths, context)
    model.decoder.train()
    for _ in range(150):
        losses = decoder_losses(model, batch, encoded, frames, weights)
        optimiser.zero_grad()
        (losses["decoder"] + losses["quantity"]).backward()
        torch.nn.utils.clip_grad_norm_(model.decoder.parameters(), 2.0)
        optimiser.step()
    model.eval()


@pytest.fixture(scope="module", params=sorted(DECODERS))
def spelling(
    request: pytest.FixtureRequest,
    parts: Any,
    ear: tuple[SpeechModel, Batch],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[SpeechModel, Model, Path]:
    """A model that learnt six sentences, and its bundle."""
    torch.manual_seed(3)
    decoder = TypeAdapter(DecoderConfig).validate_python({"kind": request.param, **SIZES[request.param]})
    changes = {"decoder": decoder, "heads": HeadConfig()}
    model = parts.model.config.model_copy(update=changes).build().eval()
    kept = {name: value for name, value in ear[0].state_dict().items() if name in model.state_dict()}
    model.load_state_dict(kept, strict=False)
    taught(model, ear[1])
    out: Path = tmp_path_factory.mktemp(request.param) / "small.bundle"
    export_bundle(
        model, parts.tokenizer, None, out, parts.config(int8=False, free=None, parser=SEARCH), clips=parts.clips[:1]
    )
    return model, Model(read_bundle(out)), out


@torch.no_grad()
def test_many_steps_are_the_models(spelling: tuple[SpeechModel, Model, Path]) -> None:
    """Torch, ONNX and pieces of a memory joined on the floor."""
    model, floor, _ = spelling
    memory_graph, graph = floor.engine.graph("memory"), floor.engine.graph("decoder")
    assert memory_graph is not None and graph is not None and model.decoder is not None
    torch_side, floor_side = ModelSpeller(model.decoder), GraphSpeller(memory_graph, graph)
    assert torch_side.longest == floor_side.longest == model.decoder.longest
    rng = np.random.default_rng(0)
    for length in (1, 2, 17):
        frames = rng.normal(size=(length, model.encoder.width)).astype(np.float32)
        kept = torch_side.remember(frames)
        same = joined([floor_side.remember(frames[:1]), *([floor_side.remember(frames[1:])] if length > 1 else [])])
        assert kept.keys() == same.keys()
        states, others = [torch_side.start(length)] * 2, [floor_side.start(length)] * 2
        kept, same = ({name: np.repeat(value, 2, axis=0) for name, value in m.items()} for m in (kept, same))
        for step in range(24):
            labels = rng.integers(0, 30, size=2) * (step > 0)
            expected, states = torch_side.write(labels, states, kept)
            found, others = floor_side.write(labels, others, same)
            np.testing.assert_allclose(found, expected, atol=1e-4)
            for mine, its in zip(states, others, strict=True):
                assert mine.keys() == its.keys()
                for name in mine:
                    np.testing.assert_allclose(its[name], mine[name], atol=1e-4)


@torch.no_grad()
def test_the_floor_says_what_the_workshop_says(spelling: tuple[SpeechModel, Model, Path], parts: Any) -> None:
    model, floor, _ = spelling
    assert model.decoder is not None
    grammar, wrong = TreeGrammar(TreeSchema(), parts.tokenizer.pieces), 0
    for clip, text in zip(parts.clips, TEXTS, strict=True):
        features = torch.from_numpy(fbank(clip))
        context = Context(CHUNK, LEFT) if model.decoder.streams else Context()  # the endpoint's pass hears all again
        encoded, frames = model.encoder(features[None], torch.tensor([len(features)]), context)
        heard = encoded[0, : frames[0]]
        best = (transcribe(model, heard) if model.decoder.streams else parse(model, heard, grammar, SEARCH))[0]
        result = floor.understand(clip)
        assert result.decision == "accept" and result.text == parts.tokenizer.decode(best.tokens)
        assert len(result.words) == len(result.text.split())
        wrong += result.text != text
    assert wrong == 0, "what it was taught by heart: else the comparison is of accidents"


def test_packets_and_company_change_nothing(spelling: tuple[SpeechModel, Model, Path], parts: Any) -> None:
    found = verify_bundle(spelling[2], parts.clips[:2])
    assert found.passed and found.streamed_agreement == found.batched_agreement == 1.0


def test_later_sound_never_changes_what_was_said(spelling: tuple[SpeechModel, Model, Path], parts: Any) -> None:
    """Bit for bit, from samples to text, chunk after chunk."""
    model, floor, _ = spelling
    assert model.decoder is not None
    clip, rng, said = parts.clips[0], np.random.default_rng(0), 0
    size = round(floor.manifest.chunk_ms * 16)
    for cut in range(size, len(clip), size):
        other = np.concatenate([clip[:cut], rng.normal(0, 0.3, len(clip) - cut).astype(np.float32)])
        streams = [floor.stream() for _ in range(2)]
        first, second = (s.accept(sound[:cut]) for s, sound in zip(streams, (clip, other), strict=True))
        assert first.model_dump(exclude={"timing"}) == second.model_dump(exclude={"timing"})
        finals = [s.accept(sound[cut:]) and s.finish() for s, sound in zip(streams, (clip, other), strict=True)]
        assert all(final.text.startswith(first.stable) for final in finals) or not model.decoder.streams
        said += bool(first.text)
    assert said > 0 or not model.decoder.streams, "nothing was said while it was heard"


@torch.no_grad()
def test_heads_say_what_was_meant_with_what_it_writes(
    spelling: tuple[SpeechModel, Model, Path], parts: Any, tmp_path: Path
) -> None:
    model = spelling[0].config.model_copy(update={"heads": parts.model.config.heads}).build().eval()
    model.load_state_dict({**parts.model.state_dict(), **spelling[0].state_dict()}, strict=False)
    assert model.intent is not None and model.slots is not None and model.decoder is not None
    model.intent.out.weight.mul_(60)
    model.slots.out.weight.mul_(20)
    context = Context(CHUNK, LEFT) if model.decoder.streams else Context()
    logits = []
    for features in map(torch.from_numpy, map(fbank, parts.clips)):
        encoded, frames = model.encoder(features[None], torch.tensor([len(features)]), context)
        logits.append(model.intent(encoded, frames)[0])
    model.intent.out.bias.sub_(torch.stack(logits).mean(0))  # so that no intent is the likeliest of all clips
    config = parts.config(int8=False, free=None, parser=SEARCH)
    export_bundle(model, parts.tokenizer, None, tmp_path / "b", config, clips=parts.clips[:1])
    floor, pieces = Model(read_bundle(tmp_path / "b")), parts.tokenizer.pieces
    grammar, meant, tagged = TreeGrammar(TreeSchema(), pieces), set(), 0
    for clip, text in zip(parts.clips, TEXTS, strict=True):
        features = torch.from_numpy(fbank(clip))
        encoded, frames = model.encoder(features[None], torch.tensor([len(features)]), context)
        heard = encoded[0, : frames[0]]
        best = (transcribe(model, heard) if model.decoder.streams else parse(model, heard, grammar, SEARCH))[0]
        if not model.decoder.streams:
            best = align(model.ctc(heard[None])[0].numpy(), best.tokens)
        read, at = torch.tensor([best.tokens]), torch.tensor(best.frames)
        tags = model.slots(heard[None, at], read, torch.tensor([len(at)]))[0].argmax(-1).tolist()
        firsts = [model.config.heads.tags[tags[first]] for first, _ in spans_of(best.tokens, pieces)]
        words = text.split()
        wanted = [(name, " ".join(words[start:end])) for name, start, end in tag_spans(firsts)]
        number = int(model.intent(encoded, frames)[0].argmax())
        result = floor.understand(clip)
        assert result.text == text
        assert (result.intent.name if result.intent else None) == ["lock", "turn_on", None][number]
        if result.intent is not None:
            assert [(slot.name, slot.text) for slot in result.slots] == wanted
            tagged += len(wanted)
        meant.add(number)
    assert len(meant) > 1 and tagged > 0, "clips sound too much alike to the heads: little was compared"


def test_what_the_bundle_says_of_it(spelling: tuple[SpeechModel, Model, Path], parts: Any, tmp_path: Path) -> None:
    model, floor, _ = spelling
    manifest, engine = floor.manifest, floor.engine
    assert model.decoder is not None and model.config.decoder is not None
    kind = model.config.decoder.kind
    assert model.decoder.streams == (kind in STREAMING)
    if kind not in STREAMING:
        assert [p.search for p in manifest.passes] == ["free", "free", None, "parser"] and engine.parser is not None
        assert AttentionBeamConfig(**manifest.parser) == SEARCH
        with pytest.raises(BundleError, match="none that writes while it hears"):
            config = parts.config(int8=False, free=FreeConfig(search=TriggeredBeamConfig()))
            export_bundle(model, parts.tokenizer, None, tmp_path / "other", config)
        return
    assert [p.search for p in manifest.passes] == ["free", None] and engine.parser is None
    assert {"memory", "decoder"} <= set(manifest.passes[0].graphs)
    search: Any = engine.free_config.search
    assert search.kind == kind
    for name in [name for name in SIZES[kind] if name.endswith("_frames")]:
        assert getattr(search, name) == SIZES[kind][name]
