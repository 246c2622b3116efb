"""Batches: every item once an epoch, the same for the same seed and step, clips of like length together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sayso.audio.decode import read
from sayso.audio.features import fbank
from sayso.data.augment import coloured
from sayso.training.augment import Around, augment, babble, mixed, with_noise
from sayso.training.batches import Batcher, Item, collate, phones_of, teacher_of
from sayso.training.curriculum import CompetenceConfig, Curriculum, ranks_of
from sayso.training.recipe import SpecAugmentConfig


def items(count: int, seed: int = 0) -> list[Item]:
    rng = np.random.default_rng(seed)
    return [Item(0, i, int(rng.integers(30, 1200)), (1, 2)) for i in range(count)]


def epoch(batcher: Batcher, count: int, start: int = 0) -> tuple[list[list[Item]], int]:
    """Batches from ``start`` until ``count`` items are out."""
    found: list[list[Item]] = []
    while sum(map(len, found)) < count:
        found.append(batcher.plan(start + len(found)))
    return found, start + len(found)


def test_every_item_once_an_epoch_at_weight_one() -> None:
    given = items(101)
    batcher = Batcher(given, [1.0] * len(given), 20.0, seed=3)
    first, end = epoch(batcher, len(given))
    second, _ = epoch(batcher, len(given), end)
    for batches in (first, second):
        assert Counter(item.index for batch in batches for item in batch) == Counter(range(101))
    assert [[item.index for item in batch] for batch in first] != [[item.index for item in batch] for batch in second]


def test_a_step_depends_on_nothing_but_seed_and_number() -> None:
    given = items(60)
    forward, backward = (Batcher(given, [1.0] * 60, 15.0, seed=1) for _ in range(2))
    steps = range(40)
    ahead = {step: forward.plan(step) for step in steps}
    assert {step: backward.plan(step) for step in reversed(steps)} == ahead
    other = Batcher(given, [1.0] * 60, 15.0, seed=2)
    assert [other.plan(step) for step in steps] != list(ahead.values())


def test_weights_are_shares_of_draws() -> None:
    given = items(100)
    weights = [2.5 if i < 50 else 0.5 for i in range(100)]
    batcher = Batcher(given, weights, 30.0, seed=0)
    drawn: Counter[int] = Counter()
    end = 0
    for number in range(40):
        batches = batcher._epoch_batches(number)
        end += len(batches)
        drawn.update(batcher.items[i].index for batch in batches for i in batch)
    heavy = sum(drawn[i] for i in range(50)) / 40 / 50
    light = sum(drawn[i] for i in range(50, 100)) / 40 / 50
    assert abs(heavy - 2.5) < 0.05
    assert abs(light - 0.5) < 0.05


def test_padded_batches_keep_to_the_budget_and_waste_little() -> None:
    given = items(400)
    batcher = Batcher(given, [1.0] * len(given), 60.0, seed=0)
    batches, _ = epoch(batcher, len(given))
    padded = [len(batch) * max(item.frames for item in batch) for batch in batches]
    assert max(padded) <= 6000
    assert sum(padded) < 1.2 * sum(item.frames for item in given)


def test_a_clip_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    given = [*items(5), Item(0, 99, 3000, (1,))]
    batches, _ = epoch(Batcher(given, [1.0] * 6, 20.0, seed=0), 6)
    assert [item.index for batch in batches if len(batch) == 1 for item in batch].count(99) == 1


def test_augmentation_follows_its_generator_and_can_be_switched_off() -> None:
    features = np.random.default_rng(0).normal(8, 3, (120, 80)).astype(np.float32)
    config = SpecAugmentConfig()
    first, second, other = (augment(features, config, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert first.shape != other.shape or not np.array_equal(first, other)
    assert abs(len(first) / 120 - 1) <= config.tempo + 0.01
    off = SpecAugmentConfig(frequency_masks=0, time_share=0.0, tempo=0.0, vocal_tract=0.0, level=0.0)
    assert np.allclose(augment(features, off, np.random.default_rng(1))[0], features, atol=1e-5)


def test_views_share_their_tempo_and_nothing_else() -> None:
    features = np.random.default_rng(0).normal(8, 3, (120, 80)).astype(np.float32)
    first, second = augment(features, SpecAugmentConfig(tempo=0.3), np.random.default_rng(1), 2)
    assert first.shape == second.shape and len(first) != 120 and not np.array_equal(first, second)
    only = SpecAugmentConfig(frequency_masks=0, time_share=0.0, tempo=0.3, vocal_tract=0.0, level=0.0)
    assert np.array_equal(*augment(features, only, np.random.default_rng(1), 2))


def test_collate_pads_and_marks_what_is_unknown() -> None:
    rows = [np.ones((50, 80), np.float32), np.ones((70, 80), np.float32)]
    batch = collate(rows, [Item(0, 0, 50, (3, 4), 1, (1, 2)), Item(0, 1, 70, (5,))])
    assert batch.features.shape == (2, 96, 80)
    assert float(batch.features[0, 50:].abs().sum()) == 0
    assert batch.targets.tolist() == [[3, 4], [5, 0]]
    assert batch.target_lengths.tolist() == [2, 1]
    assert batch.intent.tolist() == [1, -1]
    assert batch.tags.tolist() == [[1, 2], [-100, -100]]


def test_an_alignment_is_stretched_with_its_clip() -> None:
    known = bytes([1] * 40 + [2] * 40)
    np.testing.assert_array_equal(phones_of(known, 80), [[1, 1]] * 5 + [[2, 2]] * 5)
    np.testing.assert_array_equal(phones_of(known, 160), [[1, 1]] * 10 + [[2, 2]] * 10)
    np.testing.assert_array_equal(phones_of(known, 72), [[1, 1]] * 4 + [[1, 2]] + [[2, 2]] * 4)
    assert phones_of(known, 75).shape == (10, 2)  # the last frame is begun and not full


def test_phones_are_padded_as_unknown() -> None:
    rows = [np.ones((50, 80), np.float32), np.ones((70, 80), np.float32)]
    batch = collate(rows, [Item(0, 0, 50, (3,), phones=bytes([5] * 50)), Item(0, 1, 70, (5,))])
    assert batch.phones.shape == (2, batch.features.shape[1] // 8, 2)
    assert (batch.phones[0, :7] == 5).all() and (batch.phones[0, 7:] == -100).all() and (batch.phones[1] == -100).all()


def test_a_batch_moves_as_a_whole() -> None:
    batch = collate([np.ones((50, 80), np.float32)], [Item(0, 0, 50, (3,))])
    moved = batch.to(torch.device("meta"))
    assert all(value is None or value.device.type == "meta" for value in vars(moved).values())
    assert batch.features.device.type == "cpu" and moved.teacher is None


def test_a_teacher_is_stretched_with_its_clip_and_padded_as_unknown() -> None:
    features = np.arange(20, dtype=np.float16).reshape(10, 2)  # ten frames of 80 ms
    assert np.array_equal(teacher_of(features, 80), features)
    slow, fast = teacher_of(features, 96), teacher_of(features, 64)
    assert slow.shape == (12, 2) and np.array_equal(slow[[0, -1]], features[[0, -1]].astype(np.float32))
    assert fast.shape == (8, 2) and (np.diff(fast[:, 0]) > 0).all() and np.allclose(fast[4], features[5])
    rows = [np.ones((80, 80), np.float32), np.ones((96, 80), np.float32)]
    items = [Item(0, 0, 80, (3,), teacher=features), Item(0, 1, 96, (4,))]
    batch = collate(rows, items)
    assert batch.teacher is not None and batch.teacher.shape == (2, 12, 2)
    assert torch.equal(batch.teacher[0, :10], torch.from_numpy(features.astype(np.float32)))
    assert bool(batch.teacher[0, 10:].isnan().all()) and bool(batch.teacher[1].isnan().all())
    assert collate(rows, [items[1], items[1]]).teacher is None


def test_noise_of_the_features_is_that_of_a_noisy_recording() -> None:
    """Against the features of noise mixed into the wave at the same ratio: mean energies by band, and its crackle."""
    rng = np.random.default_rng(0)
    wave = read(Path(__file__).parents[2] / "examples" / "close-the-blinds-in-the-office.flac").astype(np.float64)
    clean = fbank(wave.astype(np.float32))
    for slope in (0.0, 1.0):
        noise = coloured(len(wave), rng, slope).astype(np.float64)
        noise *= np.sqrt((wave**2).mean() / (noise**2).mean() / 10)
        real = fbank(noise.astype(np.float32))
        ours = np.exp([with_noise(clean, 10.0, rng, slope).astype(np.float64) for _ in range(60)]) - np.exp(clean)
        apart = np.log(ours.mean((0, 1))) - np.log(np.exp(real).mean(0))  # natural logs: 0.23 is 1 dB
        assert np.abs(apart[1:]).max() < 0.5 and abs(apart.mean()) < 0.35  # the lowest band lies on one bin
        assert np.log(ours[0][:, 60]).std() == pytest.approx(real[:, 60].std(), abs=0.35)


def raised_bands() -> NDArray[np.float64]:
    """(80,): how much more of its energy a mel band has behind the pre-emphasis."""
    hz = 700 * (np.exp(np.linspace(np.log1p(40 / 700), np.log1p(7800 / 700), 80)) - 1)
    found: NDArray[np.float64] = np.abs(1 - 0.97 * np.exp(-2j * np.pi * hz / 16000)) ** 2
    return found


@pytest.mark.parametrize("clatter", [False, True])
def test_noise_has_the_power_that_was_asked_for_and_clatter_comes_in_bursts(clatter: bool) -> None:
    rng = np.random.default_rng(1)
    clean = rng.normal(6, 2, (600, 80)).astype(np.float32)
    raised = raised_bands()
    peaks = []
    for _ in range(20):
        noise = np.exp(with_noise(clean, -40.0, rng, clatter=clatter).astype(np.float64)) - np.exp(clean)
        powers = [(np.exp(clean.astype(np.float64)) / raised).sum(), (noise / raised).sum()]
        assert 10 * np.log10(powers[0] / powers[1]) == pytest.approx(-40, abs=0.1)
        energy = noise.sum(1)
        peaks.append(energy.max() / np.median(energy))
    assert np.median(peaks) > 20 if clatter else np.max(peaks) < 20


def test_coloured_noise_is_drawn_as_it_was_before_there_were_other_kinds() -> None:
    """Runs that are resumed, and recipes that are run again, see the batches that they saw."""
    x = np.random.default_rng(0).normal(6, 2, (60, 80)).astype(np.float32)
    config, rng = SpecAugmentConfig(noise=1.0, noise_db=(5.0, 15.0), clatter=0.5), np.random.default_rng(4)
    sums = [
        float(augment(x, config, rng, around=Around([x], [x, x, x]))[0].astype(np.float64).mean()) for _ in range(4)
    ]
    assert sums == pytest.approx([9.1471343, 8.7783033, 7.4123456, 7.0718071], rel=1e-6)


def test_no_noise_draws_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(60, 80)).astype(np.float32)
    draws = [np.random.default_rng(3) for _ in range(2)]
    plain = augment(x, SpecAugmentConfig(), draws[0])[0]
    moved = augment(x, SpecAugmentConfig(noise=0.0, noise_db=(0.0, 1.0)), draws[1])[0]
    assert np.array_equal(plain, moved) and draws[0].random() == draws[1].random()
    loud = augment(x, SpecAugmentConfig(noise=1.0, noise_db=(0.0, 0.0)), np.random.default_rng(3))[0]
    assert loud.shape == plain.shape and loud.mean() > plain.mean()


def test_recorded_noise_in_the_features_is_that_of_a_noisy_recording() -> None:
    """Against the features of the waves mixed at the same ratio; what is left is how the waves' phases fall."""
    rng = np.random.default_rng(0)
    root = Path(__file__).parents[2] / "examples"
    names = "close-the-blinds-in-the-office.flac", "turn-on-the-kitchen-lights.flac"
    waves = [read(root / name).astype(np.float64) for name in names]
    wave, other = (each[: min(map(len, waves))] for each in waves)
    noise = np.convolve(rng.permutation(other), [1.0, 0.9], "same")  # its power, without its order
    clean, alone = (fbank(each.astype(np.float32)) for each in (wave, noise))
    for snr in (0.0, 10.0):
        loud = noise * np.sqrt((wave**2).mean() / (noise**2).mean() / 10 ** (snr / 10))
        real = fbank((wave + loud).astype(np.float32))
        apart = (mixed(clean, np.exp(alone.astype(np.float64)), snr) - real)[:, 1:]  # natural logs: 0.23 is 1 dB
        assert np.abs(apart).mean() < 0.23 and abs(np.median(apart)) < 0.15
        assert np.abs(clean - real)[:, 1:].mean() > 3 * np.abs(apart).mean()  # negative control: no noise


