"""The mask family: what each way of looking sees, held against reachability by counting and against the Jacobian."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sayso.models.encoders import Encoder
from sayso.models.encoders.attention import Attention, AttentionEncoder, Look
from sayso.models.encoders.conformer import ConformerConfig
from sayso.models.encoders.lstm import LstmConfig
from sayso.models.encoders.transformer import TransformerConfig
from sayso.models.masks import attention_mask, dependence
from sayso.models.streaming import Context

SIZES: dict[str, Any] = {"width": 8, "layers": 2, "channels": 6, "mels": 4}
CONFORMER = ConformerConfig(**SIZES, heads=2, feedforward=8, kernel=4)
ENCODERS = {
    "conformer": CONFORMER,
    "conformer without convolution": CONFORMER.model_copy(update={"convolution": False}),
    "transformer": TransformerConfig(**SIZES, heads=2, feedforward=8),
    "lstm": LstmConfig(**SIZES, hidden=8),
}
FAMILY = [Context(), Context(1), Context(1, 3), Context(1, 3, 1), Context(1, None, 2), Context(3, 2), Context(3),
          Context(3, 2, 1)]  # fmt: skip


def square(size: int, context: Context) -> Tensor:
    frame = torch.arange(size)
    return attention_mask(frame, frame, context)


def tiny(name: str) -> Encoder[Any]:
    torch.manual_seed(0)
    return ENCODERS[name].build().double().eval()


def test_the_family_frame_by_frame() -> None:
    def rows(context: Context) -> list[str]:
        return ["".join(".x"[int(cell)] for cell in row) for row in square(6, context)]

    assert rows(Context()) == ["xxxxxx"] * 6
    assert rows(Context(1)) == ["x.....", "xx....", "xxx...", "xxxx..", "xxxxx.", "xxxxxx"]
    assert rows(Context(1, 2)) == ["x.....", "xx....", "xxx...", ".xxx..", "..xxx.", "...xxx"]
    assert rows(Context(1, 1, 1)) == ["xx....", "xxx...", ".xxx..", "..xxx.", "...xxx", "....xx"]
    assert rows(Context(2)) == ["xx....", "xx....", "xxxx..", "xxxx..", "xxxxxx", "xxxxxx"]
    assert rows(Context(2, 1)) == ["xx....", "xx....", ".xxx..", ".xxx..", "...xxx", "...xxx"]


def test_no_mask_is_an_error() -> None:
    for wrong in ({"left_frames": 3}, {"right_frames": 1}, {"chunk_frames": 0}, {"chunk_frames": 1, "left_frames": -1}):
        with pytest.raises(ValueError, match="chunk_frames"):
            Context(**wrong)


@torch.no_grad()
def test_all_ones_is_unmasked_attention() -> None:
    torch.manual_seed(0)
    encoder = CONFORMER.model_copy(update={"width": 16}).build().double()
    attention, size = encoder.layers[0].attention, 7
    x, turn = torch.randn(2, size, 16, dtype=torch.float64), encoder._turn(7, encoder.mean)
    _, seen, _ = attention(x, Look(turn, turn, square(size, Context())), None)
    assert isinstance(attention, Attention)
    angle = torch.arange(size).double()[:, None] * 10000.0 ** (
        -torch.arange(4).double() / 4
    )  # Su et al. 2021, as rotations
    turned = []
    for part in (attention.query, attention.key):
        heads = part(attention.norm(x)).view(2, size, 2, 2, 4).permute(0, 2, 1, 4, 3).contiguous()
        turned.append(torch.view_as_real(torch.view_as_complex(heads) * torch.polar(torch.ones_like(angle), angle)))
    value = attention.value(attention.norm(x)).view(2, size, 2, 8).transpose(1, 2)
    plain = torch.nn.functional.scaled_dot_product_attention(turned[0].flatten(3), turned[1].flatten(3), value)
    torch.testing.assert_close(attention.out(plain.transpose(1, 2).flatten(2)), seen, rtol=0, atol=1e-9)


@torch.no_grad()
def test_a_frame_that_sees_nothing_is_no_nan() -> None:
    attention = Attention(CONFORMER)
    turn = (torch.ones(3, 4), torch.zeros(3, 4))
    _, seen, _ = attention(torch.randn(1, 3, 8), Look(turn, turn, torch.zeros(3, 3, dtype=torch.bool)), None)
    assert bool(torch.isfinite(seen).all())


def reachable(frames: int, context: Context, layers: int, before: int) -> Tensor:
    """Boolean (T, S): by which frames of the stack's input each output is reached, by multiplying masks."""
    frame = torch.arange(frames)
    lag = frame[:, None] - frame[None, :]
    layer = ((lag >= 0) & (lag <= before)).double() @ square(frames, context).double()
    return torch.linalg.matrix_power(layer, layers) > 0


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("context", FAMILY[1:], ids=str)
def test_dependence_is_reachability(context: Context, before: int) -> None:
    frames, layers, chunk = 90, 4, context.chunk_frames or 1
    seen = reachable(frames, context, layers, before)
    for place, (back, ahead) in enumerate(dependence(context, layers, before)):
        middle = 60 // chunk * chunk + place  # far enough from both ends
        there = seen[middle].nonzero().flatten()
        assert ahead == int(there[-1]) - middle
        assert (middle if back is None else back) == middle - int(there[0])


