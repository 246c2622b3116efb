"""The pronunciations of the floor: made from CMUdict, and measured on words kept out of it.

    pip install pocketsphinx==5.1.1 --no-deps --target FOLDER     # brings CMUdict; BSD licence of CMU
    python benchmarks/lexicon.py FOLDER/pocketsphinx/model/en-us/cmudict-en-us.dict [--write]

With `--write` the whole dictionary and rules grown on all of it become `src/sayso/text/data/lexicon.en.npz`, the same
bytes every time. The figures are of rules grown without every tenth word, on those words: `letters` asks the rules
alone, `words` the lexicon without those words, which also knows endings and compounds. An answer is compared with the
nearest variant that the dictionary lists: `phone_error` is edits per phone, `word_error` the share of words with any.
Intervals are 95% bootstraps over words. `load_ms` is one first load, `us_per_word` of
words that are not in the dictionary, on one core. One JSON line per figure.

Letters and phones are aligned by expectation maximisation over chunks of no, one or two phones per letter; pairs that
hardly ever occur are dropped while it runs, and so are the few words that then have no alignment ("etc", "bmw"). The
trees ask "is the letter there an x" and grow by information gain until nothing is left to ask, because exceptions are
worth keeping here (Daelemans, van den Bosch, Zavrel 1999).
"""

from __future__ import annotations

import argparse
import io
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from _lines import ROOT, emit
from numpy.typing import NDArray

from sayso.core.files import whole
from sayso.evaluation.bootstrap import ratio
from sayso.text.lexicon import (
    AROUND,
    BEHIND,
    END_OF_VARIANT,
    END_OF_WORD,
    LEAF,
    LETTERS,
    PHONES,
    LetterRules,
    Lexicon,
    Phones,
)

BENCH, TARGET = "lexicon", ROOT / "src" / "sayso" / "text" / "data" / "lexicon.en.npz"
HELD_OUT = 10  # every tenth word
ROUNDS, DROP_FROM = 6, 2  # of expectation maximisation; the round from which rare pairs are dropped
WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
N = len(PHONES)
Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
Words = Mapping[str, tuple[Phones, ...]]


