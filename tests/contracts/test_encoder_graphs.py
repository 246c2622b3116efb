"""Every encoder of the table as an ONNX graph with named states: a stream of two rows equals torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sayso.core.config import parse
from sayso.export import onnx
from sayso.models.assembly import ModelConfig
from sayso.models.encoders import ENCODERS
from sayso.models.streaming import Context

SMALL = {"width": 16, "layers": 2, "heads": 2, "feedforward": 24, "hidden": 20, "channels": 12, "kernel": 3}
CHUNK, LEFT = 2, 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(ENCODERS))
@torch.no_grad()
def test_the_graph_of_a_step_equals_the_step(kind: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    fields = ENCODERS[kind].model_fields
    settings = {"kind": kind, **{name: value for name, value in SMALL.items() if name in fields}}
    model = parse(ModelConfig, {"vocab": 8, "encoder": settings}, where="test").build().eval()
    exported = onnx._encoder(model, CHUNK, LEFT)
    session = runtime.InferenceSession(exported.data, providers=["CPUExecutionProvider"])
    state = model.encoder.init_state(2, Context(CHUNK, LEFT))
    memory = {name: tensor.numpy() for name, tensor in state.named().items()}
    assert [pair.input for pair in exported.spec.states] == list(memory)
    for lengths in ([16, 16], [16, 16], [16, 16], [16, 9]):
        x = torch.randn(2, 16, 80)
        out, counts, state = model.encoder.step(x, torch.tensor(lengths), state)
        found = session.run(None, {"x": x.numpy(), "lengths": np.array(lengths), **memory})
        memory = dict(zip(memory, found[2:], strict=True))
        np.testing.assert_allclose(found[0], out.numpy(), rtol=0, atol=1e-5)
        assert found[1].tolist() == counts.tolist()
        for name, tensor in state.named().items():
            np.testing.assert_allclose(memory[name], tensor.numpy(), rtol=0, atol=1e-5)
