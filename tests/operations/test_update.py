"""Updates of a bundle of the tone language: what takes effect, what stays to the byte, and the way back."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sayso.cli.main import main
from sayso.core.bundle import copy_bundle, read_bundle
from sayso.core.errors import BundleError, DataError, DomainError, UsageError
from sayso.decoding.arpa import write_arpa
from sayso.decoding.kneser_ney import estimate
from sayso.operations.update import HISTORY, Change, rollback_bundle, update_bundle
from sayso.runtime.load import load

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("tone_language_of_updates", ROOT / "tests" / "runtime" / "conftest.py")
assert _spec is not None and _spec.loader is not None
_language = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_language)
NEW = Change(sentences={"brew": ("coffee",)})


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return _language.Tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture
def bundle(tones: Any, tmp_path: Path) -> Path:
    """One that carries its domain file."""
    opinion = {"turn_on": -0.3, "turn_off": -3.0, "call": -3.0}
    made = tones.bundle(
        opinion=opinion, source="domain/tones.yaml", files={"domain/tones.yaml": _language.DOMAIN.encode()}
    )
    out = tmp_path / "b.bundle"
    copy_bundle(read_bundle(made), out)
    return out


@pytest.fixture
def understood(tones: Any) -> Callable[[Path, str], tuple[str | None, dict[str, str]]]:
    def understand(path: Path, text: str) -> tuple[str | None, dict[str, str]]:
        result = load(path).understand(tones.say(text))
        return (None if result.intent is None else result.intent.name), {s.name: s.value for s in result.slots}

    return understand


def contents(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {path.name: path.read_bytes()}
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


OLD = [("turn on the kitchen light", "turn_on"), ("turn off hall light", "turn_off"), ("call anna", "call")]


def test_a_new_intent_is_understood_at_once_and_the_old_ones_still(
    bundle: Path, understood: Callable[..., Any]
) -> None:
    assert understood(bundle, "coffee") == (None, {})
    before = read_bundle(bundle).manifest
    after = update_bundle(bundle, NEW)
    assert understood(bundle, "coffee") == ("brew", {})
    for text, intent in OLD:
        assert understood(bundle, text)[0] == intent
    assert after.revision == before.revision + 1 and after.sha256 != before.sha256
    assert all(after.files[spec.file] == before.files[spec.file] for spec in before.graphs.values())
    assert [spec.name for spec in after.intents] == ["turn_on", "turn_off", "call", "brew"]
    assert after.intent_classes == before.intent_classes == ("turn_on", "turn_off", "call")
    assert next(spec for spec in after.intents if spec.name == "call").risk == "confirm"
    assert "`brew`" in contents(bundle)["README.md"].decode()


def test_lists_and_sentences_change(bundle: Path, understood: Callable[..., Any]) -> None:
    update_bundle(bundle, Change(lists={"contacts": [("uncle", "+44 1"), "geoffrey"]}))
    assert understood(bundle, "call uncle") == ("call", {"contacts": "+44 1"})
    assert understood(bundle, "call anna")[1] != {"contacts": "anna"}
    update_bundle(bundle, Change(sentences={"call": ("coffee for {contacts}",)}))
    assert understood(bundle, "coffee for geoffrey") == ("call", {"contacts": "geoffrey"})
    assert understood(bundle, "call uncle") == ("call", {"contacts": "+44 1"}), "the second update keeps the first"


def test_a_whole_domain_may_come_and_intents_may_go(
    bundle: Path, tmp_path: Path, understood: Callable[..., Any]
) -> None:
    text = _language.DOMAIN.replace("""  turn_off: {data: [{sentences: ["turn off [the] {area} light"]}]}\n""", "")
    (tmp_path / "smaller.yaml").write_text(text)
    written = update_bundle(bundle, Change(domain=tmp_path / "smaller.yaml"))
    assert written.source == "domain/smaller.yaml" and "domain/tones.yaml" not in written.files
    assert understood(bundle, "turn off hall light")[0] != "turn_off"
    assert understood(bundle, "call bob") == ("call", {"contacts": "bob"}), "the head's classes are those it has"


@pytest.mark.parametrize("zipped", [False, True])
def test_rollback_gives_back_every_byte(bundle: Path, tmp_path: Path, zipped: bool) -> None:
    place = tmp_path / "b.zip" if zipped else bundle
    if zipped:
        copy_bundle(read_bundle(bundle), place)
    first = contents(place)
    update_bundle(place, NEW)
    second = contents(place)
    update_bundle(place, Change(lists={"contacts": ["uncle"]}))
    assert rollback_bundle(place).revision == 1 and contents(place) == second
    assert rollback_bundle(place).revision == 0 and contents(place) == first
    with pytest.raises(BundleError, match="never updated"):
        rollback_bundle(place)
    assert contents(place) == first


def test_an_update_elsewhere_leaves_the_old_one(bundle: Path, tmp_path: Path, understood: Callable[..., Any]) -> None:
    first = contents(bundle)
    update_bundle(bundle, NEW, out=tmp_path / "new.bundle")
    assert contents(bundle) == first and understood(tmp_path / "new.bundle", "coffee")[0] == "brew"
    rollback_bundle(tmp_path / "new.bundle", out=tmp_path / "old.bundle")
    assert contents(tmp_path / "old.bundle") == first


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (Change(), UsageError, "nothing to change"),
        (Change(sentences={"brew": ("coffee (",)}), DomainError, "cannot read the sentence"),
        (Change(sentences={"brew": ("coffee for {friends}",)}), DomainError, "no list 'friends'"),
        (Change(sentences={"brew": ("zzz",)}), DomainError, "cannot spell"),
        (Change(lists={"friends": ["anna"]}), DomainError, "no list 'friends'"),
        (Change(lists={"contacts": []}), DomainError, "has no values"),
        (Change(domain=Path("nowhere.yaml")), DomainError, "cannot be read"),
        (Change(lm=Path("nowhere.arpa")), DataError, "cannot be read"),
    ],
    ids=["nothing", "brackets", "list", "letters", "unknown", "empty", "file", "model"],
)
def test_a_bad_update_changes_nothing(bundle: Path, change: Change, error: type[Exception], match: str) -> None:
    before = contents(bundle)
    with pytest.raises(error, match=match):
        update_bundle(bundle, change)
    assert contents(bundle) == before and sorted(bundle.parent.iterdir()) == [bundle]


def test_a_language_model_votes_on_the_free_text(bundle: Path, tmp_path: Path, understood: Callable[..., Any]) -> None:
    write_arpa(estimate([["call", "anna"]] * 4 + [["coffee"]], 2), tmp_path / "words.arpa")
    written = update_bundle(bundle, Change(lm=tmp_path / "words.arpa"))
    assert written.free["search"]["kind"] == "ctc_beam" and written.free["lm"]["file"] in written.files
    assert understood(bundle, "call anna") == ("call", {"contacts": "anna"})
    assert [name for name in written.files if name.startswith(HISTORY)] == [f"{HISTORY}/0/bundle.json"], (
        "only what changed"
    )


def test_a_bundle_without_its_domain_file_asks_for_it(tones: Any, tmp_path: Path) -> None:
    old, out = tones.bundle(), tmp_path / "new.bundle"
    with pytest.raises(BundleError, match="carries no domain file"):
        update_bundle(old, NEW, out=out)
    (tmp_path / "tones.yaml").write_text(_language.DOMAIN)
    assert update_bundle(old, Change(domain=tmp_path / "tones.yaml"), out=out).source == "domain/tones.yaml"
    update_bundle(out, NEW)


def test_sentences_of_two_intents_are_warned_of(bundle: Path) -> None:
    said: list[str] = []
    update_bundle(bundle, Change(sentences={"brew": ("call anna",)}), say=said.append)
    assert any("brew and call" in line for line in said) and any("new to the intent head" in line for line in said)


def test_the_command_updates_and_goes_back(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(bundle)
    (tmp_path / "people.txt").write_text("uncle\t+44 1\ngeoffrey\n")
    line = ["bundle", "update", str(bundle), "--sentence", "brew=coffee", "--list", f"contacts={tmp_path}/people.txt"]
    assert main(line) == 0 and "revision 1" in capsys.readouterr().out
    assert main(["bundle", "show", str(bundle)]) == 0 and "brew" in capsys.readouterr().out
    assert main(["bundle", "rollback", str(bundle)]) == 0 and contents(bundle) == before
    assert main(["bundle", "update", str(bundle), "--sentence", "brew"]) == 2
    assert main(["bundle", "update", "home", "--sentence", "brew=coffee"]) == 2
    assert "give --out" in capsys.readouterr().err
