"""Every decoder of the table learns transcripts by the one objective, and reads them as its search does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from sayso.core.trees import TreeSchema
from sayso.losses import cross_entropy_loss, guided_attention_loss
from sayso.losses.alignment import ctc_alignment, first_said
from sayso.models.assembly import ModelConfig, SpeechModel
from sayso.models.decoders import DECODERS, STREAMING, DecoderConfig
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.streaming import Context
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.text.tokenizer import Tokenizer, train_tokenizer
from sayso.training.batches import Batch, Item, collate
from sayso.training.labels import tree_tokens
from sayso.training.objective import Objective
from sayso.training.parsing import decoder_greedy, parse, streaming_search, transcribe
from sayso.training.recipe import LossWeights

SENTENCES = ["turn on the light", "the light off", "lock the door", "turn the door light on"]
TRANSFORMER = {"kind": "transformer", "width": 32, "layers": 1, "heads": 2, "feedforward": 64, "dropout": 0.0}
LSTM = {"kind": "lstm", "width": 48, "attention": 32, "dropout": 0.0}
SIZES: dict[str, dict[str, Any]] = {
    "transformer": TRANSFORMER,
    "lstm": {**LSTM, "location": 3, "kernel": 5},
    "chunk": {"core": {**LSTM, "location": 0}, "chunk_frames": 3},
    "mocha": {**LSTM, "kind": "mocha", "chunk_frames": 3, "noise": 0.5},
    "triggered": {"core": TRANSFORMER, "ahead_frames": 1},
}
LEFT = LossWeights(ctc=0.3, transducer=0.0, decoder=1.0, decoder_smoothing=0.0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(SENTENCES * 9, tmp_path_factory.mktemp("t") / "t.model", vocab=28)


@pytest.fixture(params=sorted(DECODERS))
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> SpeechModel:
    torch.manual_seed(0)
    decoder = TypeAdapter(DecoderConfig).validate_python({"kind": request.param, **SIZES[request.param]})
    encoder = ConformerConfig(channels=8, width=32, layers=1, heads=2, feedforward=32, kernel=3, dropout=0.0)
    return ModelConfig(vocab=tokenizer.size, ctc_rate=2, encoder=encoder, decoder=decoder).build()


def batch_of(tokenizer: Tokenizer) -> Batch:
    """Every word a pattern of its own in 24 frames of features."""
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    voices = {word: np.random.default_rng(i).normal(size=(3, 80)).repeat(8, 0) for i, word in enumerate(words)}
    grammar, rows, items = TreeGrammar(TreeSchema(), tokenizer.pieces), [], []
    for sentence in SENTENCES:
        rows.append(np.concatenate([voices[word] for word in sentence.split()]).astype(np.float32))
        tokens = tuple(tokenizer.encode(sentence))
        items.append(Item(0, 0, len(rows[-1]), tokens, tree=tree_tokens(sentence, None, None, grammar, tokenizer)))
        assert items[-1].tree == tokens
    return collate(rows, items)


def test_it_learns_a_handful_by_heart(model: SpeechModel, tokenizer: Tokenizer) -> None:
    chooses = model.config.decoder is not None and model.config.decoder.kind == "mocha"
    left = LEFT.model_copy(update={"quantity": 2.0 if chooses else 0.0})
    batch, whole = batch_of(tokenizer), Objective(model, left)
    optimiser = torch.optim.Adam(whole.parameters(), lr=4e-3)
    for step in range(150):
        whole.enter(left if step >= 40 else left.model_copy(update={"ctc": 1.0, "decoder": 0.0}))
        losses = whole(batch, (0, 0))
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
    assert losses["decoder"] < 0.2
    model.eval()
    with torch.no_grad():
        encoded, frames = model.encoder(batch.features, batch.lengths, Context())
    grammar, right = TreeGrammar(TreeSchema(), tokenizer.pieces), 0
    assert model.decoder is not None
    for row, sentence in enumerate(SENTENCES):
        mine = encoded[row, : frames[row]]
        found = transcribe(model, mine) if model.decoder.streams else parse(model, mine, grammar)
        right += tokenizer.decode(found[0].tokens) == sentence
    assert right == len(SENTENCES)
    greedy = [tokenizer.decode(tokens) for tokens in decoder_greedy(model, encoded, frames)]
    assert sum(text == sentence for text, sentence in zip(greedy, SENTENCES, strict=True)) >= 3


@torch.no_grad()
def test_the_loss_is_the_lessons(model: SpeechModel, tokenizer: Tokenizer) -> None:
    model.eval()
    batch = batch_of(tokenizer)
    weights = LossWeights(transducer=0.0, decoder=0.7, guided=0.4, quantity=0.3)
    losses = Objective(model, weights)(batch, (0, 0))
    encoded, frames = model.encoder(batch.features, batch.lengths, Context())
    assert model.decoder is not None
    path = ctc_alignment(model.ctc(encoded), batch.trees, frames * 2, batch.tree_lengths)
    times = first_said(path, batch.trees.shape[1]) // 2
    assert ((times >= 0).sum(1) == batch.tree_lengths).all() and (times < frames[:, None]).all()
    lesson = model.decoder.lesson(batch.trees, batch.tree_lengths, encoded, frames, tokenizer.size, times)
    each = cross_entropy_loss(lesson.logits, lesson.targets, lesson.lengths, 0.1, reduction="none") / lesson.lengths
    assert losses["decoder"].item() == pytest.approx(each.mean().item(), rel=1e-5)
    guided = guided_attention_loss(lesson.attention, lesson.lengths, frames)
    assert losses["guided"].item() == pytest.approx(guided.item(), rel=1e-5)
    lacking = [1 - lesson.attention[row, :n].sum(-1).mean() for row, n in enumerate(lesson.lengths.tolist())]
    assert losses["quantity"].item() == pytest.approx(float(sum(lacking)) / 4, abs=1e-6)
    total = 0.6 * losses["ctc"] + 0.7 * losses["decoder"] + 0.4 * losses["guided"] + 0.3 * losses["quantity"]
    assert losses["total"].item() == pytest.approx(total.item(), rel=1e-6)


@torch.no_grad()
def test_greedy_is_the_best_token_after_the_other(model: SpeechModel) -> None:
    model.eval()
    encoded, lengths = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([9, 5, 1])
    assert model.decoder is not None and model.config.decoder is not None
    found = decoder_greedy(model, encoded, lengths)
    if model.decoder.streams:
        one: Any = streaming_search(model).model_copy(update={"beam": 1, "nbest": 1})
        rows = [transcribe(model, encoded[row, :length], one)[0] for row, length in enumerate(lengths.tolist())]
        assert found == [list(row.tokens) for row in rows]
        for name in (name for name in SIZES[model.config.decoder.kind] if name.endswith("_frames")):
            assert getattr(one, name) == SIZES[model.config.decoder.kind][name], "not the decoder's own frames"
        return
    for row, tokens in enumerate(found):
        labels = torch.tensor([tokens], dtype=torch.int64)
        best = model.decoder(labels, encoded[row : row + 1], lengths[row : row + 1])[0].argmax(-1).tolist()
        assert best[: len(tokens)] == tokens and (best[-1] == model.config.vocab or len(tokens) == 9)


def test_streams_are_those_that_say_so() -> None:
    made = {kind: config(**SIZES[kind]).build(8, 9) for kind, config in DECODERS.items()}
    assert {kind for kind, decoder in made.items() if decoder.streams} == set(STREAMING)


def test_guidance_needs_a_decoder() -> None:
    for name in ("guided", "quantity"):
        with pytest.raises(ValidationError, match="'decoder' a weight"):
            LossWeights(**{name: 1.0})
