"""Clips without a transcript: they teach what they mean and nothing of what was said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sayso.core.result import Slot
from sayso.core.trees import TreeSchema
from sayso.models.assembly import ModelConfig
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.fusion import FusionConfig
from sayso.models.heads import HeadConfig
from sayso.models.streaming import Context
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.text.tokenizer import train_tokenizer
from sayso.training.batches import Batch, Item, collate
from sayso.training.labels import tree_tokens
from sayso.training.objective import objective
from sayso.training.recipe import LossWeights

SCHEMA = TreeSchema(intents={"paint": ("colour", "size")}, form="decoupled")


def test_labels_alone_make_a_tree_of_values(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["red lamp", "two green lamps"] * 20, tmp_path / "t.model", vocab=20)
    grammar = TreeGrammar(SCHEMA, tokenizer.pieces)
    slots = [
        Slot(name="size", value="2", text="two"),
        Slot(name="colour", value="red", text="red"),
        Slot(name="fixed", value="on", text="on"),
    ]
    written = tree_tokens("", ("paint", slots), None, grammar, tokenizer)
    found = grammar.decode(written)
    assert [(part.label, part.parts) for part in found[0].parts] == [  # type: ignore[union-attr]
        ("SL:size", ("two",)),
        ("SL:colour", ("red",)),
    ]
    coupled = TreeGrammar(SCHEMA.model_copy(update={"form": "coupled"}), tokenizer.pieces)
    assert tree_tokens("", ("other", slots), None, grammar, tokenizer) == ()
    assert tree_tokens("", ("paint", []), None, coupled, tokenizer) == ()


def _batch(told: bool) -> Batch:
    """One clip with a transcript, and where not ``told`` another without."""
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(frames, 80)).astype(np.float32) for frames in (160, 97)]
    items = [Item(0, 0, 160, (3, 4, 4, 5), intent=0, tags=(0, 1, 1, 0)), Item(0, 1, 97, (), intent=1)]
    return collate(rows[: 2 - told], items[: 2 - told])


@pytest.mark.parametrize("fused", [False, True])
def test_what_hearing_costs_is_that_of_the_told_clips_alone(fused: bool) -> None:
    torch.manual_seed(0)
    encoder = ConformerConfig(channels=24, width=32, layers=2, heads=2, feedforward=48, kernel=5, dropout=0.0)
    heads = HeadConfig(intents=("a", "b"), tags=("O", "B-x"), width=16, fusion=FusionConfig(heads=2) if fused else None)
    model = ModelConfig(vocab=30, encoder=encoder, heads=heads).build().eval()
    weights = LossWeights(transducer=1.0, transducer_share=1.0, sequence=1.0, intermediate=0.5)
    with torch.no_grad():
        both, one = (objective(model, _batch(told), Context(4, 16), weights) for told in (False, True))
    for name in ("ctc", "transducer", "sequence", "intermediate", "slots"):
        torch.testing.assert_close(both[name], one[name], atol=1e-5, rtol=1e-4)
    assert float(both["intent"]) != pytest.approx(float(one["intent"]), abs=1e-4)
    silent = collate([np.zeros((97, 80), np.float32)], [Item(0, 1, 97, (), intent=1)])
    with torch.no_grad():
        losses = objective(model, silent, Context(4, 16), weights)
    assert float(losses["ctc"]) == 0 and not {"transducer", "sequence", "slots"} & set(losses)
