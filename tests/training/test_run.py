"""A run from its recipe: it learns, a killed one takes the identical next step, and mistakes are named."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file

from sayso.audio import decode
from sayso.audio.features import FeatureConfig, fbank
from sayso.cli.main import main
from sayso.core.errors import ConfigError, DataError
from sayso.core.result import Slot
from sayso.core.trees import TreeSchema
from sayso.data.curation import content_hash
from sayso.data.manifest import audio_path, make_cut, meaning, read, write
from sayso.data.teacher import read_teacher
from sayso.decoding.transducer_beam import TsdConfig
from sayso.evaluation.examples import read_examples
from sayso.losses import distillation_loss, lattice_distillation_loss
from sayso.models.assembly import load_checkpoint, save_checkpoint
from sayso.models.decoders.transformer import TransformerDecoderConfig
from sayso.models.encoders.attention import AttentionEncoder
from sayso.runtime.load import load
from sayso.text.tokenizer import train_tokenizer
from sayso.training.batches import teacher_of
from sayso.training.data import read_parts, transcripts
from sayso.training.loop import Progress, Trainer
from sayso.training.recipe import DataConfig, Source, load_language_recipe, load_recipe
from sayso.training.run import train

TEACH = Path(__file__).parents[2] / "benchmarks" / "teach.py"
WORDS = {"red": 500.0, "green": 900.0, "blue": 1500.0, "lamp": 2300.0}
RECIPE = """
name = "small"
[model]
vocab = 18
encoder = {kind = "conformer", channels = 16, width = 24, layers = 1, heads = 2, feedforward = 32, kernel = 3}
predictor = {kind = "stateless", width = 12}
joiner = {kind = "additive", width = 12}
heads = {intents = ["paint", "show"], tags = ["O", "B-colour", "I-colour"], width = 12}
[data]
cache = "CACHE"
processes = 1
[[data.train]]
manifest = "FOLDER/train.jsonl"
[[data.train]]
manifest = "FOLDER/valid.jsonl"
split = "valid"
[training]
steps = 8
batch_seconds = 12.0
rate = 3e-3
warmup = 2
chunks = [4, 8]
left_frames = 8
checkpoint_every = 4
validate_every = 6
precision = "fp32"
threads = 1
"""


def spoken(text: str, rng: np.random.Generator) -> np.ndarray:
    """Every word a tone of its own, long enough for its letters."""
    pieces = [rng.normal(0, 0.001, 1600)]
    for word in text.split():
        t = np.arange(10000) / 16000
        pieces += [0.3 * np.sin(2 * np.pi * WORDS[word] * t) + rng.normal(0, 0.01, 10000), rng.normal(0, 0.001, 1600)]
    return np.concatenate(pieces).astype(np.float32)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, count in (("train", 24), ("valid", 4)):
        cuts = []
        for number in range(count):
            colour = str(rng.choice(["red", "green", "blue"]))
            text, intent = (f"{colour} lamp", "paint") if number % 2 else (f"lamp {colour}", "show")
            path = folder / f"{name}{number}.wav"
            sf.write(path, spoken(text, rng), 16000)
            custom = meaning(intent, [Slot(name="colour", value=colour, text=colour)])
            cuts.append(make_cut(f"{name}{number}", path, text, custom=custom))
        write(cuts, folder / f"{name}.jsonl")
    file = folder / "small.toml"
    file.write_text(RECIPE.replace("CACHE", str(folder / "cache")).replace("FOLDER", str(folder)))
    return file


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def straight(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(recipe, [], tmp_path_factory.mktemp("straight") / "run", lambda text: None)


class Killed(Exception):
    """Stands for a kill: nothing of the run gets to clean up."""


def kill_at(step: int) -> Callable[[str], None]:
    def say(text: str) -> None:
        if text.startswith(f"step {step} "):
            raise Killed

    return say


def test_equal_runs_write_equal_bytes(recipe: Path, tmp_path: Path) -> None:
    first, second = (train(recipe, ["training.steps=52"], tmp_path / name, lambda text: None) for name in "ab")
    for name in ("metrics.jsonl", "data.json", "model/model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    rows = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    assert any("total" in row for row in rows) and any("valid_wer" in row for row in rows)
    assert len((first / "timing.jsonl").read_text().splitlines()) == len(rows)
    sources = json.loads((first / "data.json").read_text())
    assert [list(row)[1:] for row in sources] == [["train"], ["valid"]] and sources[0]["train"]["clips"] == 24
    assert sources[0]["train"]["sha256"] == content_hash(read_examples(recipe.parent / "train.jsonl"))


def test_recorded_noise_is_heard_and_recorded(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpora" / "noise").mkdir(parents=True)
    monkeypatch.setenv("SAYSO_CORPORA", str(tmp_path / "corpora"))
    spec = ["training.spec.noise=1.0", "training.spec.recorded=1.0", "training.steps=2"]
    said: list[str] = []
    without = train(recipe, spec, tmp_path / "without", said.append)
    assert any("no recorded noise" in line for line in said)
    hum = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    for name in ("hum.flac", "kitchen-dev.flac"):  # what is called dev stays out
        sf.write(tmp_path / "corpora" / "noise" / name, hum, 16000)
    within = train(recipe, spec, tmp_path / "within", lambda text: None)
    rows = json.loads((within / "data.json").read_text())
    assert rows[-1]["source"] == "noise" and rows[-1]["train"]["clips"] == 1
    assert json.loads((without / "data.json").read_text()) == rows[:-1]
    first, second = weights(without), weights(within)
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_features_are_heard_as_they_are_whatever_multiplies_them(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bf16 a log-mel energy of 16 to 32 has steps of an eighth; a bundle hears it in fp32."""
    heard: list[torch.dtype] = []
    plain = AttentionEncoder.forward

    def listening(self: AttentionEncoder, x: torch.Tensor, *rest: Any, **named: Any) -> Any:
        heard.append(x.dtype)
        assert torch.is_autocast_enabled(x.device.type) == self.training
        return plain(self, x, *rest, **named)

    monkeypatch.setattr(AttentionEncoder, "forward", listening)
    train(recipe, ["training.precision=bf16", "training.steps=2"], tmp_path / "run", lambda text: None)
    assert set(heard) == {torch.float32}


