"""A language model that is a network: what it says is what reading token by token says, it learns what there is to
learn, and a run that was stopped goes on as if it had not been."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sayso.core.errors import ConfigError, DataError
from sayso.models.language import END, LanguageNetwork, LanguageNetworkConfig, load_language
from sayso.models.predictors import LstmConfig
from sayso.text.tokenizer import Tokenizer, train_tokenizer
from sayso.training.language import batches, nats_per_token
from sayso.training.run import train

SENTENCES = ["turn on the light", "lock the door", "turn the light off", "the door is open"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    (tmp_path / "base").mkdir()
    return train_tokenizer(SENTENCES * 9, tmp_path / "base" / "tokenizer.model", vocab=28)


@pytest.fixture
def recipe(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    rows = [
        {"id": text, "start": 0, "duration": 1.0, "channel": 0, "type": "MonoCut",
         "supervisions": [{"id": text, "recording_id": text, "start": 0, "duration": 1.0, "channel": 0, "text": text}],
         "recording": {"id": text, "sampling_rate": 16000, "num_samples": 16000, "duration": 1.0, "channel_ids": [0],
                       "sources": [{"type": "file", "channels": [0], "source": f"{tmp_path}/none.flac"}]}}
        for text in ("lock the light", "turn on the door")
    ]  # fmt: skip
    (tmp_path / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "text.txt").write_text("\n".join([*SENTENCES, "Lock the light!", "what is this"]))
    path = tmp_path / "recipe.toml"
    path.write_text(
        f"""
kind = "language"
tokenizer = "{tmp_path / "base"}"
text = ["{tmp_path / "text.txt"}"]
network = {{width = 24, dropout = 0.1}}
data.train = [{{manifest = "{tmp_path / "valid.jsonl"}", split = "valid"}}]
training = {{epochs = 4, batch_tokens = 20, warmup = 2, threads = 1}}
"""
    )
    return path


def network(vocab: int = 9, layers: int = 2) -> LanguageNetwork:
    torch.manual_seed(1)
    settings = LstmConfig(width=16, layers=layers, dropout=0.0)
    model = LanguageNetworkConfig(vocab=vocab, network=settings).build().eval()
    torch.nn.init.normal_(model.bias)
    return model


@torch.no_grad()
def test_padded_sentences_cost_what_reading_each_token_by_token_does() -> None:
    model, rows = network(), [[3, 4, 4], [], [8, 1, 2, 5, 7], [6]]
    ((tokens, lengths),) = batches(rows, 1000, None)
    nats, counts = model.loss(tokens, lengths)
    assert counts.tolist() == [1, 2, 4, 6]
    for row, found in zip(sorted(rows, key=len), nats.tolist(), strict=True):
        state, last, wanted = model.init_state(1), END, 0.0
        for token in (*row, END):
            log_probs, state = model.advance(torch.tensor([[last]]), state)
            assert math.isclose(float(log_probs.exp().sum()), 1.0, rel_tol=1e-5)
            wanted, last = wanted - float(log_probs[0, token]), token
        assert math.isclose(found, wanted, rel_tol=1e-5)


def test_every_sentence_is_read_once_an_epoch_in_bounded_batches() -> None:
    rng = np.random.default_rng(0)
    rows = [list(map(int, rng.integers(1, 50, int(rng.integers(1, 20))))) for _ in range(200)]
    drawn = [batches(rows, 90, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    for some in drawn:
        read = [tokens[i, : int(n)].tolist() for tokens, lengths in some for i, n in enumerate(lengths)]
        assert sorted(read) == sorted(rows)
        assert all(tokens.shape[0] == 1 or tokens.shape[0] * (tokens.shape[1] + 1) <= 90 for tokens, _ in some)
    first, again, other = ([tokens.tolist() for tokens, _ in some] for some in drawn)
    assert first == again != other


def test_it_learns_what_there_is_to_learn(recipe: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    text = tmp_path / "four.txt"
    text.write_text("\n".join(SENTENCES))
    given = [f'text=["{text}"]', "training.epochs=150", "training.rate=0.02", "network.dropout=0", "training.ema=0.9"]
    lines: list[str] = []
    folder = train(recipe, given, tmp_path / "run", lines.append)
    nats = [float(line.split("token ")[1].split(",")[0]) for line in lines]
    tokens = sum(len(tokenizer.encode(line)) + 1 for line in SENTENCES)
    # four sentences, each as likely: nobody can know more than ln 4 a sentence
    assert 0.8 * 4 * math.log(4) / tokens < nats[-1] < 1.35 * 4 * math.log(4) / tokens < nats[0] / 4
    model, its = load_language(folder / "model")
    assert its.sha256 == tokenizer.sha256
    words = np.random.default_rng(0)
    mixed = [" ".join(words.permutation(line.split())) for line in SENTENCES]
    said, control = (nats_per_token(model, [tokenizer.encode(t) for t in some]) for some in (SENTENCES, mixed))
    assert said < control / 2
    assert (folder / "curves.png").is_file()


def test_a_stopped_run_goes_on_as_if_it_had_not_been(recipe: Path, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if line.startswith("epoch 3"):
            raise KeyboardInterrupt

    straight = train(recipe, [], tmp_path / "straight", lambda line: None)
    train(recipe, [], tmp_path / "stopped", stop)
    lines: list[str] = []
    again = train(recipe, [], tmp_path / "stopped", lines.append)
    assert "after epoch 2" in lines[0]
    for name in ("metrics.jsonl", "model/language.safetensors", "state/model.safetensors"):
        assert (straight / name).read_bytes() == (again / name).read_bytes(), name
    with pytest.raises(ConfigError, match=r"training\.rate"):
        train(recipe, ["training.rate=0.1"], tmp_path / "stopped", lambda line: None)


def test_judged_sentences_are_not_learnt(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("lock the light\nturn on the door\n")
    with pytest.raises(DataError, match="no sentence to learn"):
        train(recipe, [], tmp_path / "run", lambda line: None)


def test_what_is_missing_is_named(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("lock the door")
    with pytest.raises(DataError, match="no sentence to learn"):  # the only one judges
        train(recipe, ["data.train=[]", f'text=["{tmp_path / "one.txt"}"]'], tmp_path / "a", lambda line: None)
    with pytest.raises(DataError, match=r"nowhere\.txt cannot be read"):
        train(recipe, ['text=["nowhere.txt"]'], tmp_path / "b", lambda line: None)
    with pytest.raises(ConfigError, match="not a language model"):
        load_language(tmp_path)