def test_a_sliding_window_accumulates_and_a_chunk_does_not() -> None:
    assert [dependence(Context(1, 4, 2), layers)[0][1] for layers in (1, 6)] == [2, 12]
    assert [max(ahead or 0 for _, ahead in dependence(Context(4, 4), layers)) for layers in (1, 6)] == [3, 3]


@pytest.mark.parametrize("context", FAMILY, ids=str)
@pytest.mark.parametrize("name", ENCODERS)
def test_the_jacobian_of_the_whole_encoder_is_what_the_mask_says(name: str, context: Context) -> None:
    encoder, frames = tiny(name), 24
    x = torch.randn(1, 8 * frames, 4, dtype=torch.float64, requires_grad=True)
    out, _ = encoder(x, torch.tensor([8 * frames]), context)
    weight = torch.randn(8, dtype=torch.float64)
    found = torch.stack(
        [torch.autograd.grad(out[0, t] @ weight, x, retain_graph=True)[0][0].abs().sum(1) > 0 for t in range(frames)]
    )
    if isinstance(encoder, AttentionEncoder):
        seen = reachable(frames, context, len(encoder.layers), encoder.history)
    else:
        seen = torch.ones(frames, frames).tril() > 0
    feature = torch.arange(8 * frames)
    own = torch.stack([(feature >= 8 * j - 7) & (feature <= 8 * j + 7) for j in range(frames)])
    assert torch.equal(found, (seen.double() @ own.double()) > 0)
    last = torch.stack([row.nonzero()[-1, 0] for row in found])
    first = torch.stack([row.nonzero()[0, 0] for row in found])
    inside = (first > 0) & (last < 8 * frames - 1)
    ahead, field = encoder.lookahead_ms(context), encoder.receptive_field_ms(context)
    frame = torch.arange(frames)
    if ahead is None:
        assert bool((last == 8 * frames - 1).all()) and field is None
    else:
        assert ahead == 10.0 * int((last - (8 * frame + 7)).max())
    if field is None:
        assert bool((first == 0).all())
    else:
        assert field == 10.0 * int((last - first + 1)[inside].max())


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_a_shift_of_the_input_shifts_the_output(name: str) -> None:
    encoder, context = tiny(name), Context(2, 4)
    x = torch.randn(1, 320, 4, dtype=torch.float64)
    shift = 6  # frames, whole chunks
    late, _ = encoder(
        torch.cat([torch.zeros(1, 8 * shift, 4).double(), x], 1), torch.tensor([320 + 8 * shift]), context
    )
    early, _ = encoder(x, torch.tensor([320]), context)
    field = encoder.receptive_field_ms(context)
    if field is None:
        pytest.skip("remembers the silence before")
    begin = int(field // 80) + 1
    assert begin < 40
    torch.testing.assert_close(late[:, shift + begin :], early[:, begin:], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_ten_minutes_of_stream_keep_the_size_of_the_state(name: str) -> None:
    encoder, context = tiny(name).float(), Context(4, 8)
    state = encoder.init_state(1, context)
    sizes = {tuple(tensor.shape for tensor in state.named().values())}
    piece, length, out = torch.randn(1, 160, 4), torch.tensor([160]), torch.zeros(())
    for _ in range(375):  # of 1.6 s
        out, _, state = encoder.step(piece, length, state, context)
        sizes.add(tuple(tensor.shape for tensor in state.named().values()))
    assert len(sizes) == 1 and bool(torch.isfinite(out).all())


@torch.no_grad()
def test_full_history_grows_by_what_is_heard() -> None:
    encoder, context = tiny("transformer"), Context(2)
    state = encoder.init_state(1, context)
    for heard in range(5):
        assert state.keys.shape[2] == 2 * heard
        _, _, state = encoder.step(torch.randn(1, 16, 4).double(), torch.tensor([16]), state, context)


@torch.no_grad()
def test_held_back_frames_come_as_soon_as_they_can() -> None:
    encoder, context = tiny("transformer"), Context(1, 4, 2)  # two layers: four frames late
    state, counts = encoder.init_state(1, context), []
    for number in range(7):
        _, count, state = encoder.step(
            torch.randn(1, 8, 4).double(), torch.tensor([8]), state, context, final=number == 6
        )
        counts.append(int(count))
    assert counts == [0, 0, 0, 0, 1, 1, 5]


@torch.no_grad()
def test_wrong_steps_are_named() -> None:
    encoder, length = tiny("conformer"), torch.tensor([24])
    with pytest.raises(ValueError, match="chunk_frames"):
        encoder.init_state(1, Context())
    state = encoder.init_state(1, Context(2, 4))
    with pytest.raises(ValueError, match="whole chunks"):
        encoder.step(torch.zeros(1, 24, 4).double(), length, state, Context(2, 4))
    with pytest.raises(ValueError, match="another context"):
        encoder.step(torch.zeros(1, 24, 4).double(), length, state, Context(3, 5))
    with pytest.raises(ValueError, match="in every step"):
        encoder.step(torch.zeros(1, 24, 4).double(), length, encoder.init_state(1, Context(1, 4, 1)))
