"""What every encoder in the table must do: the contract of DESIGN.md section 4, on tiny random instances in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sayso.core.config import parse
from sayso.core.errors import ConfigError
from sayso.models.assembly import ModelConfig
from sayso.models.encoders import ENCODERS, Encoder
from sayso.models.streaming import Context

SMALL = {"width": 16, "layers": 3, "heads": 2, "feedforward": 24, "hidden": 20, "channels": 12, "kernel": 3,
         "left_frames": 8}  # fmt: skip
ABLATIONS: dict[str, dict[str, Any]] = {
    "conformer without convolution": {"kind": "conformer", "convolution": False},
    "lstm without layer norm, at 80 ms": {"kind": "lstm", "layer_norm": False, "fast_layers": 0},
}
NAMES = [*sorted(ENCODERS), *ABLATIONS]
STREAMS = [Context(chunk, left) for chunk in (1, 2, 4, 8, 16) for left in (8, None)]
STREAMS += [Context(1, 8, 1), Context(1, 8, 2), Context(1, None, 2), Context(2, 4, 3), Context(4, 8, 1)]


def small(name: str) -> dict[str, Any]:
    """Settings of a small instance: as many of the small figures as the kind knows."""
    settings = ABLATIONS.get(name, {"kind": name})
    fields = ENCODERS[settings["kind"]].model_fields
    return {**{key: value for key, value in SMALL.items() if key in fields}, **settings}


def build(name: str) -> Encoder[Any]:
    torch.manual_seed(0)
    config = parse(ModelConfig, {"encoder": small(name)}, where="test").encoder
    return config.build().double().eval()


@pytest.fixture(params=NAMES)
def encoder(request: pytest.FixtureRequest) -> Encoder[Any]:
    return build(request.param)


def speech(rows: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 203, 80, generator=generator, dtype=torch.float64), torch.tensor([203, 131, 40])[:rows]


@torch.no_grad()
def stream(encoder: Encoder[Any], x: Tensor, context: Context, frames: int) -> list[Tensor]:
    """Run recordings of one length (B,T,F) in packets of ``frames``; what each step gave."""
    state, outs, size = encoder.init_state(len(x), context), [], 8 * frames
    for start in range(0, x.shape[1], size):
        piece = x[:, start : start + size]
        lengths = torch.full((len(x),), piece.shape[1])
        piece = torch.nn.functional.pad(piece, (0, 0, 0, size - piece.shape[1]))
        out, counts, state = encoder.step(piece, lengths, state, context, final=start + size >= x.shape[1])
        assert len(set(counts.tolist())) == 1  # streams of one age
        assert float(out[:, int(counts[0]) :].abs().sum()) == 0.0
        outs.append(out[:, : int(counts[0])])
    return outs


@pytest.mark.parametrize("context", STREAMS, ids=str)
@torch.no_grad()
def test_a_stream_equals_the_masked_whole(encoder: Encoder[Any], context: Context) -> None:
    x, lengths = speech()
    whole, frames = encoder(x, lengths, context)
    assert frames.tolist() == [-(-n // 8) for n in lengths.tolist()]
    assert context.chunk_frames is not None
    for row, length in enumerate(lengths.tolist()):
        pieces = stream(encoder, x[row : row + 1, :length], context, context.chunk_frames)
        torch.testing.assert_close(torch.cat(pieces, 1)[0], whole[row, : int(frames[row])], rtol=0, atol=1e-9)


@pytest.mark.parametrize("context", [Context(1, 8), Context(1, 8, 2), Context(2, None)], ids=str)
@torch.no_grad()
def test_the_size_of_packets_changes_nothing(encoder: Encoder[Any], context: Context) -> None:
    x, _ = speech(1)
    whole, _ = encoder(x, torch.tensor([203]), context)
    for frames in (4, 6):
        torch.testing.assert_close(torch.cat(stream(encoder, x, context, frames), 1), whole, rtol=0, atol=1e-9)


@torch.no_grad()
def test_a_step_without_a_context_takes_one_chunk(encoder: Encoder[Any]) -> None:
    x, _ = speech(1)
    said, silent = encoder.init_state(1, Context(4, 8)), encoder.init_state(1, Context(4, 8))
    for start in range(0, 192, 32):
        piece, length = x[:, start : start + 32], torch.tensor([32])
        one, _, said = encoder.step(piece, length, said, Context(4, 8))
        two, _, silent = encoder.step(piece, length, silent)
        assert torch.equal(one, two)


@torch.no_grad()
def test_the_size_of_a_bounded_state_never_changes(encoder: Encoder[Any]) -> None:
    for context in (Context(4, 8), Context(1, 8, 2)):
        state = encoder.init_state(2, context)
        begin = {name: (tensor.shape, tensor.dtype) for name, tensor in state.named().items()}
        assert not any(bool(tensor.any()) for tensor in state.named().values())  # what export promises
        for _ in range(6):
            _, _, state = encoder.step(torch.randn(2, 32, 80).double(), torch.tensor([32, 32]), state, context)
            assert {name: (tensor.shape, tensor.dtype) for name, tensor in state.named().items()} == begin


@torch.no_grad()
def test_padding_and_company_change_nothing(encoder: Encoder[Any]) -> None:
    x, lengths = speech()
    together, frames = encoder(x, lengths)
    loud = x.clone()
    for row, length in enumerate(lengths.tolist()):
        loud[row, length:] = 1e3
    noisy, _ = encoder(loud, lengths)
    torch.testing.assert_close(noisy, together, rtol=0, atol=1e-12)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = encoder(x[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(alone[0], together[row, : int(frames[row])], rtol=0, atol=1e-9)
        assert float(together[row, int(frames[row]) :].abs().sum()) == 0.0


@pytest.mark.parametrize("context", [Context(), Context(4, 8), Context(1, 8, 2)], ids=str)
@torch.no_grad()
def test_a_row_without_sound_gives_no_frames(encoder: Encoder[Any], context: Context) -> None:
    x, lengths = speech(2)
    out, frames = encoder(x, lengths * torch.tensor([1, 0]), context)
    assert frames.tolist() == [26, 0] and bool(out.isfinite().all()) and not bool(out[1].any())
    passed: list[Tensor] = []
    out, frames = encoder(x[:, :0], torch.tensor([0, 0]), context, passed)
    assert out.shape == (2, 0, 16) and frames.tolist() == [0, 0] and {part.shape for part in passed} == {out.shape}


@pytest.mark.parametrize("context", [Context(4, 8), Context(1, 8, 2)], ids=str)
@torch.no_grad()
def test_a_packet_without_sound_changes_no_stream(encoder: Encoder[Any], context: Context) -> None:
    x, _ = speech(2)
    before, outs = encoder.init_state(2, context), []
    for piece in (x[:, :32], x[:, 32:64]):
        out, counts, before = encoder.step(piece, torch.tensor([32, 32]), before, context)
        outs.append(out[:, : int(counts[0])])
        out, counts, after = encoder.step(x[:, :0], torch.tensor([0, 0]), before, context)
        assert out.shape == (2, 0, 16) and counts.tolist() == [0, 0]
        assert all(torch.equal(tensor, after.named()[name]) for name, tensor in before.named().items())
    out, counts, _ = encoder.step(x[:, :0], torch.tensor([0, 0]), before, context, final=True)  # but may end it
    ended = torch.cat([*outs, out[:, : int(counts[0])]], 1)
    torch.testing.assert_close(ended, torch.cat(stream(encoder, x[:, :64], context, 4), 1), rtol=0, atol=1e-9)


@pytest.mark.parametrize("context", [Context(4, 8), Context(1, 8, 2)], ids=str)
def test_streams_alone_equal_streams_together(encoder: Encoder[Any], context: Context) -> None:
    x, _ = speech(3)
    for row, together in enumerate(torch.cat(stream(encoder, x, context, 4), 1)):
        alone = torch.cat(stream(encoder, x[row : row + 1], context, 4), 1)
        torch.testing.assert_close(alone[0], together, rtol=0, atol=1e-9)


@pytest.mark.parametrize("context", [Context(1, 8), Context(1), Context(4, 8), Context(1, 8, 2)], ids=str)
@torch.no_grad()
def test_the_future_never_changes_the_past(encoder: Encoder[Any], context: Context) -> None:
    x, lengths = speech(1)
    ahead = encoder.lookahead_ms(context)
    assert ahead is not None and context.chunk_frames is not None
    frames = -(-round(ahead / 80 + 1) // context.chunk_frames) * context.chunk_frames  # heard with a frame, at most
    before, _ = encoder(x, lengths, context)
    streamed = torch.cat(stream(encoder, x, context, 4), 1)
    for cut in (96, 160):
        changed = x.clone()
        changed[:, cut:] += 5.0
        safe = cut // 8 - frames + context.chunk_frames
        safe = safe // context.chunk_frames * context.chunk_frames
        for old, new in ((before, encoder(changed, lengths, context)[0]),
                         (streamed, torch.cat(stream(encoder, changed, context, 4), 1))):  # fmt: skip
            assert safe > 0 and torch.equal(new[:, :safe], old[:, :safe])
            assert not torch.equal(new[:, safe:], old[:, safe:])


def test_gradients_reach_every_parameter(encoder: Encoder[Any]) -> None:
    x, lengths = speech()
    passed: list[Tensor] = []
    out, _ = encoder(x, lengths, None, passed)
    out.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, name
    assert passed and all(part.shape == out.shape for part in passed)
    assert float((passed[-1] - out).detach().abs().max()) < 1e-12


@torch.no_grad()
def test_states_stack_and_split(encoder: Encoder[Any]) -> None:
    x, _ = speech(2)
    chunk = torch.tensor([32])
    one = encoder.init_state(1)
    _, _, one = encoder.step(x[:1, :32], chunk, one)  # the first stream is a chunk older
    two = encoder.init_state(1)
    both = type(one).stack([one, two])
    out, _, following = encoder.step(torch.cat([x[:1, 32:64], x[1:2, :32]]), chunk.repeat(2), both)
    older, _, _ = encoder.step(x[:1, 32:64], chunk, one)
    alone, _, after = encoder.step(x[1:2, :32], chunk, two)
    torch.testing.assert_close(out[:1], older, rtol=0, atol=1e-12)
    torch.testing.assert_close(out[1:], alone, rtol=0, atol=1e-12)
    for name, tensor in following.row(1).named().items():
        torch.testing.assert_close(tensor, after.named()[name], rtol=0, atol=1e-12)
    assert following.from_named(following.named()) == following


@pytest.mark.parametrize("name", NAMES)
def test_config_round_trip(name: str) -> None:
    config = parse(ModelConfig, {"encoder": small(name)}, where="test")
    assert type(config.encoder) is ENCODERS[small(name)["kind"]]
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_a_misspelt_setting_names_the_nearest(name: str) -> None:
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        parse(ModelConfig, {"encoder": {"kind": name, "widht": 8}}, where="test")


def test_settings_without_a_kind_are_a_conformers() -> None:
    assert parse(ModelConfig, {"encoder": {"layers": 2}}, where="test").encoder.kind == "conformer"
    with pytest.raises(ConfigError, match=r"encoder.*'conformer', 'lstm', 'transformer'"):
        parse(ModelConfig, {"encoder": {"kind": "confomer"}}, where="test")
