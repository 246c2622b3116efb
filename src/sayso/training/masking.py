"""BEST-RQ (Chiu et al. 2022): an encoder learns from speech that nobody wrote down, by guessing what was hidden of it.

Stretches of the features give way to noise; the codes that a random quantiser has for what was there are to be told
from what is around them. Neither the quantiser nor the head that tells is part of the model. ``masked_perplexity`` is
that of the codes of a batch: near 1 all speech has one code and nothing can be learnt.

Shape letters: ``B`` batch, ``T`` features, ``n`` encoder frames, ``F`` mel bins, ``C`` codes.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sayso.core.config import Config
from sayso.core.errors import ConfigError
from sayso.losses import masked_prediction_loss
from sayso.models.encoders import Encoder
from sayso.models.masks import length_mask
from sayso.models.quantiser import RandomQuantiser
from sayso.models.streaming import Context
from sayso.models.subsampling import FACTOR


class MaskedConfig(Config):
    """A frame of 80 ms begins a hidden stretch of ``frames`` with the chance ``start``; what was there gives way to
    noise of deviation ``noise`` (features have one of 1). ``codes`` of ``width``, drawn by ``seed``."""

    kind: Literal["best_rq"] = "best_rq"
    codes: int = Field(default=1024, ge=2)
    width: int = Field(default=16, ge=1)
    start: float = Field(default=0.08, gt=0, le=1)
    frames: int = Field(default=5, ge=1)
    noise: float = Field(default=0.1, ge=0)
    seed: int = 0

    def build(self, encoder: Encoder[Any]) -> MaskedPrediction:
        """For an encoder of features; ``ConfigError`` for one of samples."""
        return MaskedPrediction(self, encoder)


class MaskedPrediction(nn.Module):
    """See the module."""

    def __init__(self, config: MaskedConfig, encoder: Encoder[Any]) -> None:
        super().__init__()
        if encoder.config.hears != "features":
            raise ConfigError(
                f"training.weights.masked hides features, and an encoder of kind '{encoder.config.kind}' hears "
                "samples; give the weight 0"
            )
        self.config = config
        self.quantiser = RandomQuantiser(FACTOR * encoder.config.mels, config.width, config.codes, config.seed)
        self.head = nn.Linear(encoder.width, config.codes)

    def forward(self, encoder: Encoder[Any], x: Tensor, lengths: Tensor, context: Context) -> dict[str, Tensor]:
        """Of features (B,T,F): the loss per hidden frame, the share of these that was told rightly, and the perplexity
        of all codes."""
        frames = -(-lengths // FACTOR)
        x = nn.functional.pad(x, (0, 0, 0, -x.shape[1] % FACTOR))
        codes = self.codes(encoder, x)
        masked = self.masks(frames, codes.shape[1])
        encoded, frames = encoder(self.hidden(encoder, x, masked), lengths, context)
        logits, count = self.head(encoded), masked.sum().clamp(min=1)
        found = {"masked": masked_prediction_loss(logits, codes, frames, masked, reduction="sum") / count}
        with torch.no_grad():
            right = (logits.argmax(2) == codes) & masked
            shares = codes[length_mask(frames, codes.shape[1])].bincount(minlength=self.config.codes).double()
            shares = shares / shares.sum().clamp(min=1)
            found["masked_accuracy"] = right.sum() / count
            found["masked_perplexity"] = torch.special.entr(shares).sum().exp()
        return found

    def codes(self, encoder: Encoder[Any], x: Tensor) -> Tensor:
        """Features (B,8n,F) to the codes (B,n) of eight at a time."""
        normal = (x - encoder.mean) * encoder.scale
        found: Tensor = self.quantiser(normal.reshape(len(x), -1, FACTOR * x.shape[2]))
        return found

    def masks(self, frames: Tensor, longest: int) -> Tensor:
        """(B,n): what is hidden of ``frames`` (B,), in every row something."""
        begins = (torch.rand(len(frames), longest) < self.config.start).to(frames.device)
        first = (torch.rand(len(frames)).to(frames.device) * frames).long()  # one stretch that every row has
        begins = begins | (torch.arange(longest, device=frames.device)[None] == first[:, None])
        hidden = torch.stack(
            [nn.functional.pad(begins, (back, 0))[:, :longest] for back in range(self.config.frames)]
        ).any(0)
        return hidden & length_mask(frames, longest)

    def hidden(self, encoder: Encoder[Any], x: Tensor, masked: Tensor) -> Tensor:
        """Features (B,8n,F) with noise in place of what is ``masked`` (B,n)."""
        noise = encoder.mean + self.config.noise * torch.randn_like(x) / encoder.scale
        return torch.where(masked.repeat_interleave(FACTOR, 1)[:, :, None], noise, x)
