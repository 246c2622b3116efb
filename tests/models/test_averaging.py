"""Averaged checkpoints: the mean of what is shared, the heads of the last, nothing that does not belong together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sayso.core.errors import ConfigError
from sayso.models.assembly import ModelConfig, load_checkpoint, save_checkpoint
from sayso.models.averaging import average
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.heads import HeadConfig
from sayso.text.tokenizer import Tokenizer, train_tokenizer

HEADS = HeadConfig(intents=("on", "off"), tags=("O", "B-area", "I-area"), width=16)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokens") / "t.model"
    return train_tokenizer(["turn on the light", "set a timer"] * 9, path, vocab=30)


def saved(folder: Path, tokenizer: Tokenizer, seed: int, *, layers: int = 1, heads: HeadConfig = HEADS) -> Path:
    torch.manual_seed(seed)
    encoder = ConformerConfig(channels=8, width=16, layers=layers, heads=2, feedforward=24, kernel=5)
    model = ModelConfig(vocab=tokenizer.size, encoder=encoder, heads=heads).build()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.normal_()
    save_checkpoint(model, tokenizer, folder)
    return folder


def test_the_mean_with_the_heads_of_the_last(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folders = [saved(tmp_path / str(seed), tokenizer, seed) for seed in range(3)]
    states = [load_checkpoint(folder)[0].state_dict() for folder in folders]
    mean, tokens = average(folders)
    assert tokens.model == tokenizer.model
    for name, value in mean.state_dict().items():
        if name.startswith(("intent.", "slots.")):
            assert torch.equal(value, states[2][name]), name
        elif value.is_floating_point():
            torch.testing.assert_close(value, (states[0][name] + states[1][name] + states[2][name]) / 3)
    for name, value in average(folders[:1])[0].state_dict().items():
        assert torch.equal(value, states[0][name]), name


def test_heads_may_differ_and_nothing_else(tokenizer: Tokenizer, tmp_path: Path) -> None:
    one, plain = saved(tmp_path / "one", tokenizer, 0), saved(tmp_path / "plain", tokenizer, 1, heads=HeadConfig())
    assert average([plain, one])[0].config.heads == HEADS
    deep = saved(tmp_path / "deep", tokenizer, 2, layers=2)
    with pytest.raises(ConfigError, match=r"deep and .*one are not the same model"):
        average([deep, one])
    other = train_tokenizer(["lock the front door", "close the blinds"] * 9, tmp_path / "o.model", vocab=tokenizer.size)
    with pytest.raises(ConfigError, match=r"strange and .*one are not the same model"):
        average([saved(tmp_path / "strange", other, 3), one])
    with pytest.raises(ConfigError, match="nothing to average"):
        average([])
