"""Validation while training: what the network reads greedily of a few clips, how many words and phones are wrong, and
how many intents right.

It knows no grammar and no language model: the same figure, cheaply, at every step of every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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
    for group, encoded, frames in _encoded(model, [item for item in items if item.tokens], features):
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


@torch.no_grad()
def intents_right(
    model: SpeechModel,
    items: Sequence[Item],
    features: Callable[[Item], Floats],
    members: NDArray[np.bool_] | None = None,
) -> tuple[int, int]:
    """How many of the ``items`` with an intent the head understands, and how many there are; none without a head. A
    coarse label is understood as any of its ``members`` (L,C). With fusion it reads what greedy CTC does."""
    right = known = 0
    meant = [item for item in items if item.intent >= 0]
    for group, encoded, frames in _encoded(model, meant, features) if model.intent is not None else ():
        assert model.intent is not None
        said, pool = model.intent.step(encoded, frames, model.intent.init_state(len(frames)))
        if model.fusion is not None:
            read = _ctc_greedy(model.ctc, encoded, frames)
            counts = torch.tensor([len(tokens) for tokens in read], device=encoded.device)
            rows = [torch.tensor([*each, 0], device=encoded.device) for each in read]  # one token at least
            tokens = pad_sequence(rows, batch_first=True)
            said = model.intent.read(pool, model.fusion(tokens, counts, encoded, frames), counts)
        for best, item in zip(said.argmax(1).tolist(), group, strict=True):
            right += bool(best == item.intent if members is None else members[item.intent, best])
        known += len(group)
    return right, known


def _encoded(
    model: SpeechModel, items: Sequence[Item], features: Callable[[Item], Floats]
) -> Iterator[tuple[list[Item], Tensor, Tensor]]:
    """Items of like length, their encoder frames (B,T,D) in the model's streaming context, and how many each has."""
    model.eval()
    order = sorted(items, key=lambda item: item.frames)
    for start in range(0, len(order), 16):
        group = order[start : start + 16]
        batch = collate([features(item) for item in group], group).to(next(model.parameters()).device)
        yield group, *model.encoder(batch.features, batch.lengths)


def _ctc_greedy(head: CtcHead, encoded: Tensor, lengths: Tensor) -> list[list[int]]:
    """Labels of every row of encoder frames (B,T,D)."""
    decoder, log_probs, rows = CtcGreedy(), head(encoded).cpu().numpy(), lengths * head.rate
    return [decoder.step(decoder.start(), log_probs[row, :n]).tokens for row, n in enumerate(rows.tolist())]
