"""Sub-word units (sentencepiece BPE), trained once and shared by model, graph and bundle.

Id 0 is the blank of CTC and RNN-T and never occurs in text; id 1 is the unknown unit. Pieces never cross a space, so a
sentence's ids are its words' ids one after the other: a grammar may tokenise word by word.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import sentencepiece as spm

from sayso.core.errors import BundleError
from sayso.core.files import whole

BLANK = 0
UNKNOWN = 1


class Tokenizer:
    """A sentencepiece model with the ids Sayso relies on."""

    def __init__(self, model: bytes, *, where: str = "tokenizer") -> None:
        try:
            self._processor = spm.SentencePieceProcessor(model_proto=model)
            self.size = int(self._processor.get_piece_size())
        except RuntimeError as error:
            raise BundleError(f"{where}: not a sentencepiece model ({error}); export the bundle again") from None
        if self._processor.id_to_piece(BLANK) != "<blk>":
            raise BundleError(f"{where}: token 0 is not '<blk>'; it was not made by Sayso's tokenizer training")
        self.model = model
        self.sha256 = hashlib.sha256(model).hexdigest()
        self.pieces: tuple[str, ...] = tuple(self._processor.id_to_piece(i) for i in range(self.size))

    @staticmethod
    def load(path: Path | str) -> Tokenizer:
        """Read a ``tokenizer.model``, or a checkpoint's; ``BundleError`` where it is missing or foreign."""
        path = Path(path) / "tokenizer.model" if Path(path).is_dir() else Path(path)
        try:
            return Tokenizer(path.read_bytes(), where=str(path))
        except OSError as error:
            raise BundleError(f"{path}: no tokenizer model here ({error.strerror})") from None

    def encode(self, text: str) -> list[int]:
        """Ids of already normalised text; empty for empty text."""
        return [int(i) for i in self._processor.encode(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; blanks and unknowns are dropped."""
        joined = "".join(self.pieces[i] for i in ids if i > UNKNOWN)
        return joined.replace("▁", " ").strip()


def train_tokenizer(texts: Iterable[str], path: Path, *, vocab: int = 256) -> Tokenizer:
    """Train BPE units on normalised ``texts`` and write them to ``path``."""
    buffer = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=buffer,
        vocab_size=vocab,
        model_type="bpe",
        pad_id=BLANK,
        pad_piece="<blk>",
        unk_id=UNKNOWN,
        bos_id=-1,
        eos_id=-1,
        character_coverage=1.0,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    with whole(path) as fresh:
        fresh.write_bytes(buffer.getvalue())
    return Tokenizer(buffer.getvalue(), where=str(path))
