"""The tokenizer: ids the rest relies on, word-by-word tokenisation, reading and writing, and foreign files."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import sentencepiece as spm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sayso.core.errors import BundleError
from sayso.text.tokenizer import BLANK, UNKNOWN, Tokenizer, train_tokenizer

TEXTS = [
    f"{verb} the {thing} in the {place} {when}"
    for verb in ("turn on", "turn off", "open", "close", "dim", "what's wrong with")
    for thing in ("lights", "blinds", "heater", "fan", "jukebox", "quiz")
    for place in ("kitchen", "bedroom", "hallway", "garage", "zoo", "vault", "patio")
    for when in ("now", "please", "at seven o'clock", "for five minutes")
]
WORDS = sorted({word for text in TEXTS for word in text.split()})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(TEXTS, tmp_path_factory.mktemp("tokenizer") / "tokenizer.model", vocab=96)


def test_fixed_ids(tokenizer: Tokenizer) -> None:
    assert (BLANK, UNKNOWN) == (0, 1)
    assert tokenizer.pieces[BLANK] == "<blk>"
    assert tokenizer.pieces[UNKNOWN] == "<unk>"
    assert tokenizer.size == len(tokenizer.pieces) == 96
    assert tokenizer.sha256 == hashlib.sha256(tokenizer.model).hexdigest()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.sampled_from(WORDS), max_size=8))
def test_round_trip_and_word_by_word(tokenizer: Tokenizer, words: list[str]) -> None:
    text = " ".join(words)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert ids == [token for word in words for token in tokenizer.encode(word)]
    assert BLANK not in ids
    assert UNKNOWN not in ids
    assert sum(tokenizer.pieces[token].startswith("▁") for token in ids) == len(words)


def test_letters_never_seen_are_unknown_and_blanks_vanish(tokenizer: Tokenizer) -> None:
    assert UNKNOWN in tokenizer.encode("ß")
    ids = tokenizer.encode("turn on")
    assert tokenizer.decode([BLANK, ids[0], BLANK, *ids[1:], UNKNOWN]) == "turn on"
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_file_round_trip(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "again.model"
    path.write_bytes(tokenizer.model)
    again = Tokenizer.load(path)
    assert again.sha256 == tokenizer.sha256
    assert again.pieces == tokenizer.pieces
    assert list(tmp_path.iterdir()) == [path]


def test_training_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    made = train_tokenizer(TEXTS, path, vocab=80)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == made.model


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"missing\.model"):
        Tokenizer.load(tmp_path / "missing.model")
    with pytest.raises(BundleError, match="sentencepiece"):
        Tokenizer(b"not a model", where="here")
    buffer = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=buffer, vocab_size=80, model_type="bpe", minloglevel=2
    )
    with pytest.raises(BundleError, match="<blk>"):
        Tokenizer(buffer.getvalue())
