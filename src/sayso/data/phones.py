"""Phone alignments of training speech: which sound is heard in every 10 ms, as an outside aligner says.

The aligner is a teacher: it lends its labels in training and is no part of a model. A file holds a JSON line per cut:
``{"id": cut id, "phones": [[name, first frame, frames], …]}`` in frames of 10 ms; names are ARPABET without stress,
everything else (``SIL``, noises) counts as silence.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np

from sayso.core.errors import DataError

SILENCE = 0
PHONES = (
    "SIL", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH",
    "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip


@lru_cache(maxsize=8)
def read_phones(path: str) -> dict[str, bytes]:
    """For each cut id one byte per 10 ms: the index of its phone in ``PHONES``. ``DataError`` names a bad line."""
    number = {name: index for index, name in enumerate(PHONES)}
    found: dict[str, bytes] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: phone alignments cannot be read ({error}); make them or leave 'phones' out") from None
    for at, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            phones = [(number.get(name, SILENCE), int(first), int(size)) for name, first, size in row["phones"]]
            length = max((first + size for _, first, size in phones), default=0)
            labels = np.zeros(length, np.uint8)
            for index, first, size in phones:
                labels[first : first + size] = index
            found[str(row["id"])] = labels.tobytes()
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{path}:{at}: not an alignment ({error!r}); legal is {{"id": …, "phones": [[name, first, frames], …]}}'
            ) from None
    return found
