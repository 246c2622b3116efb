"""What occurs twice is found, and what only resembles it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sayso.core.errors import AudioError
from sayso.core.result import Example, Slot
from sayso.data.curation import Leak, content_hash, hear, leaks, odd_labels, repeats


def said(text: str, speaker: str | None = None, source: str = "a", audio: str = "x.wav") -> Example:
    return Example(audio=audio, text=text, speaker=speaker, source=source)


def test_a_copy_in_another_format_sounds_the_same(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).integers(-20000, 20000, 4000).astype(np.int16)
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, sound, 16000, subtype="PCM_16")
    louder = sound.copy()
    louder[2000] += 1
    soundfile.write(tmp_path / "c.wav", louder, 16000, subtype="PCM_16")
    a, b, c = (hear(tmp_path / name) for name in ("a.wav", "b.flac", "c.wav"))
    assert a == b and a.duration_s == 0.25 and c.sound != a.sound
    examples = [said("x", audio=str(tmp_path / name)) for name in ("a.wav", "b.flac", "c.wav")]
    assert repeats(examples, [a.sound, b.sound, c.sound]) == [(examples[0].audio, examples[1].audio)]
    assert repeats(examples, [None, None, None]) == []
    with pytest.raises(AudioError):
        hear(tmp_path / "none.wav")


def test_leaks_of_every_kind() -> None:
    train = [said("Turn on the kitchen light!", "ann", audio="1.wav"), said("play some jazz", "bob", audio="2.wav")]
    valid = [
        said("um turn on the the kitchen light", "eve", audio="3.wav"),
        said("turn on the kitchen lights", "ann", audio="4.wav"),
        said("what time is it", "bob", source="b", audio="5.wav"),  # another corpus' bob
    ]
    assert leaks(train, valid) == [
        Leak("speaker", "ann", "ann"),
        Leak("sentence", "turn on the kitchen light", "turn on the kitchen light"),
        Leak("near sentence", "turn on the kitchen light", "turn on the kitchen lights"),
    ]
    sounds = (["s1", "s2"], ["s3", None, "s2"])
    assert leaks(train, valid, sounds)[0] == Leak("sound", "2.wav", "5.wav")
    assert [leak.kind for leak in leaks(train, valid, near=0.99)] == ["speaker", "sentence"]
    assert leaks(train, []) == leaks([], valid) == []


def test_near_is_near_by_brute_force() -> None:
    rng = np.random.default_rng(1)
    first, second = ([said("".join(rng.choice(list("ab "), 6))) for _ in range(60)] for _ in range(2))
    found = {leak.second for leak in leaks(first, second, near=0.7) if leak.kind == "near sentence"}

    def distance(a: str, b: str) -> int:
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            previous, row[0] = row[0], i
            for j, y in enumerate(b, 1):
                previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
        return row[-1]

    from sayso.text.disfluency import fluent

    ours = {fluent(item.text or "") for item in first} - {""}
    theirs = {fluent(item.text or "") for item in second} - {""} - ours
    near = {b for b in theirs if any(1 - distance(a, b) / max(len(a), len(b)) >= 0.7 - 1e-12 for a in ours)}
    assert found == near and near


def test_the_hash_is_of_what_is_said() -> None:
    one = Example(audio="here/a.wav", text="x", intent="i", slots=(Slot(name="s", value="v"),), duration_s=1.0)
    moved = one.model_copy(update={"audio": "there/a.wav", "duration_s": 1.00001, "custom": {"age": "3"}})
    assert content_hash([one]) == content_hash([moved]) != content_hash([one, one])
    for change in ({"text": "y"}, {"slots": ()}, {"speaker": "s"}, {"negative": True}, {"audio": "here/b.wav"}):
        assert content_hash([one.model_copy(update=change)]) != content_hash([one])


def test_slots_that_nobody_says() -> None:
    slots = (
        Slot(name="room", value="k", text="the kitchen"),
        Slot(name="n", value="5", text="5"),
        Slot(name="q", value="q"),
    )
    good = Example(audio="a", text="light the kitchen at five", intent="i", slots=slots)
    assert odd_labels([good]) == []
    [line] = odd_labels([good.model_copy(update={"text": "light them at five"})])
    assert "slot 'room'" in line
