"""The LSTM encoder's cells against torch's, and that layer norm and time reduction do what they say."""

from __future__ import annotations

import pytest
import torch

from sayso.models.encoders.lstm import LstmConfig, LstmLayer


@torch.no_grad()
def test_a_cell_without_layer_norm_is_the_frameworks() -> None:
    torch.manual_seed(0)
    ours = LstmLayer(5, 7, 4, layer_norm=False).double()
    theirs = torch.nn.LSTM(5, 7, proj_size=4, batch_first=True).double()
    ours.input.weight.copy_(theirs.weight_ih_l0)
    ours.input.bias.copy_(theirs.bias_ih_l0 + theirs.bias_hh_l0)
    ours.recurrent.weight.copy_(theirs.weight_hh_l0)
    ours.project.weight.copy_(theirs.weight_hr_l0)
    x, h, c = torch.randn(3, 9, 5).double(), torch.randn(3, 4).double(), torch.randn(3, 7).double()
    out, last_h, last_c = ours(x, h, c)
    expected, (expected_h, expected_c) = theirs(x, (h[None], c[None]))
    for mine, its in ((out, expected), (last_h, expected_h[0]), (last_c, expected_c[0])):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-9)


@torch.no_grad()
def test_layer_norm_makes_the_scale_of_the_input_irrelevant() -> None:
    torch.manual_seed(0)
    layer = LstmLayer(5, 32, 4).double()
    x, h, c = torch.randn(2, 9, 5).double(), torch.zeros(2, 4).double(), torch.zeros(2, 32).double()
    torch.testing.assert_close(layer(x * 1e3, h, c)[0], layer(x * 1e4, h, c)[0], rtol=0, atol=1e-4)
    plain = LstmLayer(5, 32, 4, layer_norm=False).double()
    assert float((plain(x, h, c)[0] - plain(x * 10, h, c)[0]).abs().max()) > 1e-2


@torch.no_grad()
def test_step_by_step_is_the_sequence() -> None:
    torch.manual_seed(0)
    layer = LstmLayer(5, 7, 4)
    x, h, c = torch.randn(3, 9, 5), torch.zeros(3, 4), torch.zeros(3, 7)
    whole, last, _ = layer(x, h, c)
    outs = []
    for frame in range(9):
        out, h, c = layer(x[:, frame : frame + 1], h, c)
        outs.append(out)
    torch.testing.assert_close(torch.cat(outs, 1), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(h, last, rtol=0, atol=1e-6)


@torch.no_grad()
def test_fast_layers_hear_twice_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    original = LstmLayer.forward

    def counting(self: LstmLayer, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> object:
        heard.append(x.shape[1])
        return original(self, x, h, c)

    monkeypatch.setattr(LstmLayer, "forward", counting)
    encoder = LstmConfig(width=8, channels=8, hidden=8, layers=3, fast_layers=2).build().eval()
    _, frames = encoder(torch.randn(1, 77, 80), torch.tensor([77]))
    assert heard == [20, 20, 10] and frames.tolist() == [10]


def test_some_layers_are_behind_the_time_reduction() -> None:
    with pytest.raises(ValueError, match="fewer than layers"):
        LstmConfig(layers=2, fast_layers=2)
