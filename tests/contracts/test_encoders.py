"""What every encoder in the table must do: the contract of DESIGN.md section 4, on tiny random instances in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sayso.models.encoders import ENCODERS, Encoder
from sayso.models.streaming import Context

SMALL = {
    "conformer": {
        "width": 32,
        "layers": 3,
        "heads": 4,
        "feedforward": 48,
        "channels": 24,
        "kernel": 5,
        "left_frames": 8,
    }
}


@pytest.fixture(params=sorted(ENCODERS))
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    return ENCODERS[request.param](**SMALL[request.param]).build().double().eval()


def speech(rows: int = 3, frames: int = 203) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, frames, 80, generator=generator, dtype=torch.float64), torch.tensor([203, 131, 40])[:rows]


def stream(encoder: Encoder, x: Tensor, chunk: int) -> Tensor:
    """Run one recording (T,F) chunk by chunk."""
    state = encoder.init_state(1, Context(chunk, 8))
    outs = []
    for start in range(0, len(x), 8 * chunk):
        piece = x[None, start : start + 8 * chunk]
        length = torch.tensor([piece.shape[1]])
        piece = torch.nn.functional.pad(piece, (0, 0, 0, 8 * chunk - piece.shape[1]))
        out, count, state = encoder.step(piece, length, state)
        outs.append(out[0, : int(count)])
    return torch.cat(outs)


@pytest.mark.parametrize("chunk", [1, 4, 8])
def test_chunked_equals_masked_whole(encoder: Encoder, chunk: int) -> None:
    x, lengths = speech()
    whole, frames = encoder(x, lengths, Context(chunk, 8))
    assert frames.tolist() == [-(-n // 8) for n in lengths.tolist()]
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(
            stream(encoder, x[row, :length], chunk), whole[row, : int(frames[row])], rtol=0, atol=1e-9
        )


def test_padding_and_company_change_nothing(encoder: Encoder) -> None:
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


@pytest.mark.parametrize("chunk", [1, 4])
def test_the_future_never_changes_the_past(encoder: Encoder, chunk: int) -> None:
    x, lengths = speech(1)
    before, _ = encoder(x, lengths, Context(chunk, 8))
    for cut in (8 * chunk, 96, 160):
        changed = x.clone()
        changed[:, cut:] += 5.0
        after, _ = encoder(changed, lengths, Context(chunk, 8))
        safe = cut // (8 * chunk) * chunk  # frames of chunks that end before the change
        assert torch.equal(after[:, :safe], before[:, :safe])
        assert not torch.equal(after[:, safe:], before[:, safe:])


def test_lookahead_is_the_jacobian(encoder: Encoder) -> None:
    context = Context(4, 8)
    x, lengths = speech(1, 160)
    lengths = torch.tensor([160])
    x.requires_grad_()
    out, _ = encoder(x[:, :160], lengths, context)
    reach = []
    for frame in range(8, 16):
        (gradient,) = torch.autograd.grad(out[0, frame, 0], x, retain_graph=True)
        last = int(np.flatnonzero(gradient[0].abs().sum(-1).numpy())[-1])
        reach.append(last - (8 * frame + 7))
    assert max(reach) * 10.0 == encoder.lookahead_ms(context)


def test_gradients_reach_every_parameter(encoder: Encoder) -> None:
    x, lengths = speech()
    out, _ = encoder(x, lengths)
    out.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, name


def test_states_stack_and_split(encoder: Encoder) -> None:
    x, _ = speech(2, 192)
    chunk = torch.tensor([32])
    one = encoder.init_state(1)
    _, _, one = encoder.step(x[:1, :32], chunk, one)  # the first stream is a chunk older
    two = encoder.init_state(1)
    both = type(one).stack([one, two])
    out, _, following = encoder.step(torch.cat([x[:1, 32:64], x[1:2, :32]]), chunk.repeat(2), both)
    alone, _, after = encoder.step(x[1:2, :32], chunk, two)
    torch.testing.assert_close(out[1:], alone, rtol=0, atol=1e-12)
    for name, tensor in following.row(1).named().items():
        torch.testing.assert_close(tensor, after.named()[name], rtol=0, atol=1e-12)
    assert following.fill.tolist() == [8, 4]


def test_config_round_trip(encoder: Encoder) -> None:
    config = encoder.config
    assert type(config).model_validate_json(config.model_dump_json()) == config