def test_disfluencies_stay_or_go(recipe: Path) -> None:
    cuts = list(read(recipe.parent / "train.jsonl"))[:1]
    cuts[0].supervisions[0].text = "red red uh lamp"
    write(cuts, recipe.parent / "um.jsonl")
    for said, heard in (("keep", "red red uh lamp"), ("remove", "red lamp")):
        source = Source(manifest=str(recipe.parent / "um.jsonl"), disfluencies=said)
        assert list(transcripts(read_parts(DataConfig(train=(source,))))) == [heard]


def test_a_killed_run_resumes_to_the_same_weights(recipe: Path, straight: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(recipe, [], tmp_path / "run", kill_at(6))
    assert json.loads((tmp_path / "run" / "state" / "state.json").read_text())["step"] == 4
    said: list[str] = []
    train(recipe, [], tmp_path / "run", said.append)
    assert any("resuming" in line and "step 4" in line for line in said)
    first, second = weights(straight), weights(tmp_path / "run")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", ["uncertainty", "gradnorm", "dwa"])
def test_weights_that_move_are_part_of_the_state(recipe: Path, tmp_path: Path, kind: str) -> None:
    moving = [f"training.weighting.kind={kind}", *(["training.weighting.every=2"] if kind != "uncertainty" else [])]
    whole = train(recipe, moving, tmp_path / "whole", lambda text: None)
    with pytest.raises(Killed):
        train(recipe, moving, tmp_path / "run", kill_at(6))
    train(recipe, moving, tmp_path / "run", lambda text: None)
    first, second = (load_file(run / "state" / "model.safetensors") for run in (whole, tmp_path / "run"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name].nan_to_num(-1), second[name].nan_to_num(-1)) for name in first)
    moved = {"uncertainty": "noise.ctc", "gradnorm": "factor", "dwa": "means"}[kind]
    assert first[f"weighting.{moved}"].isfinite().any() and bool((first[f"weighting.{moved}"] != 1).any())


CYCLES = ["training.cycles=2", "training.weights.consistency=0.2", "training.rate=2e-2"]


