"""A language model's file as a bundle carries it: packed arrays, whatever it was."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sayso.decoding.arpa import load_ngram, read_arpa, save_ngram

LM = "lm.npz"


def packed(file: str) -> bytes:
    """The packed form of an ARPA file or of packed arrays. Raises ``DataError`` where it is neither."""
    model = load_ngram(file) if file.endswith(".npz") else read_arpa(file)
    with tempfile.TemporaryDirectory() as folder:
        save_ngram(model, Path(folder) / LM)
        return (Path(folder) / LM).read_bytes()
