"""The compiled automaton says exactly the sentences of the templates: no more, no fewer, with the right meaning."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hassil.intents import TextSlotList
from hassil.parse_expression import parse_sentence
from hassil.sample import sample_expression
from hypothesis import given, settings
from hypothesis import strategies as st

from sayso.core.errors import BundleError, DomainError
from sayso.nlu.automaton_io import accepts, load_automaton, match, save_automaton
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import Domain, load_domain, parse_domain
from sayso.nlu.grammar import Alt, Chars, Node, Ref, Seq, glued
from sayso.nlu.networks import compile_list
from sayso.nlu.sample import sample
from sayso.nlu.spelling import Pieces
from sayso.text.normalise import normalise
from sayso.text.tokenizer import train_tokenizer

from .conftest import ROOT, Letters, language, paths

SMALL = """
intents:
  on:
    data:
      - sentences: ["turn [the] light[s] on in <area>['s] (room|attic)", "set {level}% [please]", "(red;{area}) x"]
  off:
    data:
      - sentences: ["(turn;off) [the] light[s]", "turn light on in {area} attic"]
        slots: {kind: light}
lists:
  area: {values: [kitchen, {in: "living[ ]room", out: LR}, {in: "(den|kitchen)", out: DEN}]}
  level: {range: {from: 0, to: 150, step: 25}}
