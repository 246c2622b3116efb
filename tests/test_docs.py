"""The pages say what is so: domains load, recipes parse, results validate, imports resolve, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

from sayso.core.config import override, parse
from sayso.core.result import Decision, Reason, Result
from sayso.evaluation.examples import read_examples
from sayso.nlu.domain import load_domain
from sayso.nlu.importers import IMPORTERS
from sayso.nlu.sample import sample
from sayso.nlu.schema import RISKS, SLOT_TYPES
from test_house import MAY_IMPORT

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "LOG.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
DOMAIN_PAGE = ROOT / "docs" / "domain_file.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)


def anchors(page: Path) -> set[str]:
    """Fragments of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [ROOT / "README.md", DOMAIN_PAGE], ids=lambda page: page.name)
def test_every_domain_shown_loads_and_speaks(page: Path, tmp_path: Path) -> None:
    shown = blocks(page, "yaml")
    assert shown
    for number, text in enumerate(shown):
        file = tmp_path / f"shown{number}.yaml"
        file.write_text(text, encoding="utf-8")
        domain = load_domain(file)
        said = sample(domain, 300, seed=0)
        assert {utterance.intent for utterance in said} == set(domain.intents)
        assert {slot.name for utterance in said for slot in utterance.slots} == set(domain.slots)


def test_the_short_domain_is_ten_lines() -> None:
    assert [len(text.splitlines()) for text in blocks(ROOT / "README.md", "yaml")] == [10]


def test_the_worked_example_means_what_the_page_says(tmp_path: Path) -> None:
    file = tmp_path / "room.yaml"
    file.write_text(blocks(DOMAIN_PAGE, "yaml")[0], encoding="utf-8")
    domain = load_domain(file)
    assert domain.name == "room" and domain.intents["unlock"].risk == "confirm" and len(domain.out_of_domain) == 3
    assert {name: spec.type for name, spec in domain.slots.items()} == {
        "lamp": "text",
        "level": "number",
        "time": "time",
        "day": "date",
        "minutes": "duration",
        "door": "text",
        "words": "open",
    }
    meanings = {u.text: {slot.name: slot.value for slot in u.slots} for u in sample(domain, 2000, seed=0)}
    assert meanings["everything on"] == {"lamp": "all"}
    assert meanings["wake me up tomorrow at half past six"] == {"day": "tomorrow", "time": "6:30"}
    assert meanings["dim my string lights to maximum"] == {"lamp": "fairy lights", "level": "100"}
    assert meanings["snooze for twenty five minutes"] == {"minutes": "25"}


def test_tables_of_the_domain_page_are_complete() -> None:
    page = DOMAIN_PAGE.read_text(encoding="utf-8")
    imports = page.split("## Importing")[1].split("## From Python")[0]
    assert re.findall(r"^\| `(\w+)` \|", imports, re.M) == list(IMPORTERS)
    listed = re.search(r"Slot types: (.+?)\. The default", page, re.S)
    assert listed is not None and re.findall(r"`(\w+)`", listed[1]) == list(SLOT_TYPES)
    assert all(f"`{risk}`" in page for risk in RISKS)


def test_the_result_shown_is_one() -> None:
    (shown,) = blocks(ROOT / "README.md", "json")
    assert Result.model_validate_json(shown).decision == "accept"
    page = ROOT.joinpath("README.md").read_text(encoding="utf-8")
    assert all(f"`{word}`" in page for word in (*Decision.__args__, *Reason.__args__))  # type: ignore[attr-defined]


def test_the_examples_to_judge_by_are_read(tmp_path: Path) -> None:
    shown = re.findall(r'`(\{"audio".+?\})`', ROOT.joinpath("README.md").read_text(encoding="utf-8"))
    assert shown
    (tmp_path / "my.jsonl").write_text("\n".join(shown), encoding="utf-8")
    (example,) = read_examples(tmp_path / "my.jsonl")
    assert example.intent == "unlock" and example.slots is not None
    assert [(slot.name, slot.value) for slot in example.slots] == [("door", "front door")]


def test_the_recipe_shown_parses_with_the_overrides_shown() -> None:
    pytest.importorskip("torch")
    recipe = importlib.import_module("sayso.training.recipe").Recipe
    page = ROOT / "docs" / "training.md"
    shown, *others = blocks(page, "toml")
    (line,) = re.findall(r"^sayso train RECIPE (\w+\.\S+=.+)$", page.read_text(encoding="utf-8"), re.M)
    read = parse(recipe, override(tomllib.loads(shown), line.split()), where="docs/training.md")
    assert (read.name, read.training.steps, read.model.encoder.layers) == ("small", 200, 6)
    assert read.training.weights.ctc == 0.6 and len(read.data.train) == 2
    names = [
        stage.name for text in others for stage in parse(recipe, tomllib.loads(text), where="page").training.stages
    ]
    assert names == ["acoustic", "alignment", "semantics"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_shown_compiles_and_its_names_exist(page: Path) -> None:
    for text in blocks(page, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sayso":
                assert hasattr(importlib.import_module("sayso"), node.attr), ast.unparse(node)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if fragment:
            assert fragment in anchors(file), f"{page.name}: {target}"


def test_the_package_table_is_the_tree() -> None:
    rows = re.findall(r"^\| `(\w+)`( \(later\))? \|", ARCHITECTURE.read_text(encoding="utf-8"), re.M)
    there = {item.parent.name for item in (ROOT / "src" / "sayso").glob("*/__init__.py")}
    assert there == {name for name, later in rows if not later}


def test_the_package_table_is_the_one_that_is_enforced() -> None:
    rows = re.findall(r"^\| `(\w+)`(?: \(later\))? \|[^|]+\| (.+?) \|$", ARCHITECTURE.read_text(encoding="utf-8"), re.M)
    shown: dict[str, set[str]] = {}
    for name, allowed in rows:
        words = set(re.findall(r"[a-z]+", re.sub(r"\(.*?\)", "", allowed)))
        if allowed == "nothing of ours":
            words = set()
        elif "what training may" in allowed:
            words = shown["training"] | {"training"}
        elif allowed.startswith("everything but"):
            words = {row[0] for row in rows} - words - {name}
        shown[name] = words
    shown.pop("cli")
    assert shown == MAY_IMPORT
