"""What a parser may write: exactly the meanings of the schema, whatever walk is taken, within any limit."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from sayso.core.trees import TreeSchema
from sayso.nlu.domain import load_domain
from sayso.nlu.sample import sample
from sayso.nlu.tree_grammar import TreeGrammar, domain_trees
from sayso.nlu.trees import decoupled, flat_tree, read_trees, schema_of, words, write_trees

PIECES = ("<blk>", "<unk>", "▁a", "b", "▁")
TABLES = {
    "nested": {"intents": {"i": ["s"]}, "nested": {"s": ["i"]}},
    "two": {"intents": {"i": ["s"], "j": ["t"]}, "nested": {"t": ["i"]}},
    "words": {},
}
SIZES = {"nested": (4, 7), "two": (5, 5), "words": (5, 5)}  # pieces, longest meaning: all sequences are tried
RICH = TreeSchema(
    intents={"go": ("to", "at"), "event": ("name", "at"), "play": ("what",), "stop": ()},
    nested={"to": ("event",), "what": ("event", "play")},
)


def rendered(tokens: tuple[int, ...], pieces: tuple[str, ...]) -> str:
    """As text: a piece without its space glues to whatever is before."""
    return "".join(pieces[token] for token in tokens).replace("▁", " ")


def is_meaning(text: str, schema: TreeSchema) -> bool:
    """By reducing the text from the inside out, on strings alone."""
    coupled = schema.form == "coupled"
    if "<" in text or (text and text != f" {' '.join(text.split())}"):
        return False
    word = r"(?: [ab]b*)"
    before = None
    while text != before:
        before = text
        for slot in schema.slots:
            inner = "|".join([word, *(f" <{name}>" for name in schema.nested.get(slot, ()))])
            text = re.sub(rf" \[SL:{slot}(?:{inner})+ \]", f" <{slot}.>", text)
        for name, slots in schema.intents.items():
            inner = "|".join([*([word] if coupled else []), *(f" <{slot}.>" for slot in slots)])
            many = f"(?:{inner}){'+' if coupled else '*'}" if inner else ""
            text = re.sub(rf" \[IN:{name}{many} \]", f" <{name}>", text)
    intents = "|".join(f" <{name}>" for name in schema.intents)
    if not intents:
        return re.fullmatch(f"{word}*" if coupled else "", text) is not None
    others = f"{word}*" if coupled else ""
    return re.fullmatch(f"{others}(?:(?:{intents}){others})+", text) is not None


@pytest.mark.parametrize("form", ["coupled", "decoupled"])
@pytest.mark.parametrize("table", sorted(TABLES))
def test_it_accepts_all_meanings_and_nothing_else(table: str, form: str) -> None:
    schema = TreeSchema.model_validate({**TABLES[table], "form": form})
    size, limit = SIZES[table]
    grammar = TreeGrammar(schema, PIECES[:size])
    accepted: set[tuple[int, ...]] = set()
    walks = [((), grammar.start(limit + 1))]
    while walks:
        tokens, place = walks.pop()
        legal = np.flatnonzero(grammar.legal(place)).tolist()
        assert legal, f"a dead end: {tokens}"
        for token in legal:
            if token == grammar.end:
                assert tokens not in accepted
                accepted.add(tokens)
            else:
                walks.append(((*tokens, token), grammar.advance(place, token)))
    alphabet = [token for token in range(2, grammar.size) if token != grammar.end]
    assert not any(token in tokens for tokens in accepted for token in (0, 1)), "no blank, nothing unknown"
    wanted = {
        tokens
        for length in range(limit + 1)
        for tokens in itertools.product(alphabet, repeat=length)
        if is_meaning(rendered(tokens, (*PIECES[:size], "<end>", *(f"▁{label}" for label in schema.labels))), schema)
    }
    assert accepted == wanted and len(wanted) >= (1 if (table, form) == ("words", "decoupled") else 5)


@pytest.mark.parametrize("form", ["coupled", "decoupled"])
@pytest.mark.parametrize("pieces", [PIECES, (*PIECES[:2], "▁", "a", "b"), (*PIECES[:2], "▁a", "▁b")])
def test_any_walk_ends_well_within_any_limit(form: str, pieces: tuple[str, ...]) -> None:
    grammar = TreeGrammar(RICH.model_copy(update={"form": form}), pieces)
    rng = np.random.default_rng(0)
    lengths, depths = [], []
    with pytest.raises(ValueError, match="the shortest has"):
        grammar.start(grammar.shortest - 1)
    for _ in range(300):
        limit = int(rng.integers(grammar.shortest, 30))
        place, tokens = grammar.start(limit), []
        favour = rng.exponential(size=grammar.size) ** 3
        while not tokens or tokens[-1] != grammar.end:
            weights = np.where(grammar.legal(place), favour, 0)
            tokens.append(int(rng.choice(grammar.size, p=weights / weights.sum())))
            place = grammar.advance(place, tokens[-1])
        assert len(tokens) <= limit and not grammar.legal(place).any()
        parts = grammar.decode(tokens)
        assert read_trees(write_trees(parts)) == parts
        assert all(words([part]) for part in parts) or form == "decoupled"
        lengths.append(len(tokens) - limit)
        depths.append(
            max(itertools.accumulate(text[0] == "[" or -(text == "]") for text in write_trees(parts).split()))
        )
    assert lengths.count(0) > 30 and max(depths) >= 5, "limits that never bind, or trees of one level, prove little"


def spell(word: str) -> list[int]:
    return [2, *[3] * (len(word) - 1)] if set(word[1:]) <= {"b"} and word[0] == "a" else [1]


def test_meanings_become_tokens_and_come_back() -> None:
    text = "a [IN:go abb [SL:to ab [IN:event [SL:name a ] ab ] ] ] ab [IN:stop a ]"
    parts = read_trees(text)
    for form in ("coupled", "decoupled"):
        grammar = TreeGrammar(RICH.model_copy(update={"form": form}), PIECES)
        kept = parts if form == "coupled" else decoupled(parts)
        tokens = grammar.encode(parts, spell)
        assert tokens is not None and grammar.decode(tokens) == grammar.decode([*tokens, grammar.end]) == kept
    grammar = TreeGrammar(RICH, PIECES)
    for wrong in (
        "a",
        "[IN:go [SL:name a ] ]",
        "[IN:dance a ]",
        "[IN:go [SL:to [IN:play a ] ] ]",
        "[IN:go x ]",
        "[IN:go ]",
    ):
        assert grammar.encode(read_trees(wrong), spell) is None, wrong
    with pytest.raises(ValueError, match="not legal"):
        grammar.decode([2, 3, 99])
    with pytest.raises(ValueError, match="not legal"):
        grammar.decode([2])


def test_a_domain_is_a_schema() -> None:
    domain = load_domain(Path(__file__).parents[2] / "domains" / "home.yaml")
    schema = domain_trees(domain)
    assert set(schema.intents) == set(domain.intents) and not schema.nested
    drawn = sample(domain, 400, seed=0)
    trees = [flat_tree(u.text, u.intent, u.slots) for u in drawn]
    spoken = schema_of(trees)
    assert all(set(slots) <= set(schema.intents[name]) for name, slots in spoken.intents.items())
    assert sum(map(len, spoken.intents.values())) == sum(map(len, schema.intents.values()))


def test_a_tokenizer_that_opens_no_word_is_refused() -> None:
    with pytest.raises(ValueError, match="opens a word"):
        TreeGrammar(RICH, ("<blk>", "<unk>", "a", "b"))
