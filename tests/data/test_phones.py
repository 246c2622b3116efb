"""Phone alignments in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sayso.core.errors import DataError
from sayso.data.phones import PHONES, read_phones


def test_one_byte_per_frame(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "phones": [["SIL", 0, 2], ["B", 2, 1], ["IY", 3, 3]]},
        {"id": "b", "phones": [["+SPN+", 0, 2], ["ZH", 2, 2]]},
        {"id": "c", "phones": []},
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_phones(str(tmp_path / "p.jsonl"))
    b, iy = PHONES.index("B"), PHONES.index("IY")
    assert found == {"a": bytes([0, 0, b, iy, iy, iy]), "b": bytes([0, 0, 39, 39]), "c": b""}


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_phones(str(tmp_path / "none.jsonl"))
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "phones": []}\n{"id": "b", "phones": [["B", 1]]}\n')
    with pytest.raises(DataError, match=r"bad.jsonl:2: not an alignment"):
        read_phones(str(tmp_path / "bad.jsonl"))
