"""BEST-RQ: a quantiser that never changes and is the nearest neighbour, a loss of hidden frames alone, and an encoder
that learns from it what it hears."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sayso.core.errors import ConfigError
from sayso.losses import masked_prediction_loss
from sayso.models.assembly import ModelConfig, SpeechModel
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.quantiser import RandomQuantiser
from sayso.training.batches import Batch, Item, collate
from sayso.training.masking import MaskedConfig, MaskedPrediction
from sayso.training.objective import Objective
from sayso.training.recipe import LossWeights

CONFIG = MaskedConfig(codes=12, width=6, start=0.1, frames=3)
ALONE = {name: 0.0 for name in LossWeights().by_loss()} | {"masked": 1.0}


def model_of() -> SpeechModel:
    torch.manual_seed(0)
    encoder = ConformerConfig(channels=12, width=16, layers=1, heads=2, feedforward=24, kernel=3, dropout=0.0)
    model = ModelConfig(vocab=8, encoder=encoder).build()
    model.encoder.mean.fill_(9.0)
    model.encoder.scale.fill_(0.5)
    return model


def batch_of(tokens: tuple[int, ...] = ()) -> Batch:
    rng = np.random.default_rng(0)
    rows = [rng.normal(9.0, 2.0, (size, 80)).astype(np.float32) for size in (160, 91)]
    return collate(rows, [Item(0, number, len(row), tokens) for number, row in enumerate(rows)])


def test_a_code_is_the_nearest_neighbour_of_vectors_of_length_one() -> None:
    quantiser, x = RandomQuantiser(10, 4, 7, seed=3), torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(0))
    codes = quantiser(x)
    for row in range(2):
        for frame in range(5):
            projected = x[row, frame] @ quantiser.projection
            projected = projected / projected.norm()
            distances = [float((projected - code / code.norm()).norm()) for code in quantiser.codebook]
            assert int(codes[row, frame]) == int(np.argmin(distances))
    assert torch.equal(codes, quantiser(5.0 * x))  # the length of a vector says nothing
    torch.testing.assert_close(quantiser.codebook.norm(dim=1), torch.ones(7))
    assert float(quantiser.projection.abs().max()) <= (6 / 14) ** 0.5
    same, other = RandomQuantiser(10, 4, 7, seed=3), RandomQuantiser(10, 4, 7, seed=4)
    assert torch.equal(same.codebook, quantiser.codebook) and not torch.equal(other.codebook, quantiser.codebook)


def loss_of(logits: Tensor, **changes: Any) -> Tensor:
    given: dict[str, Any] = {
        "targets": torch.tensor([[1, 0, 2, 2], [2, 1, 0, 0]]),
        "lengths": torch.tensor([4, 2]),
        "masked": torch.tensor([[True, False, True, False], [False, True, True, True]]),
        "reduction": "none",
    }
    return masked_prediction_loss(logits, **(given | changes))


def test_only_hidden_frames_count() -> None:
    logits = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    each = loss_of(logits)
    said = logits.detach().log_softmax(2)
    wanted = [-(said[0, 0, 1] + said[0, 2, 2]), -said[1, 1, 1]]
    torch.testing.assert_close(each, torch.stack(wanted))
    (gradient,) = torch.autograd.grad(each.sum(), logits)
    counted = torch.tensor([[True, False, True, False], [False, True, False, False]])
    assert torch.equal(gradient.abs().sum(2) > 0, counted)
    assert torch.autograd.gradcheck(loss_of, logits)
    torch.testing.assert_close(loss_of(logits, reduction="mean"), each.mean())
    assert not loss_of(logits, masked=torch.zeros(2, 4, dtype=torch.bool)).any()
    assert torch.isfinite(loss_of(logits.detach() * 1e4)).all()


def test_what_is_hidden_is_noise_and_what_is_not_stays() -> None:
    model, batch = model_of(), batch_of()
    part = MaskedPrediction(CONFIG, model.encoder)
    frames = -(-batch.lengths // 8)
    masked = part.masks(frames, 20)
    assert masked[1, 12:].sum() == 0 and masked.any(1).all() and not masked.all()
    hidden = part.hidden(model.encoder, batch.features, masked)
    inside = masked.repeat_interleave(8, 1)
    assert torch.equal(hidden[~inside], batch.features[~inside])
    noise = ((hidden - 9.0) * 0.5)[inside]
    assert abs(float(noise.mean())) < 0.02 and float(noise.std()) == pytest.approx(0.1, rel=0.1)
    torch.manual_seed(0)
    share = part.masks(torch.full((400,), 100), 100).float().mean()  # 1 - (1 - start) ** frames, edges and the sure one
    assert 0.25 < float(share) < 0.32
    whole = ((batch.features - 9.0) * 0.5).unflatten(1, (20, 8)).flatten(2)
    assert torch.equal(part.codes(model.encoder, batch.features), part.quantiser(whole))


def test_it_needs_no_transcripts_and_teaches_the_encoder() -> None:
    model, batch = model_of(), batch_of()
    objective = Objective(model, LossWeights(**ALONE), masked=CONFIG)
    assert objective.masked is not None
    kept = {name: value.clone() for name, value in objective.masked.quantiser.state_dict().items()}
    optimiser, first, last = torch.optim.Adam([p for p in objective.parameters()], lr=5e-3), 0.0, 0.0
    for step in range(60):
        torch.manual_seed(step % 3)
        losses = objective(batch, (4, 8))
        assert set(losses) == {"masked", "masked_accuracy", "masked_perplexity", "total"}
        losses["total"].backward()
        if step == 0:
            learnt = {name for name, p in model.encoder.named_parameters() if p.grad is not None and p.grad.any()}
            assert learnt == {name for name, _ in model.encoder.named_parameters()}
            first = losses["masked"].item()
        optimiser.step()
        optimiser.zero_grad()
        last = losses["masked"].item()
    assert last < 0.7 * first and 1 < float(losses["masked_perplexity"]) <= 12
    assert float(losses["masked_accuracy"]) > 0.3
    for name, value in objective.masked.quantiser.state_dict().items():
        assert torch.equal(value, kept[name]), f"{name} of the quantiser is learnt"


def test_beside_other_losses_these_hear_everything() -> None:
    model, batch = model_of().eval(), batch_of((3, 4))
    alone = Objective(model, LossWeights(**(ALONE | {"masked": 0.0, "ctc": 1.0})))(batch, (4, 8))
    both = Objective(model, LossWeights(**(ALONE | {"ctc": 1.0})), masked=CONFIG)(batch, (4, 8))
    torch.testing.assert_close(both["ctc"], alone["ctc"])
    torch.testing.assert_close(both["total"], both["ctc"] + both["masked"])
    assert "masked" not in alone


def test_an_encoder_of_samples_is_refused() -> None:
    model = model_of()
    model.encoder.config = type("Settings", (), {"hears": "samples", "kind": "pretrained"})()
    with pytest.raises(ConfigError, match="hears samples"):
        MaskedPrediction(CONFIG, model.encoder)
