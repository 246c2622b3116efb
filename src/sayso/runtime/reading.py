"""What heads with fusion make of a text beside its sound: states of its tokens, and the intent of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sayso.runtime.engine import Engine
from sayso.runtime.utterance import Utterance

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def states_of(engine: Engine, tokens: Ints, counts: Ints, encoded: Floats) -> dict[str, Floats]:
    """``{"states": (B, U, W)}`` of tokens (B, U), of which ``counts`` (B,) are real, over frames (T, D); {} without
    fusion. U is at least 1."""
    graph = engine.graph("fusion")
    if graph is None:
        return {}
    heard = np.broadcast_to(encoded, (len(tokens), *encoded.shape))
    lengths = np.full(len(tokens), len(encoded), np.int64)
    return {"states": graph.run({"tokens": tokens, "counts": counts, "x": heard, "lengths": lengths})[0]["states"]}


def read(engine: Engine, heard: Utterance) -> Utterance:
    """The same with the intent of sound and free text together, where the head reads; no text changes nothing."""
    graph = engine.graph("read")
    if graph is None or heard.intent is None or heard.encoded is None or not heard.free.tokens:
        return heard
    tokens, counts = np.array([heard.free.tokens]), np.array([len(heard.free.tokens)])
    feed = {**states_of(engine, tokens, counts, heard.encoded), "counts": counts, **heard.pool}
    return replace(heard, intent=graph.run(feed)[0]["log_probs"][0])