def test_babble_is_three_to_six_voices_of_one_power() -> None:
    rng = np.random.default_rng(0)
    talkers = [np.full((50, 80), -60.0, np.float32) for _ in range(9)]
    for number, voice in enumerate(talkers):
        voice[:, number * 8] = number  # a band and a loudness of its own
    raised = raised_bands()
    counts = set()
    for _ in range(60):
        loud = babble(talkers, 120, rng)
        bands = np.flatnonzero(loud.sum(0) > 1e-12)
        assert loud.shape == (120, 80) and (bands % 8 == 0).all()
        assert np.allclose((loud / raised).sum(0)[bands], 1.0, rtol=1e-3)
        counts.add(len(bands))
    assert counts == {3, 4, 5, 6}


def test_what_sounds_beside_a_clip_is_what_the_config_asks_for() -> None:
    x = np.random.default_rng(0).normal(6, 2, (60, 80)).astype(np.float32)
    low, high = np.full((30, 80), -60.0, np.float32), np.full((40, 80), -60.0, np.float32)
    low[:, 20], high[:, 60] = 9.0, 9.0  # a noise, and what others say
    bare = SpecAugmentConfig(
        tempo=0, vocal_tract=0, level=0, frequency_masks=0, time_share=0, noise=1, noise_db=(-20.0, -20.0)
    )

    def louder(recorded: float, talk: float, around: Around) -> set[int]:
        config = SpecAugmentConfig(**bare.model_dump() | {"recorded": recorded, "babble": talk})
        found: set[int] = set()
        for seed in range(20):
            noisy = augment(x, config, np.random.default_rng(seed), around=around)[0]
            found |= {int(band) for band in np.flatnonzero((noisy - x).mean(0) > 1)}
        return found

    around = Around([low], [high, high, high])
    assert {20} < louder(1, 0, around) <= set(range(17, 25))  # warped by up to 15%
    assert louder(0, 1, around) == {60}
    assert len(louder(0, 0, around)) > 60
    assert len(louder(1, 0, Around())) > 60 and len(louder(0, 1, Around([low], [high]))) > 60  # coloured instead
    with pytest.raises(ValueError, match="lower one"):
        SpecAugmentConfig(recorded=0.7, babble=0.4)


