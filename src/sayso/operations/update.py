"""Changing what a shipped bundle understands without training: its lists, sentences, intents and language model.

The graph is compiled again from the domain file that the bundle carries, with the change in it; the networks stay byte
for byte. An intent that the intent head was not trained on is heard by the graph alone (``manifest.classes`` says what
the head knows), until a change brings a head that was; that replaces one graph and nothing else. The new bundle is
written elsewhere, opened and tried before it takes the old one's place, and keeps what it replaced under
``history/REVISION``, so that ``rollback_bundle`` gives back the old one to the last byte.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sayso.core.bundle import MANIFEST, Bundle, check_target, read_bundle, write_bundle, write_verbatim
from sayso.core.card import CARD, card
from sayso.core.errors import BundleError, ConfigError, DomainError, UsageError
from sayso.core.manifest import IntentSpec, Manifest
from sayso.nlu.automaton_io import match, save_automaton
from sayso.nlu.carried import FOLDER, Files, Values, carry, read_carried, with_list, with_sentences
from sayso.nlu.compile import compile_domain
from sayso.nlu.sample import sample
from sayso.nlu.schema import Domain
from sayso.runtime.engine import Chunk
from sayso.runtime.language import LM, packed
from sayso.runtime.model import Model
from sayso.runtime.settings import FreeConfig, LanguageModelConfig
from sayso.text.lexicon import Lexicon
from sayso.text.tokenizer import Tokenizer

HISTORY = "history"
TRIED = 300  # sentences of the new domain that must mean what they were drawn for
Say = Callable[[str], None]


@dataclass(frozen=True)
class Head:
    """A serialised intent graph, and its classes in their order; one more is everything else (``build.teach``)."""

    graph: bytes
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is to be different. ``domain`` (a file or folder) replaces the domain that the bundle carries, before
    ``lists`` replace the values of its lists and ``sentences`` (by intent, old or new) join its own. ``lm`` is an ARPA
    or packed model of words for the free text. ``head`` takes the place of the intent head."""

    domain: Path | None = None
    lists: Mapping[str, Values] = field(default_factory=dict)
    sentences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lm: Path | None = None
    head: Head | None = None


def update_bundle(
    path: Path | str, change: Change, *, out: Path | str | None = None, say: Say | None = None
) -> Manifest:
    """Write the changed bundle at ``out`` (default: in place of the old) and return its manifest.

    Raises ``DomainError`` for a domain that cannot be compiled, ``DataError`` for a language model that cannot be read,
    ``BundleError`` for a bundle that carries no domain file or does not work once changed, ``UsageError`` where nothing
    is to be changed; then the bundle is as it was.
    """
    bundle, target = read_bundle(path), Path(path if out is None else out)
    check_target(target)
    say = say or _silent
    files = {name: bundle.file(name) for name in bundle.manifest.files}
    manifest, changed = bundle.manifest, dict[str, bytes]()
    source, carried = _source(bundle, change)
    fields: dict[str, Any] = {"revision": manifest.revision + 1}
    domain: Domain | None = None
    if change.domain is not None or change.lists or change.sentences:
        for name, values in change.lists.items():
            carried = with_list(source, carried, name, values)
        for intent, sentences in change.sentences.items():
            carried = with_sentences(source, carried, intent, sentences)
        domain = read_carried(source, carried)
        compiled = _compiled(domain, bundle)
        files = {name: content for name, content in files.items() if not name.startswith(f"{FOLDER}/")}
        changed |= {**carried, **compiled}
        fields |= _fields(domain, manifest, source, tuple(compiled))
    if change.lm is not None:
        changed[LM] = packed(str(change.lm))
        fields["free"] = _free(manifest)
    if change.head is not None:
        changed[_intent_file(bundle)] = change.head.graph
        fields["classes"] = change.head.classes
    if not changed:
        raise UsageError("nothing to change; give a domain, a list, sentences or a language model")
    new = manifest.model_copy(update=fields)
    changed[CARD] = card(new).encode()
    kept = _kept(bundle, {**files, **changed})
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "trial"
        write_bundle(new, {**files, **changed, **kept}, trial)
        _try(trial, domain, bundle, change, say)
    return write_bundle(new, {**files, **changed, **kept}, target)


def rollback_bundle(path: Path | str, *, out: Path | str | None = None) -> Manifest:
    """The bundle before its last update, byte for byte, at ``out`` (default: in its place); returns its manifest.

    Raises ``BundleError`` where it was never updated.
    """
    bundle, target = read_bundle(path), Path(path if out is None else out)
    place = f"{HISTORY}/{bundle.manifest.revision - 1}/"
    if place + MANIFEST not in bundle.manifest.files:
        raise BundleError(f"{path}: was never updated, so there is nothing to go back to")
    text = bundle.file(place + MANIFEST)
    names: dict[str, str] = json.loads(text)["files"]
    files = {name: bundle.file(place + name if place + name in bundle.manifest.files else name) for name in names}
    write_verbatim(text, files, target)
    return read_bundle(target).manifest


