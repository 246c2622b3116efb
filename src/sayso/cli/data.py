"""``sayso data``: recordings and their meaning, made, imported, split, checked and described.

What only reads (``check``, ``show``, ``card``) runs on the floor and takes plain JSONL as well as Lhotse cuts; what
writes cuts needs the workshop.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sayso.cli.console import BOLD, Progress, complain, hushed, rows, say, styled
from sayso.core.errors import AudioError, DataError, UsageError, nearest, require

if TYPE_CHECKING:
    from sayso.core.result import Example

app = typer.Typer(help="Make, import, check and describe data.", no_args_is_help=True, rich_markup_mode=None)
_MANIFEST = typer.Argument(help="Lhotse cuts or plain labels (.jsonl, .jsonl.gz), or a folder with one such file.")
Role = Literal["train", "valid", "examples"]
SHOWN = 20  # complaints of one kind that a person reads


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="The file or folder of another system.")],
    format: Annotated[str, typer.Option(help="jsonl, labels, kaldi, nemo, lhotse, slurp, fluent, snips or stop.")],
    out: Annotated[Path, typer.Option(help="The manifest to write: .jsonl or .jsonl.gz.")],
    audio: Annotated[Path | None, typer.Option(help="The folder of recordings, where it is elsewhere.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> int:
    """Turn labelled recordings into a manifest of Lhotse cuts; the recordings stay where they are.

    Lines that cannot be read are named and left out.
    """
    require("lhotse", extra="train", purpose="sayso data import")
    from sayso.data.importers import IMPORTERS, import_recordings
    from sayso.data.manifest import write

    if format not in IMPORTERS:
        raise UsageError(f"--format {format}: no such format; {nearest(format, IMPORTERS)}")
    _free(out, force)
    bad: list[DataError] = []
    cuts = import_recordings(format, source, audio=audio, bad=bad)
    say(f"{write(cuts, out)}: {len(cuts)} recordings")
    for error in bad[:SHOWN]:
        complain(error)
    if len(bad) > SHOWN:
        complain(f"... and {len(bad) - SHOWN} more")
    return 1 if bad else 0


@app.command("split")
def split(
    manifest: Annotated[Path, typer.Argument(help="Lhotse cuts: .jsonl or .jsonl.gz.")],
    train: Annotated[Path, typer.Option(help="The manifest to write for training.")],
    valid: Annotated[Path, typer.Option(help="The manifest to write for validation.")],
    per_mille: Annotated[int, typer.Option(help="How much validates, in thousandths.", min=1, max=999)] = 35,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> int:
    """Set a validation part aside: no speaker (or else no sentence) lies on both sides, today or with more data."""
    require("lhotse", extra="train", purpose="sayso data split")
    from sayso.data.manifest import read, write
    from sayso.data.splits import cut_valid

    for target in (train, valid):
        _free(target, force)
    parts = cut_valid(read(manifest), per_mille)
    for name, part in zip(("training", "validation"), parts, strict=True):
        if not len(part):
            raise DataError(
                f"{manifest}: the {name} part would be empty, there are too few speakers or sentences for "
                f"{per_mille} in a thousand; give another --per-mille"
            )
    for target, part in zip((train, valid), parts, strict=True):
        say(f"{write(part, target)}: {len(part)} recordings")
    return 0


@app.command("synth")
def synth(
    domain: Annotated[Path, typer.Argument(help="A domain file, a folder of them, or a .txt with a sentence a line.")],
    out: Annotated[Path, typer.Option(help="A folder for audio/*.flac and cuts.jsonl.gz; what is there is kept.")],
    n: Annotated[int, typer.Option("-n", help="How many sentences.", min=1)] = 100,
    role: Annotated[Role, typer.Option(help="Whose voices: no voice has two roles.")] = "train",
    engines: Annotated[list[str] | None, typer.Option("--engine", help="Only this engine; may be repeated.")] = None,
    voices_each: Annotated[int, typer.Option(help="Voices per sentence.", min=1)] = 2,
    processes: Annotated[int, typer.Option(help="Synthesis in so many processes.", min=1)] = 2,
    seed: Annotated[int, typer.Option(help="Sentences, voices, speed and pitch follow from it.", min=0)] = 0,
) -> int:
    """Speak random sentences of a domain, or of a text file, with the installed engines."""
    from sayso.data.synthesise import Spoken, SynthConfig, read_sentences, synthesise
    from sayso.nlu.domain import load_domain
    from sayso.nlu.sample import sample

    if out.is_file():
        raise UsageError(f"{out}: is a file; name a folder")
    chosen = tuple(engines) if engines else None
    config = SynthConfig(engines=chosen, voices_each=voices_each, processes=processes, seed=seed)
    name, spoken = domain.stem, list[Spoken]()
    if domain.suffix == ".txt":
        spoken += read_sentences(domain, n, seed)
    else:
        described = load_domain(domain)
        name = described.name
        spoken += sample(described, n, seed=seed)
    path = synthesise(spoken, out, role=role, config=config, domain=name, progress=Progress("spoken"))
    say(str(path))
    return 0


@app.command("check")
def check(manifest: Annotated[Path, _MANIFEST]) -> int:
    """Read a manifest and open every recording in it."""
    from sayso.audio.decode import info
    from sayso.evaluation.examples import read_examples

    examples = read_examples(manifest)
    progress, failed, seconds = Progress("checked"), 0, 0.0
    for number, example in enumerate(examples):
        try:
            with hushed():
                seconds += info(example.audio).duration_s
        except AudioError as error:
            failed += 1
            complain(error)
        progress(number + 1, len(examples))
    good = len(examples) - failed
    say(f"{'ok: ' if not failed else ''}{good} of {len(examples)} recordings can be read, {seconds / 3600:.2f} h")
    return 1 if failed else 0


@app.command("show")
def show(
    manifest: Annotated[Path, _MANIFEST],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, nothing else.")] = False,
) -> int:
    """What a manifest holds: recordings, hours, speakers, intents, slots, sources."""
    from sayso.evaluation.examples import read_examples

    held = _count(read_examples(manifest))
    if as_json:
        say(json.dumps(held.__dict__, ensure_ascii=False))
        return 0
    say(styled(str(manifest), BOLD))
    rows(
        [
            ("recordings", str(held.n)),
            ("hours", _hours(held)),
            ("speakers", str(held.speakers) if held.speakers else "not named"),
            *(
                (title, "\n".join(f"{name}: {count}" for name, count in counts.items()))
                for title, counts in _counts(held)
            ),
        ]
    )
    return 0


@app.command("card")
def card(manifest: Annotated[Path, _MANIFEST]) -> int:
    """The same as a page of Markdown, to keep beside the data."""
    from sayso.evaluation.examples import read_examples

    held = _count(read_examples(manifest))
    say(f"# {manifest.resolve().name}\n")
    speakers = f"{held.speakers} speakers" if held.speakers else "speakers not named"
    say(f"{held.n} recordings, {_hours(held)} h, {speakers}, {held.with_text} with a transcript.")
    for title, counts in _counts(held):
        say(f"\n## {title.capitalize()}\n\n| name | recordings |\n|---|---|")
        for name, count in counts.items():
            say(f"| {name.replace('|', chr(92) + '|')} | {count} |")
    return 0


def _free(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise UsageError(f"{out}: exists already; choose another name, or give --force to replace it")


@dataclass(frozen=True)
class _Held:
    n: int
    hours: float | None
    speakers: int
    with_text: int
    intents: dict[str, int]
    slots: dict[str, int]
    languages: dict[str, int]
    sources: dict[str, int]


def _count(examples: Sequence[Example]) -> _Held:
    meant = [item.intent or ("(must be rejected)" if item.negative else "(unknown)") for item in examples]
    lengths = [item.duration_s for item in examples if item.duration_s is not None]
    return _Held(
        n=len(examples),
        hours=round(sum(lengths) / 3600, 4) if len(lengths) == len(examples) else None,
        speakers=len({(item.source, item.speaker) for item in examples if item.speaker}),
        with_text=sum(item.text is not None for item in examples),
        intents=dict(Counter(meant).most_common()),
        slots=dict(Counter(slot.name for item in examples for slot in item.slots or ()).most_common()),
        languages=dict(Counter(item.language for item in examples).most_common()),
        sources=dict(Counter(item.source or "(unknown)" for item in examples).most_common()),
    )


def _counts(held: _Held) -> list[tuple[str, dict[str, int]]]:
    found = [("intents", held.intents), ("slots", held.slots), ("languages", held.languages), ("sources", held.sources)]
    return [(title, counts) for title, counts in found if counts]


def _hours(held: _Held) -> str:
    return "unknown (the manifest has no durations)" if held.hours is None else f"{held.hours:.2f}"
