"""``sayso evaluate``: a bundle judged on recordings, clean or in noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sayso.cli.console import BOLD, Progress, complain, hushed, rows, say, styled
from sayso.core.errors import UsageError

if TYPE_CHECKING:
    from sayso.core.manifest import Manifest
    from sayso.evaluation.evaluate import Figures
    from sayso.evaluation.live import Live
    from sayso.evaluation.predict import NoiseCondition
    from sayso.runtime.model import Model


def evaluate(
    bundle: Annotated[str | None, typer.Option(help="A bundle: folder, zip, or 'home' for the one inside.")] = None,
    data: Annotated[Path | None, typer.Option(help="Examples: .jsonl of audio, text, intent, slots; or cuts.")] = None,
    noise: Annotated[Path | None, typer.Option(help="A recording of noise to mix in.")] = None,
    snr: Annotated[float | None, typer.Option(help="Signal-to-noise ratio in dB, with --noise.")] = None,
    snr_kind: Annotated[Literal["mean", "peak2048"], typer.Option(help="How the ratio is measured.")] = "mean",
    seed: Annotated[int, typer.Option(help="Where in the noise each mixture begins.", min=0)] = 0,
    live: Annotated[bool, typer.Option("--live", help="As from a microphone; times what one waits.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, nothing else.")] = False,
    predictions: Annotated[Path | None, typer.Option(help="Write what was understood, a line each.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML page.")] = None,
    details: Annotated[Path | None, typer.Option(help="Write more figures, by groups too, as one JSON object.")] = None,
    heard: Annotated[Path | None, typer.Option(help="Predictions written before, instead of --bundle.")] = None,
    slurp_gold: Annotated[Path | None, typer.Option(help="SLURP's test.jsonl, instead of --bundle and --data.")] = None,
    slurp_predictions: Annotated[Path | None, typer.Option(help="What was understood, as SLURP scores it.")] = None,
) -> int:
    """Judge a bundle on recordings whose meaning is known, or a file of SLURP predictions; figures with 95%
    intervals.
    """
    from sayso.core.files import write_text
    from sayso.evaluation.details import details as detail
    from sayso.evaluation.evaluate import evaluate as judge
    from sayso.evaluation.examples import read_examples
    from sayso.evaluation.predict import Run, read_predictions, write_predictions
    from sayso.evaluation.report import Report, Section, write_report
    from sayso.evaluation.talkers import in_company
    from sayso.runtime.load import load

    if slurp_gold is not None or slurp_predictions is not None:
        others = (bundle, data, noise, snr, predictions, report, details, live or None, heard)
        return _slurp(slurp_gold, slurp_predictions, as_json=as_json, alone=others == (None,) * len(others))
    if data is None or (bundle is None) == (heard is None):
        raise UsageError("--data and either --bundle or --heard are needed (or --slurp-gold and --slurp-predictions)")
    condition = _condition(noise, snr, snr_kind, seed)
    for target in (predictions, report, details):  # an hour of work must not end at a folder that is not there
        if target is not None and (target.is_dir() or not target.parent.is_dir()):
            raise UsageError(f"{target}: cannot be written; name a file in an existing folder")
    examples = read_examples(data)
    in_company(examples)  # mistakes of the labels come before the work
    if bundle is None:
        assert heard is not None
        if any(item is not None for item in (noise, predictions, report, live or None)):
            raise UsageError("--heard FILE was understood already: only --data, --details and --json fit it")
        pairs, streams = read_predictions(heard, examples)
        if details is not None:
            write_text(details, [json.dumps(detail(pairs, streams=streams), allow_nan=False, indent=1), "\n"])
        _show(f"{heard} on {data}", judge(pairs), as_json=as_json)
        return 0
    model = load(bundle)
    player = _live(model)
    understand = player if live else model.understand
    run = Run(lambda samples, rate: understand(samples, rate), examples, condition, Progress("evaluated"))
    with hushed():
        pairs = list(run)
    figures = judge(pairs)
    if predictions is not None:
        write_predictions(predictions, pairs)
    if details is not None:
        write_text(details, [json.dumps(detail(pairs, traces=player.traces), allow_nan=False, indent=1), "\n"])
    name = ("clean" if condition is None else condition.name) + (", live" if live else "")
    if report is not None:
        section = Section(f"{data.name}, {name}", pairs, run.failures, listen=run.heard, traces=player.traces)
        write_report(report, Report(f"{model.manifest.name} on {data.name}", [section], _facts(model.manifest)))
    _show(f"{model.manifest.name} on {data}, {name}", figures, as_json=as_json)
    built = _built(model.manifest)
    if built is not None and figures["ece"] is not None and not as_json:
        say(f"ece was {built:.3f} when the bundle was built, on other speech")
    for failure in run.failures:
        complain(failure.message)
    return 1 if run.failures else 0


def _slurp(gold: Path | None, predictions: Path | None, *, as_json: bool, alone: bool) -> int:
    from sayso.evaluation.slurp import score_files

    if gold is None or predictions is None or not alone:
        raise UsageError("--slurp-gold FILE and --slurp-predictions FILE belong together, with --json at most")
    _show(f"{predictions} on {gold}", score_files(gold, predictions), as_json=as_json)
    return 0


def _live(model: Model) -> Live:
    from sayso.audio.vad import EndpointConfig
    from sayso.evaluation.live import Ended, Live

    def endpoint() -> Ended:
        ears = EndpointConfig().build()
        return lambda packet, complete: any(event.kind == "end" for event in ears.accept(packet, complete))

    return Live(lambda rate: model.stream(sample_rate=rate), endpoint)


def _condition(
    noise: Path | None, snr: float | None, kind: Literal["mean", "peak2048"], seed: int
) -> NoiseCondition | None:
    from sayso.core.config import parse
    from sayso.evaluation.predict import NoiseCondition

    if (noise is None) != (snr is None):
        raise UsageError("--noise FILE and --snr DB belong together; give both, or neither for clean recordings")
    if noise is None:
        return None
    values = {"file": str(noise), "snr_db": snr, "snr_kind": kind, "seed": seed}
    return parse(NoiseCondition, values, where="--noise")


def _show(title: str, figures: Figures, *, as_json: bool) -> None:
    if as_json:
        say(json.dumps(figures, allow_nan=False))
        return
    say(styled(title, BOLD))
    lines = []
    for name, figure in figures.items():
        if isinstance(figure, dict):
            lines.append((name, f"{figure['value']:.3f}  [{figure['low']:.3f}, {figure['high']:.3f}]"))
        else:
            lines.append((name, "-" if figure is None else str(figure)))
    rows(lines)


def _facts(manifest: Manifest) -> dict[str, str]:
    built = _built(manifest)
    return {
        "Name": manifest.name,
        "Domain": manifest.domain or "none",
        "Chunk": f"{manifest.chunk_ms} ms",
        "Precision": manifest.precision,
        "sha256": manifest.sha256,
    } | ({} if built is None else {"Calibration error when built": f"{built:.3f}"})


def _built(manifest: Manifest) -> float | None:
    """The calibration error on what the bundle's build had judged, to see how far it has drifted."""
    found = manifest.figures.get("held_out", {})
    figures = found.get("Commands and real speech") or found.get("All synthetic") or {}
    value = figures.get("ece")
    return float(value) if isinstance(value, int | float) else None
