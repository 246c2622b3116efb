"""What every attention decoder in the table must do, on tiny random instances in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from sayso.core.config import override, parse
from sayso.core.errors import ConfigError
from sayso.core.trees import TreeSchema
from sayso.models.assembly import ModelConfig, load_checkpoint, save_checkpoint
from sayso.models.decoders import DECODERS, Decoder, DecoderConfig
from sayso.models.decoders.masked import TriggeredDecoderConfig
from sayso.models.decoders.transformer import TransformerDecoderConfig
from sayso.models.encoders.conformer import ConformerConfig
from sayso.text.tokenizer import train_tokenizer

TRANSFORMER = {"kind": "transformer", "width": 12, "layers": 2, "heads": 3, "feedforward": 20, "longest": 7}
LSTM = {"kind": "lstm", "width": 12, "layers": 2, "attention": 8}
SIZES = {
    "transformer": TRANSFORMER,
    "lstm": {**LSTM, "location": 3, "kernel": 5},
    "chunk": {"core": {**LSTM, "location": 0}, "chunk_frames": 2},
    "mocha": {**LSTM, "kind": "mocha", "chunk_frames": 2, "bias": -0.01},
    "triggered": {"core": TRANSFORMER, "ahead_frames": 1},
}
LENGTHS = torch.tensor([9, 4, 1])


@pytest.fixture(params=sorted(DECODERS))
def decoder(request: pytest.FixtureRequest) -> Decoder[Any]:
    torch.manual_seed(0)
    built: Decoder[Any] = (
        TypeAdapter(DecoderConfig).validate_python({"kind": request.param, **SIZES[request.param]}).build(10, 11)
    )
    assert built.config.kind == request.param and isinstance(built.config, DECODERS[request.param])
    return built.double().eval()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(3, 9, 10, generator=generator, dtype=torch.float64)
    return torch.randint(1, 11, (3, 6), generator=generator), frames


@pytest.mark.parametrize(("kind", "precision"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@torch.no_grad()
def test_label_by_label_is_the_whole(decoder: Decoder[Any], kind: torch.dtype, precision: float) -> None:
    decoder = decoder.to(kind)
    labels, frames = inputs()
    whole = decoder(labels, frames.to(kind), LENGTHS)
    assert whole.shape == (3, 7, 11)
    memory, state = decoder.memory(frames.to(kind), LENGTHS), decoder.init_state(3, 9)
    assert all(len(t) == 3 and not t.any() for t in state.named().values())
    shapes = {name: t.shape for name, t in state.named().items()}
    for u in range(7):
        last = labels[:, u - 1] if u else torch.zeros(3, dtype=torch.int64)
        logits, state = decoder.step(last, state, memory)
        torch.testing.assert_close(logits, whole[:, u], rtol=0, atol=precision)
        assert {name: t.shape for name, t in state.named().items()} == shapes, "a growing state"


@torch.no_grad()
def test_streams_of_different_age_share_a_batch(decoder: Decoder[Any]) -> None:
    labels, frames = inputs()
    memory = decoder.memory(frames, LENGTHS)
    states = []
    for row in range(3):  # row 0 has had no label, row 2 two
        state = decoder.init_state(1, 9)
        for u in range(row):
            last = labels[row : row + 1, u - 1] if u else torch.zeros(1, dtype=torch.int64)
            _, state = decoder.step(last, state, memory.row(row))
        states.append(state)
    last = torch.tensor([0, 0, int(labels[2, 0])])
    last[1] = 0 if not len(states) else int(labels[1, 0])
    together, after = decoder.step(last, type(states[0]).stack(states), memory)
    for row in range(3):
        alone, state = decoder.step(last[row : row + 1], states[row], memory.row(row))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-9)
        for name, tensor in after.row(row).named().items():
            torch.testing.assert_close(tensor, state.named()[name], rtol=0, atol=1e-9)
    if decoder.longest is not None:
        assert decoder.longest == 7 and after.named()["fill"].tolist() == [1, 2, 3]


@torch.no_grad()
def test_no_label_sees_a_later_one_and_padding_is_inert(decoder: Decoder[Any]) -> None:
    labels, frames = inputs()
    whole, other = decoder(labels, frames, LENGTHS), labels.clone()
    other[:, 3] = 1 + other[:, 3] % 10
    changed = decoder(other, frames, LENGTHS)
    torch.testing.assert_close(changed[:, :4], whole[:, :4], rtol=0, atol=1e-12)
    assert ((changed[:, 4:] - whole[:, 4:]).abs().amax((1, 2)) > 1e-6).all()
    noisy = frames.clone()
    for row, length in enumerate(LENGTHS.tolist()):
        noisy[row, length:] = 1e3
        torch.testing.assert_close(
            decoder(labels[row : row + 1], frames[row : row + 1, :length], LENGTHS[row : row + 1])[0],
            whole[row],
            rtol=0,
            atol=1e-9,
        )
    torch.testing.assert_close(decoder(labels, noisy, LENGTHS), whole, rtol=0, atol=1e-9)
    noisy[:, 0] += 1.0
    assert not torch.allclose(decoder(labels, noisy, LENGTHS), whole), "it does not listen"


def test_gradients_reach_every_parameter(decoder: Decoder[Any]) -> None:
    labels, frames = inputs()
    frames.requires_grad_()
    decoder.train()(labels, frames, LENGTHS).square().sum().backward()
    unheard = [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unheard
    assert frames.grad is not None and frames.grad[0].any() and not frames.grad[2, 1:].any()


def test_settings_and_checkpoints_keep_the_choice(decoder: Decoder[Any], tmp_path: Path) -> None:
    config: Any = decoder.config
    assert TypeAdapter(DecoderConfig).validate_json(config.model_dump_json()) == config
    tokenizer = train_tokenizer(["turn on the light", "set a timer"] * 9, tmp_path / "t.model", vocab=30)
    schema = TreeSchema() if decoder.streams else TreeSchema(intents={"on": ("area",)})
    encoder = ConformerConfig(width=16, layers=1, heads=2, feedforward=24, channels=8)
    model = ModelConfig(vocab=30, encoder=encoder, decoder=config, trees=schema).build()
    labels = 0 if decoder.streams else 3
    assert model.decoder is not None and model.decoder.out.out_features == 30 + 1 + labels
    save_checkpoint(model, tokenizer, tmp_path / "ck")
    loaded, _ = load_checkpoint(tmp_path / "ck")
    assert loaded.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    if decoder.streams:
        with pytest.raises(ConfigError, match="transcripts"):
            parse(ModelConfig, {"decoder": config.model_dump(), "trees": {"intents": {"on": ["area"]}}}, where="recipe")
        return
    other = schema.model_copy(update={"intents": {"on": ("area",), "off": ("area",)}})
    anew, _ = load_checkpoint(tmp_path / "ck", decoder=(config, other))
    assert anew.decoder is not None and anew.decoder.out.out_features == 35
    assert torch.equal(anew.ctc.out.weight, model.ctc.out.weight)


def test_recipes_choose_by_kind() -> None:
    def read(*assignments: str) -> ModelConfig:
        return parse(ModelConfig, override({}, list(assignments)), where="recipe")

    assert read().decoder is None
    assert read("decoder.layers=2").decoder == TransformerDecoderConfig(layers=2)
    with pytest.raises(ConfigError, match="transformer"):
        read("decoder.kind=gru")
    assert isinstance(read("decoder.kind=triggered").decoder, TriggeredDecoderConfig)
    assert read("decoder.kind=triggered", "decoder.core.layers=2").decoder.core.layers == 2  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="set it to 0"):
        read("decoder.kind=triggered", "decoder.core.kind=lstm")
    with pytest.raises(ConfigError, match=r"did you mean 'layers'"):
        read("decoder.kind=transformer", "decoder.layrs=2")
    with pytest.raises(ConfigError, match="multiple of heads"):
        read("decoder.heads=3")


@torch.no_grad()
def test_a_lesson_is_of_real_labels_and_ends(decoder: Decoder[Any]) -> None:
    labels, frames = inputs()
    labels = 1 + labels % 9  # none is the end
    counts, times = torch.tensor([6, 2, 0]), torch.tensor([[0, 1, 1, 5, 7, 8], [1, 3, 0, 0, 0, 0], [0] * 6])
    lesson = decoder.lesson(labels, counts, frames, LENGTHS, 10, times)
    assert lesson.logits.shape == (*lesson.targets.shape, 11) and lesson.attention.shape == (*lesson.targets.shape, 9)
    for row, count in enumerate(lesson.lengths.tolist()):
        taught = lesson.targets[row, :count].tolist()
        assert [token for token in taught if token != 10] == labels[row, : counts[row]].tolist() and taught[-1] == 10
    real = lesson.attention[0, : lesson.lengths[0]].sum(-1)
    assert ((real - 1).abs() < 1e-6).all() or decoder.config.kind == "mocha"
    other = labels.clone()
    other[1, 2:], other[2] = 3, 4
    padded = decoder.lesson(other, counts, frames, LENGTHS, 10, times)
    for row, count in enumerate(lesson.lengths.tolist()):
        torch.testing.assert_close(padded.logits[row, :count], lesson.logits[row, :count], rtol=0, atol=1e-12)
    if decoder.aligned:
        unknown = decoder.lesson(labels, counts, frames, LENGTHS, 10, times.masked_fill(times == 7, -1))
        assert unknown.lengths[0] == 0 and unknown.lengths[1:].tolist() == lesson.lengths[1:].tolist()


@torch.no_grad()
def test_what_was_covered_is_the_sum_of_attention(decoder: Decoder[Any]) -> None:
    if decoder.streams:
        assert "covered" not in decoder.init_state(2, 9).named(), "frames come and go there"
        return
    labels, frames = inputs()
    _, attention = decoder.attended(labels, frames, LENGTHS)
    memory, state = decoder.memory(frames, LENGTHS), decoder.init_state(3, 9)
    for u in range(7):
        _, state = decoder.step(labels[:, u - 1] if u else torch.zeros(3, dtype=torch.int64), state, memory)
    torch.testing.assert_close(state.named()["covered"], attention.sum(1), rtol=0, atol=1e-9)
