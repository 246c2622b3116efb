"""A domain file is read as written; what is wrong with it is said with file, line and what is legal."""

from __future__ import annotations

from pathlib import Path

import pytest

from sayso.core.errors import DomainError
from sayso.nlu.automaton_io import match
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import load_domain, parse_domain
from sayso.nlu.lists import spoken_numbers

from .conftest import ROOT, Letters

GOOD = """language: en
intents:
  lock:
    data:
      - sentences:
          - "lock the {door}"
          - "<polite> lock {door:which}"
        slots: {domain: lock}
        requires_context: {area: {slot: true}}
  level:
    data:
      - sentences: ["set level {level}%"]
expansion_rules:
  polite: "(please|could you)"
lists:
  door:
    values:
      - front door
      - {in: "(back|rear) door", out: Back-Door}
  level:
    range: {from: 0, to: 20, step: 10, multiplier: 0.5}
sayso:
  version: 1
  intents: {lock: {risk: confirm, clarify: "Lock which door?"}}
  slots: {door: {type: text}}
  out_of_domain: ["Tell me a joke!", "it is 5:45"]
"""

RANGE = "    range: {from: 0, to: 20, step: 10, multiplier: 0.5}"

# what is changed in GOOD -> line of the complaint, words in it
WRONG: dict[str, tuple[str, str, int | None, str]] = {
    "unknown top key": ("expansion_rules:", "expansion_rule:", 13, "did you mean 'expansion_rules'"),
    "unknown block key": ("        slots:", "        slot:", 8, "did you mean 'slots'"),
    "unknown list key": ("    range:", "    rang:", 21, "did you mean 'range'"),
    "unused list": ("set level {level}%", "set level", 20, "list 'level' is not used"),
    "missing list": ("lock the {door}", "lock the {dor}", 6, "no list 'dor'"),
    "missing rule": ("<polite> lock", "<polit> lock", 7, "did you mean 'polite'"),
    "endless rule": ("(please|could you)", "(please|[could] <polite>)", 14, "<polite> -> <polite>"),
    "duplicate intent": ("  level:\n    data", "  lock:\n    data", 10, "'lock' is written twice (first on line 3)"),
    "empty list": (RANGE, "    values: []", 21, "list 'level' has no values"),
    "list of nothing": (RANGE, "    wildcard: false", 20, "list 'level' has no values"),
    "backwards range": ("to: 20", "to: -5", 21, "must go upwards"),
    "range of words": ("to: 20", "to: many", 21, "must be a number, found 'many'"),
    "fractions": ("multiplier: 0.5", "fractions: thirds", 21, "Legal: halves, tenths"),
    "open on a closed list": ("type: text", "type: open", 25, "not 'wildcard: true'"),
    "unknown slot type": ("type: text", "type: txt", 25, "did you mean 'text'"),
    "unknown slot": ("slots: {door:", "slots: {dor:", 25, "did you mean 'door'"),
    "unknown intent": ("intents: {lock:", "intents: {lok:", 24, "did you mean 'lock'"),
    "unknown risk": ("risk: confirm", "risk: confrm", 24, "did you mean 'confirm'"),
    "version": ("version: 1", "version: 2", 23, "version must be 1"),
    "sayso key": ("  out_of_domain", "  out_of_domian", 26, "did you mean 'out_of_domain'"),
    "no sentences": ('["set level {level}%"]', "[]", 12, "without sentences"),
    "not yaml": ("lists:", "lists: [", None, "not valid YAML"),
    "broken brackets": ("lock the {door}", "lock (the {door}", 6, "cannot read the sentence"),
    "empty brackets": ("lock the {door}", "lock the {door} {}", 6, "cannot read the sentence"),
    "rejected is not a list": ('["Tell me a joke!", "it is 5:45"]', "a joke", 26, "must be a list"),
    "weight": ("        slots: {domain: lock}", "        weight: 0", 8, "above 0"),
    "list in a list": ("(back|rear) door", "{level} door", 19, "cannot refer to the list"),
    "unspoken value": ("- front door", "- '!!!'", 18, "no spoken words"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_is_named_with_its_line(name: str, tmp_path: Path) -> None:
    before, after, line, words = WRONG[name]
    assert GOOD.count(before) == 1, "the mistake must be made in one place"
    file = tmp_path / "domain.yaml"
    file.write_text(GOOD.replace(before, after))
    with pytest.raises(DomainError) as caught:
        load_domain(file)
    assert words in str(caught.value)
    if line is not None:
        assert f"{file}:{line}: " in str(caught.value)
        assert caught.value.exit_code == 2


def test_what_is_read() -> None:
    domain = parse_domain(GOOD, "doors")
    assert domain.name == "doors" and list(domain.intents) == ["lock", "level"]
    assert (domain.intents["lock"].risk, domain.intents["lock"].clarify) == ("confirm", "Lock which door?")
    assert domain.intents["level"].risk == "none"
    assert domain.lists["door"].forms == (
        ("front door", "front door"),
        ("back door", "Back-Door"),
        ("rear door", "Back-Door"),
    )
    assert domain.lists["door"].values == ("front door", "Back-Door")
    assert domain.lists["level"].forms == (("zero", "0"), ("ten", "5"), ("twenty", "10"))
    assert {name: spec.type for name, spec in domain.slots.items()} == {
        "door": "text",
        "which": "text",
        "level": "number",
    }
    assert [(t.intent, t.line) for t in domain.templates] == [("lock", 6), ("lock", 7), ("level", 12)]
    assert domain.templates[0].slots == (("domain", "lock"),) and domain.templates[0].requires_context == ("area",)
    assert domain.out_of_domain == ("tell me a joke", "it is five forty five")
    assert domain.sentences() == 3 + 2 * 3 + 3


def test_several_mistakes_in_one_message() -> None:
    with pytest.raises(DomainError) as caught:
        parse_domain(GOOD.replace("lock the {door}", "lock the {dor}").replace("<polite> lock", "<polit> lock"))
    assert "no list 'dor'" in str(caught.value) and "no expansion rule <polit>" in str(caught.value)


def test_fingerprint_follows_meaning_not_layout() -> None:
    original = parse_domain(GOOD).fingerprint
    assert parse_domain("# a comment\n\n" + GOOD).fingerprint == original
    assert parse_domain(GOOD.replace("risk: confirm", "risk: none")).fingerprint != original
    assert parse_domain(GOOD.replace("lock the", "lock up the")).fingerprint != original
    assert parse_domain(GOOD.replace("Back-Door", "back door")).fingerprint != original


@pytest.mark.parametrize(
    "content", ["", "- a\n- b\n", "just words", "intents: 5", "intents: {a: &x {data: [*x]}}", "\0"]
)
def test_what_is_no_domain_at_all(content: str, tmp_path: Path) -> None:
    (tmp_path / "domain.yaml").write_text(content)
    with pytest.raises(DomainError, match=r"domain\.yaml"):
        load_domain(tmp_path / "domain.yaml")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="no such file"):
        load_domain(tmp_path / "nothing.yaml")
    with pytest.raises(DomainError, match=r"without \.yaml files"):
        load_domain(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DomainError, match="cannot be read as text"):
        load_domain(tmp_path / "bytes.yaml")


def test_endless_rules_through_others_and_deep_nesting() -> None:
    with pytest.raises(DomainError, match="<a> -> <b> -> <a>"):
        parse_domain("intents: {i: {data: [{sentences: ['x <a>']}]}}\nexpansion_rules: {a: 'y <b>', b: '[z] <a>'}")
    with pytest.raises(DomainError):
        parse_domain(f"intents: {{i: {{data: [{{sentences: ['{'(' * 800}x{')' * 800}']}}]}}}}")


def test_home_assistant_layout(tmp_path: Path, letters: Letters) -> None:
    """Files are merged; the common file may hold lists for others; a home's own lists are stood in for."""
    (tmp_path / "_common.yaml").write_text(
        "language: en\nlists: {color: {values: [red]}, other: {values: [x]}}\n"
        "expansion_rules: {name: '[the] {name}'}\nskip_words: [please]\n"
    )
    (tmp_path / "light_a.yaml").write_text(
        "intents: {On: {data: [{sentences: ['turn on <name>', '<what>'], expansion_rules: {what: 'lights'}}]}}"
    )
    (tmp_path / "light_b.yaml").write_text("intents: {On: {data: [{sentences: ['make <name> {color}']}]}}")
    domain = load_domain(tmp_path)
    assert len(domain.templates) == 3 and set(domain.lists) == {"color", "name"}
    assert {t.file for t in domain.templates} == {str(tmp_path / "light_a.yaml"), str(tmp_path / "light_b.yaml")}
    one = load_domain(tmp_path / "light_b.yaml", lists={"name": ["desk lamp", ("big lamp", "lamp.big")]})
    automaton = compile_domain(one, letters)
    ((meaning, slots),) = match(automaton, letters, "please make the big lamp red")
    assert meaning.intent == "On" and [(s.name, s.value) for s in slots] == [("name", "lamp.big"), ("color", "red")]


def test_local_lists_do_not_leak() -> None:
    domain = parse_domain(
        "intents:\n  a: {data: [{sentences: ['go {x}'], lists: {x: {values: [here]}}}]}\n"
        "  b: {data: [{sentences: ['no {x}']}]}\n"
        "lists: {x: {values: [there]}}"
    )
    assert domain.lists["a/x"].values == ("here",) and domain.slots["x"].lists == ("a/x", "x")


def test_inline_ranges_and_number_words() -> None:
    domain = parse_domain("intents: {i: {data: [{sentences: ['go {0..10,5:speed}']}]}}")
    assert domain.lists["0..10,5"].forms == (("zero", "0"), ("five", "5"), ("ten", "10"))
    halves = parse_domain(
        "intents: {i: {data: [{sentences: ['{n}']}]}}\nlists: {n: {range: {from: 20, to: 20, fractions: halves}}}"
    )
    assert halves.lists["n"].forms == (("twenty", "20"), ("twenty point five", "20.5"), ("twenty and a half", "20.5"))
    assert spoken_numbers(-5) == ["minus five"]
    assert set(spoken_numbers(105)) == {f"{one} hundred{link} five" for one in ("one", "a") for link in ("", " and")}


def test_home_is_as_large_as_promised() -> None:
    home = load_domain(ROOT / "domains" / "home.yaml")
    assert len(home.intents) >= 14 and len(home.slots) >= 12 and len(home.out_of_domain) >= 40
    names = {
        value for slot in ("area", "light", "device", "door", "blind", "scene") for value in home.lists[slot].values
    }
    assert len(names) >= 60
    assert home.intents["lock"].risk == home.intents["unlock"].risk == "confirm"
    assert home.slots["item"].type == "open" and {spec.type for spec in home.slots.values()} >= {
        "number",
        "time",
        "date",
        "duration",
    }
    assert all(spec.clarify for spec in home.intents.values())
