"""``sayso data``: recordings and their meaning, made, imported, split, checked and described.

What only reads (``check``, ``show``, ``card``) runs on the floor and takes plain JSONL as well as Lhotse cuts; what
writes cuts needs the workshop.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sayso.cli.console import BOLD, Progress, complain, hushed, rows, say, styled
from sayso.core.errors import AudioError, DataError, UsageError, nearest, require

if TYPE_CHECKING:
    from sayso.core.result import Example

app = typer.Typer(help="Make, import, check and describe data.", no_args_is_help=True, rich_markup_mode=None)
_MANIFEST = typer.Argument(help="Lhotse cuts or plain labels (.jsonl, .jsonl.gz), or a folder with one such file.")
TITLES = {"accent": "accent or dialect", "device": "device or channel"}
Role = Literal["train", "valid", "examples"]
SHOWN, EXAMPLES = 20, 5  # complaints, and warnings of one kind, that a person reads


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
    both: Annotated[
        bool, typer.Option("--both", help="Speakers and sentences apart at once; what would join them is left out.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> int:
    """Set a validation part aside: no speaker (or else no sentence) lies on both sides, today or with more data."""
    require("lhotse", extra="train", purpose="sayso data split")
    from sayso.data.manifest import read, write
    from sayso.data.splits import cut_both, cut_valid

    for target in (train, valid):
        _free(target, force)
    cuts = read(manifest)
    left_out = 0
    if both:
        *parts, left_out = cut_both(cuts, per_mille)
    else:
        parts = list(cut_valid(cuts, per_mille))
    for name, part in zip(("training", "validation"), parts, strict=True):
        if not len(part):
            raise DataError(
                f"{manifest}: the {name} part would be empty, there are too few speakers or sentences for "
                f"{per_mille} in a thousand; give another --per-mille"
            )
    for target, part in zip((train, valid), parts, strict=True):
        say(f"{write(part, target)}: {len(part)} recordings")
    if left_out:
        say(f"left out, of a speaker on one side and with a sentence on the other: {left_out} recordings")
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
def check(
    manifests: Annotated[list[Path], typer.Argument(help="One, or several that must not share speakers or sentences.")],
    near: Annotated[float, typer.Option(help="How alike near sentences are, of 1.", min=0.5, max=1)] = 0.9,
) -> int:
    """Read manifests, decode every recording, and find what occurs twice, in one of them or in two."""
    from sayso.data.curation import leaks, odd_labels, repeats
    from sayso.evaluation.examples import read_examples

    sets = [read_examples(manifest) for manifest in manifests]
    sounds, failed = [], 0
    for manifest, examples in zip(manifests, sets, strict=True):
        heard = _hear(examples, f"{manifest}: " if len(manifests) > 1 else "")
        sounds.append(heard)
        failed += heard.count(None)
        doubles = [f"{one} and {other} are the same recording" for one, other in repeats(examples, heard)]
        _warn(doubles)
        _warn(odd_labels(examples))
    shared = 0
    for i, j in combinations(range(len(sets)), 2):
        found = leaks(sets[i], sets[j], (sounds[i], sounds[j]), near)
        for kind, count in Counter(leak.kind for leak in found).items():
            pairs = [f"{leak.second} is like {leak.first}" for leak in found if leak.kind == kind]
            plain = [pair.split(" is like ")[0] for pair in pairs]
            say(f"{manifests[i]} and {manifests[j]} share {count} by {kind}, such as:")
            rows([("", text) for text in (plain if kind in ("speaker", "sentence") else pairs)[:EXAMPLES]])
            shared += kind != "near sentence"
    return 1 if failed or shared else 0


def _hear(examples: Sequence[Example], title: str) -> list[str | None]:
    """Hashes of the recordings' sound, None for those that cannot be read, which are named."""
    from sayso.data.curation import hear

    progress, sounds, seconds, other = Progress("checked"), list[str | None](), 0.0, list[str]()
    for number, example in enumerate(examples):
        try:
            with hushed():
                heard = hear(example.audio)
        except AudioError as error:
            complain(error)
            sounds.append(None)
        else:
            sounds.append(heard.sound)
            seconds += heard.duration_s
            if example.duration_s is not None and abs(example.duration_s - heard.duration_s) > 0.1:
                other.append(f"{example.audio} lasts {heard.duration_s:.2f} s, not {example.duration_s:.2f} s")
        progress(number + 1, len(examples))
    good = len(sounds) - sounds.count(None)
    ok = "" if None in sounds else "ok: "
    say(f"{title}{ok}{good} of {len(examples)} recordings can be read, {seconds / 3600:.2f} h")
    _warn(other)
    return sounds


def _warn(lines: Sequence[str]) -> None:
    for line in lines[:EXAMPLES]:
        say(f"warning: {line}")
    if len(lines) > EXAMPLES:
        say(f"warning: ... and {len(lines) - EXAMPLES} more of this kind")


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
    say(f"\nContent (texts, meanings, names of recordings): sha256 `{held.sha256}`.")
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
    traits: dict[str, dict[str, int]]
    sha256: str


def _count(examples: Sequence[Example]) -> _Held:
    from sayso.data.curation import TRAITS, content_hash

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
        traits={
            trait: dict(Counter(item.custom.get(trait, "(unknown)") for item in examples).most_common())
            for trait in TRAITS
            if any(trait in item.custom for item in examples)
        },
        sha256=content_hash(examples),
    )


def _counts(held: _Held) -> list[tuple[str, dict[str, int]]]:
    found = [("intents", held.intents), ("slots", held.slots), ("languages", held.languages), ("sources", held.sources)]
    found += [(TITLES.get(trait, trait), counts) for trait, counts in held.traits.items()]
    return [(title, counts) for title, counts in found if counts]


def _hours(held: _Held) -> str:
    return "unknown (the manifest has no durations)" if held.hours is None else f"{held.hours:.2f}"
