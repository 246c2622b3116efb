"""Other people's labelled speech as cuts with meaning. A corpus is one generator of rows and one line in the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lhotse import CutSet  # type: ignore[import-untyped]

from sayso.core.errors import DataError, nearest
from sayso.data.importers.fluent import read_fluent
from sayso.data.importers.plain import read_jsonl, read_kaldi, read_labels, read_lhotse, read_nemo
from sayso.data.importers.rows import Rows, collect
from sayso.data.importers.slurp import read_slurp
from sayso.data.importers.snips import read_snips
from sayso.data.importers.stop import read_stop

IMPORTERS: Mapping[str, Callable[[Path, Path | None], Rows]] = {
    "jsonl": read_jsonl,
    "labels": read_labels,
    "kaldi": read_kaldi,
    "nemo": read_nemo,
    "lhotse": read_lhotse,
    "slurp": read_slurp,
    "fluent": read_fluent,
    "snips": read_snips,
    "stop": read_stop,
}


def import_recordings(
    kind: str, source: str | Path, *, audio: str | Path | None = None, bad: list[DataError] | None = None
) -> CutSet:
    """The recordings of ``source``, a file or folder of format ``kind``, as cuts; ``audio`` names their folder where
    the format does not.

    A bad row raises ``DataError`` with file, line and what is legal; with ``bad`` it joins that list and the others go
    on. ``DataError`` too for an unknown ``kind`` and where nothing is left.
    """
    if kind not in IMPORTERS:
        raise DataError(f"no importer '{kind}'; {nearest(kind, IMPORTERS)}")
    return collect(IMPORTERS[kind](Path(source), None if audio is None else Path(audio)), str(source), bad)
