"""One checkpoint for every way of looking: each batch is heard with a chunk drawn from those of the recipe."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sayso.models.assembly import ModelConfig
from sayso.models.encoders.lstm import Lstm, LstmConfig
from sayso.models.streaming import Context
from sayso.text.tokenizer import train_tokenizer
from sayso.training.batches import Item
from sayso.training.loop import Corpus, Trainer
from sayso.training.recipe import LossWeights, TrainingConfig

FAMILY = (0, 1, 3, 5, 9)  # everything, and a look-ahead of 0, 160, 320 and 640 ms


def looked(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[Context]:
    """The contexts of a run of forty batches."""
    tokenizer = train_tokenizer(["red lamp", "green lamp", "blue lamp"] * 9, folder / "t.model", vocab=18)
    encoder = LstmConfig(channels=4, width=8, layers=1, hidden=8, fast_layers=0)
    model = ModelConfig(vocab=tokenizer.size, encoder=encoder)
    items = [Item(0, number, 80, tuple(tokenizer.encode("red lamp"))) for number in range(4)]
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(80, 80)).astype(np.float32) for _ in items]
    corpus = Corpus(items, [1.0] * len(items), [], lambda item: clips[item.index])
    settings = {"steps": 40, "batch_seconds": 2.0, "chunks": FAMILY, "left_frames": 7, "precision": "fp32"}
    weights = LossWeights(ctc=1.0, transducer=0.0)
    config = TrainingConfig(**{**settings, **changes}, weights=weights, threads=1)
    seen: list[Context] = []
    hear = Lstm.forward

    def forward(self: Lstm, x: Any, lengths: Any, context: Context | None = None, *rest: Any) -> Any:
        if self.training and context is not None:
            seen.append(context)
        return hear(self, x, lengths, context, *rest)

    monkeypatch.setattr(Lstm, "forward", forward)
    Trainer(model.build(), tokenizer, corpus, config, folder, lambda text: None).fit()
    return seen


def test_every_mask_of_the_family_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = looked(tmp_path, monkeypatch)
    drawn = Counter(contexts)
    assert len(contexts) == 40
    assert set(drawn) == {Context() if chunk == 0 else Context(chunk, 7) for chunk in FAMILY}
    assert max(drawn.values()) < 20, "one of them is nearly always drawn"


def test_a_chunk_named_twice_is_drawn_twice_as_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Counter(looked(tmp_path, monkeypatch, chunks=(4, 4, 4, 4, 4, 4, 4, 0), seed=3))
    assert drawn[Context(4, 7)] > 2 * drawn[Context()] > 0
