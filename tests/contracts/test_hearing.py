"""Every encoder of the table from waveform to tokens: packets of any size give what the masked whole gives, through
features, encoder and every search that needs no more than its outputs."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sayso.audio.features import FeatureConfig, fbank
from sayso.core.config import parse
from sayso.decoding.decoders import CTC_DECODERS, TRANSDUCER_DECODERS
from sayso.decoding.predictor import Predictor
from sayso.models.assembly import ModelConfig, SpeechModel
from sayso.models.encoders import ENCODERS
from sayso.models.streaming import Context

SMALL = {"width": 16, "layers": 2, "heads": 2, "feedforward": 24, "hidden": 20, "channels": 12, "kernel": 3}
CONTEXTS = [Context(1, 8), Context(4, 8), Context(4), Context(1, 8, 1)]
Floats = NDArray[np.float32]


@pytest.fixture(scope="module", params=sorted(ENCODERS))
def model(request: pytest.FixtureRequest) -> SpeechModel:
    torch.manual_seed(0)
    fields = ENCODERS[request.param].model_fields
    encoder = {"kind": request.param, **{name: value for name, value in SMALL.items() if name in fields}}
    parts = {"predictor": {"kind": "lstm", "width": 8}, "joiner": {"kind": "gated", "width": 8}}
    built = parse(ModelConfig, {"vocab": 9, "ctc_rate": 2, "encoder": encoder, **parts}, where="test").build().eval()
    with torch.no_grad():
        built.encoder.mean.fill_(9.0)
        built.encoder.scale.fill_(0.3)
        for out in (built.ctc.out, built.joiner.out):
            out.weight.mul_(8.0)
    return built


def sound(rng: np.random.Generator) -> Floats:
    """A tone in noise that jumps ten times a second, of about two seconds."""
    size = int(rng.integers(28_000, 36_000))
    tone = np.sin(np.cumsum(rng.uniform(0.05, 1.5, size // 1600 + 1).repeat(1600)[:size]))
    found: Floats = (0.3 * tone + 0.05 * rng.normal(size=size)).astype(np.float32)
    return found


def searches(model: SpeechModel) -> dict[str, Any]:
    def run(labels: NDArray[np.int64], states: list[Any]) -> tuple[Floats, list[Any]]:
        found = [model.predictor.advance(torch.from_numpy(row[None]), s) for row, s in zip(labels, states, strict=True)]
        return np.concatenate([out.numpy() for out, _ in found]), [state for _, state in found]

    def join(encoded: Floats, predicted: Floats) -> Floats:
        result: Floats = model.joiner.step(torch.from_numpy(encoded), torch.from_numpy(predicted)).numpy()
        return result

    parts = (Predictor(run, model.predictor.context, model.predictor.init_state(1)), join)
    return {
        **{kind: config().build() for kind, config in CTC_DECODERS.items()},
        **{kind: config().build(*parts) for kind, config in TRANSDUCER_DECODERS.items()},
    }


class Listener:
    """A stream: packets of samples in, through whole chunks of features, to the states of all searches."""

    def __init__(self, model: SpeechModel, context: Context) -> None:
        assert context.chunk_frames is not None
        self.model, self.context, self.size = model, context, 8 * context.chunk_frames
        self.fbank, self.state = FeatureConfig().build(), model.encoder.init_state(1, context)
        self.kept = np.zeros((0, 80), np.float32)
        self.searches = searches(model)
        self.states = {kind: search.start() for kind, search in self.searches.items()}

    def accept(self, samples: Floats) -> None:
        self.kept = np.concatenate([self.kept, self.fbank.accept(samples)])
        while len(self.kept) > self.size:  # the last chunk waits: it may be the end
            self._step(self.kept[: self.size], final=False)
            self.kept = self.kept[self.size :]

    def finish(self) -> dict[str, list[tuple[int, ...]]]:
        self.kept = np.concatenate([self.kept, self.fbank.finish()])
        while len(self.kept) > self.size:
            self._step(self.kept[: self.size], final=False)
            self.kept = self.kept[self.size :]
        self._step(self.kept, final=True)
        return {kind: read(search, self.states[kind]) for kind, search in self.searches.items()}

    def _step(self, rows: Floats, *, final: bool) -> None:
        x = torch.zeros(1, self.size, 80)
        x[0, : len(rows)] = torch.from_numpy(rows)
        step = partial(self.model.encoder.step, context=self.context, final=final)
        out, counts, self.state = step(x, torch.tensor([len(rows)]), self.state)
        hear(self.model, out[:, : int(counts)], self.searches, self.states)


def hear(model: SpeechModel, out: torch.Tensor, found: dict[str, Any], states: dict[str, Any]) -> None:
    """Give frames (1,n,D) to every search."""
    log_probs, encoded = model.ctc(out)[0].numpy(), out[0].numpy()
    for kind, search in found.items():
        search.step(states[kind], log_probs if kind in CTC_DECODERS else encoded)


def read(search: Any, state: Any) -> list[tuple[int, ...]]:
    """The best readings of a search, best first."""
    return [h.tokens for h in search.finish(state)[0][:2]]


@pytest.mark.parametrize("context", CONTEXTS, ids=str)
@torch.no_grad()
def test_packets_of_any_size_give_the_tokens_of_the_masked_whole(model: SpeechModel, context: Context) -> None:
    rng = np.random.default_rng(CONTEXTS.index(context))
    samples = sound(rng)
    features = torch.from_numpy(fbank(samples))[None]
    out, frames = model.encoder(features, torch.tensor([features.shape[1]]), context)
    whole = searches(model)
    states = {kind: search.start() for kind, search in whole.items()}
    hear(model, out[:, : int(frames)], whole, states)
    wanted = {kind: read(search, states[kind]) for kind, search in whole.items()}
    listener, place = Listener(model, context), 0
    while place < len(samples):
        packet = int(rng.integers(16, 6400))  # 1 to 400 ms
        listener.accept(samples[place : place + packet])
        place += packet
    assert listener.finish() == wanted
    lengths = {len(tokens[0]) for tokens in wanted.values()}
    assert max(lengths) >= 5 and len(lengths) > 1, "nothing was read, or all the same"
