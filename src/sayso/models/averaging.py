"""One model from several that were trained from one another: the mean of their weights.

The ends of successive cosine cycles lie on the rim of one basin; their mean lies lower and generalises better than any
of them (stochastic weight averaging; Izmailov et al. 2018, arXiv:1803.05407). Models that were begun apart have nothing
to average.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from sayso.core.errors import ConfigError
from sayso.models.assembly import SpeechModel, load_checkpoint
from sayso.text.tokenizer import Tokenizer

HEADS = ("intent.", "slots.")


def average(folders: Sequence[Path]) -> tuple[SpeechModel, Tokenizer]:
    """The mean of the checkpoints in ``folders``, with the understanding heads of the last (a build begins them anew).

    ``ConfigError`` where two are not the same model with the same tokens.
    """
    if not folders:
        raise ConfigError("there is nothing to average; give two checkpoint folders or more")
    loaded = [load_checkpoint(folder) for folder in folders]
    model, tokenizer = loaded[-1]
    mean = model.state_dict()
    for folder, (other, tokens) in zip(folders, loaded, strict=True):
        if (
            tokens.model != tokenizer.model
            or other.config.model_copy(update={"heads": model.config.heads}) != model.config
        ):
            raise ConfigError(
                f"{folder} and {folders[-1]} are not the same model; average checkpoints of one line of training"
            )
    states = [other.state_dict() for other, _ in loaded]
    with torch.no_grad():
        for name, value in mean.items():
            if value.is_floating_point() and not name.startswith(HEADS):
                value.copy_(torch.stack([state[name].double() for state in states]).mean(0))
    return model, tokenizer
