"""Location-aware attention is the formula of Chorowski et al. 2015, and its decoder hears what it said before."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from sayso.models.decoders.lstm import LstmDecoder, LstmDecoderConfig

LENGTHS = torch.tensor([9, 5])


def decoder(**changes: object) -> LstmDecoder:
    torch.manual_seed(0)
    config = LstmDecoderConfig(**({"width": 12, "attention": 8, "location": 3, "kernel": 5} | changes))  # type: ignore[arg-type]
    return config.build(6, 11).double().eval()


@torch.no_grad()
def test_energies_are_the_formula() -> None:
    """w tanh(W s + V h + U f + b), f the convolution of the weights before."""
    made, frames = decoder(), torch.randn(2, 9, 6, dtype=torch.float64)
    labels = torch.tensor([[3, 4, 4], [5, 6, 7]])
    _, attention = made.attended(labels, frames, LENGTHS)
    filters = made.filters.weight[:, 0]  # (3, 5)
    context, before = torch.zeros(2, 6, dtype=torch.float64), torch.zeros(2, 9, dtype=torch.float64)
    hidden = cell = torch.zeros(2, 1, 12, dtype=torch.float64)
    for place, label in enumerate(torch.nn.functional.pad(labels, (1, 0)).unbind(1)):
        query, hidden, cell = made.core.query(label, context, hidden, cell)
        for row, length in enumerate(LENGTHS.tolist()):
            padded = torch.nn.functional.pad(before[row], (2, 2))
            scores = []
            for t in range(length):
                f = filters @ padded[t : t + 5]
                inner = made.asked(query[row]) + made.key.weight @ frames[row, t] + made.place.weight @ f
                scores.append(made.energy.weight[0] @ torch.tanh(inner))
            weights = torch.softmax(torch.stack(scores), 0)
            torch.testing.assert_close(attention[row, place, :length], weights, rtol=0, atol=1e-9)
            assert not attention[row, place, length:].any()
            context[row] = weights @ frames[row, :length]
        before = attention[:, place]


@torch.no_grad()
def test_places_matter_with_location_and_not_without() -> None:
    """Frames that all sound the same: by content alone every one is as good."""
    same = torch.ones(1, 9, 6, dtype=torch.float64)
    labels, length = torch.tensor([[3, 4]]), torch.tensor([9])
    flat = torch.full((3, 9), 1 / 9, dtype=torch.float64)
    torch.testing.assert_close(decoder(location=0).attended(labels, same, length)[1][0], flat)
    found = decoder().attended(labels, same, length)[1][0]
    torch.testing.assert_close(found[0], flat[0])
    assert (found[1] - flat[1]).abs().max() > 1e-6


def test_settings_that_fit_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match="odd"):
        LstmDecoderConfig(kernel=4)
    with pytest.raises(ValueError, match="location = 0"):
        decoder().init_state(1)
