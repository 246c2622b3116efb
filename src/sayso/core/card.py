"""The model card of a bundle: what it is, how good it is, where it came from, in words that the manifest backs.

After Mitchell et al. 2019 ("Model cards for model reporting"), cut to what we know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sayso.core.manifest import Manifest

CARD = "README.md"


def card(manifest: Manifest) -> str:
    """Markdown; what was not measured is said not to be."""
    lines = [
        f"# {manifest.name}",
        "",
        manifest.description or "A Sayso bundle: speech to text and meaning, streaming.",
        "",
        f"- Languages: {', '.join(manifest.languages)}",
        f"- Audio: {manifest.sample_rate} Hz, {manifest.channels} channel; chunks of {manifest.chunk_ms} ms, "
        f"{manifest.left_context_ms} ms of history, {manifest.lookahead_ms} ms look-ahead",
        f"- Arithmetic: {manifest.precision}",
        f"- Graphs: {', '.join(sorted(manifest.graphs))}",
        *(_table({"Search of free text": manifest.free}) if manifest.free else ()),
        *(_table({"Open slots, heard again": manifest.open_slots}) if manifest.open_slots else ()),
        f"- Licence: {manifest.licence}",
        "",
        "## What it understands",
        "",
    ]
    if manifest.automaton:
        confirmed = [spec.name for spec in manifest.intents if spec.risk == "confirm"]
        lines.append(f"Domain `{manifest.domain}`: {', '.join(f'`{spec.name}`' for spec in manifest.intents)}.")
        if confirmed:
            lines.append(f"Always asked back before they count: {', '.join(f'`{name}`' for name in confirmed)}.")
    elif manifest.intents:
        kept = "Intents and values of slots; nothing in it can write what was said" if manifest.private else "Intents"
        lines.append(f"No domain. {kept}: {', '.join(f'`{spec.name}`' for spec in manifest.intents)}.")
    else:
        lines.append("No domain: it transcribes.")
    lines += ["", "## Confidence", ""]
    if manifest.calibrated_on:
        lines += ["Calibrated on:", "", *_table(manifest.calibrated_on)]
    else:
        lines.append("Not calibrated: confidence is null, and the rejection margin alone decides.")
    lines += ["", "## Training", "", *(_table(manifest.trained) or ["Not recorded."])]
    lines += ["", "## Figures", "", *(_table(manifest.figures) or ["Not measured."])]
    lines += [
        "",
        "## Limits",
        "",
        "Speech outside the domain is meant to be rejected, and sometimes is not. Accents, rooms and microphones "
        "unlike those above were not measured. Do not let it carry out what cannot be undone without asking.",
        "",
    ]
    return "\n".join(lines)


def _table(data: Mapping[str, Any], prefix: str = "") -> list[str]:
    rows = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            rows += _table(value, f"{prefix}{key} / ")
        else:
            rows.append(f"- {prefix}{key}: {f'{value:.4g}' if isinstance(value, float) else value}")
    return rows