expansion_rules: {area: "[the] {area}"}
"""


def brute(domain: Domain) -> set[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """Every sentence by multiplying out the trees, with no automaton in sight."""
    result = set()
    for template in domain.templates:
        for pieces in _ways(template.tree, domain):
            text, slots, behind = "", [], False
            joined = [
                (slot, [*group])
                for slot, group in itertools.groupby(pieces, key=lambda p: None if p[1] is None else id(p))
            ]
            for slot, group in joined:
                if slot is not None:
                    said, name, out = group[0]
                    text += f" {said}"
                    slots.append((name, out))
                else:
                    raw = "".join(said for said, _, _ in group)
                    words = raw.split()
                    if behind and words and not raw[0].isspace():
                        ending, continues = glued(words.pop(0))
                        text += ending if continues else f" {ending}"
                    text += "".join(f" {normalise(word)}" for word in words)
                behind = slot is not None
            if text.strip():
                result.add((" ".join(text.split()), template.intent, tuple(slots)))
    return result


def _ways(node: Node, domain: Domain) -> Iterator[list[tuple[str, str | None, str]]]:
    if isinstance(node, Chars):
        yield [(node.text, None, "")]
    elif isinstance(node, Ref):
        for text, out in domain.lists[node.list].forms:
            yield [(text, node.slot, out)]
    elif isinstance(node, Alt):
        for option in node.options:
            yield from _ways(option, domain)
    else:
        assert isinstance(node, Seq)
        for combo in itertools.product(*(list(_ways(part, domain)) for part in node.parts)):
            yield [piece for part in combo for piece in part]


def test_language_equals_expansion_by_hand(letters: Letters) -> None:
    domain = parse_domain(SMALL)
    said = language(compile_domain(domain, letters))
    assert set(said) == brute(domain)
    assert len(said) == len(set(said)), "a deterministic automaton says each sentence once per meaning"
    texts = {text for text, _, _ in said}
    assert {
        "turn lights on in the living room's attic",
        "set one hundred and fifty percent please",
        "off turn the light",
    } <= texts


words = st.sampled_from(["a", "b", "ab", "ba", "c"])
leaf = st.one_of(words, st.just("{l}"), st.just("{m:s}"), st.just("<r>"), st.just("{l}'s"))


def _combine(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        several.map(" ".join),
        several.map(lambda parts: f"({'|'.join(parts)})"),
        several.map(lambda parts: f"[{'|'.join(parts)}]"),
        st.lists(inner, min_size=2, max_size=2).map(lambda parts: f"({';'.join(parts)})"),
        st.tuples(words, words).map(lambda pair: f"{pair[0]}[{pair[1]}]"),
    )


templates = st.recursive(leaf, _combine, max_leaves=6)
LISTS = {"l": ["a", "b c"], "m": ["b", "ab", "a b"]}


@settings(max_examples=80, deadline=None)
@given(st.lists(templates, min_size=1, max_size=3), st.lists(templates, min_size=1, max_size=2))
def test_random_grammars_say_what_hassil_says(first: list[str], second: list[str]) -> None:
    lines = [*first, *second, "z {l} {m:s} <r>"]
    rows = "".join(f'  i{n}: {{data: [{{sentences: ["{text}"]}}]}}\n' for n, text in enumerate(lines))
    domain = parse_domain(
        f"intents:\n{rows}lists: {{l: {{values: [a, b c]}}, m: {{values: [b, ab, a b]}}}}\n"
        "expansion_rules: {r: '(c|b [a])'}\n"
    )
    said = language(compile_domain(domain, Letters()))
    lists = {name: TextSlotList.from_strings(values) for name, values in LISTS.items()}
    rules = {"r": parse_sentence("(c|b [a])")}
    expected = set()
    for number, text in enumerate(lines):
        for sentence in sample_expression(parse_sentence(text).expression, lists, rules):
            if normalise(sentence):
                expected.add((normalise(sentence), f"i{number}"))
    assert {(text, intent) for text, intent, _ in said} == expected
    assert set(said) == brute(domain)


def test_minimal_states_are_shared(letters: Letters) -> None:
    # Two hundred heads and two hundred tails around one middle: prefixes and suffixes are one trie each, not 200 * 200.
    heads = [f"{a}{b}" for a in "abcdefghijkl" for b in "opqstuvwxyzab"]
    domain = parse_domain(f"intents: {{i: {{data: [{{sentences: ['({'|'.join(heads)}) go ({'|'.join(heads)})']}}]}}}}")
    network = compile_domain(domain, letters).main
    assert network.nodes <= 2 * (12 + 13) + 2
    assert len({tuple(p) for p, _ in paths(network)}) == len(set(heads)) ** 2


def test_positions_are_well_formed(letters: Letters) -> None:
    automaton = compile_domain(parse_domain(SMALL), letters)
    network = automaton.main
    assert set(np.unique(network.token[network.call >= 0])) == {-1}
    assert (network.token != 0).all() and (network.token != 1).all()
    assert list(network.entry) == sorted(network.entry)
    for node in range(network.nodes):
        following = network.succ[network.succ_ptr[node] : network.succ_ptr[node + 1]]
        assert list(following) == sorted(set(following))
        final = network.final_ptr[node] < network.final_ptr[node + 1]
        assert final or len(following), "no node leads nowhere"


def test_ambiguous_sentences_keep_both_meanings(letters: Letters) -> None:
    automaton = compile_domain(parse_domain(SMALL), letters)
    found = match(automaton, letters, "Turn light on in KITCHEN attic!")
    assert {(meaning.intent, slots[0].value) for meaning, slots in found} == {
        ("on", "kitchen"), ("on", "DEN"), ("off", "kitchen"), ("off", "DEN"),
    }  # fmt: skip
    assert {meaning.slots for meaning, _ in found} == {(), (("kind", "light"),)}


def test_tokens_and_text_are_understood_alike(letters: Letters) -> None:
    automaton = compile_domain(parse_domain(SMALL), letters)
    for text, intent, slots in language(automaton):
        by_tokens = accepts(automaton, letters.encode(text))
        assert by_tokens == match(automaton, letters, text)
        assert (intent, slots) in {
            (m.intent, tuple((s.name, s.value) for s in found if s.source != "template")) for m, found in by_tokens
        }
    assert not match(automaton, letters, "turn light on in")
    assert not accepts(automaton, letters.encode("turn light on in kitchen attic")[:-1])


def test_open_slot_is_bounded_and_anchored(letters: Letters) -> None:
    domain = parse_domain(
        "intents: {add: {data: [{sentences: ['add {item} to my list']}]}}\nlists: {item: {wildcard: true}}"
    )
    automaton = compile_domain(domain, letters)
    (call,) = automaton.calls
    assert (call.list, call.slot) == (None, "item") and not automaton.lists
    ((_, (slot,)),) = match(automaton, letters, "add two lemons to my list")
    assert (slot.value, slot.text, slot.source) == ("two lemons", "two lemons", "open")
    assert not match(automaton, letters, "add to my list")
    assert match(automaton, letters, f"add {'a' * call.max_tokens} to my list")
    assert not match(automaton, letters, f"add {'a' * (call.max_tokens + 1)} to my list")
    assert accepts(automaton, letters.encode("add two lemons to my list")) == match(
        automaton, letters, "add two lemons to my list"
    )


def test_an_open_slot_may_have_a_type(letters: Letters, tmp_path: Path) -> None:
    """Its words are read as a value of that type; words that are none stay, and a list's ``out`` stays verbatim."""
    domain = parse_domain(
        "intents: {wake: {data: [{sentences: ['wake me at {when}', 'up {fixed:when}']}]}}\n"
        "lists: {when: {wildcard: true}, fixed: {values: [half past six]}}\nsayso: {slots: {when: {type: time}}}"
    )
    automaton = compile_domain(domain, letters)
    save_automaton(automaton, tmp_path)
    for known in (automaton, load_automaton(tmp_path)):
        said = ("wake me at a quarter to six", "wake me at dawn", "up half past six")
        slots = [match(known, letters, text)[0][1][0] for text in said]
        assert [slot.value for slot in slots] == ["5:45", "dawn", "half past six"]
        assert [slot.ambiguous for slot in slots] == [("05:45", "17:45"), (), ()]
    with pytest.raises(DomainError, match="its type can be open, number, time, date, duration"):
        parse_domain(
            "intents: {add: {data: [{sentences: ['add {item}']}]}}\nlists: {item: {wildcard: true}}\n"
            "sayso: {slots: {item: {type: text}}}"
        )


