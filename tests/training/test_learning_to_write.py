"""Networks that learn to write: their targets are what the rules write, other runs keep theirs, and tags go not with
them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sayso.core.config import parse
from sayso.core.errors import ConfigError
from sayso.data.manifest import make_cut, write
from sayso.models.assembly import ModelConfig
from sayso.text.tokenizer import Tokenizer, train_tokenizer
from sayso.training.data import gather
from sayso.training.recipe import Recipe, load_recipe
from sayso.training.run import run

SAID = {  # as a transcript has it: as it is spoken, as it is written
    "wake me up at a quarter to six": ("wake me up at a quarter to six", "Wake me up at 5:45"),
    "Set an alarm for 7:05 pm!": ("set an alarm for seven oh five pm", "Set an alarm for 7:05 pm"),
    "half past ten in the evening": ("half past ten in the evening", "10:30 in the evening"),
    "be here at nine o'clock": ("be here at nine o'clock", "Be here at 9:00"),
    "pay five dollars and twenty cents": ("pay five dollars and twenty cents", "Pay $5.20"),
    "The pizza costs $41.": ("the pizza costs forty one dollars", "The pizza costs $41"),
    "make it thirty percent brighter": ("make it thirty percent brighter", "Make it 30% brighter"),
    "wait two hours and fifteen minutes": ("wait two hours and fifteen minutes", "Wait 2 hours and 15 minutes"),
    "book the train on july twenty first": ("book the train on july twenty first", "Book the train on July 21st"),
    "on the third of may i'm in room six": ("on the third of may i'm in room six", "On the 3rd of May I'm in room 6"),
    "turn off two lights": ("turn off two lights", "Turn off two lights"),
    "one of them, please": ("one of them please", "One of them please"),
}


def recipe(folder: Path, **data: object) -> Recipe:
    settings = {
        "model": {
            "vocab": 60,
            "encoder": {"kind": "conformer", "channels": 8, "width": 16, "layers": 1, "heads": 2, "feedforward": 16},
        },
        "data": {
            "train": [{"manifest": str(folder / "train.jsonl")}],
            "cache": str(folder / "cache"),
            "processes": 1,
            **data,
        },
        "training": {"steps": 2, "batch_seconds": 12, "warmup": 1, "chunks": [4], "threads": 1, "precision": "fp32",
                     "weights": {"ctc": 1.0, "transducer": 0.0}},
    }  # fmt: skip
    return parse(Recipe, settings, where="test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, rng = tmp_path_factory.mktemp("said"), np.random.default_rng(0)
    cuts = []
    for number, text in enumerate(SAID):
        path = place / f"{number:02}.wav"
        sf.write(path, rng.normal(0, 0.1, 16000 * 5).astype(np.float32), 16000)
        cuts.append(make_cut(f"cut{number:02}", path, text))
    write(cuts, place / "train.jsonl")
    return place


def targets(settings: Recipe, out: Path) -> list[str]:
    """What a run learns, spelled by the tokenizer it made."""
    run(settings, out, lambda text: None)
    tokenizer = Tokenizer.load(out / "tokenizer.model")
    corpus = gather(settings.data, tokenizer, settings.model, lambda text: None)
    return [tokenizer.decode(item.tokens) for item in corpus.train]


@pytest.mark.parametrize("written", [False, True])
def test_what_is_learnt_is_spoken_or_written(folder: Path, tmp_path: Path, written: bool) -> None:
    learnt = targets(recipe(folder, written=written), tmp_path / "run")
    assert learnt == [forms[written] for forms in SAID.values()]


def test_spoken_words_are_the_default_and_their_tokenizer_stays(folder: Path, tmp_path: Path) -> None:
    settings, words = recipe(folder), [spoken for spoken, _ in SAID.values()]
    assert targets(settings, tmp_path / "run") == words
    made = train_tokenizer(words, tmp_path / "tokenizer.model", vocab=settings.model.vocab)
    assert made.model == (tmp_path / "run" / "tokenizer.model").read_bytes()
    assert set("".join(made.pieces[2:])) <= set("abcdefghijklmnopqrstuvwxyz'▁")


def test_extra_sentences_are_written_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("three quarters\nit costs nine pounds eighty pence\n", encoding="utf-8")
    settings = recipe(folder, written=True, tokenizer_text=[str(tmp_path / "more.txt")])
    run(settings, tmp_path / "run", lambda text: None)
    tokenizer = Tokenizer.load(tmp_path / "run" / "tokenizer.model")
    assert {"$", "%", ":", ".", "£", *"012345679"} <= set("".join(tokenizer.pieces))
    assert tokenizer.decode(tokenizer.encode("Pay £9.80 at 5:40")) == "Pay £9.80 at 5:40"


@pytest.mark.parametrize("key", ["heads", "decoder"])
def test_what_is_about_spoken_words_is_refused(folder: Path, tmp_path: Path, key: str) -> None:
    settings = recipe(folder, written=True)
    parts = {"heads": {"intents": ["a"], "tags": ["O", "B-x", "I-x"]}, "decoder": {"kind": "lstm"}}
    model = settings.model.model_dump() | {key: parts[key]}
    settings = settings.model_copy(update={"model": parse(ModelConfig, model, where="test")})
    with pytest.raises(ConfigError, match=r"data\.written: tags and decoders"):
        run(settings, tmp_path / "run", lambda text: None)


def test_the_two_recipes_differ_in_nothing_else() -> None:
    paths = [Path(__file__).parents[2] / "recipes" / "written" / f"{name}.toml" for name in ("spoken", "written")]
    spoken, written = (load_recipe(path, []) for path in paths)
    assert written.data.written and not spoken.data.written
    data = written.data.model_copy(update={"written": False})
    assert written.model_copy(update={"name": spoken.name, "data": data}) == spoken


def test_two_runs_are_compared_from_their_folders(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, written in (("spoken", False), ("written", True)):
        run(recipe(folder, written=written), tmp_path / name, lambda text: None)
    texts = ["call me at ten past four", "one of them please", "pay three dollars"]  # the second was heard in training
    write([make_cut(text[:3], folder / f"{n:02}.wav", text) for n, text in enumerate(texts)], tmp_path / "known.jsonl")
    bench = Path(__file__).parents[2] / "benchmarks" / "written_model.py"
    monkeypatch.syspath_prepend(str(bench.parent))
    places = [f"--{name}={tmp_path / name}" for name in ("spoken", "written")]
    main = runpy.run_path(str(bench))["main"]
    main([*places, f"--data={tmp_path / 'known.jsonl'}", f"--train={folder / 'train.jsonl'}", "--show=1"])
    shown = capsys.readouterr()
    rows = [json.loads(line) for line in shown.out.splitlines()]
    assert [row["value"] for row in rows if row["metric"] == "count"] == [2, 2, 1, 1]
    control = [row["value"] for row in rows if row["case"].startswith("rules on the true words")]
    assert control[:2] == [1.0, 1.0] and "true    Call me at 4:10" in shown.err
    assert {"heard, then rules", "written by the network", "no rules"} <= {row["case"] for row in rows}
