"""The batched greedy transducer reads what the floor's streaming one does, with every predictor and joiner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sayso.decoding.greedy import CtcGreedy, TransducerGreedy
from sayso.decoding.predictor import Predictor
from sayso.evaluation.metrics import word_errors
from sayso.models.assembly import ModelConfig, SpeechModel
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.joiners import JOINERS
from sayso.models.predictors import PREDICTORS
from sayso.text.tokenizer import Tokenizer, train_tokenizer
from sayso.training.batches import Item
from sayso.training.loop import Corpus, Trainer
from sayso.training.recipe import LossWeights, TrainingConfig
from sayso.training.transducing import transducer_greedy


def floor_greedy(model: SpeechModel) -> TransducerGreedy:
    """The floor's search, fed by torch one row at a time."""

    def run(labels: np.ndarray, states: list[Any]) -> tuple[np.ndarray, list[Any]]:
        found = [model.predictor.advance(torch.from_numpy(row[None]), s) for row, s in zip(labels, states, strict=True)]
        return np.concatenate([out.numpy() for out, _ in found]), [state for _, state in found]

    def join(encoded: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        return model.joiner.step(torch.from_numpy(encoded), torch.from_numpy(predicted)).numpy()

    return TransducerGreedy(Predictor(run, model.predictor.context, model.predictor.init_state(1)), join)


@pytest.mark.parametrize("joiner", sorted(JOINERS))
@pytest.mark.parametrize("predictor", sorted(PREDICTORS))
@torch.no_grad()
def test_it_reads_what_the_floor_reads(predictor: str, joiner: str) -> None:
    torch.manual_seed(0)
    encoder = ConformerConfig(channels=8, width=16, layers=1, heads=2, feedforward=16)
    parts = {"predictor": PREDICTORS[predictor](width=8), "joiner": JOINERS[joiner](width=8)}
    model = ModelConfig(vocab=6, encoder=encoder, **parts).build().eval().double()
    model.predictor.embedding.weight.mul_(3)
    model.joiner.out.weight.mul_(3)
    model.joiner.out.bias[0] += 0.5  # some blanks, some symbols, some frames at their bound
    encoded, lengths = torch.randn(5, 20, 16, dtype=torch.float64) * 3, torch.tensor([20, 1, 7, 0, 13])
    batched = transducer_greedy(model, encoded, lengths)
    one = floor_greedy(model)
    streams = [one.step(one.start(), encoded[row, :n].numpy()) for row, n in enumerate(lengths.tolist())]
    assert batched == [stream.tokens for stream in streams]
    assert len(batched[0]) > 5 and len({len(tokens) for tokens in batched}) > 2 and len(set(batched[0])) > 2
    per_frame = np.bincount(streams[0].frames, minlength=20)
    assert per_frame.max() > 1 and (per_frame == 0).any()


@pytest.mark.parametrize("seed", range(10))
@torch.no_grad()
def test_any_small_model_and_any_lengths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    vocab, width, rows, most = (int(rng.integers(low, high)) for low, high in ((3, 12), (4, 10), (1, 7), (1, 16)))
    parts = {
        "predictor": PREDICTORS[str(rng.choice(sorted(PREDICTORS)))](width=width),
        "joiner": JOINERS[str(rng.choice(sorted(JOINERS)))](width=width),
    }
    encoder = ConformerConfig(channels=8, width=16, layers=1, heads=2, feedforward=16)
    model = ModelConfig(vocab=vocab, encoder=encoder, **parts).build().eval().double()
    model.predictor.embedding.weight.mul_(3)
    model.joiner.out.weight.mul_(4)
    encoded = torch.randn(rows, most, 16, dtype=torch.float64) * 3
    lengths = torch.from_numpy(rng.integers(0, most + 1, rows))
    one = floor_greedy(model)
    streams = [one.step(one.start(), encoded[row, :n].numpy()) for row, n in enumerate(lengths.tolist())]
    assert transducer_greedy(model, encoded, lengths) == [stream.tokens for stream in streams]


@pytest.mark.parametrize(("ctc", "transducer"), [(0.0, 1.0), (0.6, 0.4), (0.3, 0.7), (0.0, 0.0)])
@torch.no_grad()
def test_validation_reads_with_what_was_trained(tmp_path: Path, ctc: float, transducer: float) -> None:
    torch.manual_seed(0)
    train_tokenizer(["red lamp", "green lamp", "blue lamp"] * 9, tmp_path / "t.model", vocab=18)
    tokenizer = Tokenizer.load(tmp_path / "t.model")
    encoder = ConformerConfig(channels=8, width=16, layers=1, heads=2, feedforward=16)
    parts = {"predictor": PREDICTORS["lstm"](width=8), "joiner": JOINERS["gated"](width=8)}
    model = ModelConfig(vocab=tokenizer.size, encoder=encoder, **parts).build()
    model.joiner.out.weight.mul_(8)
    model.joiner.out.bias[0] += 3.0
    model.ctc.out.weight.mul_(8)
    rng = np.random.default_rng(0)
    sizes = [int(n) for n in rng.integers(8, 160, 20)]  # two batches
    clips = [rng.normal(size=(n, 80)).astype(np.float32) * 3 for n in sizes]
    said = tuple(tokenizer.encode("red lamp"))
    items = [Item(0, number, n, said) for number, n in enumerate(sizes)]
    corpus = Corpus(items, [1.0] * len(items), items, lambda item: clips[item.index])
    config = TrainingConfig(weights=LossWeights(ctc=ctc, transducer=transducer), precision="fp32", threads=1)
    trainer = Trainer(model, tokenizer, corpus, config, tmp_path, lambda text: None)
    one, errors = floor_greedy(model.eval()), {"ctc": 0, "transducer": 0}
    for clip in clips:
        encoded = model.encoder(torch.from_numpy(clip)[None], torch.tensor([len(clip)]))[0]
        heard = {
            "ctc": CtcGreedy().step(CtcGreedy().start(), model.ctc(encoded)[0].numpy()).tokens,
            "transducer": one.step(one.start(), encoded[0].numpy()).tokens,
        }
        for name, tokens in heard.items():
            errors[name] += word_errors("red lamp", tokenizer.decode(tokens)).errors
    wanted = errors["transducer" if transducer > ctc else "ctc"]
    assert errors["ctc"] != errors["transducer"] and trainer.validate() == pytest.approx(wanted / (2 * len(items)))


def test_nothing_and_nonsense() -> None:
    model = ModelConfig(vocab=6, encoder=ConformerConfig(channels=8, width=16, layers=1, heads=2)).build().eval()
    assert transducer_greedy(model, torch.zeros(0, 4, 16), torch.zeros(0, dtype=torch.int64)) == []
    with pytest.raises(ValueError, match="max_symbols"):
        transducer_greedy(model, torch.zeros(1, 4, 16), torch.tensor([4]), max_symbols=0)
