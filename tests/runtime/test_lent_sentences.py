"""Sentences that real people lend to a grammar while a build hears them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sayso.build.config import BuildConfig, Replay
from sayso.build.guests import lent, with_guests
from sayso.build.judge import GUESTS, GUESTS_NOISE, REAL, REAL_NOISE, hear, held_out
from sayso.data.augment import measure_snr
from sayso.nlu.automaton_io import match
from sayso.nlu.domain import load_domain
from sayso.runtime.model import Model

STRANGE = "coffee call off"


def test_a_lent_sentence_is_understood_beside_the_domains_and_by_its_guest_alone(tones: Any, model: Model) -> None:
    domain = load_domain(tones.folder / "domain.yaml")
    host = with_guests(model, domain, [STRANGE, "uncle bob", STRANGE])
    assert model.explain(tones.say(STRANGE), 16000)[1].intent != lent(STRANGE)
    assert not match(tones.automaton, tones.tokenizer, STRANGE), "the domain's own automaton is untouched"
    result, outcome = host.explain(tones.say(STRANGE), 16000)
    assert outcome.intent == lent(STRANGE) and result.text == STRANGE and result.slots == ()
    assert host.explain(tones.say("uncle bob"), 16000)[1].intent == lent("uncle bob")
    usual, same = model.explain(tones.say("call anna"), 16000)[0], host.explain(tones.say("call anna"), 16000)[0]
    assert same.intent is not None and (usual.intent, usual.slots, usual.decision) == (
        same.intent,
        same.slots,
        same.decision,
    )
    assert host.engine.automaton is not None
    shares = {meaning.intent: np.exp(meaning.weight) for meaning in host.engine.automaton.meanings}
    assert shares == pytest.approx(dict.fromkeys(shares, 1 / 5)), "a guest's sentence weighs as an intent does"


def _corpora(folder: Path) -> Path:
    """Enough sentences that some validate, half of them too short to be a command."""
    rng = np.random.default_rng(0)
    (folder / "commonvoice-v1").mkdir(parents=True)
    rows = []
    for number in range(400):
        text = f"coffee {'uncle ' * (number % 7)}bob" if number % 2 else "coffee"
        samples = rng.normal(0, 0.1, 4000).astype(np.float32)
        soundfile.write(folder / "commonvoice-v1" / f"{number}.wav", samples, 16000)
        rows.append({"audio": f"{number}.wav", "text": text, "speaker": f"s{number}", "duration": 0.25})
    (folder / "commonvoice-v1" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_guests_and_strangers_are_different_people_and_both_are_heard_in_noise(tones: Any, tmp_path: Path) -> None:
    root = _corpora(tmp_path / "corpora")
    config = BuildConfig(replay=(Replay(corpus="commonvoice-v1", clips=1),), real_negatives=5, real_commands=4)
    clips = held_out({}, config, 0, root, lambda text: text == "coffee bob", tones.tokenizer)
    kinds = {kind: [clip for clip in clips if clip.kind == kind] for kind in (REAL, REAL_NOISE, GUESTS, GUESTS_NOISE)}
    assert [len(found) for found in kinds.values()] == [5, 5, len(kinds[GUESTS]), len(kinds[GUESTS])]
    assert 2 <= len(kinds[GUESTS]) <= 4
    strangers, guests = ({clip.example.audio for clip in kinds[kind]} for kind in (REAL, GUESTS))
    assert not strangers & guests
    for clip in kinds[GUESTS]:
        assert clip.example.text is not None and 2 <= len(clip.example.text.split()) <= 10
        assert clip.example.text != "coffee bob", "what the domain has is no stranger's sentence"
        assert clip.example.intent == lent(clip.example.text) and not clip.example.negative
    assert all(clip.example.negative for clip in kinds[REAL])
    for clean, noisy in zip(kinds[GUESTS], kinds[GUESTS_NOISE], strict=True):
        assert clean.example == noisy.example and clean.judged == noisy.judged
        heard = measure_snr(clean.samples, noisy.samples - clean.samples, "mean")
        assert config.snr_db[0] - 0.2 <= heard <= config.snr_db[1] + 0.2
    domain, said = load_domain(tones.folder / "domain.yaml"), kinds[GUESTS] + kinds[REAL]
    texts: list[str] = []
    found = hear(tones.model(), said, texts.append, "hearing", domain)
    assert [item.clip for item in found] == said
    everyone = held_out({}, config.model_copy(update={"real_commands": 0}), 0, root, lambda _: False, tones.tokenizer)
    assert {clip.kind for clip in everyone} == {REAL, REAL_NOISE}
