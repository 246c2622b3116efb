"""Gradients that explode: clipped to the letter, left out where they are not finite, and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sayso.models.assembly import ModelConfig
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.heads import HeadConfig
from sayso.text.tokenizer import Tokenizer, train_tokenizer
from sayso.training.batches import Item
from sayso.training.clipping import Clipper
from sayso.training.loop import Corpus, Trainer
from sayso.training.recipe import TrainingConfig


def with_gradient(*norms: float) -> list[nn.Parameter]:
    """Parameters whose gradients have these norms."""
    rng = torch.Generator().manual_seed(0)
    found = []
    for norm in norms:
        parameter = nn.Parameter(torch.zeros(7, 3))
        direction = torch.randn(7, 3, generator=rng)
        parameter.grad = direction * (norm / direction.norm())
        found.append(parameter)
    return found


def norm_of(parameters: list[nn.Parameter]) -> float:
    gradients = [p.grad.flatten().double() for p in parameters if p.grad is not None]
    return float(torch.cat(gradients).norm())


@pytest.mark.parametrize("size", [3.0, 1e3, 1e15])
def test_the_norm_is_the_limit_and_the_direction_stays(size: float) -> None:
    parameters = with_gradient(size, 2 * size)
    before = [p.grad.clone() for p in parameters if p.grad is not None]
    told = Clipper(2.0)([*parameters, nn.Parameter(torch.ones(2))])
    assert told.norm == pytest.approx(5**0.5 * size, rel=1e-5) and told.cut and told.finite
    assert norm_of(parameters) == pytest.approx(2.0, rel=2e-6) and norm_of(parameters) <= 2.0 * (1 + 1e-6)
    for old, p in zip(before, parameters, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad / p.grad.norm(), old / old.norm())


def test_what_is_short_enough_is_left_as_it_is() -> None:
    parameters = with_gradient(1.0)
    assert parameters[0].grad is not None
    before = parameters[0].grad.clone()
    assert not Clipper(2.0)(parameters).cut and torch.equal(parameters[0].grad, before)


def test_autoclip_is_the_percentile_of_all_norms_so_far() -> None:
    clipper, norms = Clipper(50.0, 25.0), [8.0, 4.0, 100.0, 2.0, 6.0]
    for number, norm in enumerate(norms, 1):
        parameters = with_gradient(norm)
        limit = min(50.0, float(np.percentile(norms[:number], 25)))
        told = clipper(parameters)
        assert told.limit == pytest.approx(limit, rel=1e-5)
        assert norm_of(parameters) == pytest.approx(min(norm, limit), rel=1e-5)
    assert clipper.history == pytest.approx(norms, rel=1e-5)
    other = Clipper(50.0, 25.0)
    other.history = list(clipper.history)
    assert other(with_gradient(3.0)).limit == clipper(with_gradient(3.0)).limit


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_said_and_not_remembered(value: float) -> None:
    parameters = with_gradient(1.0, 1.0)
    assert parameters[0].grad is not None
    parameters[0].grad[0, 0] = value
    clipper = Clipper(2.0, 10.0)
    told = clipper(parameters)
    assert not told.finite and not told.cut and clipper.history == []


def recurrent(w: nn.Parameter) -> Tensor:
    """Pascanu et al. 2013: one recurrent weight through 60 steps; beyond 1 the loss is a cliff."""
    h = torch.tensor(0.5)
    for _ in range(60):
        h = w * h
    return (h - 0.1) ** 2


def test_an_exploding_toy_survives() -> None:
    """The gradient at the start is near 1e17: unclipped, the first step already leaves the world."""
    lost, kept = nn.Parameter(torch.tensor(1.4)), nn.Parameter(torch.tensor(1.4))
    recurrent(lost).backward()  # type: ignore[no-untyped-call]
    assert lost.grad is not None and float(lost.grad) > 1e9
    with torch.no_grad():
        lost -= 0.01 * lost.grad
    assert not bool(torch.isfinite(recurrent(lost)))
    clipper = Clipper(1.0)
    for _ in range(200):
        kept.grad = None
        recurrent(kept).backward()  # type: ignore[no-untyped-call]
        assert clipper([kept]).finite
        with torch.no_grad():
            kept -= 0.01 * kept.grad
    assert recurrent(kept).item() < 0.02 and 0.5 < kept.item() < 1.05


def trainer(folder: Path, broken: tuple[int, ...], **settings: object) -> Trainer:
    """A small run of 12 clips of which the ``broken`` ones hold what is no number."""
    train_tokenizer(["red lamp", "green lamp", "blue lamp"] * 9, folder / "t.model", vocab=18)
    tokenizer = Tokenizer.load(folder / "t.model")
    torch.manual_seed(0)
    encoder = ConformerConfig(channels=8, width=16, layers=2, heads=2, feedforward=16)
    model = ModelConfig(vocab=tokenizer.size, encoder=encoder, heads=HeadConfig(intents=("on",), width=8)).build()
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(90, 80)).astype(np.float32) for _ in range(12)]
    for number in broken:
        clips[number][40] = np.nan
    items = [Item(0, number, 90, tuple(tokenizer.encode("red lamp")), number % 2) for number in range(12)]
    corpus = Corpus(items, [1.0] * 12, [], lambda item: clips[item.index])
    base = {"batch_seconds": 4.0, "precision": "fp32", "threads": 1, "warmup": 1, "spec": {"time_share": 0.0}}
    config = TrainingConfig.model_validate({**base, **settings})
    return Trainer(model, tokenizer, corpus, config, folder, lambda text: None)


def test_a_step_that_is_not_finite_teaches_nothing(tmp_path: Path) -> None:
    one = trainer(tmp_path, (3,), clip=0.5, autoclip=50.0)
    skipped = 0
    for step in range(6):
        before = {name: value.clone() for name, value in one.raw.state_dict().items()}
        broken = any(item.index == 3 for item in one.batcher.plan(step))
        one._step()
        same = all(torch.equal(value, before[name]) for name, value in one.raw.state_dict().items())
        assert same == broken
        skipped += broken
    assert 0 < skipped < 6
    means = one.progress.means.take()
    assert means["skipped"] == pytest.approx(skipped / 6, abs=1e-4) and means["clipped"] > 0
    assert all(np.isfinite(value) for value in means.values()) and means["limit"] <= 0.5 < means["norm"]
    assert all(torch.isfinite(value).all() for value in one.raw.state_dict().values())
    assert len(one.clipper.history) == 6 - skipped
