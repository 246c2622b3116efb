"""The batched greedy transducer reads what the floor's streaming one does, with every predictor and joiner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sayso.decoding.greedy import TransducerGreedy
from sayso.decoding.predictor import Predictor
from sayso.models.assembly import ModelConfig, SpeechModel
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.joiners import JOINERS
from sayso.models.predictors import PREDICTORS
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


def test_nothing_and_nonsense() -> None:
    model = ModelConfig(vocab=6, encoder=ConformerConfig(channels=8, width=16, layers=1, heads=2)).build().eval()
    assert transducer_greedy(model, torch.zeros(0, 4, 16), torch.zeros(0, dtype=torch.int64)) == []
    with pytest.raises(ValueError, match="max_symbols"):
        transducer_greedy(model, torch.zeros(1, 4, 16), torch.tensor([4]), max_symbols=0)
