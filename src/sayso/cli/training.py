"""``sayso train|export|build``: the verbs of the workshop (``pip install 'sayso[train]'``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sayso.cli.console import note, say
from sayso.core.errors import ConfigError, UsageError, nearest, require

FORMATS = ("bundle", "sherpa")
CLIPS = 200  # recordings are enough to fix activation scales


def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, such as those under recipes/.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Change one value.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; an unfinished run in it goes on.")] = None,
) -> int:
    """Train what a recipe says; prints the run folder."""
    from sayso.core.config import read_toml

    read_toml(recipe)  # a missing or broken file is said before the workshop is loaded, which takes seconds
    require("torch", extra="train", purpose="sayso train")
    from sayso.training.run import train as run

    say(str(run(recipe, overrides or [], out)))
    return 0


def export(
    run: Annotated[Path, typer.Argument(help="A run folder of 'sayso train', or a checkpoint.")],
    out: Annotated[Path, typer.Option(help="A folder; the bundle is a zip where it ends in .zip.")],
    domain: Annotated[Path | None, typer.Option(help="Domain file to compile in; none: heads or text.")] = None,
    clips: Annotated[
        Path | None, typer.Option(help="Recordings (.jsonl) that fix the int8 scales; none: fp32.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the bundle is called.")] = None,
    free: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Search of free text, e.g. search.kind=ctc_beam, search.beam=8, lm.file=a.arpa."
        ),
    ] = None,
    values: Annotated[
        Path | None, typer.Option(help="Labelled recordings that say for which slot values words stand.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Never words: intents and values of slots alone.")] = False,
    format: Annotated[str, typer.Option(help="bundle, or sherpa: a folder that sherpa-onnx streams.")] = "bundle",
) -> int:
    """Turn a trained model into a bundle, or into files for another runtime."""
    from sayso.core.config import override, parse
    from sayso.runtime.settings import FreeConfig

    searched = parse(FreeConfig, override({}, free), where="--free") if free else None
    if format not in FORMATS:
        raise UsageError(f"--format {format}: no such format; {nearest(format, FORMATS)}")
    if format == "sherpa" and (domain or clips or name or free or values or private):
        others = "--domain, --clips, --name, --free, --values and --private"
        raise UsageError(f"--format sherpa is the fp32 transducer alone: leave out {others}")
    checkpoint = _checkpoint(run)
    require("torch", extra="train", purpose="sayso export")
    if format == "sherpa":
        return _export_sherpa(checkpoint, out)
    from sayso.audio import decode
    from sayso.core.manifest import IntentSpec
    from sayso.evaluation.examples import read_examples
    from sayso.export.bundle import ExportConfig, export_bundle
    from sayso.models.assembly import load_checkpoint
    from sayso.nlu.compile import compile_domain
    from sayso.nlu.domain import load_domain
    from sayso.nlu.values import spoken_forms
    from sayso.training.run import read_sources

    described = None if domain is None else load_domain(domain)
    model, tokenizer = load_checkpoint(checkpoint)
    automaton = None if described is None else compile_domain(described, tokenizer)
    heard = [] if clips is None else [decode.read(item.audio) for item in read_examples(clips)[:CLIPS]]
    intents: tuple[IntentSpec, ...] = ()
    if described is not None:
        intents = tuple(
            IntentSpec(name=key, risk=spec.risk, clarify=spec.clarify) for key, spec in described.intents.items()
        )
    title = name or (run.resolve().name if described is None else described.name)
    labelled = [] if values is None else read_examples(values)
    config = ExportConfig(
        name=title,
        int8=clips is not None,
        intents=intents,
        free=searched,
        trained=read_sources(checkpoint.parent),
        values=spoken_forms(slot for example in labelled for slot in example.slots or ()),
        private=private,
    )
    manifest = export_bundle(model, tokenizer, automaton, out, config, clips=heard)
    say(f"{out}: {manifest.name}, {manifest.precision}, {len(manifest.files)} files")
    return 0


def build(
    domain: Annotated[Path, typer.Argument(help="A domain file, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="The bundle: a folder, or a zip where it ends in .zip.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Change one amount.")] = None,
    minutes: Annotated[float, typer.Option(help="Time for training; 0: the grammar graph alone.", min=0)] = 20.0,
    base: Annotated[Path | None, typer.Option(help="Base checkpoint; default: models/base of a checkout.")] = None,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.", min=0)] = 0,
) -> int:
    """From a domain file alone to a bundle and a report; prints where both are. Amounts: ``build/config.py``."""
    if not domain.exists():
        raise UsageError(f"{domain}: no such domain file; give a .yaml file, or a folder of them")
    require("torch", extra="train", purpose="sayso build")
    from sayso.build.config import BuildConfig
    from sayso.build.line import build as run
    from sayso.core.config import override, parse

    amounts = override(BuildConfig().model_dump(mode="json"), overrides or [])
    config = parse(BuildConfig, amounts, where="sayso build")
    report = run(domain, out, minutes=minutes, base=base, seed=seed, config=config)
    say(str(out))
    note(f"report: {report}")
    return 0


def _export_sherpa(checkpoint: Path, out: Path) -> int:
    from sayso.export.sherpa import export_sherpa
    from sayso.models.assembly import load_checkpoint

    model, tokenizer = load_checkpoint(checkpoint)
    export_sherpa(model, tokenizer, out)
    say(f"{out}: conformer transducer for sherpa-onnx, fp32")
    return 0


def _checkpoint(run: Path) -> Path:
    """The folder with ``model.json``: the run itself, or the one inside it."""
    found = [path.parent for path in (run / "model.json", *sorted(run.glob("*/model.json"))) if path.is_file()]
    if not found:
        raise ConfigError(f"{run}: not a run folder or checkpoint (no model.json in it); make one with 'sayso train'")
    return found[0]
