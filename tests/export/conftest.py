"""A model of every part, small enough to export in a second, untrained; and a domain for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sayso.core.automaton import Automaton
from sayso.core.bundle import read_bundle
from sayso.core.manifest import IntentSpec
from sayso.decoding.greedy import TransducerGreedyConfig
from sayso.export.bundle import ExportConfig, export_bundle
from sayso.models.assembly import ModelConfig, SpeechModel
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.heads import HeadConfig
from sayso.models.joiners import AdditiveConfig
from sayso.models.predictors import StatelessConfig
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import load_domain
from sayso.runtime.model import Model
from sayso.runtime.settings import FreeConfig
from sayso.text.tokenizer import Tokenizer, train_tokenizer

Floats = NDArray[np.float32]
DOMAIN = """
language: en
intents:
  turn_on: {data: [{sentences: ["turn on [the] {area} light"]}]}
  lock: {data: [{sentences: ["lock the {area} door"]}]}
lists: {area: {values: [kitchen, hall]}}
sayso: {version: 1, intents: {lock: {risk: confirm}}}
"""
SENTENCES = ["turn on the kitchen light", "lock the hall door"]
CHUNK, LEFT = 4, 8


@dataclass(frozen=True)
class Parts:
    """Everything that an export needs."""

    model: SpeechModel
    tokenizer: Tokenizer
    automaton: Automaton
    clips: list[Floats]

    def config(self, **changes: object) -> ExportConfig:
        intents = (IntentSpec(name="lock", risk="confirm", clarify="Lock which door?"),)
        fields = {
            "name": "small",
            "chunk_frames": CHUNK,
            "left_frames": LEFT,
            "intents": intents,
            "stream": {"vad": False},
            "free": FreeConfig(search=TransducerGreedyConfig()),  # the untrained CTC head says the same to everything
        }
        return ExportConfig(**(fields | changes))  # type: ignore[arg-type]


def noises(count: int, seed: int) -> list[Floats]:
    """Filtered noise that swells and fades, of different lengths."""
    rng = np.random.default_rng(seed)
    clips = []
    for _ in range(count):
        size = int(rng.integers(8000, 30000))
        tone = np.sin(np.cumsum(rng.uniform(0.05, 1.5, size // 1600 + 1).repeat(1600)[:size]))
        clips.append((0.3 * tone + 0.05 * rng.normal(size=size)).astype(np.float32).clip(-1, 1))
    return clips


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("parts")
    train_tokenizer(SENTENCES * 20, folder / "t.model", vocab=30)
    tokenizer = Tokenizer.load(folder / "t.model")
    (folder / "domain.yaml").write_text(DOMAIN)
    automaton = compile_domain(load_domain(folder / "domain.yaml"), tokenizer)
    config = ModelConfig(
        vocab=tokenizer.size,
        encoder=ConformerConfig(channels=24, width=32, layers=2, heads=2, feedforward=48, kernel=5),
        predictor=StatelessConfig(width=16),
        joiner=AdditiveConfig(width=16),
        heads=HeadConfig(intents=("lock", "turn_on"), tags=("O", "B-area", "I-area"), width=16),
    )
    torch.manual_seed(0)  # all six clips sound different to this one
    model = config.build()
    with torch.no_grad():  # features are around 10 and must not drown an untrained network
        model.encoder.mean.fill_(9.0)
        model.encoder.scale.fill_(0.3)
        model.ctc.out.weight.mul_(8.0)
        model.joiner.out.weight.mul_(8.0)
    return Parts(model.eval(), tokenizer, automaton, noises(6, seed=0))


@pytest.fixture(scope="session")
def fp32(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full bundle in fp32, verified on three clips."""
    out = tmp_path_factory.mktemp("fp32") / "small.bundle"
    export_bundle(
        parts.model,
        parts.tokenizer,
        parts.automaton,
        out,
        parts.config(int8=False),
        clips=parts.clips,
        checks=noises(3, 1),
    )
    return out


@pytest.fixture(scope="session")
def loaded(fp32: Path) -> Model:
    return Model(read_bundle(fp32))
