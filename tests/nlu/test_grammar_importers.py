"""Each foreign format becomes a domain file that says what the original says, and nothing else."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from sayso.core.errors import DomainError
from sayso.nlu.automaton_io import match
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import Domain, parse_domain
from sayso.nlu.importers import IMPORTERS, import_domain, recognise
from sayso.nlu.sample import sample

from .conftest import Letters, language

RHINO = """
context:
  expressions:
    orderTea:
      - "[I'd like, get me] (please) (a, one) $size:size tea (with $milk:milk)"
      - "@serve $pv.TwoDigitInteger:count (large) teas"
  slots:
    size: ["small", "sixteen ounce"]
    milk: ["milk", "a bit of Milk"]
  macros:
    serve: ["serve", "pour (out)"]
"""
RASA = """
version: "3.1"
nlu:
- intent: set_timer
  examples: |
    - set a timer for [ten minutes](duration)
    - [ring]{"entity": "duration", "role": "end", "value": "now"} later
- intent: book
  examples: |
    - a table in [SF](city)
- synonym: San Francisco
  examples: |
    - SF
    - the bay
- lookup: city
  examples: |
    - Oslo
- regex: digits
  examples: |
    - [0-9]+
"""
SNIPS_YAML = """
---
type: intent
name: lightOn
slots:
  - name: place
    entity: room
utterances:
  - turn on the light in the [place](kitchen)
  - turn [other:room](den) to [level:snips/number](ten)
---
type: entity
name: room
values:
  - bedroom
  - [living room, lounge]
"""
SNIPS_JSON = {
    "language": "en",
    "intents": {
        "lightOn": {
            "utterances": [{"data": [{"text": "light the "}, {"text": "den", "entity": "room", "slot_name": "place"}]}]
        }
    },
    "entities": {"room": {"data": [{"value": "living room", "synonyms": ["lounge"]}], "use_synonyms": True}},
}  # fmt: skip
RHASSPY = """
# comment
[SetLight]
colour = (red | navy:blue | dark green){colour}
make [the] (lamp | ceiling light){name} <colour>
brightness (0..3){level} [percent]
play $tune{tune} {quiet:yes}

