"""A compiled domain on disk (``domain.npz`` arrays, ``domain.json`` the rest; never pickle), and a plain reader of it.

``accepts`` and ``match`` walk an automaton without scores: the reference that the search is tested against, and what
understands typed text.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from sayso.core.automaton import Automaton, Call, Meaning, Network, SlotList
from sayso.core.errors import BundleError, DomainError
from sayso.core.files import whole
from sayso.core.result import Slot
from sayso.nlu.spelling import Tokens
from sayso.text.normalise import normalise
from sayso.text.written import slot_readings

FORMAT = 1
ARRAYS, REST = "domain.npz", "domain.json"
Understood = tuple[Meaning, tuple[Slot, ...]]


def save_automaton(automaton: Automaton, folder: Path | str) -> None:
    """Write ``domain.npz`` and ``domain.json`` into ``folder`` (made if absent), each under a temporary name first."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = list(automaton.lists)
    arrays = automaton.main.arrays("main")
    for number, name in enumerate(names):  # a list's name may hold any character; an array's should not
        arrays.update(automaton.lists[name].network.arrays(f"list{number}"))
    if automaton.lexicon:
        arrays["rows"] = automaton.rows
    rest = {
        "version": FORMAT,
        "domain": automaton.domain,
        "tokenizer": automaton.tokenizer,
        "lexicon": automaton.lexicon,
        "open_tokens": automaton.open_tokens,
        "spelled": automaton.spelled,
        "meta": automaton.meta,
        "pieces": automaton.pieces,
        "calls": [asdict(call) for call in automaton.calls],
        "meanings": [asdict(meaning) for meaning in automaton.meanings],
        "lists": [{"name": n, "values": automaton.lists[n].values, "texts": automaton.lists[n].texts} for n in names],
    }
    with whole(folder / ARRAYS) as fresh, fresh.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    with whole(folder / REST) as fresh:
        fresh.write_text(json.dumps(rest, ensure_ascii=False, indent=1), encoding="utf-8")


def load_automaton(folder: Path | str) -> Automaton:
    """Inverse of ``save_automaton``; ``BundleError`` where a file is missing, foreign or inconsistent."""
    folder = Path(folder)
    try:
        rest: dict[str, Any] = json.loads((folder / REST).read_text(encoding="utf-8"))
        if rest["version"] != FORMAT:
            raise BundleError(
                f"{folder / REST}: format {rest['version']}; this release reads {FORMAT}. Build the bundle again"
            )
        with np.load(folder / ARRAYS, allow_pickle=False) as file:
            arrays: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}
        automaton = Automaton(
            main=Network.from_arrays(arrays, "main"),
            lists={
                entry["name"]: SlotList(
                    network=Network.from_arrays(arrays, f"list{number}"),
                    values=tuple(entry["values"]),
                    texts=tuple(entry["texts"]),
                )
                for number, entry in enumerate(rest["lists"])
            },
            calls=tuple(Call(**call) for call in rest["calls"]),
            meanings=tuple(
                Meaning(**{**meaning, "slots": tuple((k, v) for k, v in meaning["slots"])})
                for meaning in rest["meanings"]
            ),
            pieces=tuple(rest["pieces"]),
            tokenizer=rest["tokenizer"],
            domain=rest["domain"],
            meta=dict(rest["meta"]),
            **_sounds(rest, arrays),
        )
    except OSError as error:
        raise BundleError(f"{folder}: no compiled domain here ({error.strerror}: {error.filename})") from None
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile, zlib.error) as error:
        raise BundleError(
            f"{folder}: the compiled domain is damaged ({type(error).__name__}: {error}); build it again"
        ) from None
    _verify(automaton, folder)
    return automaton


