"""Speech corpora as cuts, by name.

The corpora lie outside the repository (``SAYSO_CORPORA``). A corpus is a folder with ``SPLIT.jsonl`` (``audio``,
``text``, ``speaker``, ``duration``) and the audio beside it; ``data.importers`` reads it as plain JSONL.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lhotse import CutSet  # type: ignore[import-untyped]

from sayso.core.errors import DataError, nearest
from sayso.data.importers.plain import json_rows
from sayso.data.importers.rows import collect


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A known corpus: the file of each split, its licence, and where it comes from. ``dev`` is only ever reported."""

    splits: Mapping[str, str]
    licence: str
    origin: str


CORPORA: dict[str, Corpus] = {
    "librispeech-tc5": Corpus(
        splits={"train": "train.jsonl"}, licence="CC BY 4.0", origin="LibriSpeech, Panayotov et al. 2015"
    ),
    "librispeech-devclean-half": Corpus(
        splits={"dev": "dev.jsonl"}, licence="CC BY 4.0", origin="LibriSpeech, Panayotov et al. 2015; band-limited"
    ),
    "commonvoice-v1": Corpus(
        splits={"train": "train.jsonl", "dev": "dev.jsonl"}, licence="CC0", origin="Common Voice, Mozilla 2017"
    ),
    "speechocean762-adults": Corpus(
        splits={"train": "train.jsonl"}, licence="CC BY 4.0", origin="Zhang et al. 2021 (arXiv:2104.01378)"
    ),
    "coffee-dev": Corpus(
        splits={"dev": "labels.jsonl"}, licence="Apache-2.0", origin="Picovoice speech-to-intent benchmark"
    ),
}
TRAINING = tuple(name for name, corpus in CORPORA.items() if "train" in corpus.splits)


def corpora_root() -> Path:
    """The corpora folder: ``SAYSO_CORPORA``, else ``../shared/data``; ``DataError`` where there is none."""
    named = os.environ.get("SAYSO_CORPORA")
    root = Path(named) if named else Path("../shared/data")
    if not root.is_dir():
        what = "SAYSO_CORPORA names" if named else "SAYSO_CORPORA is not set and the default is"
        raise DataError(f"{what} {root}, which is not a folder; set SAYSO_CORPORA to the folder that holds the corpora")
    return root.resolve()


def read_corpus(name: str, split: str = "train", root: Path | None = None) -> CutSet:
    """A split of the corpus in folder ``name``; ``DataError`` names what is missing, or file and line."""
    base = corpora_root() if root is None else Path(root)
    if not (base / name).is_dir():
        here = [item.name for item in base.iterdir() if any(item.glob("*.jsonl"))] if base.is_dir() else []
        raise DataError(f"no corpus '{name}' under {base}; {nearest(name, here)}")
    known = CORPORA[name].splits if name in CORPORA else {}
    file = base / name / known.get(split, f"{split}.jsonl")
    if not file.is_file():
        have = {path.stem for path in (base / name).glob("*.jsonl")} - {"labels"} | set(known)
        raise DataError(f"corpus '{name}' has no split '{split}'; {nearest(split, have)}")
    return collect(json_rows(file, name), str(file))
