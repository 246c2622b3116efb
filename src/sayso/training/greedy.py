"""Validation while training: what the network reads greedily of a few clips, and how many words and phones are wrong.

It knows no grammar and no language model: the same figure, cheaply, at every step of every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from sayso.decoding.greedy import CtcGreedy
from sayso.evaluation.metrics import word_errors
from sayso.models.assembly import CtcHead, SpeechModel
from sayso.text.tokenizer import Tokenizer
from sayso.training.batches import Floats, Item, collate

Reader = Callable[[SpeechModel, Tensor, Tensor], list[list[int]]]  # frames (B,T,D) and lengths (B,) to tokens


@torch.no_grad()
def greedy_errors(
    model: SpeechModel,
    tokenizer: Tokenizer,
    items: Sequence[Item],
    features: Callable[[Item], Floats],
    *,
    by: Reader | None = None,
) -> tuple[int, int]:
    """Word errors and reference words over ``items`` in the model's streaming context, as read ``by`` greedy CTC or by
    someone else."""
    errors = words = 0
    for group, encoded, frames in _encoded(model, items, features):
        heard = _ctc_greedy(model.ctc, encoded, frames) if by is None else by(model, encoded, frames)
        for tokens, item in zip(heard, group, strict=True):
            edits = word_errors(tokenizer.decode(item.tokens), tokenizer.decode(tokens))
            errors, words = errors + edits.errors, words + edits.length
    return errors, words


@torch.no_grad()
def phone_errors(model: SpeechModel, items: Sequence[Item], features: Callable[[Item], Floats]) -> tuple[int, int]:
    """Phone errors and reference phones of greedy CTC, as ``greedy_errors``; none without a head for them."""
    errors = phones = 0
    known = [item for item in items if item.pronounced]
    for group, encoded, frames in _encoded(model, known, features) if model.phones is not None else ():
        assert model.phones is not None
        for found, item in zip(_ctc_greedy(model.phones, encoded, frames), group, strict=True):
            edits = word_errors(" ".join(map(str, item.pronounced)), " ".join(map(str, found)))
            errors, phones = errors + edits.errors, phones + edits.length
    return errors, phones


def _encoded(
    model: SpeechModel, items: Sequence[Item], features: Callable[[Item], Floats]
) -> Iterator[tuple[list[Item], Tensor, Tensor]]:
    """Items of like length, their encoder frames (B,T,D) in the model's streaming context, and how many each has."""
    model.eval()
    order = sorted(items, key=lambda item: item.frames)
    for start in range(0, len(order), 16):
        group = order[start : start + 16]
        batch = collate([features(item) for item in group], group)
        yield group, *model.encoder(batch.features, batch.lengths)


def _ctc_greedy(head: CtcHead, encoded: Tensor, lengths: Tensor) -> list[list[int]]:
    """Labels of every row of encoder frames (B,T,D)."""
    decoder, log_probs, rows = CtcGreedy(), head(encoded).numpy(), lengths * head.rate
    return [decoder.step(decoder.start(), log_probs[row, :n]).tokens for row, n in enumerate(rows.tolist())]
