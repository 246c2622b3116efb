"""Heads and checkpoints: streams equal wholes, padding is inert, checkpoints round-trip."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sayso.core.errors import ConfigError
from sayso.losses import ctc_loss
from sayso.models.assembly import ModelConfig, load_checkpoint, save_checkpoint
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.encoders.lstm import LstmConfig
from sayso.models.encoders.transformer import TransformerConfig
from sayso.models.growth import quicken, with_layers
from sayso.models.heads import HeadConfig, IntentHead, SlotHead
from sayso.text.tokenizer import train_tokenizer

HEADS = HeadConfig(intents=("on", "off"), tags=("O", "B-area", "I-area"), width=16)


def test_intent_pooling_streams() -> None:
    torch.manual_seed(0)
    head = IntentHead(HEADS, 24).double().eval()
    frames, lengths = torch.randn(3, 13, 24, dtype=torch.float64), torch.tensor([13, 7, 1])
    whole = head(frames, lengths)
    for row, length in enumerate(lengths.tolist()):
        state, got = head.init_state(1), None
        for start in range(0, length, 4):
            piece = torch.nn.functional.pad(frames[row : row + 1, start : min(start + 4, length)], (0, 0, 0, 0))
            got, state = head.step(piece, torch.tensor([piece.shape[1]]), state)
        assert got is not None
        torch.testing.assert_close(got[0], whole[row], rtol=0, atol=1e-9)
    assert torch.allclose(whole.exp().sum(1), torch.ones(3, dtype=whole.dtype))


def test_slot_tags_ignore_padding() -> None:
    torch.manual_seed(0)
    head = SlotHead(HEADS, 24, 30).double().eval()
    frames, tokens = torch.randn(2, 6, 24, dtype=torch.float64), torch.randint(1, 30, (2, 6))
    lengths = torch.tensor([6, 3])
    together = head(frames, tokens, lengths)
    alone = head(frames[1:, :3], tokens[1:, :3], lengths[1:])
    torch.testing.assert_close(together[1, :3], alone[0], rtol=0, atol=1e-12)


def test_checkpoint_round_trip_and_damage(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(
        ["turn on the light", "set a timer", "play some jazz"] * 9, tmp_path / "t.model", vocab=40
    )
    encoder = ConformerConfig(width=16, layers=1, heads=2, feedforward=24, channels=8)
    model = ModelConfig(vocab=tokenizer.size, encoder=encoder).build()
    save_checkpoint(model, tokenizer, tmp_path / "ck")
    loaded, same = load_checkpoint(tmp_path / "ck")
    assert same.pieces == tokenizer.pieces
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    adapted, _ = load_checkpoint(tmp_path / "ck", heads=HEADS)
    assert adapted.intent is not None and adapted.slots is not None
    save_checkpoint(model, tokenizer, tmp_path / "half", half=True)
    assert (tmp_path / "half/model.safetensors").stat().st_size < 0.6 * (
        tmp_path / "ck/model.safetensors"
    ).stat().st_size
    (tmp_path / "ck/model.safetensors").write_bytes(b"broken")
    with pytest.raises(ConfigError, match="not a model checkpoint"):
        load_checkpoint(tmp_path / "ck")
    with pytest.raises(ConfigError, match="models/base"):
        load_checkpoint(tmp_path / "nowhere")


def test_a_deepened_encoder_says_nearly_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = ConformerConfig(width=32, layers=2, heads=2, feedforward=48, channels=16)
    model = ModelConfig(vocab=30, encoder=encoder).build().eval()
    for layer in model.encoder.layers:  # a trained norm is no longer ones and zeros
        torch.nn.init.uniform_(layer.norm.weight, 0.7, 1.3)
        torch.nn.init.normal_(layer.norm.bias, std=0.1)
    grown = with_layers(model, 4)
    x, lengths = torch.randn(2, 64, 80), torch.tensor([64, 40])
    (before, _), (after, _) = model.encoder(x, lengths), grown.encoder(x, lengths)
    assert len(grown.encoder.layers) == grown.config.encoder.layers == 4
    assert float((after - before).detach().norm() / before.detach().norm()) < 0.1
    assert torch.equal(grown.ctc.out.weight, model.ctc.out.weight)
    cut = with_layers(grown, 2)
    passed: list[torch.Tensor] = []
    assert len(cut.encoder.layers) == cut.config.encoder.layers == 2
    assert torch.equal(cut.encoder(x, lengths)[0], before)
    one = with_layers(model, 1)
    model.encoder(x, lengths, None, passed)
    assert torch.equal(one.encoder(x, lengths)[0], passed[0]) and torch.equal(one.ctc.out.weight, model.ctc.out.weight)


@torch.no_grad()
def test_only_encoders_with_residual_branches_are_deepened() -> None:
    torch.manual_seed(0)
    small = {"width": 16, "layers": 2, "channels": 8}
    model = ModelConfig(vocab=30, encoder=TransformerConfig(**small, heads=2, feedforward=24)).build().eval()
    grown = with_layers(model, 5)
    x, lengths = torch.randn(2, 64, 80), torch.tensor([64, 40])
    assert len(grown.encoder.layers) == 5
    assert torch.equal(grown.encoder(x, lengths)[0], model.encoder(x, lengths)[0])
    recurrent = ModelConfig(vocab=30, encoder=LstmConfig(**small, hidden=8)).build()
    with pytest.raises(ValueError, match="kind lstm have no residual branches"):
        with_layers(recurrent, 3)
    with pytest.raises(ValueError, match="fast_layers"):  # which reduce the frames, and must all stay
        with_layers(recurrent, 1)


@torch.no_grad()
def test_a_quickened_head_writes_the_same_and_has_room_for_more() -> None:
    torch.manual_seed(0)
    encoder = ConformerConfig(width=32, layers=2, heads=2, feedforward=48, channels=16)
    model = ModelConfig(vocab=30, encoder=encoder).build().eval()
    grown = quicken(model, 2)
    frames = torch.randn(2, 5, model.encoder.width)
    before, after = model.ctc(frames), grown.ctc(frames)
    assert after.shape == (2, 10, 30) and grown.config.ctc_rate == grown.ctc.rate == 2
    assert torch.equal(grown.ctc.out.weight, torch.cat([model.ctc.out.weight] * 2))
    for row in (0, 1):  # a wider product adds up in another order: the last bits differ with the number of threads
        torch.testing.assert_close(after[:, row::2], before, rtol=0, atol=1e-5)
    nine = torch.tensor([[3, 4, 5, 6, 7, 8, 9, 10, 11]])
    lengths = [(log_probs[:1], torch.tensor([log_probs.shape[1]])) for log_probs in (before, after)]
    losses = [ctc_loss(rows, nine, count, torch.tensor([9]), reduction="none") for rows, count in lengths]
    assert float(losses[0]) == 0, "nine labels do not go into five frames: no path, no loss"
    assert losses[1].isfinite().all() and float(losses[1]) > 0
    assert quicken(grown, 2) is grown
    with pytest.raises(ValueError, match="2 rows a frame"):
        quicken(grown, 3)


def test_the_base_of_the_checkout_loads() -> None:
    folder = Path(__file__).parents[2] / "models" / "base"
    model, _ = load_checkpoint(folder)
    assert model.config.encoder.kind == "conformer" and model.config.encoder.convolution
