"""A network that votes on free text, on the floor: what a stream writes is what the same search over PyTorch's own
outputs writes, and packets and other streams change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from sayso.audio.features import fbank
from sayso.core.bundle import read_bundle
from sayso.core.errors import BundleError, ConfigError
from sayso.decoding.ctc_beam import CtcBeamConfig
from sayso.decoding.hybrid import HybridConfig
from sayso.decoding.network import NetworkScorer
from sayso.decoding.predictor import Predictor
from sayso.export.bundle import export_bundle
from sayso.export.onnx import export_language
from sayso.export.verify import verify_bundle, verify_language
from sayso.models.heads import HeadConfig
from sayso.models.language import LanguageNetwork, LanguageNetworkConfig, save_language
from sayso.models.predictors import LstmConfig, LstmState
from sayso.models.streaming import Context
from sayso.runtime.model import Model
from sayso.runtime.settings import FreeConfig, LanguageModelConfig, NetworkConfig
from sayso.text.tokenizer import train_tokenizer

SEARCH = CtcBeamConfig(beam=6, token_margin=30.0)


def network(vocab: int) -> LanguageNetwork:
    torch.manual_seed(2)
    model = LanguageNetworkConfig(vocab=vocab, network=LstmConfig(width=24, layers=2)).build().eval()
    torch.nn.init.normal_(model.reader.embedding.weight)
    return model


def scorer(model: LanguageNetwork) -> NetworkScorer:
    """By PyTorch."""

    @torch.no_grad()
    def run(labels: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        state = LstmState(torch.cat([s.hidden for s in states]), torch.cat([s.cell for s in states]))
        out, after = model.advance(torch.from_numpy(labels), state)
        rows = range(len(labels))
        return out.numpy(), [LstmState(after.hidden[i : i + 1], after.cell[i : i + 1]) for i in rows]

    return NetworkScorer(Predictor(run, 1, model.init_state(1)), 2.0)


@torch.no_grad()
def test_the_floor_writes_what_the_search_finds(parts: Any, tmp_path: Path) -> None:
    language = network(parts.tokenizer.size)
    save_language(language, parts.tokenizer, tmp_path / "lm")
    model = parts.model.config.model_copy(update={"heads": HeadConfig()}).build().eval()
    model.load_state_dict(parts.model.state_dict(), strict=False)
    model.ctc.out.weight.mul_(0.2)  # in doubt
    model.ctc.out.bias[0] += 1
    votes = NetworkConfig(file=str(tmp_path / "lm"), weight=0.6, bonus=2.0)
    config = parts.config(int8=False, whole=False, free=FreeConfig(search=SEARCH, network=votes))
    export_bundle(model, parts.tokenizer, None, tmp_path / "b", config, clips=parts.clips[:1])
    floor = Model(read_bundle(tmp_path / "b"))
    alone, search = SEARCH.build(), SEARCH.build({"network": (scorer(language), 0.6)})
    changed = 0
    for clip in parts.clips:
        features = torch.from_numpy(fbank(clip))[None]
        encoded, frames = model.encoder(features, torch.tensor([features.shape[1]]), Context(4, 8))
        rows = model.ctc(encoded)[0, : int(frames[0]) * model.ctc.rate].numpy()
        before, wanted = (
            parts.tokenizer.decode(each.finish(each.step(each.start(), rows))[0][0].tokens) for each in (alone, search)
        )
        assert floor.understand(clip).text == wanted
        changed += wanted != before
    assert changed, "the network never changed a word: nothing was compared"
    verified = verify_bundle(tmp_path / "b", parts.clips[:2])
    assert verified.streamed_agreement == verified.batched_agreement == 1.0
    assert "language" in floor.manifest.passes[0].graphs
    assert floor.manifest.free["network"]["file"] == floor.manifest.graphs["language"].file


def test_a_graph_that_computes_something_else_is_not_written() -> None:
    model = network(12)
    graph = export_language(model)
    assert verify_language(model, graph) < 1e-4
    with torch.no_grad():
        model.bias[3] += 0.1
    with pytest.raises(BundleError, match="differs from it"):
        verify_language(model, graph)


def test_what_does_not_fit_is_refused(parts: Any, tmp_path: Path) -> None:
    other = train_tokenizer(["another text of other words"] * 20, tmp_path / "t.model", vocab=24)
    save_language(network(other.size), other, tmp_path / "lm")
    votes = NetworkConfig(file=str(tmp_path / "lm"))
    with pytest.raises(BundleError, match="another tokenizer"):
        export_bundle(
            parts.model,
            parts.tokenizer,
            None,
            tmp_path / "b",
            parts.config(int8=False, free=FreeConfig(search=SEARCH, network=votes)),
        )
    gone = FreeConfig(search=SEARCH, network=NetworkConfig(file=str(tmp_path / "nothing")))
    with pytest.raises(ConfigError, match="not a language model"):
        export_bundle(parts.model, parts.tokenizer, None, tmp_path / "b", parts.config(int8=False, free=gone))
    assert not (tmp_path / "b").exists()
    with pytest.raises(ValidationError, match="'network' cannot change"):
        FreeConfig(network=votes)
    with pytest.raises(ValidationError, match="goes by words"):
        FreeConfig(search=HybridConfig(), lm=LanguageModelConfig(file="x"), network=votes)
