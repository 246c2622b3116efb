"""What heads with fusion make of a text beside its sound: states of its tokens, and the intent of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sayso.runtime.engine import Engine
from sayso.runtime.utterance import Utterance

Floats = NDArray[np.float32]


def states_of(engine: Engine, texts: Sequence[Sequence[int]], encoded: Floats) -> dict[str, Floats]:
    """``{"states": (B, U, W)}`` of the tokens of ``texts`` over frames (T, D), U at least 1; {} without fusion."""
    graph = engine.graph("fusion")
    if graph is None:
        return {}
    counts = np.array([len(text) for text in texts], np.int64)
    tokens = np.zeros((len(texts), max(1, int(counts.max()))), np.int64)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = text
    heard = np.broadcast_to(encoded, (len(texts), *encoded.shape))
    lengths = np.full(len(texts), len(encoded), np.int64)
    return {"states": graph.run({"tokens": tokens, "counts": counts, "x": heard, "lengths": lengths})[0]["states"]}


def read(engine: Engine, heard: Utterance) -> Utterance:
    """The same with the intent of sound and free text together, where the head reads; no text changes nothing."""
    graph, tokens = engine.graph("read"), heard.free.tokens
    if graph is None or heard.intent is None or heard.encoded is None or not tokens:
        return heard
    states = states_of(engine, [tokens], heard.encoded)
    feed = {**states, "counts": np.array([len(tokens)]), **heard.pool}
    return replace(heard, intent=graph.run(feed)[0]["log_probs"][0])