def _sounds(rest: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """What a pronounced domain has besides; nothing for a spelled one, and for those older than the choice."""
    if not rest.get("lexicon"):
        return {}
    return {
        "lexicon": rest["lexicon"],
        "rows": np.ascontiguousarray(arrays["rows"], dtype=np.int32),
        "open_tokens": tuple(rest["open_tokens"]),
        "spelled": int(rest["spelled"]),
    }


def accepts(automaton: Automaton, tokens: Sequence[int]) -> list[Understood]:
    """Everything that a token sequence means, each (meaning, slots) once, in the order of the meanings."""
    pieces, size = automaton.pieces, len(tokens)

    def eat(token: int, at: int) -> int:
        return at + 1 if at < size and tokens[at] == token else -1

    def openings(at: int, bound: int) -> Iterator[int]:
        for end in range(at + 1, min(size, at + bound) + 1):
            if pieces[tokens[at]].startswith("▁") and (end == size or pieces[tokens[end]].startswith("▁")):
                yield end

    def said(start: int, end: int) -> str:
        return "".join(pieces[t] for t in tokens[start:end]).replace("▁", " ").strip()

    return _Reader(automaton, eat, openings, said, size).read()


def match(automaton: Automaton, tokenizer: Tokens, text: str) -> list[Understood]:
    """Everything that typed ``text`` means; empty when the domain does not say it.

    Words are compared by their letters, however they are cut into tokens; an open slot's bound counts the tokens that
    ``tokenizer`` gives. Raises ``DomainError`` when the tokenizer is not the automaton's.
    """
    if tokenizer.sha256 != automaton.tokenizer:
        raise DomainError(f"domain '{automaton.domain}' was compiled for another tokenizer; build it again")
    spoken = "".join(f"▁{word}" for word in normalise(text).split())
    pieces, size = automaton.pieces, len(spoken)

    def eat(token: int, at: int) -> int:
        piece = pieces[token]
        return at + len(piece) if spoken.startswith(piece, at) else -1

    def openings(at: int, bound: int) -> Iterator[int]:
        if at >= size or spoken[at] != "▁":
            return
        end = at
        while end < size:
            end = spoken.find("▁", end + 1)
            end = size if end < 0 else end
            if len(tokenizer.encode(said(at, end))) > bound:
                return
            yield end

    def said(start: int, end: int) -> str:
        return spoken[start:end].replace("▁", " ").strip()

    return _Reader(automaton, eat, openings, said, size).read()


Tail = tuple[int, tuple[Slot, ...]]  # a meaning's number, and the slots still to come


class _Reader:
    """Depth-first reading of one input with a memo per (node, place)."""

    def __init__(
        self,
        automaton: Automaton,
        eat: Callable[[int, int], int],
        openings: Callable[[int, int], Iterator[int]],
        said: Callable[[int, int], str],
        size: int,
    ) -> None:
        self.automaton, self.eat, self.openings, self.said, self.size = automaton, eat, openings, said, size
        self._tails: dict[tuple[int, int], tuple[Tail, ...]] = {}
        self._values: dict[tuple[str, int], list[tuple[int, int]]] = {}

    def read(self) -> list[Understood]:
        """Every meaning of the whole input."""
        meanings = self.automaton.meanings
        tails = {tail: None for node in self.automaton.main.entry for tail in self._tail(int(node), 0)}
        results = []
        for number, slots in sorted(tails, key=lambda tail: tail[0]):
            spoken = {slot.name for slot in slots}
            fixed = tuple(
                Slot(name=k, value=v, source="template") for k, v in meanings[number].slots if k not in spoken
            )
            results.append((meanings[number], slots + fixed))
        return results

    def _tail(self, node: int, at: int) -> tuple[Tail, ...]:
        """What may be understood when ``node`` is spoken from ``at``."""
        known = self._tails.get((node, at))
        if known is not None:
            return known
        main = self.automaton.main
        found: dict[Tail, None] = {}
        for end, slot in self._ends(node, at):
            head = () if slot is None else (slot,)
            if end == self.size:
                found.update(
                    {(int(m), head): None for m in main.final_out[main.final_ptr[node] : main.final_ptr[node + 1]]}
                )
            for following in main.succ[main.succ_ptr[node] : main.succ_ptr[node + 1]]:
                found.update({(m, head + slots): None for m, slots in self._tail(int(following), end)})
        result = self._tails[node, at] = tuple(found)
        return result

    def _ends(self, node: int, at: int) -> Iterator[tuple[int, Slot | None]]:
        token = int(self.automaton.main.token[node])
        if token >= 0:
            end = self.eat(token, at)
            if end >= 0:
                yield end, None
            return
        call = self.automaton.calls[int(self.automaton.main.call[node])]
        if call.list is None:
            for end in self.openings(at, call.max_tokens):
                text = self.said(at, end)
                typed, ambiguous = slot_readings(text, call.type)
                yield end, Slot(name=call.slot, value=typed, text=text, source="open", ambiguous=ambiguous)
            return
        for end, value in self._list(call.list, at):
            out = self.automaton.lists[call.list].values[value]
            yield end, Slot(name=call.slot, value=out, text=self.said(at, end), source=f"list:{call.list}")

    def _list(self, name: str, at: int) -> list[tuple[int, int]]:
        if (name, at) not in self._values:
            network = self.automaton.lists[name].network
            found, stack = [], [(int(node), at) for node in network.entry]
            while stack:
                node, start = stack.pop()
                end = self.eat(int(network.token[node]), start)
                if end < 0:
                    continue
                found += [
                    (end, int(o)) for o in network.final_out[network.final_ptr[node] : network.final_ptr[node + 1]]
                ]
                stack += [(int(n), end) for n in network.succ[network.succ_ptr[node] : network.succ_ptr[node + 1]]]
            self._values[name, at] = sorted(set(found))
        return self._values[name, at]


def _verify(automaton: Automaton, folder: Path) -> None:
    """Refuse arrays that would send a search out of bounds."""
    networks = {"main": (automaton.main, len(automaton.meanings), len(automaton.calls))}
    networks |= {name: (entry.network, len(entry.values), 0) for name, entry in automaton.lists.items()}
    for name, (network, outputs, calls) in networks.items():
        size = network.nodes
        sound = (
            network.call.shape == (size,)
            and network.succ_ptr.shape == network.final_ptr.shape == (size + 1,)
            and network.succ_ptr[-1] == len(network.succ)
            and network.final_ptr[-1] == len(network.final_out)
            and bool(np.all(np.diff(network.succ_ptr) >= 0))
            and bool(np.all(np.diff(network.final_ptr) >= 0))
            and all(_inside(a, 0, size) for a in (network.succ, network.entry))
            and _inside(network.final_out, 0, outputs)
            and _inside(network.token, -1, len(automaton.pieces))
            and _inside(network.call, -1, calls)
        )
        if not sound:
            raise BundleError(f"{folder}: network '{name}' of the compiled domain is damaged; build it again")
    if automaton.lexicon:
        size = len(automaton.pieces)
        tokens = np.array([*automaton.open_tokens, automaton.spelled], np.int32)
        if automaton.rows.shape != (size,) or not _inside(automaton.rows, 0, size) or not _inside(tokens, 0, size):
            raise BundleError(f"{folder}: the sounds of the compiled domain are damaged; build it again")


def _inside(values: NDArray[np.int32], low: int, high: int) -> bool:
    return values.size == 0 or (int(values.min()) >= low and int(values.max()) < high)
