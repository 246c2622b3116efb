"""Encoders that others trained: the numbers are those of transformers itself, padding changes nothing, what is frozen
stays, and a checkpoint can be read without the source. Tiny random models, saved to a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sayso.core.config import parse
from sayso.core.errors import BundleError, ConfigError, DataError
from sayso.export.bundle import ExportConfig, export_bundle
from sayso.models.assembly import ModelConfig, SpeechModel, load_checkpoint, save_checkpoint
from sayso.models.encoders.pretrained import Pretrained, PretrainedConfig
from sayso.text.tokenizer import Tokenizer, train_tokenizer
from sayso.training.augment import augment_samples
from sayso.training.batches import Item, collate
from sayso.training.objective import Objective
from sayso.training.recipe import LossWeights, SpecAugmentConfig

transformers = pytest.importorskip("transformers")
CONVOLUTIONS = {"conv_dim": (8,) * 7, "num_feat_extract_layers": 7, "num_conv_pos_embeddings": 4}
SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 8,
         "num_conv_pos_embedding_groups": 2, **CONVOLUTIONS}  # fmt: skip
LAYERED = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WHISPER = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "num_mel_bins": 80,
           "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_source_positions": 150,
           "vocab_size": 40, "max_target_positions": 8, "pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1,
           "decoder_start_token_id": 1}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "wav2vec2": {"model_type": "wav2vec2", **SMALL},
    "wav2vec2 large": {"model_type": "wav2vec2", **SMALL, **LAYERED},
    "hubert": {"model_type": "hubert", **SMALL},
    "wavlm": {"model_type": "wavlm", **SMALL, **LAYERED, "num_buckets": 20, "max_bucket_distance": 40},
    "whisper": {"model_type": "whisper", **WHISPER},
}


@pytest.fixture(scope="module", params=sorted(CASES))
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    settings = dict(CASES[request.param])
    body = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(settings.pop("model_type"), **settings))
    folder: Path = tmp_path_factory.mktemp("source")
    body.save_pretrained(folder)
    return folder


def encoder_of(source: Path, **settings: Any) -> Pretrained:
    torch.manual_seed(1)
    return PretrainedConfig(source=str(source), width=12, dropout=0.0, **settings).build().eval()


def sounds() -> tuple[Tensor, Tensor]:
    """Three recordings as rows of 10 ms, padded with zeros."""
    generator, lengths = torch.Generator().manual_seed(2), torch.tensor([96, 61, 8])
    x = torch.randn(3, 96, 160, generator=generator) * 0.1
    for row, length in enumerate(lengths.tolist()):
        x[row, length:] = 0
    return x, lengths


def own_hidden(source: Path, samples: np.ndarray, normalise: bool) -> list[Tensor]:
    """Hidden states of one recording, by transformers alone."""
    body = transformers.AutoModel.from_pretrained(source).eval()
    if body.config.model_type == "whisper":
        features = transformers.WhisperFeatureExtractor(chunk_length=3)(
            samples, sampling_rate=16000, return_tensors="pt"
        )
        return list(body.encoder(features["input_features"], output_hidden_states=True).hidden_states)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise)
    given = extractor(samples, sampling_rate=16000, return_tensors="pt")["input_values"]
    return list(body(given, output_hidden_states=True).hidden_states)


@torch.no_grad()
def test_every_layer_says_what_transformers_says(source: Path) -> None:
    encoder, (x, lengths) = encoder_of(source), sounds()
    layers, own = encoder.hidden(x, lengths), encoder._frames(lengths).tolist()
    assert len(layers) == encoder.body.config.num_hidden_layers + 1
    for row, length in enumerate(lengths.tolist()):
        wanted = own_hidden(source, x[row, :length].flatten().numpy(), bool(encoder.config.normalise))
        for mine, its in zip(layers, wanted, strict=True):
            torch.testing.assert_close(mine[row, : own[row]], its[0, : own[row]], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_layers_are_mixed_by_their_weights_over_80_ms(source: Path) -> None:
    encoder, (x, lengths) = encoder_of(source), sounds()
    assert encoder.mix is not None
    encoder.mix.copy_(torch.linspace(-1, 2, len(encoder.mix)))
    layers, own = encoder.hidden(x, lengths), encoder._frames(lengths).tolist()
    out, frames = encoder(x, lengths)
    assert frames.tolist() == [12, 8, 1] and out.shape == (3, 12, 12)
    share = torch.softmax(encoder.mix, 0)
    for row, count in enumerate(frames.tolist()):
        heard = sum(w * layer[row] for w, layer in zip(share, layers, strict=True))
        for n in range(count):
            four = [heard[min(4 * n + place, own[row] - 1)] for place in range(4)]
            wanted = encoder.projection(torch.stack(four).mean(0))
            torch.testing.assert_close(out[row, n], wanted, rtol=1e-4, atol=1e-5)
        assert not out[row, count:].any()
    last = encoder_of(source, weighted=False)
    assert last.mix is None
    torch.testing.assert_close(last.mixed(layers, lengths, 96)[0, 0], layers[-1][0, :4].mean(0), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_no_sound_gives_no_frames(source: Path) -> None:
    out, frames = encoder_of(source)(torch.zeros(2, 0, 160), torch.tensor([0, 0]))
    assert out.shape == (2, 0, 12) and frames.tolist() == [0, 0]


@torch.no_grad()
def test_padding_and_company_change_nothing(source: Path) -> None:
    encoder, (x, lengths) = encoder_of(source), sounds()
    together, frames = encoder(x, lengths)
    loud = x.clone()
    for row, length in enumerate(lengths.tolist()):
        loud[row, length:] = 3.0
    torch.testing.assert_close(encoder(loud, lengths)[0], together, rtol=0, atol=0)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = encoder(x[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(alone[0], together[row, : int(frames[row])], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_it_hears_in_bf16_what_it_hears_in_fp32(source: Path) -> None:
    encoder, (x, lengths) = encoder_of(source), sounds()
    plain, _ = encoder(x, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = encoder(x, lengths)
    assert float((mixed - plain).norm() / plain.norm()) < 0.05  # its own log-mels were made in bf16, and failed


def digest(weights: dict[str, Tensor]) -> dict[str, str]:
    return {name: hashlib.sha256(value.detach().numpy().tobytes()).hexdigest() for name, value in weights.items()}


@pytest.mark.parametrize("trained", [0, 1, "all"])
def test_what_is_frozen_stays_and_the_rest_learns(source: Path, trained: int | str) -> None:
    x, lengths = sounds()
    settings = {"kind": "pretrained", "source": str(source), "width": 12, "trained_layers": trained}
    model = parse(ModelConfig, {"vocab": 6, "encoder": settings}, where="test").build()
    objective = Objective(model, LossWeights(ctc=1.0, transducer=0.0))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    before = digest(dict(model.encoder.named_parameters()))
    items = [Item(0, row, length, (2, 3)) for row, length in enumerate(lengths.tolist()[:2])]
    batch = collate([x[row, :length].numpy() for row, length in enumerate(lengths.tolist()[:2])], items)
    model.train()
    objective(batch, (4, 8))["total"].backward()
    optimiser.step()
    after, frozen = digest(dict(model.encoder.named_parameters())), set(model.encoder.frozen)
    changed = {name for name in before if before[name] != after[name]}
    assert not changed & frozen and {"mix", "projection.weight"} <= changed
    count = model.encoder.body.config.num_hidden_layers
    inside = {name.split(".layers.")[1][0] for name in changed if ".layers." in name}
    assert inside == {str(n) for n in range(count - (count if trained == "all" else int(trained)), count)}
    assert model.encoder.body.training == (trained != 0)
    if trained == 0:
        assert changed == {"mix", "projection.weight", "projection.bias"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    file = tmp_path_factory.mktemp("tokens") / "t.model"
    train_tokenizer(["turn on the light", "lock the door"] * 9, file, vocab=20)
    return Tokenizer.load(file)


def model_of(source: Path, tokenizer: Tokenizer) -> SpeechModel:
    encoder = PretrainedConfig(source=str(source), width=12)
    return ModelConfig(vocab=tokenizer.size, encoder=encoder).build().eval()


@torch.no_grad()
def test_a_checkpoint_needs_no_source(source: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model, (x, lengths) = model_of(source, tokenizer), sounds()
    save_checkpoint(model, tokenizer, tmp_path / "model")
    text = (tmp_path / "model" / "model.json").read_text()
    (tmp_path / "model" / "model.json").write_text(text.replace(str(source), str(tmp_path / "gone")))
    found, _ = load_checkpoint(tmp_path / "model")
    torch.testing.assert_close(found.encoder(x, lengths)[0], model.encoder(x, lengths)[0], rtol=0, atol=0)


def test_it_hears_whole_recordings(source: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = model_of(source, tokenizer)
    assert model.encoder.lookahead_ms() is None and model.encoder.receptive_field_ms() is None
    with pytest.raises(ValueError, match="distil"):
        model.encoder.init_state(1)
    with pytest.raises(BundleError, match="whole recordings"):
        export_bundle(model, tokenizer, None, tmp_path / "b", ExportConfig(name="b", int8=False))
    if model.encoder.body.config.model_type == "whisper":
        with pytest.raises(DataError, match="hears 3 s at most"):
            model.encoder(torch.zeros(1, 301, 160), torch.tensor([301]))


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a folder that transformers saved"):
        PretrainedConfig(source=str(tmp_path / "none")).build()
    transformers.BertConfig(hidden_size=8, num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is a 'bert'; legal are wav2vec2"):
        PretrainedConfig(source=str(tmp_path)).build()
    with pytest.raises(ConfigError, match="leave 'layers' out"):
        parse(ModelConfig, {"encoder": {"kind": "pretrained", "source": "x", "layers": 3}}, where="test")


def test_samples_are_made_faster_louder_and_silent_in_places() -> None:
    rng, x = np.random.default_rng(0), np.ones((100, 160), np.float32)
    one, two = augment_samples(x, SpecAugmentConfig(tempo=0.2, level=1.0, time_share=0.1, time_width=5), rng, views=2)
    assert one.shape == two.shape and 80 <= len(one) <= 120 and one.dtype == np.float32
    for view in (one, two):
        loud = view[view.any(1)]
        assert 0 < len(view) - len(loud) <= 0.1 * len(view) + 5
        np.testing.assert_allclose(loud, loud[0, 0], rtol=1e-6)
        assert np.exp(-0.5) <= loud[0, 0] <= np.exp(0.5)
    assert one.max() != two.max()
