"""Understanding heads on the shared encoder: intent by attention pooling that streams, slots as tags on tokens.

Attention pooling keeps a running maximum, sum of weights and weighted sum of values (the online softmax of Milakov and
Gimelshein 2018), so that the intent of everything heard so far costs one chunk, and a stream equals the whole. With
``fusion`` the states of what was read join the pool at the endpoint; until then, and where nothing was read, the sound
alone decides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sayso.core.config import Config
from sayso.models.fusion import FusionConfig
from sayso.models.masks import length_mask


class HeadConfig(Config):
    """Classes of the heads. ``intents`` are the domain's (one class more is added for out-of-domain); ``tags`` the
    BIO tags. ``fusion``: both heads also read what was written, with attention to what was heard."""

    intents: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    width: int = 192
    dropout: float = 0.1
    fusion: FusionConfig | None = None


class IntentHead(nn.Module):
    """Frames to intent log-probabilities; the last class is out-of-domain."""

    def __init__(self, config: HeadConfig, encoder_width: int) -> None:
        super().__init__()
        self.value = nn.Linear(encoder_width, config.width)
        self.score = nn.Linear(encoder_width, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.width, len(config.intents) + 1)
        self.width = config.width
        self.read_value = self.read_score = None
        if config.fusion is not None:
            self.read_value, self.read_score = nn.Linear(config.width, config.width), nn.Linear(config.width, 1)

    def init_state(self, batch: int) -> Tensor:
        """(B, width + 2): weighted sum, sum of weights, running maximum."""
        state = self.out.weight.new_zeros(batch, self.width + 2)
        state[:, -1] = -1e4
        return state

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B,T,D) and frame counts to (B, I+1) log-probabilities."""
        return self.step(frames, lengths, self.init_state(frames.shape[0]))[0]

    def step(self, frames: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Add frames (B,C,D) to the pool; returns log-probabilities of all heard so far, and the next state."""
        score = _wide(self.score(frames)[:, :, 0])
        state = self._pooled(state, score, _wide(torch.tanh(self.value(frames))), lengths)
        return self._of(state), state

    def read(self, state: Tensor, states: Tensor, counts: Tensor) -> Tensor:
        """Log-probabilities (B, I+1) of all heard so far (a pool's ``state``) and of what was read: token states
        (B,U,width), of which ``counts`` (B,) are real. No tokens change nothing."""
        assert self.read_score is not None and self.read_value is not None, "a head without fusion"
        score = _wide(self.read_score(states)[:, :, 0])
        return self._of(self._pooled(state, score, _wide(torch.tanh(self.read_value(states))), counts))

    def _pooled(self, state: Tensor, score: Tensor, value: Tensor, lengths: Tensor) -> Tensor:
        """The pool with values (B,C,width) added by their scores (B,C)."""
        score = torch.where(length_mask(lengths, score.shape[1]), score, torch.full_like(score, -1e4))
        peak = torch.maximum(state[:, -1], score.amax(1))
        weight = torch.exp(score - peak[:, None])
        decay = torch.exp(state[:, -1] - peak)[:, None]
        total = state[:, : self.width] * decay + torch.einsum("bt,btd->bd", weight, value)
        mass = state[:, self.width : -1] * decay + weight.sum(1, keepdim=True)
        return torch.cat([total, mass, peak[:, None]], 1)

    def _of(self, state: Tensor) -> Tensor:
        pooled = state[:, : self.width] / torch.clamp(state[:, self.width : -1], min=1e-6)
        return torch.log_softmax(_wide(self.out(self.dropout(pooled))), -1)


class SlotHead(nn.Module):
    """Tags tokens: each token with the encoder frame it was emitted at, mixed with its neighbours."""

    def __init__(self, config: HeadConfig, encoder_width: int, vocab: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, config.width)
        self.acoustic = nn.Linear(encoder_width, config.width)
        self.mix = nn.ModuleList(nn.Linear(3 * config.width, config.width) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.width, len(config.tags))

    def forward(self, frames: Tensor, tokens: Tensor, lengths: Tensor, states: Tensor | None = None) -> Tensor:
        """(B,U,D) encoder frames at emission, (B,U) tokens, (B,) counts, and with fusion its states (B,U,width), to
        (B,U,tags) logits."""
        mask = length_mask(lengths, tokens.shape[1])[:, :, None].to(frames.dtype)
        x = self.embedding(tokens) + self.acoustic(frames)
        x = (x if states is None else x + states) * mask
        for mix in self.mix:
            before = nn.functional.pad(x, (0, 0, 1, 0))[:, :-1]
            after = nn.functional.pad(x, (0, 0, 0, 1))[:, 1:]
            x = (x + torch.relu(mix(self.dropout(torch.cat([before, x, after], -1))))) * mask
        logits: Tensor = self.out(x)
        return logits


def _wide(x: Tensor) -> Tensor:
    """At least fp32: sums over a stream must not round in half precision."""
    return x if x.dtype == torch.float64 else x.float()