[Other]
never use <SetLight.colour>
"""


def imported(kind: str, content: str, tmp_path: Path, suffix: str = ".yaml") -> Domain:
    file = tmp_path / f"source{suffix}"
    file.write_text(content)
    return parse_domain(import_domain(file, kind), "imported")


def test_rhino_signs_are_translated(letters: Letters, tmp_path: Path) -> None:
    domain = imported("rhino", RHINO, tmp_path)
    said = language(compile_domain(domain, letters))
    teas = {(text, slots) for text, _, slots in said if text.endswith("teas")}
    assert ("pour out twenty one large teas", (("count", "21"),)) in teas
    assert len(teas) == 3 * 100 * 2
    orders = {(text, slots) for text, _, slots in said} - teas
    assert len(orders) == 2 * 2 * 3 * 2 * 3, "[a, b] must be chosen, (a, b) may be left out"
    assert (
        "i'd like please one sixteen ounce tea with a bit of milk",
        (("size", "sixteen ounce"), ("milk", "a bit of Milk")),
    ) in orders
    assert ("get me small tea", (("size", "small"),)) in orders
    assert not any(text.startswith("please") for text, _ in orders)


@pytest.mark.corpus
def test_coffee_context(letters: Letters, corpora: Path) -> None:
    folder = corpora / "coffee-dev"
    if not (folder / "context.yaml").is_file():
        pytest.skip(f"no coffee context at {folder}")
    domain = parse_domain(import_domain(folder / "context.yaml", "rhino"), "coffee")
    start = time.perf_counter()
    automaton = compile_domain(domain, letters)
    assert time.perf_counter() - start < 5
    assert automaton.main.nodes < 500 and len(automaton.calls) == 6
    for line in (folder / "texts.txt").read_text().splitlines():
        ((meaning, slots),) = match(automaton, letters, line)
        assert meaning.intent == "orderDrink" and {s.value for s in slots} <= {
            v for spec in domain.lists.values() for v in spec.values
        }
        assert all(slot.text in line.lower() for slot in slots)
    for utterance in sample(domain, 500, seed=1):
        ((meaning, slots),) = match(automaton, letters, utterance.text)
        assert slots == utterance.slots


def test_rasa_marks_synonyms_lookups_and_roles(letters: Letters, tmp_path: Path) -> None:
    said = language(compile_domain(imported("rasa", RASA, tmp_path), letters))
    assert set(said) == {
        ("set a timer for ten minutes", "set_timer", (("duration", "ten minutes"),)),
        ("set a timer for ring", "set_timer", (("duration", "now"),)),
        ("ring later", "set_timer", (("end", "now"),)),
        ("ten minutes later", "set_timer", (("end", "ten minutes"),)),
        ("a table in sf", "book", (("city", "San Francisco"),)),
        ("a table in the bay", "book", (("city", "San Francisco"),)),
        ("a table in oslo", "book", (("city", "Oslo"),)),
    }


def test_snips_yaml(letters: Letters, tmp_path: Path) -> None:
    said = language(compile_domain(imported("snips", SNIPS_YAML, tmp_path), letters))
    rooms = {
        ("kitchen", "kitchen"),
        ("den", "den"),
        ("bedroom", "bedroom"),
        ("living room", "living room"),
        ("lounge", "living room"),
    }
    first = {(text, slots) for text, _, slots in said if "light" in text}
    assert first == {(f"turn on the light in the {form}", (("place", out),)) for form, out in rooms}
    assert ("turn lounge to one hundred", "lightOn", (("other", "living room"), ("level", "100"))) in said


def test_snips_json_both_kinds(letters: Letters, tmp_path: Path) -> None:
    said = language(compile_domain(imported("snips", json.dumps(SNIPS_JSON), tmp_path, ".json"), letters))
    assert {(text, slots[0][1]) for text, _, slots in said} == {
        ("light the den", "den"), ("light the living room", "living room"), ("light the lounge", "living room"),
    }  # fmt: skip
    bench = {"Play": [{"data": [{"text": "play "}, {"text": "Some Song", "entity": "track"}]}]}
    said = language(compile_domain(imported("snips", json.dumps(bench), tmp_path, ".json"), letters))
    assert said == [("play some song", "Play", (("track", "Some Song"),))]


def test_rhasspy_tags_rules_ranges_and_slot_files(letters: Letters, tmp_path: Path) -> None:
    (tmp_path / "slots").mkdir()
    (tmp_path / "slots" / "tune").write_text("jazz\n(old | new) folk:folk\n")
    said = set(language(compile_domain(imported("rhasspy", RHASSPY, tmp_path, ".ini"), letters)))
    assert ("make the ceiling light navy", "SetLight", (("name", "ceiling light"), ("colour", "blue"))) in said
    assert ("make lamp dark green", "SetLight", (("name", "lamp"), ("colour", "dark green"))) in said
    assert ("brightness three percent", "SetLight", (("level", "3"),)) in said
    assert ("never use red", "Other", (("colour", "red"),)) in said
    assert {slots for text, _, slots in said if text.startswith("make")} == {
        (("name", name), ("colour", colour))
        for name in ("lamp", "ceiling light")
        for colour in ("red", "blue", "dark green")
    }
    assert {text for text, _, _ in said if text.startswith("play")} == {"play jazz", "play old folk", "play new folk"}


AGENT = {
    "agent.json": {"language": "en"},
    "intents/light.on.json": {"name": "light.on", "fallbackIntent": False},
    "intents/light.on_usersays_en.json": [
        {"data": [{"text": "light the ", "userDefined": False}, {"text": "den", "meta": "@room", "alias": "place"}]},
        {"data": [{"text": "lounge", "meta": "@room", "alias": "place"}, {"text": " to "},
                  {"text": "ten", "meta": "@sys.number", "alias": "level"}]},
        {"data": [{"text": "note "}, {"text": "buy milk", "meta": "@sys.any", "alias": "item"}]},
    ],
    "intents/light.on_usersays_de.json": [{"data": [{"text": "licht an"}]}],
    "intents/what.json": {"name": "what", "fallbackIntent": True},
    "intents/what_usersays_en.json": [{"data": [{"text": "gibberish"}]}],
    "entities/room.json": {"name": "room", "isEnum": False},
    "entities/room_entries_en.json": [{"value": "living room", "synonyms": ["living room", "lounge"]}],
    "entities/code.json": {"name": "code", "isRegexp": True},
    "entities/code_entries_en.json": [{"value": "[0-9]+", "synonyms": ["[0-9]+"]}],
}  # fmt: skip


def agent(folder: Path, **changed: object) -> Path:
    for name, content in {**AGENT, **changed}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return folder


def test_dialogflow_folder_and_zip(letters: Letters, tmp_path: Path) -> None:
    folder = agent(tmp_path / "agent")
    text = import_domain(folder, "dialogflow")
    packed = Path(shutil.make_archive(str(tmp_path / "agent"), "zip", folder))
    assert import_domain(packed, "dialogflow").splitlines()[1:] == text.splitlines()[1:]
    domain = parse_domain(text)
    assert list(domain.intents) == ["light.on"] and domain.lists["sys.any"].kind == "wildcard"
    automaton = compile_domain(domain, letters)
    for form, out in (("den", "den"), ("living room", "living room"), ("lounge", "living room")):
        [(meaning, slots)] = match(automaton, letters, f"light the {form}")
        assert meaning.intent == "light.on" and [(slot.name, slot.value) for slot in slots] == [("place", out)]
    assert not match(automaton, letters, "gibberish") and not match(automaton, letters, "licht an")
    [(meaning, slots)] = match(automaton, letters, "lounge to one hundred")
    assert [(slot.name, slot.value) for slot in slots] == [("place", "living room"), ("level", "100")]
    [(meaning, slots)] = match(automaton, letters, "note call anna")
    assert meaning.intent == "light.on" and [(slot.name, slot.value) for slot in slots] == [("item", "call anna")]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("entities/room_entries_en.json", [{"value": "x", "synonyms": ["@size:size room"]}], "made of other entities"),
        ("intents/light.on_usersays_en.json", [], "no intent with phrases in 'en'"),
        ("intents/light.on_usersays_en.json", [{"data": "x"}], "'data' of a phrase of intent 'light.on'"),
        ("intents/light.on_usersays_en.json", [{"isTemplate": True}], "template mode"),
        ("agent.json", [], "agent.json must be a mapping"),
    ],
)
def test_what_an_agent_lacks_is_said(name: str, content: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(DomainError, match=words):
        import_domain(agent(tmp_path / "agent", **{name: content}), "dialogflow")


def test_hassil_passes_through(tmp_path: Path) -> None:
    content = "intents: {i: {data: [{sentences: ['go {x}']}]}}\nlists: {x: {values: [a, b]}}\n"
    file = tmp_path / "h.yaml"
    file.write_text(content)
    assert import_domain(file, "hassil") == content
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "_common.yaml").write_text("lists: {x: {values: ['on', b]}, y: {values: [unused]}}\n")
    (folder / "i.yaml").write_text("intents: {i: {data: [{sentences: ['go {x} in the {area}']}]}}")
    domain = parse_domain(import_domain(folder, "hassil"))
    assert set(domain.lists) == {"x", "area"} and domain.lists["x"].values == ("on", "b")


@pytest.mark.parametrize(
    ("kind", "suffix", "content", "words"),
    [
        ("rhino", ".yaml", "context: {slots: {}}", "'expressions' must be a mapping"),
        ("rhino", ".yaml", "context: {expressions: {a: ['go $x']}}", "no slot '$x'"),
        ("rhino", ".yaml", "context: {expressions: {a: ['go [x, y']}}", "']' is missing"),
        ("rhino", ".yaml", "context: {expressions: {a: ['go @m']}}", "no macro '@m'"),
        ("rhino", ".yaml", "context: {expressions: {a: ['go $pv.Nothing:n']}}", "no built-in slot"),
        ("rhino", ".yaml", "context: [", "source.yaml:1: not valid YAML"),
        ("rasa", ".yaml", "nlu: [{intent: a, examples: '- [x]{\"entity\": }'}]", "is not JSON"),
        ("rasa", ".yaml", "stories: []", "'nlu' must be a list"),
        ("snips", ".json", "{", "not valid JSON"),
        ("snips", ".yaml", "type: action\nname: x", "Legal: intent, entity"),
        ("rhasspy", ".ini", "hello", "source.ini:1: 'hello' stands before"),
        ("rhasspy", ".ini", "[A]\ngo <x>", "source.ini:2: no rule <x>"),
        ("rhasspy", ".ini", "[A]\nx = a <x>\ngo <x>", "endless rule"),
        ("rhasspy", ".ini", "[A]\ngo $nothing{x}", "which is not there"),
        ("hassil", ".yaml", "intents: {a: {data: [{sentences: ['{x}']}]}}", "no list 'x'"),
    ],
)
def test_what_cannot_be_imported_is_said(kind: str, suffix: str, content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DomainError) as caught:
        imported(kind, content, tmp_path, suffix)
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", IMPORTERS)
def test_missing_files_are_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="nowhere"):
        import_domain(tmp_path / "nowhere.yaml", kind)


@pytest.mark.parametrize(
    ("kind", "content", "suffix"),
    [
        ("rhino", RHINO, ".yaml"),
        ("rasa", RASA, ".yaml"),
        ("snips", SNIPS_YAML, ".yaml"),
        ("rhasspy", RHASSPY, ".ini"),
        ("hassil", "intents: {i: {data: [{sentences: [go]}]}}", ".yaml"),
    ],
)
def test_a_format_is_recognised(kind: str, content: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"source{suffix}"
    file.write_text(content)
    (tmp_path / "slots").mkdir()
    (tmp_path / "slots" / "tune").write_text("jazz\n")
    assert recognise(file) == kind


def test_what_no_format_reads_is_told_by_each(tmp_path: Path) -> None:
    file = tmp_path / "source.yaml"
    file.write_text("context: {expressions: {a: ['go $x']}}")
    with pytest.raises(DomainError, match=r"rhino: .*no slot '.x'.* rasa: "):
        recognise(file)


def test_unknown_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="did you mean 'rhino'"):
        import_domain(tmp_path, "rino")
