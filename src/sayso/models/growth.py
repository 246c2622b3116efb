"""Deeper from shallow: a trained encoder gets more layers that begin as near-identities (Gong et al. 2019, Net2Net).

A deep encoder trained with CTC from nothing idles on blanks for hours of audio; three layers find the alignment in
minutes. So a base is trained shallow first and deepened once it hears.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from sayso.models.assembly import SpeechModel


@torch.no_grad()
def deepen(model: SpeechModel, layers: int) -> SpeechModel:
    """A model with ``layers`` encoder layers whose first ones are ``model``'s; ValueError where it has more already.

    A new layer is a copy of the last one with the last projection of every branch at zero, so that it passes its input
    on; its LayerNorm takes over the scale that the last one gave.
    """
    config = model.config.encoder
    if layers < config.layers:
        raise ValueError(f"the model has {config.layers} layers; deepening to {layers} is not possible")
    encoder = config.model_copy(update={"layers": layers})
    grown = model.config.model_copy(update={"encoder": encoder}).build()
    grown.load_state_dict(model.state_dict(), strict=False)
    for index in range(config.layers, layers):
        grown.encoder.layers[index] = _identity_of(model.encoder.layers[-1])
    return grown.train(model.training)


def _identity_of(layer: nn.Module) -> nn.Module:
    fresh = copy.deepcopy(layer)
    for name in ("first.3", "second.3", "attention.out", "convolution.out"):
        projection = fresh.get_submodule(name)
        assert isinstance(projection, nn.Linear), name
        nn.init.zeros_(projection.weight)
        nn.init.zeros_(projection.bias)
    norm = fresh.get_submodule("norm")
    assert isinstance(norm, nn.LayerNorm)
    center = norm.bias.mean()
    spread = (norm.weight.square().mean() + norm.bias.square().mean() - center.square()).sqrt()
    norm.weight.copy_(spread.expand_as(norm.weight))
    norm.bias.copy_(center.expand_as(norm.bias))
    return fresh
