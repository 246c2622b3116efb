"""``sayso bundle show|verify|update|teach|rollback``: what a bundle says about itself, whether it is whole, and
changing what it understands, without training or by the last layer of the intent head alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sayso.cli.console import BOLD, note, rows, say, styled
from sayso.cli.understand import read_lists
from sayso.core.errors import UsageError, require

app = typer.Typer(help="Look into a bundle, or change it.", no_args_is_help=True, rich_markup_mode=None)
_PLACE = typer.Argument(help="A bundle: folder, zip, or 'home' for the one inside.")


@app.command("show")
def show(
    bundle: Annotated[str, _PLACE] = "home",
    as_json: Annotated[bool, typer.Option("--json", help="bundle.json as it is, and the size.")] = False,
) -> int:
    """What it is, how it streams, what it understands, how it was made and judged."""
    from sayso.core.bundle import read_bundle
    from sayso.runtime.load import resolve

    read = read_bundle(resolve(bundle))
    manifest = read.manifest
    if as_json:
        say(json.dumps({**manifest.model_dump(mode="json"), "size_bytes": read.size_bytes}, ensure_ascii=False))
        return 0
    say(styled(manifest.name, BOLD) + (f": {manifest.description}" if manifest.description else ""))
    free = _flat(manifest.free) or "greedy, by the transducer where there is one"
    by_network = manifest.trees is not None or "intent" in manifest.graphs
    risky = [item.name for item in manifest.intents if item.risk == "confirm"]
    facts = [
        ("domain", manifest.domain or f"none: {'understanding without one' if by_network else 'transcription only'}"),
        ("revision", f"{manifest.revision}, {'carries' if manifest.source else 'without'} its domain file"),
        ("languages", ", ".join(manifest.languages)),
        ("intents", ", ".join(item.name for item in manifest.intents) or "-"),
        ("asks before", ", ".join(risky) or "-"),
        ("stream", f"chunk {manifest.chunk_ms} ms, look-ahead {manifest.lookahead_ms} ms, {manifest.sample_rate} Hz"),
        ("passes", ", ".join(f"{step.name} ({step.when})" for step in manifest.passes) or "-"),
        ("graphs", ", ".join(sorted(manifest.graphs))),
        ("free text", "never: private" if manifest.private else free),
        ("open slots", _flat(manifest.open_slots) or "as the graph hears them"),
        ("size", f"{read.size_bytes / 1e6:.1f} MB, {manifest.precision}"),
        ("calibrated on", _flat(manifest.calibrated_on) if manifest.calibrated_on else "not calibrated"),
        ("trained", _flat(manifest.trained) or "-"),
        ("figures", _flat(manifest.figures) or "-"),
        ("licence", manifest.licence),
        ("sha256", manifest.sha256),
    ]
    rows(facts)
    return 0


@app.command("verify")
def verify(bundle: Annotated[str, _PLACE] = "home") -> int:
    """Check every hash and open every graph; prints ok, or says what is damaged."""
    from sayso.runtime.load import load

    model = load(bundle)
    say(f"ok: {model.manifest.name}, {len(model.manifest.files)} files, sha256 {model.manifest.sha256}")
    return 0


@app.command("update")
def update(
    bundle: Annotated[str, _PLACE],
    domain: Annotated[Path | None, typer.Option(help="A domain in place of the one that the bundle carries.")] = None,
    lists: Annotated[
        list[str] | None, typer.Option("--list", metavar="NAME=FILE", help="Values for a list; one a line.")
    ] = None,
    sentences: Annotated[
        list[str] | None,
        typer.Option("--sentence", metavar="INTENT=TEMPLATE", help="One more sentence of an intent, old or new."),
    ] = None,
    lm: Annotated[Path | None, typer.Option(help="A language model of words (ARPA) for the free text.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write it; default: in place of the old one.")] = None,
) -> int:
    """Change what a bundle understands, without training; 'rollback' undoes it."""
    from sayso.operations.update import Change, update_bundle
    from sayso.runtime.load import BUNDLED, resolve

    more: dict[str, tuple[str, ...]] = {}
    for item in sentences or []:
        intent, found, template = item.partition("=")
        if not found or not intent or not template:
            raise UsageError(f"--sentence {item}: write INTENT=TEMPLATE, for example 'lock=bolt the {{door}}'")
        more[intent] = (*more.get(intent, ()), template)
    change = Change(domain=domain, lists=read_lists(lists or []), sentences=more, lm=lm)
    if bundle == BUNDLED and out is None:
        raise UsageError("the bundle inside is not changed in place; give --out")
    written = update_bundle(resolve(bundle), change, out=out, say=note)
    say(f"ok: {written.name}, revision {written.revision}, sha256 {written.sha256}")
    return 0


@app.command("teach")
def teach(
    bundle: Annotated[str, _PLACE],
    recordings: Annotated[
        Path | None, typer.Option(help="Recordings with intents (.jsonl or cuts) instead of synthetic speech.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of sentences, voices and noise.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Where to write it; default: in place of the old one.")] = None,
) -> int:
    """Let the intent head learn the intents that updates added; the encoder stays, 'rollback' undoes it."""
    require("torch", extra="train", purpose="sayso bundle teach")
    require("onnx", extra="train", purpose="sayso bundle teach")
    from sayso.audio.decode import read
    from sayso.build.teach import TeachConfig, spoken
    from sayso.build.teach import teach as learn
    from sayso.core.bundle import read_bundle
    from sayso.evaluation.examples import read_examples
    from sayso.operations.update import Change, Head, update_bundle
    from sayso.runtime.load import BUNDLED, resolve

    if bundle == BUNDLED and out is None:
        raise UsageError("the bundle inside is not changed in place; give --out")
    opened, config = read_bundle(resolve(bundle)), TeachConfig()
    if recordings is None:
        clips = spoken(opened, config, seed, note)
    else:
        judged = [one for one in read_examples(recordings) if one.negative or one.intent is not None]
        clips = [(read(one.audio, opened.manifest.sample_rate), one.intent) for one in judged]
    graph, classes = learn(opened, clips, config, note)
    written = update_bundle(resolve(bundle), Change(head=Head(graph, classes)), out=out, say=note)
    say(f"ok: {written.name}, revision {written.revision}, sha256 {written.sha256}")
    return 0


@app.command("rollback")
def rollback(
    bundle: Annotated[str, _PLACE],
    out: Annotated[Path | None, typer.Option(help="Where to write it; default: in its place.")] = None,
) -> int:
    """Undo the last update, byte for byte."""
    from sayso.operations.update import rollback_bundle

    written = rollback_bundle(bundle, out=out)
    say(f"ok: {written.name}, revision {written.revision}, sha256 {written.sha256}")
    return 0


def _flat(data: dict[str, Any], prefix: str = "") -> str:
    """Nested facts as ``key: value`` lines."""
    lines = []
    for key, value in data.items():
        if isinstance(value, dict) and {"value", "low", "high"} <= set(value):
            lines.append(f"{prefix}{key}: {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]")
        elif isinstance(value, dict):
            lines.append(_flat(value, f"{prefix}{key}."))
        else:
            lines.append(f"{prefix}{key}: {f'{value:.4g}' if isinstance(value, float) else value}")
    return "\n".join(line for line in lines if line)
