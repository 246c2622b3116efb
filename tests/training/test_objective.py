"""What a batch costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sayso.models.assembly import ModelConfig
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.streaming import Context
from sayso.training.batches import PHONES_PER_FRAME, Batch, Item, collate
from sayso.training.objective import Objective, objective
from sayso.training.recipe import LossWeights

CONTEXT = Context(4, 16)


def _batch(phones: bytes = b"") -> Batch:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(frames, 80)).astype(np.float32) for frames in (160, 97)]
    return collate(rows, [Item(0, 0, 160, (3, 4, 4, 5), phones=phones), Item(0, 1, 97, (6,))])


def _config(layers: int) -> ModelConfig:
    encoder = ConformerConfig(channels=24, width=32, layers=layers, heads=2, feedforward=48, kernel=5, dropout=0.0)
    return ModelConfig(vocab=30, encoder=encoder)


def test_intermediate_is_the_loss_of_the_encoder_cut_in_half() -> None:
    torch.manual_seed(0)
    deep, shallow = _config(6).build().eval(), _config(3).build().eval()
    shallow.load_state_dict(deep.state_dict(), strict=False)
    batch = _batch()
    losses = objective(deep, batch, CONTEXT, LossWeights(ctc=1.0, intermediate=0.3, transducer=0.0))
    half = objective(shallow, batch, CONTEXT, LossWeights(ctc=1.0, transducer=0.0))
    assert losses["intermediate"].item() == pytest.approx(half["ctc"].item(), rel=1e-6)
    assert losses["intermediate"].item() != pytest.approx(losses["ctc"].item(), rel=1e-3)
    assert losses["total"].item() == pytest.approx((losses["ctc"] + 0.3 * losses["intermediate"]).item(), rel=1e-6)


def test_intermediate_trains_the_lower_half_alone() -> None:
    torch.manual_seed(0)
    model = _config(4).build()
    losses = objective(model, _batch(), CONTEXT, LossWeights(ctc=1.0, intermediate=1.0, transducer=0.0))
    losses["intermediate"].backward()  # type: ignore[no-untyped-call]
    moved = [
        any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in x.parameters()) for x in model.encoder.layers
    ]
    assert moved == [True, True, False, False]


def test_phones_are_judged_on_the_middle_layer_by_a_head_of_their_own() -> None:
    torch.manual_seed(0)
    module = Objective(_config(4).build(), LossWeights(ctc=1.0, phones=0.5, transducer=0.0))
    batch = _batch(bytes([3] * 80 + [7] * 80))
    losses = module(batch, (4, 16))
    passed: list[Tensor] = []
    module.model.encoder(batch.features, batch.lengths, CONTEXT, passed)
    assert module.phones is not None
    logits = module.phones(passed[1])[0].unflatten(1, (PHONES_PER_FRAME, -1)).log_softmax(-1)
    expected = -(logits[:10, :, 3].sum() + logits[10:, :, 7].sum()) / 40  # the second clip has no alignment
    assert losses["phones"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["total"].item() == pytest.approx((losses["ctc"] + 0.5 * losses["phones"]).item(), rel=1e-6)
    assert not any("phones" in name for name in module.model.state_dict())


def test_clips_without_alignments_do_without() -> None:
    module = Objective(_config(2).build(), LossWeights(phones=0.5, transducer=0.0))
    assert "phones" not in module(_batch(), (4, 16))


def test_without_weight_there_is_no_second_loss() -> None:
    assert "intermediate" not in objective(_config(2).build(), _batch(), CONTEXT, LossWeights(transducer=0.0))