@pytest.mark.parametrize("last_words", ["step 6 ", "cycle 1 of 2", "step 4  valid"])
def test_what_cycles_leave_is_the_mean_of_their_ends(recipe: Path, tmp_path: Path, last_words: str) -> None:
    ends: list[dict[str, torch.Tensor]] = []

    def say(text: str) -> None:
        if text.startswith(last_words):  # step 4 was the first end, its checkpoint is there
            ends.append(load_file(tmp_path / "run" / "state" / "average.safetensors"))
            raise Killed

    with pytest.raises(Killed):
        train(recipe, CYCLES, tmp_path / "run", say)
    train(recipe, CYCLES, tmp_path / "run", lambda text: None)
    last = load_file(tmp_path / "run" / "state" / "average.safetensors")
    kept = weights(tmp_path / "run")
    for name, value in kept.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (ends[0][name] + last[name]) / 2)
    assert any(not torch.equal(ends[0][name], last[name]) for name in kept)
    train(recipe, CYCLES, tmp_path / "straight", lambda text: None)
    assert all(torch.equal(value, weights(tmp_path / "straight")[name]) for name, value in kept.items())
    rows = [json.loads(line) for line in (tmp_path / "straight" / "metrics.jsonl").read_text().splitlines()]
    judged = [(row["step"], row.get("ends")) for row in rows if "valid_wer" in row]
    assert judged == [(4, None), (6, None), (8, None), (8, 2)]  # the last: the mean
    with pytest.raises(ConfigError, match=r"training\.steps differ"):
        train(recipe, [*CYCLES, "training.steps=12"], tmp_path / "run", lambda text: None)


def test_the_rate_falls_in_every_cycle(recipe: Path, tmp_path: Path) -> None:
    settings = load_recipe(recipe, [*CYCLES, "training.warmup=1", "training.steps=8", "training.final_rate=0.1"])
    whole = Trainer.__new__(Trainer)
    whole.config, whole.progress = settings.training, Progress()
    rates = []
    for step in range(9):
        whole.progress.step = step
        rates.append(whole._rate() / 2e-2)
    assert rates[0] == rates[4] == pytest.approx(1.0) and rates[:4] == pytest.approx(rates[4:8])
    assert sorted(rates[:4], reverse=True) == rates[:4] and rates[8] == pytest.approx(0.1)


