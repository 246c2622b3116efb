"""Larger from small: a trained encoder gets more layers that begin as near-identities (Gong et al. 2019, Net2Net); and
small from larger, by its first layers alone (Sajjad et al. 2020, arXiv:2004.03844).

A deep encoder trained with CTC from nothing idles on blanks for hours of audio; three layers find the alignment in
minutes. So a base is trained shallow first and deepened once it hears.
"""

from __future__ import annotations

import copy

import torch

from sayso.models.assembly import SpeechModel
from sayso.models.encoders.attention import AttentionEncoder, AttentionLayer


@torch.no_grad()
def with_layers(model: SpeechModel, layers: int) -> SpeechModel:
    """A model with ``layers`` encoder layers: the first ones of ``model``, and where it has fewer, new ones; ValueError
    where those cannot pass their input on, or the encoder cannot have so few.

    A new layer is a copy of the last one with the last projection of every branch at zero, so that it passes its input
    on; its LayerNorm, if there is one behind the branches, takes over the scale that the last one gave. With fewer
    layers it says something else, and has to learn again.
    """
    config = model.config.encoder
    encoder = type(config).model_validate(config.model_dump() | {"layers": layers})  # some layers need others
    grown = model.config.model_copy(update={"encoder": encoder}).build()
    grown.load_state_dict(model.state_dict(), strict=False)
    old, new = model.encoder, grown.encoder
    for index in range(config.layers, layers):
        if not isinstance(old, AttentionEncoder) or not isinstance(new, AttentionEncoder):
            raise ValueError(f"layers of kind {config.kind} have no residual branches; they cannot be deepened")
        fresh = copy.deepcopy(old.layers[-1])
        assert isinstance(fresh, AttentionLayer)
        fresh.become_identity()
        new.layers[index] = fresh
    return grown.train(model.training)


@torch.no_grad()
def quicken(model: SpeechModel, rate: int) -> SpeechModel:
    """A model whose CTC heads give ``rate`` rows a frame where ``model``'s gives one, at first ``rate`` times the same
    one, which CTC reads alike; ValueError where the head has several already and ``rate`` is another number."""
    if rate == model.config.ctc_rate:
        return model
    if model.config.ctc_rate != 1:
        raise ValueError(f"the model has {model.config.ctc_rate} rows a frame; making them {rate} is not possible")
    grown = model.config.model_copy(update={"ctc_rate": rate}).build()
    weights = model.state_dict()
    for name in [name for name in weights if name.startswith(("ctc.out.", "phones.out."))]:
        weights[name] = torch.cat([weights[name]] * rate)
    grown.load_state_dict(weights)
    return grown.train(model.training)
