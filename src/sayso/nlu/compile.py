"""From a domain to a ``core.Automaton``: the smallest acyclic automaton of its sentences, in position form.

Three steps, each a memoised recursion over hash-consed states, so that equal futures are one state from the moment they
are built (Revuz 1992; Daciuk et al. 2000 call the result a DAWG):

1. each sentence tree, read from its end, becomes an epsilon-free automaton over text fragments and list references,
   whose final states carry the sentence's meaning;
2. the subset construction reads words off it (fragments up to a space), spells each word in tokens and determinises;
   states with the same outputs and arcs are the same state, which is minimisation, because the graph has no cycles;
3. arcs become nodes (Glushkov positions): a node is a symbol together with the state it leads to.

A list is never spelled out in the main network: a reference is one symbol, and each list gets a network of its own. A
sentence that means two things keeps both meanings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from sayso.core.automaton import Automaton, Call, Meaning
from sayso.core.errors import DomainError
from sayso.nlu.grammar import Alt, Chars, Node, Ref, Seq, fragments, glued
from sayso.nlu.networks import States, compile_list, positions
from sayso.nlu.schema import Domain
from sayso.nlu.spelling import Phones, Pieces, Speller, Tokens, ways
from sayso.text.lexicon import Lexicon
from sayso.text.normalise import normalise

__all__ = ["Tokens", "compile_domain", "compile_list"]

OPEN_TOKENS = 24


def compile_domain(domain: Domain, tokenizer: Tokens, lexicon: Lexicon | None = None) -> Automaton:
    """The automaton of every sentence of ``domain``: spelled, or with a ``lexicon`` pronounced.

    Meanings are distinct (intent, fixed slots); ``template`` is the first template that means it, ``weight`` the log of
    the share of the templates' weight. Raises ``DomainError`` for words that the tokenizer cannot spell and for
    sentences that are nested too deeply.
    """
    speller: Pieces | Phones = Pieces(tokenizer) if lexicon is None else Phones(tokenizer, lexicon)
    meanings, index = _meanings(domain)
    calls: dict[tuple[str | None, str], int] = {}
    for template in domain.templates:
        _collect(template.tree, domain, calls, set())
    graph = _Fragments(domain, calls)
    try:
        starts = [graph.build(t.tree, graph.end(index[t.intent, t.slots])) for t in domain.templates]
        builder = _Determiniser(graph, speller)
        start = builder.start(starts)
    except RecursionError:
        raise DomainError(f"a sentence of domain '{domain.name}' is too long or nested too deeply to compile") from None
    lists = {name: compile_list(spec.forms, speller) for name, spec in domain.lists.items() if spec.kind != "wildcard"}
    automaton = Automaton(
        main=positions(builder.states, start),
        lists=lists,
        calls=tuple(
            Call(
                list=name, slot=slot, max_tokens=OPEN_TOKENS, type=domain.slots[slot].read_as if name is None else None
            )
            for name, slot in calls
        ),
        meanings=meanings,
        pieces=tokenizer.pieces,
        tokenizer=tokenizer.sha256,
        domain=domain.name,
        meta={"fingerprint": domain.fingerprint, "language": domain.language},
    )
    if not isinstance(speller, Phones):
        return automaton
    return replace(
        automaton,
        lexicon=speller.lexicon.sha256,
        pieces=speller.pieces,
        rows=speller.rows,
        open_tokens=speller.open_tokens,
        spelled=speller.spelled,
    )


def _meanings(domain: Domain) -> tuple[tuple[Meaning, ...], dict[tuple[str, tuple[tuple[str, str], ...]], int]]:
    total = sum(template.weight for template in domain.templates)
    first: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
    weights: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for number, template in enumerate(domain.templates):
        key = (template.intent, template.slots)
        first.setdefault(key, number)
        weights[key] = weights.get(key, 0.0) + template.weight
    meanings = tuple(
        Meaning(intent=key[0], slots=key[1], template=number, weight=math.log(weights[key] / total))
        for key, number in first.items()
    )
    return meanings, {key: number for number, key in enumerate(first)}


def _collect(node: Node, domain: Domain, calls: dict[tuple[str | None, str], int], seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, Ref):
        calls.setdefault((None if domain.lists[node.list].kind == "wildcard" else node.list, node.slot), len(calls))
    for child in node.parts if isinstance(node, Seq) else node.options if isinstance(node, Alt) else ():
        _collect(child, domain, calls, seen)


Fragment = str | int  # text without white space, one space, or call c as an int


class _Fragments:
    """Step 1: hash-consed epsilon-free automaton over fragments. State = (meanings, arcs)."""

    def __init__(self, domain: Domain, calls: dict[tuple[str | None, str], int]) -> None:
        self.domain, self.calls = domain, calls
        self.finals: list[frozenset[int]] = []
        self.arcs: list[frozenset[tuple[Fragment, int]]] = []
        self._known: dict[tuple[frozenset[int], frozenset[tuple[Fragment, int]]], int] = {}
        self._built: dict[tuple[int, int], int] = {}

    def end(self, meaning: int) -> int:
        """The state in which a sentence is complete and means ``meaning``."""
        return self._state(frozenset([meaning]), frozenset())

    def build(self, node: Node, then: int) -> int:
        """The state from which ``node`` is spoken and after it whatever ``then`` accepts."""
        key = (id(node), then)
        state = self._built.get(key)
        if state is None:
            state = self._built[key] = self._build(node, then)
        return state

    def _build(self, node: Node, then: int) -> int:
        if isinstance(node, Chars):
            for fragment in reversed(fragments(node.text)):
                then = self._state(frozenset(), frozenset([(fragment, then)]))
            return then
        if isinstance(node, Ref):
            wild = self.domain.lists[node.list].kind == "wildcard"
            return self._state(frozenset(), frozenset([(self.calls[None if wild else node.list, node.slot], then)]))
        if isinstance(node, Seq):
            for part in reversed(node.parts):
                then = self.build(part, then)
            return then
        options = [self.build(option, then) for option in node.options]
        return self._state(
            frozenset().union(*(self.finals[o] for o in options)), frozenset().union(*(self.arcs[o] for o in options))
        )

    def _state(self, finals: frozenset[int], arcs: frozenset[tuple[Fragment, int]]) -> int:
        key = (finals, arcs)
        state = self._known.get(key)
        if state is None:
            state = self._known[key] = len(self.finals)
            self.finals.append(finals)
            self.arcs.append(arcs)
        return state


# Where a reading of the fragments stands: free to begin a word, behind a finished word (a space or a list must follow),
# or directly behind a list (text may be glued to its last word).
_FREE, _WORD, _LIST = 0, 1, 2
# A member of a subset: (fragment state, mode, tokens still to say before it).
_Item = tuple[int, int, tuple[int, ...]]


class _Determiniser:
    """Step 2: subset construction over tokens, minimal because ``States`` shares equal futures."""

    def __init__(self, graph: _Fragments, speller: Speller) -> None:
        self.graph, self.speller, self.states = graph, speller, States()
        self._subsets: dict[frozenset[_Item], int] = {}
        self._steps: dict[tuple[int, int], tuple[frozenset[int], tuple[tuple[int, _Item], ...]]] = {}

    def start(self, fragments_: Sequence[int]) -> int:
        """The state of all sentences."""
        return self._subset(frozenset((state, _FREE, ()) for state in fragments_))

    def _subset(self, items: frozenset[_Item]) -> int:
        known = self._subsets.get(items)
        if known is not None:
            return known
        outputs: set[int] = set()
        arcs: dict[int, set[_Item]] = {}
        for state, mode, tokens in items:
            if tokens:
                arcs.setdefault(tokens[0], set()).add((state, mode, tokens[1:]))
                continue
            finals, steps = self._step(state, mode)
            outputs |= finals
            for symbol, item in steps:
                arcs.setdefault(symbol, set()).add(item)
        done = [(symbol, self._subset(frozenset(targets))) for symbol, targets in arcs.items()]
        # A word may end where only its own next letters follow ("light" of "light(s|ing)"): nothing can be said from
        # there.
        live = [arc for arc in done if self.states.outputs[arc[1]] or self.states.arcs[arc[1]]]
        result = self._subsets[items] = self.states.add(outputs, live)
        return result

    def _step(self, state: int, mode: int) -> tuple[frozenset[int], tuple[tuple[int, _Item], ...]]:
        """Meanings complete here, and the first symbols that may follow."""
        known = self._steps.get((state, mode))
        if known is not None:
            return known
        finals: set[int] = set()
        steps: dict[tuple[int, _Item], None] = {}
        stack, seen = [(state, mode, "")], {(state, mode, "")}
        while stack:
            here, how, word = stack.pop()
            if not word:
                finals |= self.graph.finals[here]
            elif any(said := self._spell(word, how)):
                steps.update({(tokens[0], (here, _WORD, tokens[1:])): None for tokens in said})
            elif (here, _WORD, "") not in seen:  # a dash, a comma: written, not spoken
                seen.add((here, _WORD, ""))
                stack.append((here, _WORD, ""))
            for fragment, target in self.graph.arcs[here]:
                if isinstance(fragment, int):
                    if not word:
                        steps[(-1 - fragment, (target, _LIST, ()))] = None
                    continue
                if fragment == " ":
                    following = (target, _FREE, "") if not word else None
                elif how == _WORD:
                    following = None  # the longer word was read by another path
                else:
                    following = (target, how, word + fragment)
                if following is not None and following not in seen:
                    seen.add(following)
                    stack.append(following)
        result = self._steps[(state, mode)] = (frozenset(finals), tuple(steps))
        return result

    def _spell(self, word: str, mode: int) -> list[tuple[int, ...]]:
        """All ways to say a written word; one empty way where it is written and not spoken."""
        spoken, continues = glued(word) if mode == _LIST else (normalise(word), False)
        words = spoken.split()
        begun = words.pop(0) if continues and words else ""
        return ways(self.speller, words, begun)
