"""Easy clips first: what may be drawn when, and how hard a clip is."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from sayso.audio.decode import read
from sayso.audio.features import fbank
from sayso.core.errors import ConfigError
from sayso.losses import ctc_loss
from sayso.models.assembly import ModelConfig
from sayso.models.encoders.conformer import ConformerConfig
from sayso.training.augment import with_noise
from sayso.training.batches import Batcher, Item
from sayso.training.curriculum import CompetenceConfig, Curriculum, SortedConfig, ranks_of
from sayso.training.difficulty import clip_losses, contrast_db, lengths, noisiness
from sayso.training.recipe import TrainingConfig, load_recipe


def items(count: int) -> list[Item]:
    rng = np.random.default_rng(0)
    return [Item(0, i, int(rng.integers(30, 1200)), (1, 2)) for i in range(count)]


def test_competence_is_its_formula() -> None:
    """Platanios et al. 2019, equation 7: the root of (1 - c0^2) t/T + c0^2, here up to 0.8 instead of 1."""
    rule = CompetenceConfig(start=0.2, end=0.8, steps=400)
    for step in (0, 1, 100, 399):
        assert rule.competence(step) == pytest.approx(math.sqrt((0.64 - 0.04) * step / 400 + 0.04))
    assert rule.competence(400) == rule.competence(10_000) == 0.8
    assert CompetenceConfig(start=0.3, end=0.3).competence(7) == pytest.approx(0.3)


def test_ranks_are_shares_of_what_is_easier() -> None:
    assert ranks_of(np.asarray([3.0, 1.0, 2.0, 9.0])).tolist() == [0.5, 0.0, 0.25, 0.75]
    apart = ranks_of(np.asarray([3.0, 1.0, 20.0, 9.0]), np.asarray([False, False, True, True]))
    assert apart.tolist() == [0.5, 0.0, 0.5, 0.0]


def test_no_draw_is_harder_than_the_competence_and_all_are_heard_at_last() -> None:
    given = items(200)
    difficulty = np.random.default_rng(1).normal(size=200)  # not their lengths
    rule = Curriculum(CompetenceConfig(start=0.1, steps=60), ranks_of(difficulty))
    batcher = Batcher(given, [1.0] * 200, 30.0, seed=0, curriculum=rule)
    widest = []
    for step in range(160):
        hardest = max(rule.ranks[item.index] for item in batcher.plan(step))
        assert hardest < rule.config.competence(step)
        widest.append(hardest)
    assert max(widest[:6]) <= 0.33 and max(widest[:60]) > 0.7, "it grows within an epoch too"
    late = Counter(item.index for step in range(60, 160) for item in batcher.plan(step))
    assert set(late) == set(range(200))
    again = Batcher(given, [1.0] * 200, 30.0, seed=0, curriculum=rule)
    assert all(again.plan(step) == batcher.plan(step) for step in (90, 30, 61, 0))


def test_a_limit_stays() -> None:
    given = items(50)
    rule = Curriculum(CompetenceConfig(start=0.5, end=0.5), ranks_of(lengths(given)))
    batcher = Batcher(given, [1.0] * 50, 20.0, seed=0, curriculum=rule)
    heard = {item.frames for step in range(40) for item in batcher.plan(step)}
    assert heard == set(sorted(item.frames for item in given)[:25])
    nothing = Curriculum(CompetenceConfig(start=0.001, end=0.001), ranks_of(lengths(given)))
    batcher = Batcher(given, [1.0] * 50, 20.0, seed=0, curriculum=nothing)
    assert [item.frames for item in batcher.plan(0)] == [min(item.frames for item in given)]


def test_sorted_first_and_random_after() -> None:
    given = items(120)
    rule = Curriculum(SortedConfig(), ranks_of(lengths(given)))
    batcher = Batcher(given, [1.0] * 120, 25.0, seed=0, curriculum=rule)
    epochs, step = [], 0
    for _ in range(2):
        batches: list[list[Item]] = []
        while sum(map(len, batches)) < 120:
            batches.append(batcher.plan(step))
            step += 1
        assert Counter(item.index for batch in batches for item in batch) == Counter(range(120))
        epochs.append([float(np.mean([rule.ranks[item.index] for item in batch])) for batch in batches])
    assert epochs[0] == sorted(epochs[0]) and epochs[1] != sorted(epochs[1])


def test_noise_makes_a_clip_hard() -> None:
    rng = np.random.default_rng(0)
    clean = fbank(read(Path(__file__).parents[2] / "examples" / "close-the-blinds-in-the-office.flac"))
    draws = [[contrast_db(with_noise(clean, snr, rng)) for _ in range(8)] for snr in (20.0, 10.0, 0.0)]
    found = [contrast_db(clean), *np.mean(draws, 1).tolist()]
    assert found == sorted(found, reverse=True) and found[0] - found[1] > 10 and found[1] - found[3] > 5
    clips = [with_noise(clean, 0.0, rng, 0.0), clean]
    one = [Item(0, i, 300, (1,)) for i in range(2)]
    assert ranks_of(noisiness(one, lambda item: clips[item.index])).tolist() == [0.5, 0.0]


def test_the_loss_of_a_clip_is_its_own() -> None:
    torch.manual_seed(0)
    encoder = ConformerConfig(channels=8, width=16, layers=1, heads=2, feedforward=16)
    model = ModelConfig(vocab=9, encoder=encoder).build()
    rng = np.random.default_rng(0)
    said = [(3, 4), (5,), (1, 1, 2), (7,) * 30]
    given = [Item(0, i, frames, said[i]) for i, frames in enumerate((160, 97, 210, 64))]
    clips = [rng.normal(size=(item.frames, 80)).astype(np.float32) for item in given]
    losses = clip_losses(model, given, lambda item: clips[item.index])
    for item, clip, loss in zip(given[:3], clips, losses, strict=False):
        encoded, frames = model.eval().encoder(torch.from_numpy(clip)[None], torch.tensor([item.frames]))
        alone = ctc_loss(model.ctc(encoded), torch.tensor([item.tokens]), frames, torch.tensor([len(item.tokens)]))
        assert loss == pytest.approx(alone.item() / len(item.tokens), rel=1e-4)
    assert losses[3] == np.inf, "thirty equal labels do not fit eight frames"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ('curriculum={"kind": "sortagrad"}', "'sorted', 'competence'"),
        ('curriculum={"by": "lenght"}', "'length', 'noise' or 'loss'"),
        ('curriculum={"start": 0.5, "end": 0.2}', "below start"),
        ('stages=[{"name": "a", "weights": {"intnt": 1}}]', "did you mean 'intent'"),
        ('stages=[{"name": "a"}, {"name": "a"}]', "different names"),
        ('stages=[{"name": "a", "share": 0}]', "greater than 0"),
        (
            'stages=[{"name": "a", "weights": {"ctc": 0, "transducer": 0, "intent": 0, "slots": 0}}]',
            "'a': all losses have weight 0",
        ),
    ],
)
def test_mistakes_are_named(value: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    with pytest.raises(ConfigError, match=what):
        load_recipe(path, [f"training.{value}"])


def test_stages_follow_the_run() -> None:
    stages = ({"name": "hear", "share": 3, "weights": {"intent": 0.0}}, {"name": "mean", "freeze": ["encoder."]})
    config = TrainingConfig.model_validate({"stages": stages, "freeze": ["ctc."]})
    assert [config.stage_at(share) for share in (0.0, 0.7499, 0.75, 1.0)] == [0, 0, 1, 1]
    assert config.during(0).weights.intent == 0.0 and config.during(0).weights.ctc == config.weights.ctc
    assert config.during(1).freeze == ("ctc.", "encoder.") and config.at_most() == config.weights
    assert TrainingConfig().stage_at(0.9) == 0 and TrainingConfig().during(0) == TrainingConfig()
