"""Fluent Speech Commands (Lugosch et al. 2019, arXiv:1904.03670): a CSV with action, object and location.

The action is the intent; object and location are slots, unless they are ``none``. Intent and slots right together are
then what the corpus calls a right intent (31 combinations). A slot's spoken words are known where its value is said
literally ("lights"), and not where it is a name for something else.
"""

from __future__ import annotations

from pathlib import Path

from sayso.core.errors import DataError
from sayso.data.importers.rows import Row, Rows, said_in, table

COLUMNS = ("path", "speakerId", "transcription", "action", "object", "location")
SLOTS = ("object", "location")


def read_fluent(source: Path, audio: Path | None) -> Rows:
    """Rows of ``train_data.csv`` and the like; ``path`` is relative to ``audio`` (default: the folder above ``data``
    that holds ``wavs``, else the file's own)."""
    folder = audio or (source.parent.parent if (source.parent.parent / "wavs").is_dir() else source.parent)
    for where, fields in table(source, COLUMNS):
        empty = [name for name in ("path", "action") if not fields[name]]
        if empty:
            yield DataError(f"{where}: '{empty[0]}' is empty")
            continue
        slots = [
            {"name": name, "value": fields[name], "text": said_in(fields[name], fields["transcription"])}
            for name in SLOTS
            if fields[name] not in ("", "none")
        ]
        row = {
            "audio": fields["path"],
            "text": fields["transcription"] or None,
            "speaker": fields["speakerId"] or None,
            "intent": fields["action"],
            "slots": slots,
        }
        id = f"fluent/{Path(fields['path']).with_suffix('').as_posix()}"
        yield Row(where=where, id=id, source="fluent", folder=folder, fields=row)
