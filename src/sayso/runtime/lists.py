"""Slot lists that one stream brings along: the contacts of one user, the titles in one library.

Only the list's own small network is compiled; the rest of the domain is shared with every other stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sayso.core.errors import DomainError, UsageError, nearest
from sayso.decoding.graph import GraphSearch
from sayso.nlu.networks import compile_list
from sayso.nlu.spelling import Phones, speller_of
from sayso.runtime.engine import Engine

Lists = Mapping[str, Sequence[str | tuple[str, str]]]  # values as spoken, or (spoken, out)


def with_lists(engine: Engine, lists: Lists | None) -> tuple[GraphSearch | None, dict[str, int]]:
    """The search of a stream with these lists in place of the domain's, and how many values of each took effect.

    Raises ``UsageError`` for a list that the domain does not have, an empty one, or a value that cannot be spoken.
    """
    if not lists:
        return engine.search, {}
    automaton = engine.automaton
    if automaton is None:
        raise UsageError(f"bundle '{engine.manifest.name}' has no domain, so it has no lists to replace")
    replaced = {}
    try:
        speller = speller_of(automaton, engine.tokenizer)
    except DomainError as error:
        raise UsageError(f"lists of bundle '{engine.manifest.name}' cannot be replaced: {error}") from None
    for name, values in lists.items():
        if name not in automaton.lists:
            raise UsageError(f"the domain has no list '{name}'; {nearest(name, automaton.lists)}")
        if isinstance(values, str) or not values:
            raise UsageError(f"list '{name}' needs a sequence of values, each a text or a pair (spoken, value)")
        pairs = [(value, value) if isinstance(value, str) else (value[0], value[1]) for value in values]
        try:
            replaced[name] = compile_list(pairs, speller)
        except DomainError as error:
            raise UsageError(f"list '{name}': {error}; give words that can be spoken") from None
    new = (speller.pieces, speller.rows) if isinstance(speller, Phones) else ()
    search = GraphSearch(automaton.with_lists(replaced, *new), engine.graph_config)
    return search, {name: len(slot_list.values) for name, slot_list in replaced.items()}
