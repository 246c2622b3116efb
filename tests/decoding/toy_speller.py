"""Tiny attention decoders in numpy, exact to the row, and what they say by definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sayso.decoding.speller import Memory, State

WIDTH, VOCAB, END = 6, 6, 5  # tokens: blank, unknown, three labels, the end


class ToySpeller:
    """A random decoder. ``forgetful``: the end leaves no trace, so what it says depends on labels and frames alone.
    ``monotonic``: it chooses a frame, the first with a positive energy from ``at`` on, and hears ``chunk`` of them."""

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        forgetful: bool = False,
        monotonic: bool = False,
        chunk: int = 4,
        bias: float = 1.0,
        longest: int | None = None,
    ) -> None:
        self.embed, self.out = rng.normal(size=(VOCAB, WIDTH)), rng.normal(size=(WIDTH, VOCAB)) * 1.5
        self.choice = rng.normal(size=WIDTH)
        self.bias = np.array([0, 0, 0, 0, 0, bias])
        self.forgetful, self.monotonic, self.chunk, self.longest = forgetful, monotonic, chunk, longest
        self.remembered = self.runs = 0
        self.heard: list[tuple[int, int]] = []  # rows and frames of every run

    def start(self, frames: int | None = None) -> State:
        state = {"hidden": np.zeros((1, WIDTH))}
        return {**state, "at": np.zeros(1, np.int64)} if self.monotonic else state

    def remember(self, encoded: np.ndarray) -> Memory:
        self.remembered += len(encoded)
        frames = np.asarray(encoded, dtype=np.float64)[None, None]
        return {"memory_keys": frames, "memory_values": frames, "memory_heard": np.ones((1, len(encoded)), bool)}

    def write(self, labels: np.ndarray, states: Sequence[State], memory: Memory) -> tuple[np.ndarray, list[State]]:
        self.runs += 1
        self.heard.append((len(labels), memory["memory_heard"].shape[1]))
        logits, after = [], []
        for row, (label, state) in enumerate(zip(labels.tolist(), states, strict=True)):
            assert state["hidden"].shape == (1, WIDTH)
            heard = memory["memory_heard"][row]
            found, following = self.one(label, state, memory["memory_keys"][row, 0], heard)
            logits.append(found)
            after.append(following)
        return np.stack(logits), after

    def one(self, label: int, state: State, frames: np.ndarray, heard: np.ndarray) -> tuple[np.ndarray, State]:
        """One hypothesis over frames (T, D) of which ``heard`` (T,) are."""
        before = state["hidden"][0]
        hidden = before if self.forgetful and label == END else np.tanh(0.9 * before + self.embed[label])
        following: dict[str, Any] = {"hidden": hidden[None]}
        if self.monotonic:
            energy = frames @ self.choice + hidden.sum() * 0.2
            good = np.flatnonzero(heard & (energy > 0) & (np.arange(len(frames)) >= state["at"][0]))
            at = int(good[0]) if len(good) else len(frames)
            following["at"] = np.array([at], np.int64)
            chunk = [i for i in range(max(0, at - self.chunk + 1), at + 1) if len(good) and heard[i]]
            context = frames[chunk].mean(axis=0) if chunk else np.zeros(WIDTH)
        else:
            rows = np.flatnonzero(heard)
            weights = np.exp(frames[rows] @ hidden)
            context = (weights[:, None] * frames[rows]).sum(axis=0) / weights.sum()
        return np.tanh(hidden + context) @ self.out + self.bias, following

    def log_probs(self, history: Sequence[int], frames: np.ndarray) -> np.ndarray:
        """(V,) after ``history``, all of it heard over the same frames: for a forgetful one by labels alone."""
        state, logits = self.start(), np.zeros(VOCAB)
        for label in (0, *history):
            logits, state = self.one(label, state, np.asarray(frames, dtype=np.float64), np.ones(len(frames), bool))
        return logits - np.logaddexp.reduce(logits)
