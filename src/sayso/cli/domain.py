"""``sayso domain check|sample|import``: a domain file before any model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sayso.cli.console import BOLD, DIM, rows, say, styled, upwards
from sayso.core.errors import BundleError, DomainError, UsageError, nearest

if TYPE_CHECKING:
    from sayso.core.automaton import Automaton
    from sayso.nlu.schema import Domain
    from sayso.text.tokenizer import Tokenizer

app = typer.Typer(help="Check, sample and import domain files.", no_args_is_help=True, rich_markup_mode=None)
_FILE = typer.Argument(help="A domain file, or a folder of them.")


@app.command("check")
def check(
    file: Annotated[Path, _FILE],
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer to measure the graph with.")] = None,
) -> int:
    """Check a domain file; prints what it holds, the size of its graph, and what looks odd."""
    from sayso.nlu.compile import compile_domain
    from sayso.nlu.domain import load_domain

    domain = load_domain(file)
    units = _tokenizer(tokenizer)
    automaton = None if units is None else compile_domain(domain, units)
    say(f"{styled(domain.name, BOLD)} ({domain.language}): ok")
    rows(_facts(domain, automaton))
    for warning in _warnings(domain, automaton, units):
        say(f"warning: {warning}")
    return 0


@app.command("sample")
def sample(
    file: Annotated[Path, _FILE],
    n: Annotated[int, typer.Option("-n", help="How many sentences.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="The same seed gives the same sentences.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One object per line: text, intent, slots.")] = False,
) -> int:
    """Random sentences of the domain, with their meaning."""
    from sayso.nlu.domain import load_domain
    from sayso.nlu.sample import sample as draw

    for utterance in draw(load_domain(file), n, seed=seed):
        if as_json:
            slots = [{"name": slot.name, "value": slot.value, "text": slot.text} for slot in utterance.slots]
            say(json.dumps({"text": utterance.text, "intent": utterance.intent, "slots": slots}, ensure_ascii=False))
        else:
            meaning = [utterance.intent, *(f"{slot.name}={slot.value}" for slot in utterance.slots)]
            say(f"{utterance.text}  {styled('[' + ' '.join(meaning) + ']', DIM)}")
    return 0


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The file (or folder) of another system.")],
    out: Annotated[Path, typer.Option(help="The domain file to write.")],
    format: Annotated[
        str | None, typer.Option(help="rhino, hassil, rasa, snips, rhasspy or dialogflow; found out if left away.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> int:
    """Turn another system's file into a domain file."""
    from sayso.core.files import write_text
    from sayso.nlu.domain import load_domain
    from sayso.nlu.importers import IMPORTERS, import_domain, recognise

    if format is not None and format not in IMPORTERS:
        raise UsageError(f"--format {format}: no such format; {nearest(format, IMPORTERS)}")
    if out.exists() and not force:
        raise UsageError(f"{out}: exists already; choose another name, or give --force to replace it")
    if not file.exists():
        raise DomainError("no such file", file=str(file))
    write_text(out, [import_domain(file, format or recognise(file))])
    domain = load_domain(out)
    say(f"{out}: {len(domain.intents)} intents, {len(domain.templates)} sentences, {len(domain.lists)} lists")
    return 0


def _tokenizer(given: Path | None) -> Tokenizer | None:
    """The tokenizer given, else the base model's of a checkout, else the bundled model's, else None."""
    from sayso.core.bundle import read_bundle
    from sayso.runtime.load import resolve
    from sayso.text.tokenizer import Tokenizer

    place = given or upwards("models", "base", "tokenizer.model")
    if place is not None:
        return Tokenizer.load(place)
    try:
        bundle = read_bundle(resolve("home"))
    except BundleError:
        return None
    return Tokenizer(bundle.file(bundle.manifest.tokenizer), where="home")


def _facts(domain: Domain, automaton: Automaton | None) -> list[tuple[str, str]]:
    per_intent = Counter(template.intent for template in domain.templates)
    intents = [
        f"{name}: {per_intent[name]} sentences{', asks before it acts' if spec.risk == 'confirm' else ''}"
        for name, spec in domain.intents.items()
    ]
    lists = [
        f"{name}: {f'{len(spec.values)} values' if spec.kind != 'wildcard' else 'open'}"
        for name, spec in domain.lists.items()
    ]
    slots = [f"{name}: {spec.type} ({', '.join(spec.lists)})" for name, spec in domain.slots.items()]
    size = "unknown: no tokenizer here; give --tokenizer"
    if automaton is not None:
        held = [item.network for item in automaton.lists.values()]
        size = (
            f"{automaton.main.nodes} positions, {len(automaton.main.succ)} edges; "
            f"lists {sum(part.nodes for part in held)} positions, {sum(len(part.succ) for part in held)} edges"
        )
    return [
        (f"intents ({len(intents)})", "\n".join(intents)),
        (f"lists ({len(lists)})", "\n".join(lists) or "-"),
        (f"slots ({len(slots)})", "\n".join(slots) or "-"),
        ("templates", str(len(domain.templates))),
        ("ways to speak", f"{domain.sentences():.4g}"),
        ("out of domain", f"{len(domain.out_of_domain)} sentences"),
        ("graph", size),
    ]


def _warnings(domain: Domain, automaton: Automaton | None, tokenizer: Tokenizer | None) -> list[str]:
    """What is legal and probably not meant."""
    from sayso.nlu.automaton_io import accepts
    from sayso.text.normalise import normalise

    found = []
    if not domain.out_of_domain:
        found.append("no sayso.out_of_domain sentences: rejection cannot be judged; add what must not be understood")
    for name, spec in domain.lists.items():
        means: dict[str, set[str]] = {}
        for text, out in spec.forms:
            means.setdefault(normalise(text), set()).add(out)
        for text, outs in means.items():
            if len(outs) > 1:
                found.append(f"list '{name}': '{text}' means {' and '.join(sorted(outs))}; the first is taken")
    if automaton is None or tokenizer is None:
        return found
    for sentence in domain.out_of_domain:
        for meaning, _ in accepts(automaton, tokenizer.encode(normalise(sentence)))[:1]:
            found.append(
                f"out_of_domain '{sentence}' is a sentence of intent '{meaning.intent}': it will be understood"
            )
    pointers, outputs = automaton.main.final_ptr, automaton.main.final_out
    clashes = set()
    for node in range(automaton.main.nodes):
        ends = outputs[pointers[node] : pointers[node + 1]]
        names = sorted({automaton.meanings[int(number)].intent for number in ends})
        if len(names) > 1:
            clashes.add(" and ".join(names))
    found += [f"some sentences mean {names}: only one can be understood" for names in sorted(clashes)]
    return found