def test_lists_are_replaceable_and_keep_out_verbatim(letters: Letters) -> None:
    automaton = compile_domain(parse_domain(SMALL), letters)
    assert not match(automaton, letters, "turn light on in sixteen ounce attic")
    changed = automaton.with_lists(
        {"area": compile_list([("16 Ounce", "Sixteen-Ounce"), ("16 ounce", "Sixteen-Ounce")], Pieces(letters))}
    )
    assert changed.main is automaton.main and changed.lists["area"].values == ("Sixteen-Ounce",)
    found = match(changed, letters, "turn light on in sixteen ounce attic")
    assert {slots[0].value for _, slots in found} == {"Sixteen-Ounce"}
    with pytest.raises(DomainError, match="at least one value"):
        compile_list([], Pieces(letters))


def test_words_the_tokenizer_cannot_spell(letters: Letters) -> None:
    class NoZ(Letters):
        pieces = tuple(p for p in Letters.pieces if "z" not in p)

    with pytest.raises(DomainError, match="'buzzer'"):
        compile_domain(parse_domain("intents: {i: {data: [{sentences: ['ring the buzzer']}]}}"), NoZ())


def test_save_and_load(letters: Letters, tmp_path: Path) -> None:
    automaton = compile_domain(parse_domain(SMALL), letters)
    save_automaton(automaton, tmp_path)
    loaded = load_automaton(tmp_path)
    assert sorted(language(loaded)) == sorted(language(automaton))
    assert (loaded.meanings, loaded.calls, loaded.meta) == (automaton.meanings, automaton.calls, automaton.meta)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["domain.json", "domain.npz"]
    damaged = (tmp_path / "domain.npz").read_bytes()
    (tmp_path / "domain.npz").write_bytes(damaged[: len(damaged) // 2])
    with pytest.raises(BundleError, match="damaged"):
        load_automaton(tmp_path)
    with pytest.raises(BundleError, match="no compiled domain"):
        load_automaton(tmp_path / "nowhere")


def test_loading_refuses_indices_out_of_bounds(letters: Letters, tmp_path: Path) -> None:
    automaton = compile_domain(parse_domain(SMALL), letters)
    automaton.main.succ[0] = automaton.main.nodes
    save_automaton(automaton, tmp_path)
    with pytest.raises(BundleError, match="network 'main'"):
        load_automaton(tmp_path)


def test_home_with_sub_words(tmp_path: Path) -> None:
    """The bundled domain with a real sub-word tokenizer: small, and every sampled sentence has exactly its own
    meaning."""
    domain = load_domain(ROOT / "domains" / "home.yaml")
    utterances = sample(domain, 800, seed=5)
    tokenizer = train_tokenizer((u.text for u in utterances), tmp_path / "tokens.model", vocab=200)
    automaton = compile_domain(domain, tokenizer)
    assert automaton.main.nodes + sum(entry.network.nodes for entry in automaton.lists.values()) < 20_000
    for utterance in utterances:
        ((meaning, slots),) = match(automaton, tokenizer, utterance.text)
        assert (meaning.intent, slots) == (utterance.intent, utterance.slots)
        assert accepts(automaton, tokenizer.encode(utterance.text))
    understood = [text for text in domain.out_of_domain if match(automaton, tokenizer, text)]
    assert not understood
