"""A text understander: tags move to what was heard, values come back, and it learns what it can learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sayso.core.errors import DataError
from sayso.core.result import Example, Slot
from sayso.models.text_tagger import TextTaggerConfig
from sayso.nlu.cascade import answer, cascade
from sayso.training.understanding import Read, UnderstandingConfig, fit, moved_tags

ROOMS = {"den": "living room", "lounge": "living room", "kitchen": "kitchen", "guest room": "guest room"}
SMALL = UnderstandingConfig(model=TextTaggerConfig(buckets=512, width=24, hidden=24), epochs=30, rate=1e-2)


def examples() -> list[Example]:
    found = []
    for said, value in ROOMS.items():
        slots = (Slot(name="room", value=value, text=said),)
        found.append(Example(audio="a", text=f"light the {said} please", intent="on", slots=slots))
        found.append(Example(audio="a", text=f"make the {said} dark", intent="off", slots=slots))
    found.append(Example(audio="a", text="lights out", intent="off", slots=(Slot(name="room", value="all"),)))
    found += [Example(audio="a", text=text, negative=True) for text in ("tell me a joke", "who are you")]
    return found


@pytest.mark.parametrize(
    ("words", "tags", "heard", "moved"),
    [
        ("light the guest room", "O O B-r I-r", "light the guest room", "O O B-r I-r"),
        ("light the guest room", "O O B-r I-r", "lie the guessed room", "O O B-r I-r"),
        ("light the guest room", "O O B-r I-r", "light the room", "O O B-r"),
        ("light the guest room", "O O B-r I-r", "light the guest uh room", "O O B-r I-r I-r"),
        ("light the guest room", "O O B-r I-r", "uh light the guest room now", "O O O B-r I-r O"),
        ("a b", "B-x B-y", "b", "B-y"),
        ("a b", "B-x B-y", "", ""),
    ],
)
def test_tags_move_along_the_alignment(words: str, tags: str, heard: str, moved: str) -> None:
    assert moved_tags(words.split(), tags.split(), heard.split()) == moved.split()


def test_it_understands_what_it_learnt_and_what_was_misheard() -> None:
    gold = [Read(example.text or "", example) for example in examples()]
    misheard = [
        Read((item.text or "").replace("please", "peas").replace("guest room", "guessed room"), item)
        for item in examples()
    ]
    understand = fit(gold + misheard, SMALL)
    for example in examples():
        texts = [(example.text or "", -1.0)]
        result = answer(texts, cascade(texts, understand))
        best = understand(example.text or "")[0]
        assert best.intent == example.intent, example.text
        if not example.negative:
            assert result.intent is not None and result.intent.name == example.intent
            assert {(s.name, s.value) for s in result.slots} == {(s.name, s.value) for s in example.slots or ()}
    best = understand("light the guest rooms peas")[0]  # near a phrase of training: its value
    assert (best.intent, [slot.value for slot in best.slots]) == ("on", ["guest room"])
    chances = [guess.probability for guess in understand("light the attic please")]
    assert 0.5 < sum(chances) <= 1 + 1e-5 and chances == sorted(chances, reverse=True)
    assert understand("")[0].intent is None


def test_the_same_seed_gives_the_same_weights() -> None:
    reads = [Read(example.text or "", example) for example in examples()]
    config = SMALL.model_copy(update={"epochs": 2})
    first, second, other = (fit(reads, config.model_copy(update={"seed": seed})) for seed in (1, 1, 2))
    names = first.model.state_dict()
    assert all(torch.equal(value, second.model.state_dict()[name]) for name, value in names.items())
    assert not all(torch.equal(value, other.model.state_dict()[name]) for name, value in names.items())
    with pytest.raises(DataError, match="labelled manifest"):
        fit([Read("x", Example(audio="a", text="x"))])


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = TextTaggerConfig(buckets=64, width=8, hidden=8).build(3, 5).eval()
    rows = [["turn", "on", "the", "light"], ["stop"], [], ["a", "very", "longwordthatneverends", "indeed"]]
    with torch.no_grad():
        classes, tags = model(*model.rows(rows))
        for i, words in enumerate(rows):
            alone, tagged = model(*model.rows([words]))
            assert np.allclose(alone[0], classes[i], atol=1e-6)
            assert np.allclose(tagged[0], tags[i, : max(1, len(words))], atol=1e-6)
