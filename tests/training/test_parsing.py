"""A decoder learns to write meanings, nested ones too, and its loss is what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sayso.core.errors import ConfigError
from sayso.core.result import Slot
from sayso.core.trees import TreeSchema
from sayso.decoding.attention_beam import AttentionBeamConfig
from sayso.losses import cross_entropy_loss
from sayso.models.assembly import ModelConfig
from sayso.models.decoders.transformer import TransformerDecoderConfig
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.streaming import Context
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.nlu.trees import Parts, read_trees, schema_of, words, write_trees
from sayso.text.tokenizer import Tokenizer, train_tokenizer
from sayso.training.batches import Batch, Item, collate
from sayso.training.labels import tree_tokens
from sayso.training.loop import Corpus, Trainer
from sayso.training.objective import Objective, objective
from sayso.training.parsing import parse
from sayso.training.recipe import LossWeights, TrainingConfig

MEANINGS = [
    "[IN:on turn on the [SL:area kitchen ] ]",
    "[IN:off turn off the [SL:area hall ] ]",
    "[IN:on turn on the [SL:area hall ] ] and [IN:off turn off the [SL:area kitchen ] ]",
    "[IN:go go to [SL:to [IN:event the [SL:name party ] ] ] ]",
    "[IN:go go to [SL:to [IN:event the [SL:name party ] in the [SL:area hall ] ] ] ]",
    "[IN:go go to the [SL:to hall ] ]",
]
LEFT = LossWeights(ctc=0.3, transducer=0.0, decoder=1.0, decoder_smoothing=0.0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    texts = [" ".join(words(read_trees(meaning))) for meaning in MEANINGS]
    return train_tokenizer(texts * 5, tmp_path_factory.mktemp("t") / "t.model", vocab=40)


def model_config(tokenizer: Tokenizer, schema: TreeSchema) -> ModelConfig:
    return ModelConfig(
        vocab=tokenizer.size,
        encoder=ConformerConfig(channels=8, width=32, layers=1, heads=2, feedforward=32, kernel=3, dropout=0.0),
        decoder=TransformerDecoderConfig(width=32, layers=1, heads=2, feedforward=64, dropout=0.0, longest=48),
        trees=schema,
    )


def batch_of(tokenizer: Tokenizer, grammar: TreeGrammar, meanings: list[Parts]) -> Batch:
    """Every word a pattern of its own in 24 frames of features."""
    voices = {
        word: np.random.default_rng(i).normal(size=80) for i, word in enumerate(sorted(set(words(sum(meanings, ())))))
    }
    rows, items = [], []
    for parts in meanings:
        said = words(parts)
        rows.append(np.concatenate([np.repeat(voices[word][None], 24, 0) for word in said]).astype(np.float32))
        tree = tree_tokens(" ".join(said), None, write_trees(parts), grammar, tokenizer)
        items.append(Item(0, 0, len(rows[-1]), tuple(tokenizer.encode(" ".join(said))), tree=tree))
        assert not grammar.schema.intents or tree
    return collate(rows, items)


@pytest.mark.parametrize("form", ["coupled", "decoupled"])
def test_it_learns_a_handful_by_heart(tokenizer: Tokenizer, form: str) -> None:
    meanings = [read_trees(meaning) for meaning in MEANINGS]
    grammar = TreeGrammar(schema_of(meanings, TreeSchema.model_validate({"form": form})), tokenizer.pieces)
    torch.manual_seed(0)
    model = model_config(tokenizer, grammar.schema).build()
    batch = batch_of(tokenizer, grammar, meanings)
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
    whole = Objective(model, LEFT)
    for _ in range(90):
        losses = whole(batch, (0, 0))
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        encoded, frames = model.encoder(batch.features, batch.lengths, Context())
    for row, meaning in enumerate(meanings):
        mine = encoded[row, : frames[row]]
        wanted = grammar.decode(grammar.encode(meaning, tokenizer.encode) or ())
        for constrained in (True, False):
            found = parse(model, mine, grammar, AttentionBeamConfig(ctc=0.1, beam=2), constrained=constrained)
            assert grammar.decode(found[0].tokens) == wanted
        assert set(found[0].scores) == ({"attention", "ctc"} if form == "coupled" else {"attention"})


@torch.no_grad()
def test_the_loss_is_cross_entropy_a_token_over_known_rows(tokenizer: Tokenizer) -> None:
    meanings = [read_trees(meaning) for meaning in MEANINGS[:3]]
    grammar = TreeGrammar(schema_of(meanings), tokenizer.pieces)
    torch.manual_seed(0)
    model = model_config(tokenizer, grammar.schema).build().eval()
    batch = batch_of(tokenizer, grammar, meanings)
    batch.tree_lengths[1] = 0  # nothing known
    weights = LossWeights(transducer=0.0, decoder=0.7)
    losses = Objective(model, weights)(batch, (0, 0))
    encoded, frames = model.encoder(batch.features, batch.lengths, Context())
    assert model.decoder is not None
    each = []
    for row in (0, 2):
        tokens = batch.trees[row : row + 1, : batch.tree_lengths[row]]
        assert grammar.decode(tokens[0].tolist()) == meanings[row]
        logits = model.decoder(tokens, encoded[row : row + 1], frames[row : row + 1])
        target = torch.cat([tokens, torch.tensor([[grammar.end]])], 1)
        length = torch.tensor([target.shape[1]])
        each.append(cross_entropy_loss(logits, target, length, 0.1) / length)
    assert losses["decoder"].item() == pytest.approx(float(sum(each)) / 2, rel=1e-5)
    assert losses["total"].item() == pytest.approx((0.6 * losses["ctc"] + 0.7 * losses["decoder"]).item(), rel=1e-6)
    assert "decoder" not in objective(model, batch, Context(), LossWeights(transducer=0.0))
    batch.tree_lengths[:] = 0
    assert "decoder" not in objective(model, batch, Context(), weights)


def test_targets(tokenizer: Tokenizer) -> None:
    schema = TreeSchema(intents={"on": ("area",), "off": ()})
    grammar = TreeGrammar(schema, tokenizer.pieces)
    text, slots = "turn on the hall", [Slot(name="area", value="Hall", text="hall")]
    tokens = tree_tokens(text, ("on", slots), None, grammar, tokenizer)
    assert write_trees(grammar.decode(tokens)) == "[IN:on turn on the [SL:area hall ] ]"
    nested = tree_tokens(text, ("off", slots), "[IN:on Turn on [SL:area the Hall ] ]", grammar, tokenizer)
    assert write_trees(grammar.decode(nested)) == "[IN:on turn on [SL:area the hall ] ]"
    assert tree_tokens(text, ("off", slots), None, grammar, tokenizer) == (), "no slot of that intent"
    assert tree_tokens(text, None, None, grammar, tokenizer) == ()
    plain = TreeGrammar(TreeSchema(), tokenizer.pieces)
    assert tree_tokens(text, ("on", slots), None, plain, tokenizer) == tuple(tokenizer.encode(text))


def test_a_weight_without_a_decoder_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    config = model_config(tokenizer, TreeSchema())
    item = Item(0, 0, 40, (3,))
    training = TrainingConfig(weights=LEFT, precision="fp32", threads=1)
    for model in (config.build(), config.model_copy(update={"decoder": None}).build()):
        corpus = Corpus([item], [1.0], [], lambda item: np.zeros((40, 80), np.float32))
        with pytest.raises(ConfigError, match=r"weights\.decoder needs"):
            Trainer(model, tokenizer, corpus, training, tmp_path, lambda text: None)
