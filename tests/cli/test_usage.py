"""Wrong words, wrong files: one message that names the thing and what is legal, the documented exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import sayso as package

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "domains" / "home.yaml"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("understnd a.wav", "did you mean 'understand'"),
        ("understand a.wav --jsn", "did you mean '--json'"),
        ("domain chek x.yaml", "did you mean 'check'"),
        ("understand", "Missing argument"),
        ("understand a.wav --chunk-ms zero", "chunk-ms"),
        ("understand a.wav --chunk-ms 0", "chunk-ms"),
        ("evaluate --data x.jsonl", "--bundle"),
        ("understand a.wav --bundle nowhere.bundle", "nowhere.bundle: no such bundle"),
        ("bundle show nowhere.bundle", "nowhere.bundle: no such bundle"),
        ("domain check nowhere.yaml", "nowhere.yaml"),
        ("evaluate --bundle b --data d --noise n.wav", "--snr"),
        ("evaluate --bundle b --data nowhere.jsonl", "nowhere.jsonl"),
        ("evaluate --bundle b --data d --report /nowhere/at/all.html", "existing folder"),
        ("train nowhere.toml", "nowhere.toml"),
        ("build nowhere.yaml --out b", "nowhere.yaml"),
        (f"build {HOME} --out b copis=2", "did you mean 'copies'"),
        (f"build {HOME} --out b training.rate=fast", "training.rate"),
        ("export nowhere --out b", "nowhere: not a run folder"),
        ("export nowhere --out b --free search.kind=beem", "--free: 'search': Input tag 'beem'"),
        ("export nowhere --out b --free search.kind=beem", "'ctc_greedy', 'ctc_beam', 'greedy', 'tsd', 'alsd'"),
        (
            "export nowhere --out b --free search.kind=tsd --free search.beam=0",
            "'search.tsd.beam': Input should be gre",
        ),
        ("export nowhere --out b --free search.kind=tsd --free search.bem=2", "did you mean 'beam'"),
        ("export nowhere --out b --format shrpa", "did you mean 'sherpa'"),
        ("export nowhere --out b --format sherpa --clips c.jsonl", "leave out --domain"),
    ],
)
def test_wrong_usage_is_one_message_and_2(sayso: Any, line: str, what: str) -> None:
    ran = sayso(*line.split())
    assert ran.code == 2 and what in ran.err and not ran.out
    assert ran.err.startswith("error: ") and "Traceback" not in ran.err


def test_debug_anywhere_shows_the_traceback(sayso: Any) -> None:
    for line in (["--debug", "bundle", "show", "nowhere"], ["bundle", "show", "nowhere", "--debug"]):
        ran = sayso(*line)
        assert ran.code == 2 and "Traceback" in ran.err and "error: nowhere: no such bundle" in ran.err


def test_help_version_and_nothing(sayso: Any) -> None:
    assert sayso("--version").out == f"sayso {package.__version__}\n"
    assert sayso("understand", "--help").code == 0
    assert sayso().code == 2


def test_names_of_the_package() -> None:
    assert callable(package.load) and package.Result().version == 1
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="'lod'"):
        _ = package.lod  # type: ignore[attr-defined]


def test_a_flipped_byte_is_found(sayso: Any, tones: Any, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.bundle"
    shutil.copytree(tones.bundle(), damaged)
    assert sayso("bundle", "verify", damaged).out.startswith("ok: tones, ")
    content = bytearray((damaged / "encoder.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "encoder.onnx").write_bytes(bytes(content))
    for line in (["bundle", "verify", damaged], ["understand", "a.wav", "--bundle", damaged]):
        ran = sayso(*line)
        assert ran.code == 2 and "encoder.onnx is damaged" in ran.err and not ran.out


def test_bundle_show(sayso: Any, tones: Any, bundle: str) -> None:
    shown = json.loads(sayso("bundle", "show", bundle, "--json").out)
    assert shown["name"] == "tones" and shown["size_bytes"] > 0 and shown["format"] == 1
    text = sayso("bundle", "show", bundle).out
    assert "turn_on, turn_off, call" in text and "asks before    call" in text and "not calibrated" in text
    beam = {"search": {"kind": "ctc_beam", "beam": 7}}
    text = sayso("bundle", "show", tones.bundle(free=beam)).out
    assert "search.kind: ctc_beam" in text and "search.beam: 7" in text


def test_domain_check_tells_what_is_odd(sayso: Any, tones: Any, tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(
        "language: en\nintents:\n  call: {data: [{sentences: ['call {who}']}]}\n"
        "  ring: {data: [{sentences: ['call {who}']}]}\n"
        "lists:\n  who: {values: [anna, {in: bob, out: '1'}, {in: bob, out: '2'}]}\n"
        "sayso: {version: 1, out_of_domain: ['call anna']}\n"
    )
    ran = sayso("domain", "check", file, "--tokenizer", tones.folder / "tokenizer.model")
    assert ran.code == 0 and "positions" in ran.out
    warnings = [line for line in ran.out.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 3 and "'bob' means 1 and 2" in warnings[0]
    assert "'call anna' is a sentence of intent" in warnings[1] and "call and ring" in warnings[2]
    file.write_text("intents: {a: {data: [{sentences: ['{nothing}']}]}}\n")
    ran = sayso("domain", "check", file)
    assert ran.code == 2 and f"error: {file}:1: " in ran.err and not ran.out


def test_domain_sample(sayso: Any, tones: Any) -> None:
    file = tones.folder / "domain.yaml"
    ran = sayso("domain", "sample", file, "-n", "6", "--seed", "3", "--json")
    drawn = [json.loads(line) for line in ran.out.splitlines()]
    assert len(drawn) == 6 and {item["intent"] for item in drawn} <= {"turn_on", "turn_off", "call"}
    assert ran.out == sayso("domain", "sample", file, "-n", "6", "--seed", "3", "--json").out
    assert drawn[0]["text"] in sayso("domain", "sample", file, "-n", "6", "--seed", "3").out


def test_domain_import(sayso: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "context.yml", tmp_path / "coffee.yaml"
    source.write_text(
        "context:\n  expressions:\n    orderDrink:\n      - make [me, us] a $size:size coffee\n  slots:\n"
        "    size: [small, large]\n  macros: {}\n"
    )
    ran = sayso("domain", "import", source, "--format", "rhino", "--out", out)
    assert ran.code == 0 and "1 intents" in ran.out, ran.err
    assert "orderDrink" in sayso("domain", "check", out).out
    before = out.read_text()
    assert "--force" in sayso("domain", "import", source, "--format", "rhino", "--out", out).err
    assert sayso("domain", "import", source, "--format", "rhino", "--out", out, "--force").code == 0
    assert out.read_text() == before
    ran = sayso("domain", "import", source, "--format", "rino", "--out", tmp_path / "b.yaml")
    assert ran.code == 2 and "did you mean 'rhino'" in ran.err
    source.write_text("[1, 2")
    assert sayso("domain", "import", source, "--format", "rhino", "--out", tmp_path / "b.yaml").code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coffee.yaml", "context.yml"]


def test_a_misspelt_recipe_key_names_the_nearest(sayso: Any, tmp_path: Path) -> None:
    pytest.importorskip("sayso.training.run", exc_type=ImportError)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text("[training]\nstepz = 3\n")
    ran = sayso("train", recipe, "--out", tmp_path / "run")
    assert ran.code == 2 and "did you mean 'steps'" in ran.err and str(recipe) in ran.err
    recipe.write_text("[training]\nsteps = 3\n")
    ran = sayso("train", recipe, "training.rat=1", "--out", tmp_path / "run")
    assert ran.code == 2 and "did you mean 'rate'" in ran.err
    assert not (tmp_path / "run").exists()


def test_bench_runs_a_checkouts_benchmark(command: Any, tmp_path: Path) -> None:
    inside = tmp_path / "clone" / "deep"
    (tmp_path / "clone" / "benchmarks").mkdir(parents=True)
    inside.mkdir()
    (tmp_path / "clone" / "benchmarks" / "one.py").write_text(
        "import json, sys\nprint(json.dumps({'bench': 'one', 'case': sys.argv[1:]}))\nsys.exit(3)\n"
    )
    ran = command("bench", "one", "--size", "7", "--debug", "x", cwd=inside)
    assert ran.code == 3 and json.loads(ran.out)["case"] == ["--size", "7", "--debug", "x"]
    ran = command("bench", "one", "--help", cwd=inside)
    assert ran.code == 3 and json.loads(ran.out)["case"] == ["--help"]
    ran = command("bench", "--help", cwd=inside)
    assert ran.code == 0 and "NAME --help" in ran.out
    ran = command("bench", "on", cwd=inside)
    assert ran.code == 2 and "did you mean 'one'" in ran.err
    outside = tmp_path / "outside"
    outside.mkdir()
    if not any((parent / "benchmarks").is_dir() for parent in outside.parents):
        ran = command("bench", "one", cwd=outside)
        assert ran.code == 2 and "part of a checkout" in ran.err
