"""A small understander of text: one class for the sentence and a BIO tag for each word.

Words are sums of hashed character n-grams (Bojanowski et al. 2017, fastText), so that a misheard or unknown word is
near the right one; a bidirectional LSTM reads them, tags come from its states and the class from their maximum (Liu &
Lane 2016, arXiv:1609.01454, for the joint form).

Shape letters: ``B`` batch, ``T`` words, ``G`` n-grams of a word, ``D`` width.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sayso.core.config import Config

GRAMS = 24  # of a word at most; longer words keep their first


class TextTaggerConfig(Config):
    """Sizes; ``buckets`` are the rows that n-grams are hashed to."""

    kind: Literal["text_tagger"] = "text_tagger"
    buckets: int = Field(default=4096, ge=2)
    width: int = Field(default=64, ge=1)
    hidden: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)

    def build(self, classes: int, tags: int) -> TextTagger:
        """A fresh tagger of ``classes`` sentence classes and ``tags`` word tags."""
        return TextTagger(self, classes, tags)


class TextTagger(nn.Module):
    """Hashed n-grams in, log-probabilities of classes and tags out."""

    def __init__(self, config: TextTaggerConfig, classes: int, tags: int) -> None:
        super().__init__()
        self.config = config
        self.grams = nn.Embedding(config.buckets, config.width, padding_idx=0)
        self.reader = nn.LSTM(config.width, config.hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(config.dropout)
        self.sentence = nn.Linear(2 * config.hidden, classes)
        self.word = nn.Linear(2 * config.hidden, tags)

    def forward(self, grams: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B,T,G) rows of n-grams (0: none) and word counts (B,), all at least 1, to log-probabilities (B, classes)
        and (B, T, tags)."""
        some = (grams > 0).sum(-1, keepdim=True).clamp(min=1)
        words = self.dropout(self.grams(grams).sum(2) / some)
        packed = nn.utils.rnn.pack_padded_sequence(words, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.reader(packed)[0], batch_first=True, total_length=grams.shape[1]
        )
        there = torch.arange(grams.shape[1], device=grams.device)[None] < lengths[:, None].to(grams.device)
        pooled = states.masked_fill(~there[:, :, None], -torch.inf).amax(1)
        classes = torch.log_softmax(self.sentence(self.dropout(pooled)), -1)
        return classes, torch.log_softmax(self.word(self.dropout(states)), -1)

    def rows(self, sentences: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Words of sentences as (B,T,G) and (B,); a sentence without words is one word without n-grams."""
        longest = max(1, *(len(words) for words in sentences))
        grams = torch.zeros(len(sentences), longest, GRAMS, dtype=torch.long)
        for row, words in enumerate(sentences):
            for place, word in enumerate(words):
                found = _grams(word, self.config.buckets)
                grams[row, place, : len(found)] = torch.tensor(found)
        return grams, torch.tensor([max(1, len(words)) for words in sentences])


def _grams(word: str, buckets: int) -> list[int]:
    """Rows of the word itself and its n-grams of 2 and 3 letters, its ends marked."""
    marked = f"<{word}>"
    pieces = [marked, *(marked[i : i + n] for n in (3, 2) for i in range(len(marked) - n + 1))]
    return [1 + zlib.crc32(piece.encode()) % (buckets - 1) for piece in pieces[:GRAMS]]
