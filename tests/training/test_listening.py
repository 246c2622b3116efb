"""Runs from recipes on speech without transcripts and with an encoder that others trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file

from sayso.core.errors import ConfigError
from sayso.data.manifest import make_cut, meaning, read, write
from sayso.data.samples import SampleBank
from sayso.training.run import train

TEXTS = {"red lamp": 500.0, "green lamp": 900.0, "blue lamp": 1500.0}
MODEL = """
[model]
vocab = 16
encoder = {kind = "conformer", channels = 12, width = 16, layers = 1, heads = 2, feedforward = 24, kernel = 3}
"""
RECIPE = """
name = "small"
HEAD
[data]
cache = "FOLDER/cache"
processes = 1
[[data.train]]
manifest = "FOLDER/plain.jsonl"
unlabelled = true
[[data.train]]
manifest = "FOLDER/written.jsonl"
[[data.train]]
manifest = "FOLDER/written.jsonl"
split = "valid"
[training]
steps = 4
batch_seconds = 8.0
rate = 3e-3
warmup = 2
chunks = [4]
validate_every = 4
precision = "fp32"
threads = 1
"""
SPEAKING = ["training.weights.ctc=1.0", "training.weights.transducer=0.0"]
SILENT = ["training.weights.masked=1.0", "training.weights.ctc=0.0", "training.weights.transducer=0.0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recordings with transcripts, six without."""
    found, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name in ("plain", "written"):
        cuts: list[Any] = []
        for number in range(6):
            text, hertz = list(TEXTS.items())[number % 3]
            path = found / f"{name}{number}.wav"
            wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(22000) / 16000) + rng.normal(0, 0.01, 22000)
            sf.write(path, wave, 16000)
            cuts.append(make_cut(f"{name}{number}", path, text if name == "written" else None, custom=meaning("show")))
        write(cuts, found / f"{name}.jsonl")
    return found


def recipe(folder: Path, head: str, name: str) -> Path:
    file = folder / f"{name}.toml"
    file.write_text(RECIPE.replace("HEAD", head).replace("FOLDER", str(folder)))
    return file


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_an_encoder_listens_and_then_writes(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    heard = train(recipe(folder, MODEL, "listen"), [*SILENT, "training.steps=50"], tmp_path / "listen", said.append)
    assert any("12 training clips" in line for line in said)
    row = next(row for row in rows(heard) if "masked" in row)
    assert row["total"] == pytest.approx(row["masked"]) and 1 < row["masked_perplexity"] <= 1024 and "ctc" not in row
    weights = load_file(heard / "model" / "model.safetensors")
    assert not any("quantiser" in name for name in weights)
    init = f'init = "{heard / "model"}"'
    wrote = train(recipe(folder, init, "write"), SPEAKING, tmp_path / "write", said.append)
    after = load_file(wrote / "model" / "model.safetensors")
    assert after.keys() == weights.keys() and not torch.equal(after["ctc.out.weight"], weights["ctc.out.weight"])


def test_a_run_leaves_a_frozen_source_as_it_was(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    source = transformers.Wav2Vec2Model(
        transformers.Wav2Vec2Config(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
            num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        )
    )  # fmt: skip
    source.save_pretrained(tmp_path / "source")
    head = f'[model]\nvocab = 16\nencoder = {{kind = "pretrained", source = "{tmp_path / "source"}", width = 12}}\n'
    file = recipe(folder, head, "frozen")
    run = train(file, [*SPEAKING, "training.ema=0.0"], tmp_path / "run", lambda line: None)
    weights, frozen = load_file(run / "model" / "model.safetensors"), source.state_dict()
    for name, value in frozen.items():
        assert torch.equal(weights[f"encoder.body.{name}"], value), name
    assert bool(weights["encoder.mix"].abs().sum() > 0)
    with pytest.raises(ConfigError, match="hears samples"):
        train(file, SILENT, tmp_path / "silent", lambda line: None)


def test_samples_are_rows_of_10_ms(folder: Path) -> None:
    bank = SampleBank(read(folder / "written.jsonl"))
    wave, _ = sf.read(folder / "written1.wav", dtype="float32")
    assert len(bank) == 6 and bank.meta(1).text == "green lamp" and bank.frames(1) == 138
    found = bank.features(1)
    assert found.shape == (138, 160)
    np.testing.assert_array_equal(found.reshape(-1)[:22000], wave)
    assert not found.reshape(-1)[22000:].any()
