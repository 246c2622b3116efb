"""The whole line on a domain of three intents and an untrained base: its structure, not its accuracy."""

from __future__ import annotations

import itertools
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile  # type: ignore[import-untyped]
import torch

from sayso.build import line
from sayso.build.config import BuildConfig, Replay
from sayso.build.line import build
from sayso.build.negatives import EVERYDAY
from sayso.build.phrases import open_phrases
from sayso.build.speech import NEGATIVE, SEEN, TRAIN, TRAIN_NEGATIVE, UNSEEN_VALUES, outside, write_script
from sayso.core.bundle import read_bundle
from sayso.core.errors import BundleError, ConfigError, DataError, SynthesisError
from sayso.core.result import Slot
from sayso.data.manifest import make_cut, meaning, write
from sayso.data.synthesis import ENGINES
from sayso.models.assembly import ModelConfig, save_checkpoint
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.joiners import AdditiveConfig
from sayso.models.predictors import StatelessConfig
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import load_domain, parse_domain
from sayso.nlu.sample import open_templates
from sayso.runtime.model import Model
from sayso.text.normalise import normalise
from sayso.text.tokenizer import Tokenizer, train_tokenizer
from sayso.training.recipe import Source, TrainingConfig

DOMAIN = """
language: en
intents:
  turn_on: {data: [{sentences: ["turn on [the] {area} light", "{area} light on", "light up the {area}"]}]}
  lock: {data: [{sentences: ["lock the {area} door", "close the {area} door", "{area} door lock"]}]}
  stop: {data: [{sentences: ["stop it", "never mind"]}]}
lists: {area: {values: [kitchen, hall, garage, bedroom, office, cellar, attic, garden, bathroom, balcony]}}
sayso:
  version: 1
  intents: {lock: {risk: confirm, clarify: "Lock which door?"}}
  out_of_domain: ["tell me a joke", "stop it", "open the window"]
"""
TINY = {
    "sentences_per_minute": 1,
    "least_sentences": 12,
    "copies": 1,
    "train_negatives": 4,
    "seen": 6,
    "unseen_templates": 2,
    "unseen_values": 2,
    "noisy": 2,
    "rooms": 2,
    "negatives": 4,
    "quantise": 4,
    "checks": 1,
    "replay": (),
    "processes": 1,
    "intent_weights": (0.0, 1.0),
}
SPEAKS = [name for name in ("flite", "espeak-ng") if ENGINES[name].missing() is None]
needs_voices = pytest.mark.skipif(len(SPEAKS) < 2, reason="needs flite and espeak-ng")


