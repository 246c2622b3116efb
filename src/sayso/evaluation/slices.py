"""The same figures by groups of people and recordings: who is understood worse than the average tells.

Groups come from what the manifest says of a recording: speaker, language, source and everything in ``Example.custom``
(gender, age, accent, device, ...); age in tens of years and SNR in steps of 5 dB. A group with few utterances says
nothing, and among many small groups one is bad by chance; so the small are counted together, without figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sayso.core.result import Example
from sayso.evaluation.bootstrap import BootstrapConfig
from sayso.evaluation.evaluate import Figures, Pair, ratios

MINIMUM = 20
OTHERS = "(others)"
_STEPS = {"age": 10.0, "snr": 5.0, "snr_db": 5.0}


def slices(
    pairs: Sequence[Pair], *, minimum: int = MINIMUM, bootstrap: BootstrapConfig | None = None
) -> dict[str, dict[str, Figures]]:
    """``ratios`` by field and group, the largest group first; ``(others)``, with ``n`` alone, are groups below
    ``minimum``.

    A field is left out where fewer than two groups reach ``minimum``: there is nothing to compare.
    """
    groups: dict[str, dict[str, list[Pair]]] = {}
    for pair in pairs:
        for field, value in _groups(pair[0]):
            groups.setdefault(field, {}).setdefault(value, []).append(pair)
    result: dict[str, dict[str, Figures]] = {}
    for field, members in groups.items():
        large = {value: found for value, found in members.items() if len(found) >= minimum}
        if len(large) < 2:
            continue
        order = sorted(large, key=lambda value: (-len(large[value]), value))
        result[field] = {value: ratios(large[value], bootstrap) for value in order}
        left = sum(map(len, members.values())) - sum(map(len, large.values()))
        if left:
            result[field][OTHERS] = {"n": left}
    return result


def _groups(example: Example) -> Iterator[tuple[str, str]]:
    known = {"speaker": example.speaker, "language": example.language, "source": example.source, **example.custom}
    for field, value in known.items():
        if value is not None:
            yield field, _band(field, value)


def _band(field: str, value: str) -> str:
    """``20 to 30`` for age 27; what is no number stays as it is (``twenties``)."""
    try:
        low = float(value) // _STEPS[field] * _STEPS[field]
    except (KeyError, ValueError):
        return value
    return f"{low:g} to {low + _STEPS[field]:g}"
