"""Deeper from shallow: a trained encoder gets more layers that begin as near-identities (Gong et al. 2019, Net2Net).

A deep encoder trained with CTC from nothing idles on blanks for hours of audio; three layers find the alignment in minutes.
So a base is trained shallow first and deepened once it hears.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from sayso.models.assembly import SpeechModel


@torch.no_grad()
def deepen(model: SpeechModel, layers: int) -> SpeechModel:
    """A model with ``layers`` encoder layers whose first ones are ``model``'s; ValueError where it has more already.

    A new layer is a copy of the last one with the last projection of every branch at zero, so that it passes its input on;
    its LayerNorm takes over the scale that the last one gave.
    """
    config = model.config.encoder
    if layers < config.layers:
        raise ValueError(f"the model has {config.layers} layers; deepening to {layers} is not possible")
    encoder = config.model_copy(update={"layers": layers})
    grown = model.config.model_copy(update={"encoder": encoder}).build()
    grown.load_state_dict(model.state_dict(), strict=False)
    last = model.encoder.layers[-1]
    for index in range(config.layers, layers):
        layer = copy.deepcopy(last)
        for part in (layer.first[-2], layer.second[-2], layer.attention.out, layer.convolution.out):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
        weight, bias = last.norm.weight, last.norm.bias
        spread = (weight.square().mean() + bias.square().mean() - bias.mean().square()).sqrt()
        layer.norm.weight.copy_(spread.expand_as(weight))
        layer.norm.bias.copy_(bias.mean().expand_as(bias))
        grown.encoder.layers[index] = layer
    return grown.train(model.training)
