"""N-gram models on disk: ARPA, the exchange format (base-10 logs, one n-gram a line, back-off weights at the end), and
the packed arrays themselves."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sayso.core.errors import DataError
from sayso.core.files import whole, write_text
from sayso.decoding.ngram import BOS, LOG10, UNK, NGram, Order, grams_of, pack

_NEVER = -99.0  # the format's zero probability
_FIELDS = ("keys", "log_probs", "backoffs")


def write_arpa(model: NGram, path: str | Path) -> Path:
    """Write ``path``; ten digits, so that reading it again loses nothing that matters."""
    return write_text(path, _lines(model))


def read_arpa(path: str | Path) -> NGram:
    """A model from an ARPA file; one without ``<unk>`` gets it at zero probability. ``DataError`` names the line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as an ARPA file ({error})") from None
    sections = _sections(text, str(path))
    words = [row[1] for row in sections[0]]
    if UNK not in words:
        words.append(UNK)
        sections[0].append((_NEVER, UNK, 0.0))
    ids = {word: i for i, word in enumerate(words)}
    tables = []
    for length, rows in enumerate(sections, 1):
        try:
            grams = np.array([[ids[word] for word in row[1].split(" ")] for row in rows], dtype=np.int64)
        except KeyError as error:
            raise DataError(f"{path}: the word {error} of an n-gram of {length} words has no probability") from None
        numbers = np.array([(row[0], row[2]) for row in rows]).reshape(-1, 2) * LOG10
        tables.append((grams.reshape(-1, length), numbers[:, 0], numbers[:, 1]))
    return pack(words, tables, str(path))


def save_ngram(model: NGram, path: str | Path) -> None:
    """Write the packed arrays as an ``npz`` archive: what a floor loads in no time."""
    arrays: dict[str, Any] = {"words": np.frombuffer("\n".join(model.words).encode(), dtype=np.uint8)}
    for length, order in enumerate(model.orders, 1):
        arrays |= {
            f"keys{length}": order.keys,
            f"log_probs{length}": order.log_probs,
            f"backoffs{length}": order.backoffs,
        }
    with whole(Path(path)) as fresh, fresh.open("wb") as stream:
        np.savez(stream, **arrays)


def load_ngram(path: str | Path) -> NGram:
    """What ``save_ngram`` wrote; ``DataError`` where it is something else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            words = arrays["words"].tobytes().decode().split("\n")
            lengths = range(1, (len(arrays.files) - 1) // len(_FIELDS) + 1)
            orders = [Order(**{name: arrays[f"{name}{length}"] for name in _FIELDS}) for length in lengths]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a packed language model ({error}); make it again from its ARPA file") from None
    return NGram(words, orders)


def _lines(model: NGram) -> Iterator[str]:
    yield "\\data\\\n"
    for length, order in enumerate(model.orders, 1):
        yield f"ngram {length}={len(order.keys)}\n"
    for length, order in enumerate(model.orders, 1):
        yield f"\n\\{length}-grams:\n"
        last = length == model.order
        for gram, log_prob, backoff in zip(grams_of(model, length), order.log_probs, order.backoffs, strict=True):
            words = " ".join(model.words[i] for i in gram.tolist())
            number = _NEVER if words == BOS else max(_NEVER, log_prob / LOG10)
            yield f"{number:.10g}\t{words}" + ("" if last else f"\t{backoff / LOG10:.10g}") + "\n"
    yield "\n\\end\\\n"


def _sections(text: str, where: str) -> list[list[tuple[float, str, float]]]:
    """Rows (log10 p, words, log10 back-off) by length."""
    sections: list[list[tuple[float, str, float]]] = []
    promised: list[int] = []
    ended = False
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line == "\\end\\":
            ended = True
            break
        if line.startswith("ngram ") and not sections:
            count = line.partition("=")[2].strip()
            promised.append(int(count) if count.isdecimal() else -1)
        elif line == f"\\{len(sections) + 1}-grams:":
            sections.append([])
        elif line and sections:
            sections[-1].append(_row(line, len(sections), f"{where}:{number}"))
    if not ended or not sections or promised != [len(rows) for rows in sections]:
        found = ", ".join(str(len(rows)) for rows in sections) or "nothing"
        raise DataError(f"{where}: not a whole ARPA file: it promises {promised} n-grams and has {found}")
    return sections


def _row(line: str, length: int, where: str) -> tuple[float, str, float]:
    parts = line.split()
    try:
        if len(parts) not in (length + 1, length + 2):
            raise ValueError
        backoff = float(parts[length + 1]) if len(parts) == length + 2 else 0.0
        return float(parts[0]), " ".join(parts[1 : length + 1]), backoff
    except ValueError:
        raise DataError(f"{where}: expected a log probability and {length} words, found '{line[:80]}'") from None
