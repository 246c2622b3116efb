"""A letter tokenizer (no model needed), all that an automaton can say, and where the corpora lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sayso.core.automaton import Automaton, Network

ROOT = Path(__file__).parents[2]


class Letters:
    """One token per letter; a word's first letter carries the mark. Spells everything that normalisation leaves."""

    pieces: tuple[str, ...] = (
        "<blk>", "<unk>", *(f"▁{c}" for c in "abcdefghijklmnopqrstuvwxyz"), *"abcdefghijklmnopqrstuvwxyz'"
    )  # fmt: skip
    sha256 = "letters"

    def encode(self, text: str) -> list[int]:
        """Tokens of normalised text."""
        marked = (("▁" if at == 0 else "") + c for word in text.split() for at, c in enumerate(word))
        return [self.pieces.index(piece) if piece in self.pieces else 1 for piece in marked]


def paths(network: Network) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every path of a network with its outputs (nodes, outputs)."""
    stack = [(int(n),) for n in network.entry]
    while stack:
        path = stack.pop()
        node = path[-1]
        outputs = network.final_out[network.final_ptr[node] : network.final_ptr[node + 1]]
        if len(outputs):
            yield path, tuple(int(o) for o in outputs)
        stack += [(*path, int(n)) for n in network.succ[network.succ_ptr[node] : network.succ_ptr[node + 1]]]


Sentence = tuple[str, str, tuple[tuple[str, str], ...]]


def language(automaton: Automaton) -> list[Sentence]:
    """(text, intent, spoken slots) of every path, repeats kept; for automata without open slots."""
    sentences = []
    for path, outputs in paths(automaton.main):
        partial: list[tuple[str, tuple[tuple[str, str], ...]]] = [("", ())]
        for node in path:
            token = int(automaton.main.token[node])
            if token >= 0:
                partial = [(text + automaton.pieces[token], slots) for text, slots in partial]
                continue
            call = automaton.calls[int(automaton.main.call[node])]
            assert call.list is not None
            values = automaton.lists[call.list]
            spoken = [
                ("".join(automaton.pieces[int(values.network.token[n])] for n in inner), values.values[o])
                for inner, outs in paths(values.network)
                for o in outs
            ]
            partial = [(text + said, (*slots, (call.slot, out))) for text, slots in partial for said, out in spoken]
        for text, slots in partial:
            sentences += [(text.replace("▁", " ").strip(), automaton.meanings[o].intent, slots) for o in outputs]
    return sentences


@pytest.fixture(scope="session")
def letters() -> Letters:
    """The letter tokenizer."""
    return Letters()


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The corpora beside the checkout (``SAYSO_CORPORA``); skips where they are absent."""
    folder = Path(os.environ.get("SAYSO_CORPORA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no corpora at {folder} (set SAYSO_CORPORA)")
    return folder
