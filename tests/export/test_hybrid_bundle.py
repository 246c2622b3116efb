"""The hybrid on the floor: a bundle that hears phones and writes words of its language model, streaming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from sayso.audio.features import fbank
from sayso.core.bundle import read_bundle
from sayso.core.errors import BundleError
from sayso.decoding.arpa import save_ngram
from sayso.decoding.hybrid import HybridConfig
from sayso.decoding.kneser_ney import estimate
from sayso.export.bundle import export_bundle
from sayso.export.verify import verify_bundle
from sayso.models.heads import HeadConfig
from sayso.models.streaming import Context
from sayso.runtime.model import Model
from sayso.runtime.settings import FreeConfig, LanguageModelConfig
from sayso.text.lexicon import Lexicon

SEARCH = HybridConfig(beam=8, token_margin=30.0, unfinished=0.0)


@torch.no_grad()
def test_the_floor_writes_the_words_that_the_search_finds(parts: Any, tmp_path: Path) -> None:
    ngram = estimate([["turn", "on", "the", "light"], ["lock", "the", "door"], ["oh", "the", "hall"]], 2)
    save_ngram(ngram, tmp_path / "lm.npz")
    torch.manual_seed(1)  # whether its phones tell clips apart is chance
    model = parts.model.config.model_copy(update={"phones": True, "heads": HeadConfig()}).build().eval()
    model.load_state_dict(parts.model.state_dict(), strict=False)
    model.phones.out.weight.mul_(8)
    lm = LanguageModelConfig(file=str(tmp_path / "lm.npz"), weight=0.2)
    config = parts.config(int8=False, whole=False, free=FreeConfig(search=SEARCH, lm=lm))
    export_bundle(model, parts.tokenizer, None, tmp_path / "b", config, clips=parts.clips[:1])
    floor = Model(read_bundle(tmp_path / "b"))
    search = SEARCH.build(ngram, 0.2, Lexicon.load(), parts.tokenizer.encode)
    seen = set()
    for clip in parts.clips:
        features = torch.from_numpy(fbank(clip))[None]
        encoded, frames = model.encoder(features, torch.tensor([features.shape[1]]), Context(4, 8))
        rows = model.phones(encoded)[0, : int(frames[0])].numpy()
        wanted = parts.tokenizer.decode(search.finish(search.step(search.start(), rows))[0][0].tokens)
        found = floor.understand(clip)
        assert found.text == wanted and set(wanted.split()) <= set(ngram.words)
        assert [word.text for word in found.words] == wanted.split()
        seen.add(wanted)
    assert len(seen) >= 2, "clips sound too much alike to this network: little was compared"
    verified = verify_bundle(tmp_path / "b", parts.clips[:2])
    assert verified.streamed_agreement == verified.batched_agreement == 1.0
    bare = parts.model.config.model_copy(update={"heads": HeadConfig()}).build().eval()
    with pytest.raises(BundleError, match=r"model\.phones = true"):
        export_bundle(bare, parts.tokenizer, None, tmp_path / "c", config)


def test_a_hybrid_without_words_is_refused() -> None:
    for lm in (None, LanguageModelConfig(file="x", unit="pieces")):
        with pytest.raises(ValidationError, match="finds the words of a language model"):
            FreeConfig(search=SEARCH, lm=lm)
    for lm in (LanguageModelConfig(file="x", bonus=1.0), LanguageModelConfig(file="x", unknown=-1.0)):
        with pytest.raises(ValidationError, match="its own 'bonus'"):
            FreeConfig(search=SEARCH, lm=lm)
    with pytest.raises(ValidationError, match="is for whole words"):
        LanguageModelConfig(file="x", unit="pieces", bonus=1.0)