def pool(real: int, synthetic: int) -> list[Item]:
    """Synthetic clips are shorter, as short commands beside read speech are."""
    rng = np.random.default_rng(0)
    return [Item(0, i, int(rng.integers(200, 900)), (1,)) for i in range(real)] + [
        Item(1, i, int(rng.integers(80, 400)), (1,), synthetic=True) for i in range(synthetic)
    ]


def synthetic_frames(batch: list[Item]) -> tuple[int, int]:
    return sum(item.frames for item in batch if item.synthetic), sum(item.frames for item in batch)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_every_batch_has_its_share_of_synthetic_speech(share: float) -> None:
    given = pool(150, 60)
    batcher = Batcher(given, [1.0] * len(given), 60.0, seed=0, synthetic_share=share)
    batches = batcher._epoch_batches(0)
    sizes = np.asarray([synthetic_frames([batcher.items[i] for i in batch]) for batch in batches])
    longest = max(item.frames for item in given)
    assert np.abs(sizes[:, 0] - share * sizes[:, 1]).max() <= 2 * longest
    assert sizes[:, 0].sum() / sizes[:, 1].sum() == pytest.approx(share, abs=0.003)
    heard = Counter(batcher.items[i].index for batch in batches for i in batch if not batcher.items[i].synthetic)
    assert heard == Counter(range(150)), "an epoch is one of the real clips"
    padded = [len(batch) * max(int(batcher.frames[i]) for i in batch) for batch in batches]
    assert max(padded) <= 6000
    again = Batcher(given, [1.0] * len(given), 60.0, seed=0, synthetic_share=share)
    steps = [3 * len(batches), len(batches) - 1, 0]
    assert [again.plan(step) for step in steps] == [batcher.plan(step) for step in reversed(steps)][::-1]


def test_only_real_and_only_synthetic() -> None:
    given = pool(20, 30)
    for share, count in ((0.0, 20), (1.0, 30)):
        batcher = Batcher(given, [1.0] * 50, 60.0, seed=0, synthetic_share=share)
        drawn = [batcher.items[i] for batch in batcher._epoch_batches(0) for i in batch]
        assert {item.synthetic for item in drawn} == {bool(share)} and len(drawn) == count


def test_the_share_holds_while_clips_get_harder() -> None:
    given = pool(200, 200)
    apart = ranks_of(np.asarray([item.frames for item in given], float), np.asarray([item.synthetic for item in given]))
    rule = Curriculum(CompetenceConfig(start=0.2, steps=100), apart)
    batcher = Batcher(given, [1.0] * 400, 60.0, seed=0, curriculum=rule, synthetic_share=0.5)
    sizes = np.asarray([synthetic_frames(batcher.plan(step)) for step in range(60)])
    assert sizes[:10, 0].sum() / sizes[:10, 1].sum() == pytest.approx(0.5, abs=0.05)
    assert sizes[:, 0].sum() / sizes[:, 1].sum() == pytest.approx(0.5, abs=0.02)
