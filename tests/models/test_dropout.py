"""What dropout of every kind does while training, and that judging knows nothing of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sayso.core.config import parse
from sayso.core.errors import ConfigError
from sayso.models.assembly import ModelConfig
from sayso.models.encoders import Encoder
from sayso.models.predictors import PREDICTORS

SMALL = {"width": 16, "layers": 3, "heads": 2, "feedforward": 24, "channels": 8, "dropout": 0.0}


def build(**settings: Any) -> Encoder[Any]:
    torch.manual_seed(0)
    return parse(ModelConfig, {"encoder": {**SMALL, **settings}}, where="test").encoder.build()


def speech() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 80, 80, generator=torch.Generator().manual_seed(1)), torch.tensor([80, 50])


@pytest.mark.parametrize("kind", ["conformer", "transformer"])
@pytest.mark.parametrize("key", ["layer_dropout", "attention_dropout", "dropout"])
def test_judging_hears_the_whole_network(kind: str, key: str) -> None:
    x, lengths = speech()
    dropping, plain = build(kind=kind, **{key: 0.5}), build(kind=kind).eval()
    torch.manual_seed(3)
    heard = [dropping.train()(x, lengths)[0] for _ in range(6)]  # the chance that no layer is ever left out: 4e-6
    assert any(not torch.allclose(heard[0], other) for other in heard[1:])
    before = torch.get_rng_state()
    found = dropping.eval()(x, lengths)[0]
    assert torch.equal(found, plain(x, lengths)[0]) and torch.equal(torch.get_rng_state(), before)


def test_a_layer_is_left_out_as_often_as_was_said() -> None:
    x, lengths = speech()
    encoder, without = build(layers=1, layer_dropout=0.3), build(layers=1)
    present = without(x, lengths)[0]
    without.layers = torch.nn.ModuleList()
    absent = without(x, lengths)[0]
    torch.manual_seed(0)
    kinds = [encoder(x, lengths)[0] for _ in range(300)]
    left_out = [torch.equal(out, absent) for out in kinds]
    assert all(gone or torch.equal(out, present) for gone, out in zip(left_out, kinds, strict=True))
    assert sum(left_out) / 300 == pytest.approx(0.3, abs=0.08)  # three standard deviations


def test_gradients_reach_every_layer_in_the_end() -> None:
    x, lengths = speech()
    encoder = build(layer_dropout=0.5)
    torch.manual_seed(0)
    reached: dict[str, int] = dict.fromkeys((name for name, _ in encoder.named_parameters()), 0)
    for _ in range(12):
        encoder.zero_grad()
        passed: list[Tensor] = []
        encoder(x, lengths, passed=passed)[0].square().sum().backward()
        assert len(passed) == 3, "losses on the way count layers"
        for name, parameter in encoder.named_parameters():
            reached[name] += parameter.grad is not None and bool(parameter.grad.any())
    assert all(reached.values()) and max(reached.values()) == 12
    assert {count for name, count in reached.items() if name.startswith("layers.1.")} != {12}


@pytest.mark.parametrize("kind", sorted(PREDICTORS))
def test_predictors_drop_while_training_only(kind: str) -> None:
    torch.manual_seed(0)
    predictor = PREDICTORS[kind](width=12, dropout=0.4).build(9)
    labels = torch.tensor([[1, 4, 2]])
    assert not torch.equal(predictor(labels), predictor(labels))
    predictor.eval()
    assert torch.equal(predictor(labels), predictor(labels))


def test_an_lstm_has_no_layers_to_leave_out() -> None:
    with pytest.raises(ConfigError, match="layer_dropout' is not a known key"):
        parse(ModelConfig, {"encoder": {"kind": "lstm", "layer_dropout": 0.1}}, where="test")
    with pytest.raises(ConfigError, match="less than 1"):
        parse(ModelConfig, {"encoder": {"layer_dropout": 1.0}}, where="test")