def test_a_run_begun_before_there_were_cycles_goes_on(recipe: Path, straight: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(recipe, [], tmp_path / "run", kill_at(6))
    state = tmp_path / "run" / "state"
    (state / "ends.safetensors").unlink()
    rest = json.loads((state / "state.json").read_text())
    (state / "state.json").write_text(json.dumps({key: value for key, value in rest.items() if key != "cycles_over"}))
    train(recipe, [], tmp_path / "run", lambda text: None)
    assert all(torch.equal(value, weights(straight)[name]) for name, value in weights(tmp_path / "run").items())


PRUNED = 'training.transducer={"kind": "pruned", "band": 3, "fastemit": 0.01}'


def test_a_killed_pruned_run_resumes_and_its_model_is_a_plain_one(recipe: Path, straight: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(recipe, [PRUNED], tmp_path / "run", kill_at(6))
    train(recipe, [PRUNED], tmp_path / "run", lambda text: None)
    train(recipe, [PRUNED], tmp_path / "whole", lambda text: None)
    states = [load_file(tmp_path / name / "state" / "model.safetensors") for name in ("run", "whole")]
    assert "transducer.heard.weight" in states[0] and states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    found, plain = weights(tmp_path / "run"), weights(straight)
    assert all(torch.equal(value, weights(tmp_path / "whole")[name]) for name, value in found.items())
    assert found.keys() == plain.keys() and not torch.equal(found["joiner.out.bias"], plain["joiner.out.bias"])
    out = tmp_path / "pruned.bundle"
    chosen = ["--free", "search.kind=tsd", "--free", "search.beam=2"]
    assert main(["export", str(tmp_path / "run"), "--out", str(out), *chosen]) == 0
    assert load(out).engine.free_config.search == TsdConfig(beam=2)
    sources = json.loads((tmp_path / "run" / "data.json").read_text())
    written = list(load(out).manifest.trained["data"].values())
    for source, side, line in zip(sources, ("train", "valid"), written, strict=True):
        assert f"sha256 {source[side]['sha256']}" in line
    assert load(out).understand(spoken("red lamp", np.random.default_rng(1))).final
    with pytest.raises(ConfigError, match=r"training\.transducer\.band differ"):
        train(recipe, [PRUNED.replace("3", "4")], tmp_path / "run", lambda text: None)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ('{"kind": "prunned"}', "'full', 'lean', 'pruned'"),
        ('{"kind": "pruned", "band": 1}', "band.*greater than or equal to 2"),
        ('{"kind": "lean", "band": 5}', "band' is not a known key"),
        ('{"fastemitt": 0.1}', "did you mean 'fastemit'"),
    ],
)
def test_a_wrong_transducer_loss_is_named(recipe: Path, value: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        load_recipe(recipe, [f"training.transducer={value}"])


def test_ctrl_c_keeps_the_weights_so_far(recipe: Path, tmp_path: Path) -> None:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("step 6 ") and "interrupted" not in "".join(said):
            said.append("interrupted")
            raise KeyboardInterrupt

    run = train(recipe, [], tmp_path / "run", say)
    assert json.loads((run / "state" / "state.json").read_text())["step"] == 6
    assert (run / "model" / "model.safetensors").is_file()
    assert (run / "curves.png").is_file()


def test_the_run_folder_is_complete(recipe: Path, straight: Path) -> None:
    assert (straight / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((straight / "recipe.json").read_text())["training"]["ema"] == load_recipe(recipe, []).training.ema
    assert {path.name for path in (straight / "model").iterdir()} == {
        "model.json",
        "model.safetensors",
        "tokenizer.model",
    }


def test_the_loss_falls(recipe: Path, tmp_path: Path) -> None:
    run = train(recipe, ["training.steps=100", "training.validate_every=1000"], tmp_path / "run", lambda text: None)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row for row in rows if "total" in row}
    assert losses[100]["total"] < 0.8 * losses[50]["total"]
    for name in ("ctc", "transducer", "intent", "slots"):
        assert losses[100][name] < losses[50][name], name


def test_a_run_cannot_be_continued_with_other_settings(recipe: Path, straight: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.rate differ"):
        train(recipe, ["training.rate=0.1"], straight, lambda text: None)


def test_how_long_may_change(recipe: Path, straight: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(recipe, [], tmp_path / "run", kill_at(6))
    train(recipe, ["training.steps=9"], tmp_path / "run", lambda text: None)
    assert json.loads((tmp_path / "run" / "state" / "state.json").read_text())["step"] == 9


def test_a_network_learns_from_another_ones_tokens_without_transcripts(
    recipe: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TEACH.parent))
    bench = runpy.run_path(str(TEACH))
    teacher, cuts = bench["Checkpoint"](straight / "model", 1, False), read(recipe.parent / "train.jsonl")
    monkeypatch.setitem(bench["teach"].__globals__, "read_corpus", lambda name: cuts)
    folder = tmp_path / "told"
    bench["teach"](teacher, "tones", folder, None, 30.0)
    model, _ = load_checkpoint(straight / "model")
    told = read_teacher(str(folder))
    assert told.keys() == {cut.id for cut in cuts}
    for cut in cuts:
        features = torch.from_numpy(fbank(decode.read(audio_path(cut)), FeatureConfig(mels=80)))[None]
        with torch.no_grad():
            encoded, _ = model.encoder(features, torch.tensor([features.shape[1]]), model.encoder.default_context)
            said = model.ctc(encoded)[0].numpy()
        assert said.shape == told[cut.id].shape and np.allclose(said, told[cut.id], atol=2e-2, rtol=2e-3)  # in halves
        assert np.array_equal(teacher_of(told[cut.id], features.shape[1]), told[cut.id])  # each frame has its own row
    file, source = tmp_path / "student.toml", f'manifest = "{recipe.parent}/train.jsonl"\n'
    file.write_text(
        recipe.read_text().replace(source, source + f'teacher = "{folder}"\nunlabelled = true\n', 1)
        + "[training.weights]\nctc = 0.0\ntransducer = 0.0\nintent = 0.0\nslots = 0.0\ndistil = 1.0\n"
        + "[training.spec]\ntempo = 0.0\nvocal_tract = 0.0\n"
    )
    mine, apart = [f"data.tokenizer={straight}/model"], []
    for steps in (1, 60):
        run = train(file, [*mine, f"training.steps={steps}", "training.rate=1e-2"], tmp_path / "run", lambda text: None)
        student = bench["Checkpoint"](run / "model", 1, False)
        pairs = [
            (torch.from_numpy(student.hear(x, len(x))), told[cut.id]) for cut, x in zip(cuts, heard(cuts), strict=True)
        ]
        apart.append(np.mean([float(distillation_loss(a[None], torch.from_numpy(b.copy())[None])) for a, b in pairs]))
    assert apart[1] < 0.3 * apart[0], apart


def test_a_transducer_learns_from_another_ones_lattice(
    recipe: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TEACH.parent))
    bench = runpy.run_path(str(TEACH))
    cuts = read(recipe.parent / "train.jsonl")
    monkeypatch.setitem(bench["teach"].__globals__, "read_corpus", lambda name: cuts)
    bench["teach"](bench["Checkpoint"](straight / "model", 1, True), "tones", tmp_path / "lent", None, 30.0)
    bench["shift"](tmp_path / "lent", tmp_path / "shifted")
    lent, shifted = (read_teacher(str(tmp_path / name)) for name in ("lent", "shifted"))
    teacher, tokenizer = load_checkpoint(tmp_path / "lent" / "network")
    load_checkpoint(tmp_path / "shifted" / "network")
    assert not np.array_equal(shifted["train0"], lent["train0"])

    def lattice(model: Any, encoded: torch.Tensor, cut: Any) -> tuple[torch.Tensor, torch.Tensor]:
        targets = torch.tensor([tokenizer.encode(cut.supervisions[0].text)])
        with torch.no_grad():
            return model.joiner(encoded, model.predictor(targets)), targets

    def apart(folder: Path) -> float:
        model, _ = load_checkpoint(folder)
        student, found = bench["Checkpoint"](folder, 1, True), []
        for cut, x in zip(cuts, heard(cuts), strict=True):
            mine, targets = lattice(model, torch.from_numpy(student.hear(x, len(x)))[None], cut)
            its, _ = lattice(teacher, torch.from_numpy(lent[cut.id].astype(np.float32))[None], cut)
            sizes = torch.tensor([mine.shape[1]]), torch.tensor([targets.shape[1]])
            found.append(float(lattice_distillation_loss(mine, its, targets, *sizes)))
        return float(np.mean(found))

    assert apart(straight / "model") < 0.05  # halves, and nothing else
    file, source = tmp_path / "student.toml", f'manifest = "{recipe.parent}/train.jsonl"\n'

    file.write_text(
        recipe.read_text().replace(source, source + f'teacher = "{tmp_path}/lent"\n', 1)
        + "[training.weights]\nctc = 0.0\ntransducer = 0.0\nintent = 0.0\nslots = 0.0\n"
        + "distil_transducer = 1.0\ntransducer_share = 1.0\n[training.spec]\ntempo = 0.0\nvocal_tract = 0.0\n"
    )
    mine, found = [f"data.tokenizer={straight}/model", "training.rate=1e-2"], []
    for steps in (1, 60):
        run = train(file, [*mine, f"training.steps={steps}"], tmp_path / "run", lambda text: None)
        found.append(apart(run / "model"))
    assert found[1] < 0.3 * found[0], found

    def begin(*changed: str) -> None:
        train(file, [*mine, *changed], tmp_path / str(len(list(tmp_path.iterdir()))), lambda text: None)

    second = file.read_text().split("[[data.train]]")[1].split("[")[0]
    file.write_text(file.read_text().replace("[training]", f"[[data.train]]{second}[training]", 1))
    file.write_text("/shifted".join(file.read_text().rsplit("/lent", 1)))
    begin("training.steps=1")  # two folders of one network
    other = load_checkpoint(tmp_path / "shifted" / "network")[0]
    with torch.no_grad():
        other.joiner.out.bias += 1
    save_checkpoint(other, tokenizer, tmp_path / "shifted" / "network")
    with pytest.raises(ConfigError, match=r"shifted has another network than .*lent"):
        begin()
    shutil.rmtree(tmp_path / "shifted" / "network")
    with pytest.raises(ConfigError, match=r"distil_transducer needs .* without one: .*shifted"):
        begin()
    labelled = file.read_text().replace("/shifted", "/lent")
    file.write_text(labelled.replace("teacher =", "unlabelled = true\nteacher ="))
    with pytest.raises(ConfigError, match=r"ways to say a transcript, and none of the clips"):
        begin()
    narrow = np.load(tmp_path / "lent" / "features.npy")[:, :5]
    np.save(tmp_path / "lent" / "features.npy", narrow)
    read_teacher.cache_clear()
    file.write_text(labelled)
    with pytest.raises(ConfigError, match=r"hold 5 numbers .* make them anew"):
        begin()


def heard(cuts: Iterable[Any]) -> list[np.ndarray]:
    return [decode.read(audio_path(cut)) for cut in cuts]


def test_a_teacher_that_does_not_fit_is_named(recipe: Path, straight: Path, tmp_path: Path) -> None:
    other, model, source = tmp_path / "other.model", straight / "model", f'manifest = "{recipe.parent}/train.jsonl"\n'
    train_tokenizer(["red lamp", "the blue lamp", "a green lamp"], other, vocab=18)

    def told(name: str, width: int, *, by: Path, ids: str = "train0") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        np.save(folder / "features.npy", np.zeros((9, width), np.float16))
        (folder / "index.jsonl").write_text(json.dumps({"id": ids, "first": 0, "frames": 9}) + "\n")
        (folder / "tokenizer.model").write_bytes(by.read_bytes())
        return folder

    def begin(folder: Path, *changed: str, also: Path | None = None) -> None:
        file = tmp_path / "student.toml"
        more = "" if also is None else f'[[data.train]]\n{source}teacher = "{also}"\n'
        text = recipe.read_text().replace(source, source + f'teacher = "{folder}"\n', 1)
        file.write_text(text.replace("[training]", more + "[training]\nweights = {distil = 1.0}"))
        train(
            file,
            [f"data.tokenizer={model}", *changed],
            tmp_path / "run" / str(len(list(tmp_path.glob("run/*")))),
            print,
        )

    good = told("good", 18, by=model / "tokenizer.model")
    with pytest.raises(ConfigError, match=r"a folder of 18 log-probabilities .* found 5"):
        begin(told("narrow", 5, by=model / "tokenizer.model"))
    with pytest.raises(ConfigError, match=r"other/tokenizer\.model: other tokens .* data\.tokenizer"):
        begin(told("other", 18, by=other))
    with pytest.raises(ConfigError, match="something of its clips"):
        begin(told("strange", 18, by=model / "tokenizer.model", ids="nobody"))
    with pytest.raises(ConfigError, match="hold 7 and 18 numbers"):
        begin(told("seven", 7, by=model / "tokenizer.model"), also=good)
    with pytest.raises(ConfigError, match=r"model\.vocab = 20, and data\.tokenizer has 18"):
        begin(good, "model.vocab=20")
    with pytest.raises(ConfigError, match=r"remove data\.tokenizer"):
        begin(good, f"init={model}")
    with pytest.raises(ConfigError, match="remove one of them"):
        begin(good, 'data.tokenizer_text=["x.txt"]')
    with pytest.raises(ConfigError, match="set the weights of the others to 0"):
        stages = 'training.stages=[{"name": "a", "weights": {"teacher": 1.0}}]'
        begin(good, stages)


WRITING = [
    'model.decoder={"width": 16, "layers": 1, "heads": 2, "feedforward": 24}',
    'model.trees.intents={"paint": ["colour"], "show": ["colour"]}',
    "training.weights.decoder=0.5",
]


def test_a_run_with_a_decoder_resumes_and_is_begun_on_a_checkpoint(
    recipe: Path, straight: Path, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        train(recipe, WRITING, tmp_path / "run", kill_at(6))
    said: list[str] = []
    train(recipe, WRITING, tmp_path / "run", said.append)
    train(recipe, WRITING, tmp_path / "whole", lambda text: None)
    assert any("24 training clips say what the decoder may write, 0 do not" in line for line in said)
    first, second = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert "decoder.out.weight" in first and all(torch.equal(first[name], second[name]) for name in second)
    lines = recipe.read_text().splitlines()
    fixed = ("vocab", "encoder", "predictor", "joiner", "heads")
    again = tmp_path / "again.toml"
    again.write_text("\n".join(line for line in lines if not line.startswith(fixed)))
    short = ["training.steps=1", "training.rate=0", f"init={straight / 'model'}"]
    begun = train(again, [*short, *WRITING], tmp_path / "begun", lambda text: None)
    known = weights(straight)
    assert weights(begun)["decoder.out.weight"].shape[0] == 18 + 1 + 4
    assert all(torch.equal(weights(begun)[name], value) for name, value in known.items())
    short[2] = f"init={begun / 'model'}"
    kept = train(again, [*short, WRITING[2]], tmp_path / "kept", lambda text: None)
    assert all(torch.equal(weights(kept)[name], value) for name, value in weights(begun).items())


def test_a_checkpoint_goes_on_with_a_head_for_phones(recipe: Path, straight: Path, tmp_path: Path) -> None:
    lines = recipe.read_text().splitlines()
    fixed = ("vocab", "encoder", "predictor", "joiner", "heads")
    again = tmp_path / "again.toml"
    again.write_text("\n".join(line for line in lines if not line.startswith(fixed)))
    whole = [
        "training.steps=1",
        "training.validate_every=1",
        f"init={straight / 'model'}",
        "training.weights.phone_ctc=1",
    ]
    with pytest.raises(ConfigError, match=r"model\.phones = true"):
        train(again, whole, tmp_path / "none", lambda text: None)
    train(again, [*whole, "model.phones=true"], tmp_path / "phones", lambda text: None)
    assert weights(tmp_path / "phones")["phones.out.bias"].shape == (40,)
    rows = [json.loads(line) for line in (tmp_path / "phones" / "metrics.jsonl").read_text().splitlines()]
    assert any("valid_per" in row for row in rows)
    whole[2] = f"init={tmp_path / 'phones' / 'model'}"
    train(again, [*whole, "model.ctc_rate=2"], tmp_path / "quicker", lambda text: None)
    assert weights(tmp_path / "quicker")["phones.out.bias"].shape == (80,)


def test_a_checkpoint_goes_on_with_more_rows_of_ctc(recipe: Path, straight: Path, tmp_path: Path) -> None:
    lines = recipe.read_text().splitlines()
    fixed = ("vocab", "encoder", "predictor", "joiner", "heads")
    again = tmp_path / "again.toml"
    again.write_text("\n".join(line for line in lines if not line.startswith(fixed)))
    whole = ["training.steps=1", f"init={straight / 'model'}"]
    train(again, [*whole, "model.ctc_rate=2"], tmp_path / "two", lambda text: None)
    before, after = weights(straight), weights(tmp_path / "two")
    assert len(after["ctc.out.bias"]) == 2 * len(before["ctc.out.bias"]) and before.keys() == after.keys()
    assert json.loads((tmp_path / "two" / "model" / "model.json").read_text())["ctc_rate"] == 2
    whole[1] = f"init={tmp_path / 'two' / 'model'}"
    train(again, whole, tmp_path / "as it was", lambda text: None)
    assert weights(tmp_path / "as it was")["ctc.out.bias"].shape == after["ctc.out.bias"].shape
    with pytest.raises(ConfigError, match=r"ctc_rate = 3: the model has 2 rows"):
        train(again, [*whole, "model.ctc_rate=3"], tmp_path / "three", lambda text: None)
    with pytest.raises(ConfigError, match=r"model\.vocab cannot be set beside"):
        train(again, [*whole, "model.vocab=20"], tmp_path / "other", lambda text: None)


def test_a_misspelt_key_names_the_nearest(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.warmpu.*did you mean 'warmup'"):
        train(recipe, ["training.warmpu=3"], tmp_path / "run", lambda text: None)
    assert not (tmp_path / "run").exists()


def test_an_unknown_intent_is_named(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'pain'.*did you mean 'paint'"):
        train(recipe, ['model.heads.intents=["pain", "show"]'], tmp_path / "run", lambda text: None)


def test_missing_data_is_named(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_CORPORA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="SAYSO_CORPORA"):
        train(recipe, ['data.train=[{"corpus": "librispeech-tc5"}]'], tmp_path / "run", lambda text: None)
    with pytest.raises(ConfigError, match="either a 'corpus' or a 'manifest'"):
        train(recipe, ['data.train=[{"weight": 2}]'], tmp_path / "run2", lambda text: None)


def test_the_recipes_of_the_checkout_are_legal() -> None:
    paths = sorted((Path(__file__).parents[2] / "recipes").rglob("*.toml"))
    names = [(load_language_recipe if "language" in path.parts else load_recipe)(path, []).name for path in paths]
    assert len(set(names)) == len(paths) > 1  # a run without --out goes to runs/NAME


STAGES = [
    "training.steps=12",
    "training.checkpoint_every=3",
    "training.validate_every=1",
    "training.validate_clips=1",
    "training.autoclip=50",
    'training.weight_noise={"std": 0.01, "after": 2, "only": ["encoder.", "predictor."]}',
    """training.stages=[
        {"name": "acoustic", "weights": {"intent": 0, "slots": 0}, "curriculum": {"kind": "sorted"}},
        {"name": "fluency", "weights": {"consistency": 0.2},
         "curriculum": {"by": "loss", "start": 0.4, "end": 0.8, "steps": 6}},
        {"name": "semantics", "weights": {"ctc": 0, "transducer": 0}, "freeze": ["encoder."]}]""",
]


def test_stages_resume_inside_and_do_what_they_say(recipe: Path, tmp_path: Path) -> None:
    """Killed before the second stage, in it (its clips were judged when it began) and in the third."""
    whole = train(recipe, STAGES, tmp_path / "whole", lambda text: None)
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    entered = [(row["step"], row["stage"]) for row in rows if "stage" in row]
    assert entered == [(0, "acoustic"), (4, "fluency"), (8, "semantics")]
    state, known = tmp_path / "run" / "state", {}
    for step in (5, 7, 10):
        with pytest.raises(Killed):
            train(recipe, STAGES, tmp_path / "run", kill_at(step))
        known[step] = load_file(state / "model.safetensors"), load_file(state / "optimiser.safetensors")
    assert json.loads((state / "state.json").read_text())["begun"] == [0, 4, 8]
    train(recipe, STAGES, tmp_path / "run", lambda text: None)
    for name in ("model", "optimiser", "average"):
        first, second = (load_file(run / "state" / f"{name}.safetensors") for run in (whole, tmp_path / "run"))
        assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first), name
    end, (nine, _) = load_file(state / "model.safetensors"), known[10]
    frozen = {name for name, value in end.items() if torch.equal(value, nine[name])}
    assert {name for name in end if "model.encoder." in name} <= frozen
    assert not any("model.intent." in name for name in frozen)
    assert len(known[5][1]) < len(known[7][1]), "nobody taught meaning in the first stage"
    with pytest.raises(ConfigError, match=r"training\.steps differ"):
        train(recipe, [*STAGES, "training.steps=13"], tmp_path / "run", lambda text: None)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ('stages=[{"name": "a", "freeze": ["encodr."]}]', "stage 'a': freeze.*'encodr.'; did you mean 'encoder'"),
        ('weight_noise={"std": 0.1, "only": ["predicter"]}', "weight_noise.only.*did you mean 'predictor'"),
    ],
)
def test_a_wrong_name_of_a_parameter_is_named(recipe: Path, tmp_path: Path, value: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        train(recipe, [f"training.{value}"], tmp_path / "run", lambda text: None)


def test_a_share_of_synthetic_speech_needs_both_kinds(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.synthetic_share = 0\.4: none of 24 training clips is synthetic"):
        train(recipe, ["data.synthetic_share=0.4"], tmp_path / "run", lambda text: None)


def test_coarse_labels_of_an_older_schema_train_the_intents_of_the_newer(recipe: Path, tmp_path: Path) -> None:
    """All but two clips are labelled as version 1 did; what they cost is in the metrics, and a wrong word is named."""
    cuts = [json.loads(line) for line in (recipe.parent / "train.jsonl").read_text().splitlines()]
    for cut in cuts[2:]:
        cut["supervisions"][0]["custom"]["intent"] = "act"
        for place in cut["recording"]["sources"]:
            place["source"] = str(recipe.parent / place["source"])
    for cut in cuts[:2]:
        cut["recording"]["sources"][0]["source"] = str(recipe.parent / cut["recording"]["sources"][0]["source"])
    phased = tmp_path / "phased.jsonl"
    phased.write_text("".join(json.dumps(cut) + "\n" for cut in cuts))
    data = [f'data.train=[{{"manifest": "{phased}"}}]', "training.weights.sequence=0.1", "training.label_smoothing=0.1"]
    split = ['data.refinements=[{"version": 2, "split": {"act": ["paint", "show"]}}]']
    run = train(recipe, [*data, *split, "training.steps=50"], tmp_path / "run", lambda text: None)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    told = next(row for row in rows if "total" in row)
    assert 0 < told["intent"] < 1 and "sequence" in told and told["skipped"] == 0 and 0 <= told["clipped"] <= 1
    with pytest.raises(ConfigError, match=r"labelled 'act', which no version of data\.refinements knows"):
        wrong = ['data.refinements=[{"version": 2, "split": {"acts": ["paint", "show"]}}]']
        train(recipe, [*data, *wrong], tmp_path / "wrong", lambda text: None)


def test_a_decoder_learns_without_transcripts(recipe: Path, tmp_path: Path) -> None:
    """Sources that must not tell what was said: no token of it is in an item, and the run learns intents from sound."""
    text = recipe.read_text()
    for name in ("train", "valid"):
        text = text.replace(f'{name}.jsonl"', f'{name}.jsonl"\ntranscripts = false')
    decoder = TransformerDecoderConfig(width=16, layers=1, heads=2, feedforward=16, longest=16)
    schema = TreeSchema(intents={"paint": ("colour",), "show": ("colour",)}, form="decoupled")
    file = tmp_path / "untold.toml"
    file.write_text(text)
    base = ['model.heads={"intents": ["paint", "show"], "width": 12}', "model.vocab=11"]
    base += [f"model.decoder={decoder.model_dump_json()}", f"model.trees={schema.model_dump_json()}"]
    base += ["training.weights.ctc=0", "training.weights.transducer=0", "training.weights.decoder=1"]
    said: list[str] = []
    run = train(file, [*base, "training.steps=60"], tmp_path / "run", said.append)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    told = next(row for row in rows if "total" in row)
    assert (
        told["ctc"] == 0
        and told["decoder"] > 0
        and told["total"] == pytest.approx(0.5 * told["intent"] + told["decoder"], rel=1e-3)
    )
    assert not any("valid_wer" in row for row in rows), "of what was said nothing is known"
    judged = [row["valid_intent"] for row in rows if "valid_intent" in row]
    assert judged and all(share in (0.0, 0.25, 0.5, 0.75, 1.0) for share in judged)
    assert any("24 training clips say what the decoder may write, 0 do not" in line for line in said)