def _silent(line: str) -> None:
    """Nobody asked."""


def _source(bundle: Bundle, change: Change) -> tuple[str, Files]:
    """The domain files to compile: the new ones, or those that the bundle carries."""
    if change.domain is not None:
        return carry(change.domain)
    source = bundle.manifest.source
    if source is None:
        if change.lists or change.sentences:
            raise BundleError(f"{bundle.where}: carries no domain file; give the one it was built from with --domain")
        return "", {}
    return source, {name: bundle.file(name) for name in bundle.manifest.files if name.startswith(f"{FOLDER}/")}


def _compiled(domain: Domain, bundle: Bundle) -> Files:
    """The compiled domain, spelled or pronounced as the old one."""
    if not bundle.manifest.automaton:
        raise BundleError(f"{bundle.where}: has no domain, it transcribes; build one with 'sayso build'")
    tokenizer = Tokenizer(bundle.file(bundle.manifest.tokenizer), where=bundle.where)
    pronounced = "phones" in bundle.manifest.graphs
    automaton = compile_domain(domain, tokenizer, Lexicon.load() if pronounced else None)
    with tempfile.TemporaryDirectory() as folder:
        save_automaton(automaton, Path(folder))
        return {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}


def _fields(domain: Domain, manifest: Manifest, source: str, automaton: tuple[str, ...]) -> dict[str, Any]:
    """What a manifest says of a domain; the head keeps its classes."""
    return {
        "domain": domain.name,
        "source": source,
        "automaton": automaton,
        "classes": manifest.intent_classes,
        "intents": tuple(IntentSpec(name=n, risk=s.risk, clarify=s.clarify) for n, s in domain.intents.items()),
        "trained": {**manifest.trained, "domain": domain.fingerprint[:16]},
    }


def _free(manifest: Manifest) -> dict[str, Any]:
    """The search of free text with the language model; a best path becomes a beam, which alone can listen to one."""
    settings = dict(manifest.free) or {"kind": "free"}
    search = settings.get("search") or {"kind": "ctc_greedy"}
    if "greedy" in search["kind"]:
        settings["search"] = {"kind": search["kind"].replace("greedy", "beam")}
    old = settings.get("lm") or {}
    settings["lm"] = {**LanguageModelConfig(file=LM).model_dump(mode="json"), **old, "file": LM}
    try:
        return FreeConfig.model_validate(settings).model_dump(mode="json")
    except ValueError as error:
        raise ConfigError(f"free text cannot be searched with this language model: {error}") from None


def _intent_file(bundle: Bundle) -> str:
    if "intent" not in bundle.manifest.graphs:
        raise BundleError(f"{bundle.where}: has no intent head that another could replace")
    return bundle.manifest.graphs["intent"].file


def _kept(bundle: Bundle, files: Mapping[str, bytes]) -> Files:
    """What the old bundle has and the new one has not, and its manifest as it stands."""
    place = f"{HISTORY}/{bundle.manifest.revision}/"
    old = {name: bundle.file(name) for name in bundle.manifest.files}
    kept = {place + name: content for name, content in old.items() if files.get(name) != content}
    return {place + MANIFEST: bundle.manifest_text(), **kept}


def _try(trial: Path, domain: Domain | None, old: Bundle, change: Change, say: Say) -> None:
    """Open every graph, hear something, and read sentences of the domain; ``BundleError`` where anything is wrong."""
    model = Model(read_bundle(trial))
    for role, spec in old.manifest.graphs.items():
        given = role == "intent" and change.head is not None
        if model.manifest.files[spec.file] != old.manifest.files[spec.file] and not given:
            raise BundleError(f"the graph '{role}' has changed, which no update may do; the bundle is as it was")
    model.understand(np.zeros(model.manifest.sample_rate, np.float32))
    if change.head is not None:
        engine, known = model.engine, (*change.head.classes, "everything else")
        silence = Chunk(features=np.zeros((engine.chunk, engine.features.mels), np.float32))
        heard = engine.step([engine.start()], [silence])[0].intent
        if heard is None or len(heard) != len(known):
            raise BundleError(f"the head given has not the {len(known)} classes {', '.join(known)}; nothing changed")
    automaton = model.engine.automaton
    if domain is None or automaton is None:
        return
    drawn, unclear = sample(domain, TRIED, seed=0), dict[str, str]()
    for utterance in drawn:
        found = match(automaton, model.engine.tokenizer, utterance.text)
        if not any(meaning.intent == utterance.intent for meaning, _ in found):
            raise DomainError(
                f"'{utterance.text}' does not mean {utterance.intent} once compiled; the bundle is as it was"
            )
        intents = sorted({meaning.intent for meaning, _ in found})
        if len(intents) > 1:
            unclear[" and ".join(intents)] = utterance.text
    for intents_, text in unclear.items():
        say(f"warning: '{text}' means {intents_}; the intent head or chance decides")
    fresh = [name for name in domain.intents if name not in model.manifest.intent_classes]
    if fresh:
        say(f"new to the intent head, which has no say in them: {', '.join(fresh)}")
