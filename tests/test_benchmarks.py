"""Benchmarks start and explain themselves, their JSON is what is documented, and what they derive is right."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile as sf
import torch
from rapidfuzz.distance import Levenshtein

from sayso.core.config import parse
from sayso.core.errors import DataError
from sayso.core.result import Intent, Result, Slot
from sayso.evaluation.examples import read_examples
from sayso.models.assembly import ModelConfig, load_checkpoint, save_checkpoint
from sayso.models.encoders.conformer import ConformerConfig
from sayso.nlu.compile import compile_domain
from sayso.nlu.domain import load_domain, parse_domain
from sayso.nlu.sample import sample
from sayso.text.normalise import normalise
from sayso.text.tokenizer import train_tokenizer

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts find their shared module as they do when started."""
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_says_what_is_measured(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "argparse" not in script.read_text(encoding="utf-8"):
        pytest.skip("takes no options")
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(script), run_name="__main__")
    shown = capsys.readouterr().out
    assert left.value.code == 0 and f"benchmarks/{script.name}" in shown and "-h, --help" in shown


def test_one_of_them_starts_as_a_program() -> None:
    run = subprocess.run([sys.executable, str(FOLDER / "coffee.py"), "--help"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_probe_measures_in_a_process_of_its_own() -> None:
    command = [sys.executable, str(FOLDER / "_probe.py"), "import", "wave", "colorsys"]
    row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0 < row["import_s"] < 60 and 3 < row["peak_mb"] < 1000


def test_a_line_has_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    lines = runpy.run_path(str(FOLDER / "_lines.py"))
    lines["emit"]("floor", "clean", "rtf", {"value": 0.123456789, "low": 0.1, "high": 0.2}, "other")
    lines["emit"]("floor", "clean", "wall_s", 1.5)
    lines["emit"]("floor", "clean", "rejection_auroc", None)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert list(rows[0]) == ["bench", "case", "metric", "value", "ratio_to", "low", "high"]
    assert [(row["value"], row["low"], row["ratio_to"]) for row in rows] == [
        (0.12346, 0.1, "other"),
        (1.5, None, None),
        (None, None, None),
    ]


def test_recordings_and_their_meaning_belong_together() -> None:
    examples = read_examples(ROOT / "examples" / "expected.jsonl")
    names = {Path(example.audio).name for example in examples}
    assert names == {path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".flac", ".wav")}
    assert len(names) >= 9 and sum(example.negative for example in examples) == 1
    domain = load_domain(ROOT / "domains" / "home.yaml")
    for example in examples:
        assert example.negative or example.intent in domain.intents
        assert {slot.name for slot in example.slots or ()} <= set(domain.slots)
    assert any("noise" in name for name in names)


def test_a_picture_shows_the_words_and_the_meaning() -> None:
    drawn = runpy.run_path(str(FOLDER / "picture.py"))
    result = Result(
        display="Lock <the> door", intent=Intent(name="lock", confidence=0.875), slots=(Slot(name="door", value="a&b"),)
    )
    partials = [drawn["Partial"](0.64, "lock", " the <d>"), drawn["Partial"](0.96, "lock the", " door")]
    svg = drawn["draw"](partials, result, np.sin(np.arange(16000, dtype=np.float32)), 16000)
    words = " ".join(ElementTree.fromstring(svg).itertext())
    for said in ("lock", "the <d>", "0.64 s", "Lock <the> door", "door = a&b", "confidence 0.88", "reject"):
        assert said in words


def test_a_stream_waits_as_long_as_its_mask_looks_ahead() -> None:
    torch.manual_seed(0)
    masks = runpy.run_path(str(FOLDER / "masks.py"))
    encoder = ConformerConfig(channels=8, width=16, layers=2, heads=2, feedforward=16).build().eval()
    for case, context in masks["family"](4).items():
        if context.chunk_frames is None:
            continue
        heard = masks["stream"](encoder, context, 0.2, context.chunk_frames)
        assert heard.wait_ms == encoder.lookahead_ms(context), case
        assert len(heard.seconds) == round(12_000 / (80 * context.chunk_frames)) and heard.state_mb > 0


def test_a_line_has_its_slope() -> None:
    slope = runpy.run_path(str(FOLDER / "masks.py"))["slope"]
    x = np.arange(10.0)
    assert slope(x, 3 * x + 2) == pytest.approx((3.0, 1.0))
    assert slope(x, np.array([1.0, -1.0] * 5))[1] < 0.1


def test_encoders_that_are_compared_have_one_size() -> None:
    bench = runpy.run_path(str(FOLDER / "encoders.py"))
    target = bench["parameters"](bench["CASES"]["conformer"][0])
    for settings, knob in bench["CASES"].values():
        assert bench["parameters"](bench["sized"](settings, knob, target)) == pytest.approx(target, rel=0.03)


def test_cascades_answer_beside_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    language = runpy.run_path(str(ROOT / "tests" / "runtime" / "conftest.py"))
    (tmp_path / "tones").mkdir()
    tones = language["Tones"](tmp_path / "tones")
    rows = []
    for number, name in enumerate(("anna", "bob") * 3):
        sf.write(tmp_path / f"{number}.wav", tones.say(f"call {name}"), 16000, subtype="FLOAT")
        slots = [{"name": "contacts", "value": name, "text": name}]
        rows.append({"audio": f"{number}.wav", "text": f"call {name}", "intent": "call", "slots": slots})
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sf.write(tmp_path / "noise.wav", np.random.default_rng(0).normal(0, 0.1, 16000), 16000, subtype="FLOAT")
    line = ["--bundle", str(tones.bundle()), "--data", str(tmp_path / "data.jsonl"), "--epochs", "30"]
    line += ["--train", str(tmp_path / "data.jsonl"), "--noise", str(tmp_path / "noise.wav"), "--snr", "30"]
    monkeypatch.setattr(sys, "argv", ["cascade.py", *line])
    runpy.run_path(str(FOLDER / "cascade.py"), run_name="__main__")
    found = {}
    for text in capsys.readouterr().out.splitlines():
        row = json.loads(text)
        found[row["case"], row["metric"], row["ratio_to"]] = row["value"]
    for system in ("bundle", "cascade match", "cascade tagger"):
        for metric in ("command_acceptance", "intent_accuracy", "slot_f1"):
            assert found[f"clean/{system}", metric, None] == 1, (system, metric)
        assert (f"30dB/{system}", "command_acceptance", None) in found
    assert found["clean/cascade match", "command_acceptance", "bundle"] == 1


def test_heads_that_are_compared_have_one_size_and_a_row_each() -> None:
    bench = runpy.run_path(str(FOLDER / "tradeoffs.py"))
    trunk = bench["trunk_of"](40, None)
    found = {name: bench["sized"](name, trunk) for name in ("ctc", "chunks", "mocha", "transducer")}
    assert found["ctc"][1] == 0
    for name in ("chunks", "mocha"):
        assert found[name][1] == pytest.approx(found["transducer"][1], rel=0.03)
    figures = {"wer": {"value": 0.25, "low": 0.2, "high": 0.3}, "mb": 6.5, "final_s": None}
    lines = bench["table"]({"chunks/commonvoice-v1": figures}).splitlines()
    assert len(lines) == 3 and len({line.count("|") for line in lines}) == 1
    assert "0.25 (0.2 to 0.3)" in lines[2] and "6.5" in lines[2] and "its chunk" in lines[2]
    clips = [("a", np.ones(2)), ("b", np.zeros(3)), ("c", np.ones(1))]
    ((text, samples),) = bench["joined"](clips, 2)
    assert text == "a b" and samples.tolist() == [1, 1, 0, 0, 0]


def test_what_one_training_is_read_as_twice_is_trained_once(tmp_path: Path) -> None:
    bench = runpy.run_path(str(FOLDER / "tradeoffs.py"))
    said: list[str] = []

    class Noted:
        def train(self, name: str, model: dict[str, Any], **training: Any) -> Path:
            said.append(name)
            return tmp_path / name

    names = ("ctc", "attention", "attention-alone", "mocha")
    models = {name: bench["sized"](name, bench["trunk_of"](40, None)) for name in names}
    assert models["attention"] == models["attention-alone"]
    folders = bench["trained"](Noted(), models, 0.4, None)
    assert said == ["ctc", "attention", "mocha"] and list(folders) == list(names)
    assert folders["attention-alone"] == folders["attention"] == tmp_path / "attention"
    assert bench["trained"](Noted(), {"attention-alone": models["attention"]}, 0.4, None) == {
        "attention-alone": tmp_path / "attention"
    }
    weights = {name: bench["SYSTEMS"][name].ctc for name in ("attention", "attention-alone")}
    assert weights == {"attention": 0.3, "attention-alone": 0.0}


def test_systems_begin_with_a_checkpoints_encoder_and_with_heads_of_their_own(tmp_path: Path) -> None:
    bench = runpy.run_path(str(FOLDER / "tradeoffs.py"))
    small = {"kind": "conformer", "channels": 8, "width": 16, "layers": 1, "heads": 2, "feedforward": 16, "kernel": 3}
    tokenizer = train_tokenizer(["the kitchen light", "a hall light"] * 9, tmp_path / "t.model", vocab=24)
    torch.manual_seed(1)
    base = parse(ModelConfig, {"vocab": tokenizer.size, "ctc_rate": 2, "phones": True, "encoder": small}, where="test")
    known = base.build()
    save_checkpoint(known, tokenizer, tmp_path / "base")
    trunk = bench["trunk_of"](40, tmp_path / "base")
    for name, phones in (("transducer", False), ("hybrid", True)):
        settings, _ = bench["sized"](name, trunk)
        first, again = (
            load_checkpoint(bench["begun"](settings, tmp_path / "base", tmp_path / name / str(seed), seed))[0]
            for seed in (0, 1)
        )
        for key, value in first.state_dict().items():
            kept = key.startswith(("encoder.", "ctc.", "phones."))
            assert torch.equal(value, known.state_dict()[key]) if kept else True, key
        assert (first.phones is not None) == phones
        new = [key for key in first.state_dict() if key.startswith(("predictor.", "joiner.")) and "weight" in key]
        assert any(not torch.equal(first.state_dict()[key], again.state_dict()[key]) for key in new)


def test_dialogues_are_read_and_none_is_tuned_on() -> None:
    bench = runpy.run_path(str(FOLDER / "dialogue.py"))
    judged, tuned = (bench["read"](FOLDER / "dialogues" / f"{name}.txt") for name in ("home", "home_tune"))
    domain = load_domain(ROOT / "domains" / "home.yaml")
    assert len(judged) >= 50 and {len(dialogue.turns) for dialogue in judged} == {2, 3}
    assert not {dialogue.turns for dialogue in judged} & {dialogue.turns for dialogue in tuned}
    for dialogue in (*judged, *tuned):
        intent, slots = dialogue.meaning
        assert intent in domain.intents
        for name, value in slots:
            assert any(value in domain.lists[lists].values for lists in domain.slots[name].lists), (name, value)


def test_confidence_is_fitted_by_one_power_and_words_are_aligned() -> None:
    bench = runpy.run_path(str(FOLDER / "calibration.py"))
    rng = np.random.default_rng(0)
    true = rng.uniform(0.3, 1, 20_000)
    right = rng.random(20_000) < true
    assert bench["power"]((true**0.5).astype(np.float32), right) == pytest.approx(2.0, rel=0.05)
    hits = bench["word_hits"]("turn on the lights", ["turn", "off", "the", "light", "lights"])
    assert list(hits) == [True, False, True, False, True]
    assert bench["nll"](np.array([0.5, 0.5]), np.array([True, False])) == pytest.approx(np.log(2))


COFFEE = """
language: en
intents:
  order:
    data:
      - sentences: ["(get|give) me (a|two) {drink} [with {extra}]"]
  stop:
    data:
      - sentences: ["stop [it]"]
lists:
  drink: {values: [tea, {in: iced tea, out: tea}, flat white, latte]}
  extra: {values: [milk, oat milk]}
"""


def test_the_nearest_sentence_is_that_of_a_search_through_all_of_them() -> None:
    nearest, others = runpy.run_path(str(FOLDER / "_nearest.py")), runpy.run_path(str(FOLDER / "_others.py"))
    domain = parse_domain(COFFEE)
    automaton = compile_domain(domain, others["Words"](domain))
    find, rng = nearest["Nearest"](automaton), np.random.default_rng(0)
    said = {u.text: (u.intent, {(s.name, s.value) for s in u.slots}) for u in sample(domain, 500, seed=0)}
    assert len(said) == 2 * 2 * 4 * 3 + 2
    for text in [*said, *("".join(rng.choice(list("aetm iklwfg"), 20)) for _ in range(40))]:
        wrong = [text[: (at := int(rng.integers(len(text) + 1)))] + "x" + text[at + 1 :], text[at:], text]
        for heard in map(normalise, wrong):
            edits = {s: Levenshtein.distance(f" {heard}", f" {s}") for s in said}
            least = min(edits.values())
            (guess,) = find(heard)
            meaning = (guess.intent, {(slot.name, slot.value) for slot in guess.slots})
            assert meaning in [said[s] for s, n in edits.items() if n == least], heard
            assert guess.probability == pytest.approx(1 - min(least, len(heard) + 1) / (len(heard) + 1))


def test_a_network_of_words_says_the_domain_and_nothing_else() -> None:
    others = runpy.run_path(str(FOLDER / "_others.py"))
    domain = parse_domain(COFFEE)
    onwards: dict[int, list[tuple[int, str]]] = {}
    for source, target, _, *word in others["arcs"](compile_domain(domain, others["Words"](domain))):
        onwards.setdefault(source, []).append((target, "".join(word)))
    paths, said = [(0, "")], set()
    while paths:
        state, text = paths.pop()
        if state == 1:
            said.add(normalise(text))
        paths += [(target, f"{text} {word}") for target, word in onwards.get(state, [])]
    assert said == {utterance.text for utterance in sample(domain, 500, seed=0)}


def test_what_writes_is_judged_on_what_it_did_not_hear_and_rules_on_the_truth_are_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = runpy.run_path(str(FOLDER / "written_model.py"))
    assert bench["figures"]("Pay $5.20 at 7:05 pm and 2½ hours later am I six") == ("$5.20", "7:05 pm", "2½")
    assert bench["figures"]("") == ()
    said = ["wake me at a quarter to six", "it costs five dollars", "make it six percent brighter", "stop it", "go"]
    spoken = [
        "wake me at a quarter to six",
        "it costs nine dollars",
        "make it six percent bright",
        "stop at ten pm",
        "go",
    ]
    written = ["Wake me at 5:45", "It costs $5", "Make it 60% brighter", "Stop it", "Go 5"]
    bench["compare"](said, spoken, written)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {(row["case"], row["metric"], row["ratio_to"]): row["value"] for row in rows}
    ruled, network, control, bare = (bench[name] for name in ("RULED", "NETWORK", "CONTROL", "BARE"))
    assert [found[name, "exact_text", None] for name in (ruled, network, control, bare)] == [0.4, 0.6, 1, 0.2]
    numbers = [found[name, "exact_numbers", None] for name in (ruled, network, control, bare)]
    assert numbers == pytest.approx([2 / 3, 2 / 3, 1, 0], abs=1e-4)
    assert found[f"{network}/money", "exact_numbers", None] == 1 and found[f"{ruled}/money", "exact_numbers", None] == 0
    assert [found[name, "numbers_made_up", None] for name in (ruled, network, control, bare)] == [0.5, 0.5, 0, 0]
    assert found[network, "exact_text", ruled] == 1.5 and found["recordings with numbers", "count", None] == 3
    for name, texts in (("train", ["stop it", "Go!"]), ("known", ["go", "It costs $5"])):
        lines = [json.dumps({"audio": f"{text[:2]}.wav", "text": text}) + "\n" for text in texts]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    ((audio, text),) = bench["unheard"](tmp_path / "known.jsonl", tmp_path / "train.jsonl")
    assert text == "it costs five dollars" and Path(audio) == tmp_path / "It.wav"
    with pytest.raises(DataError, match="every sentence occurs in"):
        bench["unheard"](tmp_path / "train.jsonl", tmp_path / "train.jsonl")


def test_builds_hear_all_of_the_corpora_but_the_noise_they_are_judged_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpora, kept = tmp_path / "corpora", tmp_path / "kept"
    for file in ("noise/doing_the_dishes.flac", "noise/tap.flac", "rooms/hall.flac", "README.md"):
        (corpora / file).parent.mkdir(parents=True, exist_ok=True)
        (corpora / file).write_text(file, encoding="utf-8")
    bench = runpy.run_path(str(FOLDER / "builds.py"))
    for _ in range(2):  # a folder given again is no error
        monkeypatch.setenv("SAYSO_CORPORA", str(corpora))
        bench["without_dishes"](kept)
        assert os.environ["SAYSO_CORPORA"] == str(kept.resolve())
    found = {path.relative_to(kept).as_posix() for path in [*kept.rglob("*"), *kept.glob("*/*")] if path.is_file()}
    assert found == {"noise/tap.flac", "rooms/hall.flac", "README.md"}
    assert (kept / "noise" / "tap.flac").read_text(encoding="utf-8") == "noise/tap.flac"
