"""Greedy transducer decoding of a batch, for evaluation while training: token for token what the floor's search gives.

All rows move frame by frame, each until its blank; a row that is done waits. One joiner run serves all rows, where the
floor's ``TransducerGreedy`` runs one per stream.

Shape letters: ``B`` batch, ``T`` frames, ``D`` encoder width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sayso.models.assembly import SpeechModel


@torch.no_grad()
def transducer_greedy(model: SpeechModel, encoded: Tensor, lengths: Tensor, max_symbols: int = 3) -> list[list[int]]:
    """Tokens of every row of encoder frames (B,T,D) of which ``lengths`` (B,) are real; at most ``max_symbols`` per
    frame. The model should be in eval mode.
    """
    if max_symbols < 1:
        raise ValueError(f"max_symbols ({max_symbols}) must be at least 1")
    batch, predictor = encoded.shape[0], model.predictor
    tokens: list[list[int]] = [[] for _ in range(batch)]
    labels = torch.zeros(batch, predictor.context, dtype=torch.int64, device=encoded.device)
    predicted, state = _advance(predictor, labels, predictor.init_state(batch))
    for frame in range(int(lengths.max()) if batch else 0):
        active = lengths > frame
        for _ in range(max_symbols):
            best = model.joiner.step(encoded[:, frame], predicted).argmax(-1)
            active = active & (best != 0)
            if not bool(active.any()):
                break
            for row in active.nonzero()[:, 0].tolist():
                tokens[row].append(int(best[row]))
            shifted = torch.cat([labels[:, 1:], best[:, None]], 1)
            labels = torch.where(active[:, None], shifted, labels)
            following, memory = _advance(predictor, labels, state)
            predicted = torch.where(active[:, None], following, predicted)
            state = type(state)(**{name: _chosen(active, memory, state, name) for name in state.named()})
    return tokens


def _advance(predictor: Any, labels: Tensor, state: Any) -> tuple[Tensor, Any]:
    out, following = predictor.advance(labels, state)
    return out, following


def _chosen(active: Tensor, new: Any, old: Any, name: str) -> Tensor:
    """The new state of active rows, the old one of those that wait."""
    first, second = new.named()[name], old.named()[name]
    return torch.where(active.view(-1, *[1] * (first.dim() - 1)), first, second)