def tiny(folder: Path, **changes: object) -> BuildConfig:
    training = TrainingConfig(
        steps=3, batch_seconds=8.0, warmup=1, chunks=(4,), left_frames=8, precision="fp32", threads=1,
        validate_clips=2, ema=0.9,
    )  # fmt: skip
    fields = {**TINY, "engines": tuple(SPEAKS), "training": training, "work": str(folder / "work"), **changes}
    return BuildConfig(**fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    texts = [normalise(text) for text in EVERYDAY]
    tokenizer = train_tokenizer(texts * 2, folder / "t.model", vocab=40)
    encoder = ConformerConfig(
        channels=24, width=32, layers=2, heads=2, feedforward=48, kernel=5, chunk_frames=4, left_frames=8
    )
    torch.manual_seed(1)
    model = ModelConfig(
        vocab=40, encoder=encoder, predictor=StatelessConfig(width=16), joiner=AdditiveConfig(width=16)
    ).build()
    with torch.no_grad():
        model.encoder.mean.fill_(9.0)
        model.encoder.scale.fill_(0.3)
    save_checkpoint(model, tokenizer, folder, half=True)
    return folder


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("domain") / "small.yaml"
    path.write_text(DOMAIN)
    return path


class Killed(Exception):
    """Stands for a kill."""


@pytest.fixture(autouse=True)
def no_corpora(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAYSO_CORPORA", str(tmp_path / "nowhere"))


@pytest.mark.slow
@needs_voices
def test_a_killed_build_goes_on_and_the_bundle_understands(base: Path, domain: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "small.bundle"

    def die(text: str) -> None:
        if text.startswith("3/5"):
            raise Killed

    with pytest.raises(Killed):
        build(domain, out, minutes=0.5, base=base, say=die, config=tiny(tmp_path))
    assert not out.exists()
    speech = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.flac")}
    said: list[str] = []
    report = build(domain, out, minutes=0.5, base=base, say=said.append, config=tiny(tmp_path))
    assert any("resuming" in text and "step 3" in text for text in said)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.flac")} == speech

    page = report.read_text()
    assert report == Path(f"{out}.html")
    for title in ("All synthetic", "Held-out voices", "In noise", "In rooms", "Outside the domain, synthetic"):
        assert title in page
    model = Model(read_bundle(out))
    manifest = model.manifest
    assert manifest.precision == "int8"
    assert [(spec.name, spec.risk) for spec in manifest.intents] == [
        ("turn_on", "none"),
        ("lock", "confirm"),
        ("stop", "none"),
    ]
    assert manifest.tags == ("O", "B-area", "I-area")
    assert manifest.figures["verification"]["streamed_agreement"] == 1.0
    assert manifest.figures["verification"]["batched_agreement"] == 1.0
    assert manifest.figures["held_out"]["All synthetic"]["n"] > 0
    assert manifest.trained["steps"] == 3
    tried = manifest.figures["right_by_intent_weight"]
    assert list(tried) == ["0", "1"]
    assert tried[f"{manifest.combine['intent_weight']:g}"] == max(tried.values())
    result, outcome = model.explain(next(iter(speech)))
    assert result.decision in ("accept", "clarify", "reject")
    assert outcome.intent in ("turn_on", "lock", "stop", None)
    assert sorted(path.name for path in out.parent.iterdir()) == ["small.bundle", "small.bundle.html"]


@pytest.mark.slow
@needs_voices
def test_replayed_speech_is_heard_in_noise_where_copies_are_asked_for(
    base: Path, domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "corpora" / "commonvoice-v1"
    corpus.mkdir(parents=True)
    rows = []
    for number, words in enumerate(itertools.product(("so", "on", "it"), repeat=3)):
        soundfile.write(corpus / f"{number}.wav", np.random.default_rng(number).normal(0, 0.1, 32000), 16000)
        rows.append(json.dumps({"audio": f"{number}.wav", "text": " ".join(words), "duration": 2.0}))
    (corpus / "train.jsonl").write_text("\n".join(rows))
    monkeypatch.setenv("SAYSO_CORPORA", str(tmp_path / "corpora"))
    heard: list[int] = []

    def listen(text: str) -> None:
        if found := re.match(r"(\d+) training clips", text):
            heard.append(int(found[1]))
            raise Killed

    for copies in (0, 2):
        config = tiny(tmp_path, replay=(Replay(corpus="commonvoice-v1", clips=8, copies=copies),))
        with pytest.raises(Killed):
            build(domain, tmp_path / "o.bundle", minutes=0.5, base=base, say=listen, config=config)
    assert heard[1] - heard[0] == 16


@pytest.mark.slow
def test_without_a_voice_the_grammar_alone(
    base: Path, domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    config = tiny(tmp_path, engines=("flite",))
    report = build(domain, tmp_path / "g.bundle", minutes=0, base=base, say=said.append, config=config)
    manifest = read_bundle(tmp_path / "g.bundle").manifest
    assert manifest.precision == "fp32"
    assert manifest.calibrated_on is None
    assert manifest.source == f"domain/{domain.name}", "it carries what it was compiled from"
    assert read_bundle(tmp_path / "g.bundle").file(manifest.source) == domain.read_bytes()
    assert "intent" not in manifest.graphs
    assert any("nothing can be spoken" in text for text in said)
    assert "Nothing was judged" in report.read_text()
    with pytest.raises(SynthesisError, match="flite"):
        build(domain, tmp_path / "t.bundle", minutes=1, base=base, say=said.append, config=config)
    assert not (tmp_path / "t.bundle").exists()


def test_what_is_wrong_is_said_before_the_work(
    base: Path, domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="not a model checkpoint"):
        build(domain, tmp_path / "o.bundle", base=tmp_path, config=tiny(tmp_path))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("dear")
    with pytest.raises(BundleError, match="not a bundle"):
        build(domain, tmp_path / "taken", base=base, config=tiny(tmp_path))
    assert os.listdir(tmp_path / "taken") == ["letter.txt"]
    for intent, slot, wrong in (("turn_of", "area", "turn_of"), ("lock", "aria", "aria")):
        custom = meaning(intent, [Slot(name=slot, value="hall", text="hall")])
        cut = make_cut("mine", tmp_path / "mine.flac", "so be it", duration=1.0, custom=custom)
        own = Source(manifest=str(write([cut], tmp_path / "mine.jsonl")))
        with pytest.raises(DataError, match=f"mine.jsonl: cut mine: .*has no '{wrong}'"):
            build(domain, tmp_path / "o.bundle", base=base, config=tiny(tmp_path, recordings=(own,)))
    monkeypatch.setattr(line, "load_checkpoint", lambda _: (SimpleNamespace(phones=object()), None))
    (tmp_path / "de.yaml").write_text(DOMAIN.replace("language: en", "language: de"))
    with pytest.raises(ConfigError, match="language 'de': the lexicon is English"):
        build(tmp_path / "de.yaml", tmp_path / "o.bundle", base=base, config=tiny(tmp_path))
    assert not (tmp_path / "work").exists()


def test_the_script_holds_out_and_leaves_out(base: Path, domain: Path, tmp_path: Path) -> None:
    described, tokenizer = load_domain(domain), Tokenizer.load(base / "tokenizer.model")
    automaton = compile_domain(described, tokenizer)
    strange = outside(described, automaton, tokenizer)
    assert "tell me a joke" in strange
    assert "stop it" not in strange  # the grammar says it, whatever the file says
    config = tiny(tmp_path, least_sentences=40, seen=20, unseen_values=10, held_values=0.3)
    script = write_script(described, strange, ["so it goes"], 1.0, config, seed=0)
    values = {kind: {slot.value for u in script.spoken[kind] for slot in u.slots} for kind in (TRAIN, SEEN)}
    unseen = [{slot.value for slot in u.slots} for u in script.spoken[UNSEEN_VALUES]]
    assert len(set.union(*unseen)) == 3
    assert all(values[TRAIN].isdisjoint(found) and values[SEEN].isdisjoint(found) for found in unseen)
    assert {u.intent for u in script.spoken[TRAIN]} == {"turn_on", "lock", "stop"}
    assert all(u.intent is None for u in script.spoken[NEGATIVE])
    assert {u.text for u in script.spoken[NEGATIVE]} <= set(strange)
    trained = {u.text for u in script.spoken[TRAIN_NEGATIVE]}
    assert "so it goes" in trained
    assert trained.isdisjoint(u.text for u in script.spoken[NEGATIVE])


def test_open_slots_hold_many_words_and_judging_has_its_own(tmp_path: Path) -> None:
    described = parse_domain(
        "intents: {add: {data: [{sentences: ['add {item} to the list', 'we need {item}']}]},"
        " go: {data: [{sentences: ['go to {floor}'], weight: 30}]}}\n"
        "lists: {item: {wildcard: true}, floor: {range: {from: 1, to: 100}}}"
    )
    assert open_templates(described) == [0, 1]
    held_words = {phrase.split()[-1] for phrase in open_phrases(300, 0, held=True)}
    talk = ["the quick brown fox", f"look at the {min(held_words)} over there"]
    shares = {}
    for share in (0.0, 0.5):
        config = tiny(tmp_path, least_sentences=60, open_share=share, seen=20, unseen_values=10, held_templates=0.0)
        script = write_script(described, ["so be it"], talk, 1.0, config, seed=0)
        values = {
            kind: [slot.value for u in spoken for slot in u.slots if slot.name == "item"]
            for kind, spoken in script.spoken.items()
        }
        shares[share] = len(values[TRAIN])
    assert shares[0.5] >= shares[0.0] + 25
    assert len(set(values[TRAIN])) > 0.9 * len(values[TRAIN])
    assert len({word for phrase in values[TRAIN] for word in phrase.split()}) > 30
    assert values[UNSEEN_VALUES] and {phrase.split()[-1] for phrase in values[UNSEEN_VALUES]} <= held_words


def test_phrases_keep_words_for_judging() -> None:
    held = {phrase.split()[-1] for phrase in open_phrases(300, 0, held=True)}
    talk = ["the quick brown fox", *(f"is there any {word} left" for word in sorted(held))]
    known = open_phrases(2000, 0, talk)
    assert len(set(known)) == len(known) == 2000 and known == open_phrases(2000, 0, talk)
    assert held.isdisjoint(word for phrase in known for word in phrase.split())
    assert {"quick", "quick brown", "brown fox"} & set(known) and not {"the", "is", "any"} & set(known)