def read(path: Path) -> dict[str, tuple[Phones, ...]]:
    """CMUdict's words as `normalise` spells them, with their variants in order.

    Of its abbreviations, "a.m." and "p.m." are words of ours; "'til" is "til" in our spelling.
    """
    own: dict[str, dict[Phones, None]] = {}
    folded: dict[str, dict[Phones, None]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, *phones = line.split()
        name = re.sub(r"\(\d\)$", "", name)
        word = name.replace(".", "") if name in ("a.m.", "p.m.") else name.strip("'")
        if WORD.fullmatch(word) and (word == name or len(word) > 1):
            found = own if word == name else folded
            found.setdefault(word, {})[tuple(PHONES.index(phone) for phone in phones)] = None
    return {word: tuple({**own.get(word, {}), **folded.get(word, {})}) for word in sorted({*own, *folded})}


def align(words: Words) -> list[tuple[str, list[int]]]:
    """Each word's first pronunciation as one chunk per letter, `first * N + second`."""
    groups: dict[tuple[int, int], list[str]] = {}
    for word, (phones, *_) in words.items():
        if len(word) > 1 and not word.endswith("'s") and len(phones) <= 2 * len(word):
            groups.setdefault((len(word), len(phones)), []).append(word)
    data = []
    for _, members in sorted(groups.items()):
        letters = np.array([[LETTERS[letter] for letter in word] for word in members])
        data.append((members, letters, np.array([words[word][0] for word in members])))
    table = np.full((len(LETTERS) + 1, N * N), 0.1)  # long chunks are rare
    table[:, 0], table[:, N : N * N : N] = 0.5, 1.0
    for number in range(ROUNDS):
        counts = np.zeros_like(table)
        for _, letters, phones in data:
            expect(letters, phones, table, counts)
        if number >= DROP_FROM:
            counts[counts < number - 1] = 0
        table = counts / np.maximum(counts.sum(1, keepdims=True), 1e-9)
    aligned = [pair for members, letters, phones in data for pair in best(members, letters, phones, table)]
    return sorted(aligned)


def chunks(phones: Ints, at: int, length: int) -> Ints:
    """The chunk of `length` phones that ends before `at`, of each word."""
    if length == 0:
        return np.zeros(len(phones), np.int64)
    first = phones[:, at - length]
    return first * N + (phones[:, at - 1] if length == 2 else 0)


def expect(letters: Ints, phones: Ints, table: Doubles, counts: Doubles) -> None:
    """Add how often each letter stands for each chunk, over all alignments of words of one shape."""
    (n, width), height = letters.shape, phones.shape[1]
    forward = np.zeros((width + 1, height + 1, n))
    backward = np.zeros_like(forward)
    forward[0, 0] = backward[width, height] = 1
    steps = [(at, to, length) for at in range(width) for to in range(height + 1) for length in range(min(to, 2) + 1)]
    for at, to, length in steps:
        forward[at + 1, to] += forward[at, to - length] * table[letters[:, at], chunks(phones, to, length)]
    whole_word = forward[width, height]
    share = np.divide(1, whole_word, out=np.zeros(n), where=whole_word > 0)
    for at, to, length in reversed(steps):
        pair = letters[:, at], chunks(phones, to, length)
        onward = table[pair] * backward[at + 1, to]
        np.add.at(counts, pair, forward[at, to - length] * onward * share)
        backward[at, to - length] += onward


def best(members: Sequence[str], letters: Ints, phones: Ints, table: Doubles) -> list[tuple[str, list[int]]]:
    """The likeliest alignment of each word of one shape; words that have none are left out."""
    (n, width), height = letters.shape, phones.shape[1]
    log = np.log(table, out=np.full_like(table, -np.inf), where=table > 0)
    score = np.full((width + 1, height + 1, n), -np.inf)
    came = np.zeros(score.shape, np.int64)
    score[0, 0] = 0
    for at in range(width):
        for to in range(height + 1):
            for length in range(min(to, 2) + 1):
                new = score[at, to - length] + log[letters[:, at], chunks(phones, to, length)]
                better = new > score[at + 1, to]
                score[at + 1, to][better], came[at + 1, to][better] = new[better], length
    found = []
    for row in np.flatnonzero(score[width, height] > -np.inf):
        to, path = height, []
        for at in range(width, 0, -1):
            length = int(came[at, to, row])
            path.append(int(chunks(phones[row : row + 1], to, length)[0]))
            to -= length
        found.append((members[row], path[::-1]))
    return found


def instances(aligned: Sequence[tuple[str, list[int]]]) -> tuple[Ints, Ints, Ints]:
    """What `LetterRules` sees at each letter, the letter, and its chunk."""
    seen, asked, answers = [], [], []
    for word, path in aligned:
        padded = [0] * (AROUND + 1) + [LETTERS[letter] for letter in word] + [0] * AROUND
        backwards = [0] * BEHIND
        for at in range(len(word) + AROUND, AROUND, -1):
            around = padded[at - 1 : at - AROUND - 1 : -1] + padded[at + 1 : at + AROUND + 1]
            seen.append(around + backwards[: -BEHIND - 1 : -1])
            asked.append(padded[at])
            answers.append(path[at - AROUND - 1])
            backwards += [phone for phone in reversed(divmod(answers[-1], N)) if phone]
    return np.array(seen), np.array(asked), np.array(answers)


def grow(aligned: Sequence[tuple[str, list[int]]]) -> dict[str, NDArray[np.generic]]:
    """The arrays of `LetterRules`."""
    seen, asked, answers = instances(aligned)
    nodes: list[tuple[int, int, int]] = []
    roots = [0] * (len(LETTERS) + 1)
    for letter in LETTERS.values():
        mine = asked == letter
        roots[letter] = len(nodes)
        if mine.any():
            tree(seen[mine], answers[mine], nodes)
        else:
            nodes.append((LEAF, 0, 0))
    question, value, other = np.array(nodes).T
    return {
        "question": question.astype(np.uint8),
        "value": value.astype(np.uint8),
        "other": other.astype(np.int32),
        "roots": np.array(roots, np.int32),
    }


def tree(seen: Ints, answers: Ints, nodes: list[tuple[int, int, int]]) -> None:
    """Append a tree in pre-order, yes before no."""
    classes, answers = np.unique(answers, return_inverse=True)
    values = max(len(LETTERS) + 1, N)
    offsets = np.arange(seen.shape[1]) * values
    waiting: list[tuple[Ints, int]] = [(np.arange(len(answers)), -1)]
    while waiting:
        rows, parent = waiting.pop()
        if parent >= 0:
            nodes[parent] = (*nodes[parent][:2], len(nodes))
        present, mine = np.unique(answers[rows], return_inverse=True)
        totals = np.bincount(mine)
        here, k = seen[rows], len(present)
        cells = ((here + offsets) * k + mine[:, None]).ravel()
        yes = np.bincount(cells, minlength=len(offsets) * values * k).reshape(-1, k)
        no = totals - yes
        sizes = yes.sum(1), no.sum(1)
        cost = _n_log_n(sizes[0]) + _n_log_n(sizes[1]) - _n_log_n(yes).sum(1) - _n_log_n(no).sum(1)
        cost[(sizes[0] == 0) | (sizes[1] == 0)] = np.inf
        chosen = int(cost.argmin())
        if k == 1 or not cost[chosen] < np.inf:
            nodes.append((LEAF, 0, int(classes[present[totals.argmax()]])))
            continue
        place, code = divmod(chosen, values)
        waiting += [(rows[here[:, place] != code], len(nodes)), (rows[here[:, place] == code], -1)]
        nodes.append((place, code, 0))


def _n_log_n(counts: Ints) -> Doubles:
    return counts * np.log(np.maximum(counts, 1))


def packed(words: Words, rules: Mapping[str, NDArray[np.generic]]) -> bytes:
    """The lexicon as one file, the same bytes for the same content."""
    between, end = bytes([END_OF_VARIANT]), bytes([END_OF_WORD])
    spoken = end.join(between.join(map(bytes, variants)) for variants in words.values())
    arrays = {"words": "\n".join(words).encode("ascii"), "phones": spoken}
    with io.BytesIO() as stream:
        np.savez_compressed(stream, **{k: np.frombuffer(v, np.uint8) for k, v in arrays.items()}, **dict(rules))
        return stream.getvalue()


def edits(one: Phones, other: Phones) -> int:
    """Levenshtein's distance."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        before, row[0] = row[:], i
        for j, right in enumerate(other, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right))
    return row[-1]


def report(case: str, guesses: Sequence[Phones], truth: Sequence[tuple[Phones, ...]]) -> None:
    """Phone and word error, each guess against its nearest variant."""
    pairs = [
        min((edits(guess, one), len(one)) for one in variants) for guess, variants in zip(guesses, truth, strict=True)
    ]
    wrong, phones = np.array(pairs, np.float64).T
    emit(BENCH, case, "phone_error", ratio(wrong, phones))
    emit(BENCH, case, "word_error", ratio((wrong > 0).astype(np.float64), np.ones_like(wrong)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("--write", action="store_true", help="also write the file that is shipped")
    args = parser.parse_args()
    words = read(args.dictionary)
    aligned = align(words)
    if args.write:
        with whole(TARGET) as fresh:
            fresh.write_bytes(packed(words, grow(aligned)))
    held_out = {word: words[word] for word in [*words][::HELD_OUT]}
    rest = {word: variants for word, variants in words.items() if word not in held_out or len(word) == 1}
    rules = grow([(word, path) for word, path in aligned if word not in held_out])
    letters, lexicon = LetterRules(rules), Lexicon(packed(rest, rules))
    whole_words = {word: v for word, v in held_out.items() if len(word) > 1 and not word.endswith("'s")}
    report("letters", [letters.pronounce(word) for word in whole_words], [*whole_words.values()])
    unseen = [word for word in held_out if len(word) > 1]
    began = time.process_time()
    guesses = [lexicon.pronounce(word)[0] for word in unseen]
    took = time.process_time() - began
    report("words", guesses, [held_out[word] for word in unseen])
    emit(BENCH, "words", "us_per_word", 1e6 * took / len(unseen))
    began = time.process_time()
    shipped = Lexicon.load()
    emit(BENCH, "shipped", "load_ms", 1e3 * (time.process_time() - began))
    emit(BENCH, "shipped", "kilobytes", TARGET.stat().st_size / 1024)
    emit(BENCH, "shipped", "words", sum(map(shipped.known, words)))


if __name__ == "__main__":
    main()
