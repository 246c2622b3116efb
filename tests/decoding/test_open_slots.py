"""Open slots heard again: the beam against all answers there are, and the sentence around the slot left as it was."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch

from sayso.decoding.ctc_beam import CtcBeamConfig
from sayso.decoding.graph_nbest import GraphHypothesis, SlotMatch
from sayso.decoding.kneser_ney import estimate
from sayso.decoding.ngram import NGram
from sayso.decoding.open_slots import OpenPieces, OpenSlotConfig

PIECES = ("<blk>", "<unk>", "▁to", "▁a", "st", "m")
TEXT = [["▁to", "st"], ["▁to", "m"], ["▁a", "st"], ["▁to", "st"]]


def posteriors(seed: int, frames: int) -> np.ndarray:
    scores = np.random.default_rng(seed).normal(size=(frames, len(PIECES)), scale=2.0)
    found: np.ndarray = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    return found


def slots(*, weight: float = 0.7, bonus: float = 1.5) -> tuple[OpenPieces, NGram]:
    model = estimate(TEXT, 3, PIECES[1:])
    config = OpenSlotConfig(file="x", weight=weight, bonus=bonus, search=CtcBeamConfig.exact(nbest=1))
    return OpenPieces(config, model, PIECES), model


def sentence(tokens: list[int], frames: list[int], *matches: SlotMatch) -> GraphHypothesis:
    return GraphHypothesis(
        tokens=tuple(tokens), frames=tuple(frames), scores=(-0.5,) * len(tokens), score=-7.0, acoustic=-6.0,
        meaning=0, slots=matches, complete=True,
    )  # fmt: skip


def best_of_all(log_probs: np.ndarray, model: NGram, weight: float, bonus: float, longest: int) -> tuple[int, ...]:
    """Every answer, scored by torch's CTC and the model's own sentence score."""
    frames, found = torch.tensor(log_probs)[:, None], {}
    for length in range(1, longest + 1):
        for tokens in product(range(1, len(PIECES)), repeat=length):
            if not PIECES[tokens[0]].startswith("▁"):
                continue
            said = -torch.nn.functional.ctc_loss(
                frames, torch.tensor([tokens]), torch.tensor([len(log_probs)]), torch.tensor([length]), reduction="none"
            )
            language = model.score([PIECES[token] for token in tokens])
            found[tokens] = float(said) + weight * language + bonus * length
    return max(found, key=found.__getitem__)


def test_the_answer_is_the_best_of_all() -> None:
    opened = SlotMatch(slot="item", list=None, value="", first=0, last=1)
    answers = set()
    for seed in range(8):
        for weight, bonus in ((0.7, 1.5), (0.0, 0.0), (2.0, 3.0)):
            hear, model = slots(weight=weight, bonus=bonus)
            log_probs = posteriors(seed, 5)
            found = hear.hear(log_probs, [sentence([3, 5], [0, 2], opened)])[0]
            assert found.tokens == best_of_all(log_probs, model, weight, bonus, 5)
            answers.add(found.tokens)
    assert len(answers) > 5


def test_only_the_slot_changes_and_later_places_move() -> None:
    first = SlotMatch(slot="item", list=None, value="", first=1, last=3)
    later = SlotMatch(slot="place", list="places", value="Home", first=5, last=5)
    before = sentence([2, 3, 5, 5, 2, 3], [1, 3, 4, 5, 9, 11], first, later)
    log_probs = posteriors(0, 12)
    log_probs[2:9] = -20.0  # between the words around it: "a st", then silence
    for row, token in zip(range(2, 9), (3, 4, 0, 0, 0, 0, 0), strict=True):
        log_probs[row, token] = -1e-6
    after = slots()[0].hear(log_probs, [before])[0]
    assert after.tokens == (2, 3, 4, 2, 3) and after.frames == (1, 2, 3, 9, 11)
    assert after.slots[0] == SlotMatch(slot="item", list=None, value="", first=1, last=2)
    assert after.slots[1] == SlotMatch(slot="place", list="places", value="Home", first=4, last=4)
    assert len(after.scores) == 5 and after.scores[0] == after.scores[-1] == -0.5
    assert (after.score, after.acoustic, after.meaning) == (before.score, before.acoustic, before.meaning)


def test_the_word_before_that_sounds_on_is_not_heard_twice() -> None:
    """The slot opens with the token that the word before ended with only where a blank lies between."""
    opened = SlotMatch(slot="item", list=None, value="", first=1, last=1)
    for between, wanted in (((2, 2, 3, 4), (3, 4)), ((2, 0, 2, 4), (2, 4))):
        log_probs = np.full((5, len(PIECES)), -20.0)
        for row, token in enumerate((2, *between)):
            log_probs[row, token] = -1e-6
        after = slots(bonus=0.0)[0].hear(log_probs, [sentence([2, 3], [0, 2], opened)])[0]
        assert after.tokens == (2, *wanted)


def test_what_leaves_no_room_stays() -> None:
    opened = SlotMatch(slot="item", list=None, value="", first=1, last=1)
    before = sentence([2, 3, 4], [0, 1, 1], opened)
    assert slots()[0].hear(posteriors(1, 4), [before]) == [before]
    closed = sentence([2, 3], [0, 1], SlotMatch(slot="place", list="places", value="Home", first=1, last=1))
    assert slots()[0].hear(posteriors(1, 4), [closed]) == [closed]
