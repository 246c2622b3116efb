"""From the sources of a recipe to training items: cuts, feature banks made once, token ids and meanings.

Every source is split into training and validation before anything else is done with it. What the loop cannot use
(neither transcript nor meaning, letters the tokenizer does not know, more tokens than CTC has room for, too short, too
long) is left out and counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse import CutSet  # type: ignore[import-untyped]
from lhotse.utils import fastcopy  # type: ignore[import-untyped]
from torch import Tensor

from sayso.core.config import Config
from sayso.core.errors import ConfigError, DataError, nearest
from sayso.core.result import Slot
from sayso.data import manifest
from sayso.data.augment import NOISES, AugmentConfig, noise_files
from sayso.data.corpora import corpora_root, read_corpus
from sayso.data.curation import content_hash
from sayso.data.features import ClipMeta, FeatureBank, cached, noise_features, noises_described
from sayso.data.phones import read_phones
from sayso.data.samples import SampleBank
from sayso.data.splits import cut_valid
from sayso.data.teacher import read_teacher
from sayso.models.assembly import ModelConfig
from sayso.models.heads import HeadConfig
from sayso.models.subsampling import FACTOR
from sayso.nlu.tree_grammar import TreeGrammar
from sayso.text.disfluency import fluent
from sayso.text.display import display
from sayso.text.lexicon import Lexicon
from sayso.text.normalise import normalise
from sayso.text.tokenizer import UNKNOWN, Tokenizer
from sayso.training.batches import Floats, Item
from sayso.training.labels import coarse_labels, intent_label, label_members, token_tags, tree_tokens
from sayso.training.loop import Corpus
from sayso.training.progress import Meter, Say
from sayso.training.recipe import DataConfig, Source
from sayso.training.teaching import check_teacher

Bank = FeatureBank | SampleBank
LEAST_FRAMES, MOST_FRAMES = 30, 2000  # 0.3 s and 20 s of 10 ms frames
_ROOM = 0.85  # the batches' tempo warp shortens clips by up to this: targets must still fit
_STATISTICS_CLIPS = 500
_WORTH_PROCESSES = 400  # starting processes takes as long as a few hundred clips


@dataclass(frozen=True)
class Part:
    """One source with its cuts: ``train`` may be empty (a validation manifest), ``valid`` too."""

    source: Source
    name: str
    train: CutSet
    valid: CutSet


def read_parts(data: DataConfig, *, speech: bool = True) -> list[Part]:
    """The cuts of every source; ``DataError`` says what is missing and where it was looked for. Without ``speech`` none
    need be to train on."""
    if speech and not any(source.split == "train" for source in data.train):
        raise DataError("the recipe names no training data; add a [[data.train]] table with a 'corpus' or a 'manifest'")
    return [_part(source) for source in data.train]


def described(parts: Iterable[Part], *, noises: bool = False) -> list[dict[str, Any]]:
    """For every source what it gave: clips, hours and the ``content_hash`` of either side, as a run records it; with
    ``noises`` the recorded ones too."""
    found = []
    for part in parts:
        row: dict[str, Any] = {"source": part.source.corpus or part.source.manifest}
        for side, cuts in (("train", part.train), ("valid", part.valid)):
            if len(cuts):
                hours = round(sum(cut.duration for cut in cuts) / 3600, 4)
                content = content_hash(manifest.to_example(cut) for cut in cuts)
                row[side] = {"clips": len(cuts), "hours": hours, "sha256": content}
        found.append(row)
    root = _root() if noises else None
    if root is not None and noise_files(root, *NOISES):
        found.append({"source": NOISES[0], "train": noises_described(root)})
    return found


def read_lines(name: str, field: str) -> list[str]:
    """The lines of a text file that the recipe's ``field`` names; ``DataError`` where it is none."""
    try:
        return Path(name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{field}: {name} cannot be read ({error}); give plain text files, a sentence a line") from None


def transcripts(parts: Iterable[Part]) -> Iterator[str]:
    """The normalised training transcripts; of clips without one the values of their slots."""
    for part in parts:
        for cut in part.train if not part.source.unlabelled else ():
            text = cut.supervisions[0].text if cut.supervisions else None
            if text and part.source.transcripts:
                yield normalise(text)
            else:
                yield from filter(None, (normalise(slot.value) for slot in manifest.to_example(cut).slots or ()))


def gather(
    data: DataConfig,
    tokenizer: Tokenizer,
    model: ModelConfig,
    say: Say,
    *,
    seed: int = 0,
    parts: Sequence[Part] | None = None,
    noises: bool = False,
) -> Corpus:
    """Training and validation items of ``data``; features are made where ``data.cache`` does not have them.

    ``parts`` is what ``read_parts`` gave, where it was read already; ``noises``: with the recorded ones. Raises
    ``DataError`` where nothing is left to train on, ``ConfigError`` for an intent of the ``model``'s heads that no
    source speaks.
    """
    banks: list[Bank] = []
    train: list[Item] = []
    weights: list[float] = []
    valid: list[Item] = []
    heard: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    coarse = coarse_labels(data.refinements, model.heads.intents)

    def make(cuts: CutSet, name: str, copy: int = 0, source: Source | None = None) -> Bank:
        settings = None if not copy else (source.augment if source is not None else None) or AugmentConfig()
        if model.encoder.hears == "samples":
            return SampleBank(cuts, settings, copy, _root())
        return _bank(cuts, data, name, say, settings, copy)

    for part in read_parts(data) if parts is None else parts:
        source = part.source
        check_teacher(source, tokenizer)
        for copy in range(0 if source.clean else 1, source.copies + 1) if len(part.train) else ():
            name = f"{part.name}, copy {copy}" if copy else part.name
            banks.append(make(part.train, name, copy, source))
            found = list(_items(banks, source, tokenizer, model, left_out, tuple(coarse), data.written))
            train += found
            weights += [source.weight] * len(found)
            heard.update(m.intent for m in map(banks[-1].meta, range(len(banks[-1]))) if m.intent is not None)
        if len(part.valid) and not source.unlabelled:
            banks.append(make(part.valid, f"{part.name}, valid"))
            valid += _items(banks, source, tokenizer, model, left_out, tuple(coarse), data.written)
    _check_intents(model.heads, heard, coarse, say)
    if left_out:
        say("left out: " + ", ".join(f"{count} {why}" for why, count in left_out.most_common()))
    if not train:
        raise DataError("no clip is left to train on; check the sources, and 'sayso data show' what they hold")
    if model.decoder is not None:
        known = sum(bool(item.tree) for item in train)
        say(f"{known} training clips say what the decoder may write, {len(train) - known} do not")
    hours = sum(item.frames for item in train) / 360_000
    say(f"{len(train)} training clips ({hours:.2f} h), {len(valid)} for validation")

    def features(item: Item) -> Floats:
        return banks[item.bank].features(item.index).astype(np.float32)

    _check_share(data.synthetic_share, train)
    order = np.random.default_rng((seed, 3)).permutation(len(valid))
    recorded = noise_features(_root()) if noises else []
    if noises and not recorded:
        say("no recorded noise is at hand (the corpora's folder 'noise'): coloured noise takes its place")
    return Corpus(
        train,
        weights,
        [valid[int(i)] for i in order],
        features,
        data.synthetic_share,
        label_members(coarse, model.heads),
        recorded,
    )


def feature_statistics(corpus: Corpus) -> tuple[Tensor, Tensor]:
    """Mean (F,) and inverse standard deviation (F,) of training features: a fresh encoder's ``mean`` and ``scale``."""
    step = max(1, len(corpus.train) // _STATISTICS_CLIPS)
    frames = np.concatenate([corpus.features(item) for item in corpus.train[::step]]).astype(np.float64)
    scale = 1.0 / np.maximum(frames.std(0), 1e-2)
    return torch.from_numpy(frames.mean(0).astype(np.float32)), torch.from_numpy(scale.astype(np.float32))


def _part(source: Source) -> Part:
    empty = CutSet.from_cuts([])
    if source.manifest is not None:
        cuts = _meant(_some(manifest.read(source.manifest), source), source)
        name = Path(source.manifest).parent.name or source.manifest
        return Part(source, name, empty, cuts) if source.split == "valid" else Part(source, name, cuts, empty)
    assert source.corpus is not None
    train, valid = (_meant(side, source) for side in cut_valid(read_corpus(source.corpus)))
    if source.split == "valid":
        return Part(source, source.corpus, empty, _some(valid, source))
    whole = source.clips is None and source.clean  # the same corpus twice in a recipe must not validate twice
    return Part(source, source.corpus, _some(train, source), valid if whole else empty)


def _meant(cuts: CutSet, source: Source) -> CutSet:
    """The cuts with texts as they were meant, where the source wants its disfluencies removed."""
    if source.disfluencies == "keep":
        return cuts
    changed = []
    for cut in cuts:
        spoken = [s if s.text is None else fastcopy(s, text=fluent(s.text)) for s in cut.supervisions]
        changed.append(fastcopy(cut, supervisions=spoken))
    return CutSet.from_cuts(changed)


def _some(cuts: CutSet, source: Source) -> CutSet:
    """The cuts that are not too long for the source, at most its number of them, chosen by hash, in their order."""
    count, limit = source.clips, source.longest_s
    chosen = [cut for cut in cuts if limit is None or cut.duration <= limit]
    if count is None or count >= len(chosen):
        return cuts if limit is None else CutSet.from_cuts(chosen)
    by_hash = sorted(range(len(chosen)), key=lambda i: hashlib.sha256(chosen[i].id.encode()).digest())
    return CutSet.from_cuts([chosen[i] for i in sorted(by_hash[:count])])


def _bank(cuts: CutSet, data: DataConfig, name: str, say: Say, augment: AugmentConfig | None, seed: int) -> FeatureBank:
    return cached(
        cuts,
        data.cache,
        augment=augment,
        seed=seed,
        processes=data.processes if len(cuts) >= _WORTH_PROCESSES else 1,
        progress=Meter(say, f"features of {name}"),
        root=_root(),
    )


def _root() -> Path | None:
    """The corpora, whose noises and rooms are mixed in; augmentation makes its own where there are none."""
    try:
        return corpora_root()
    except DataError:
        return None


def _items(
    banks: Sequence[Bank],
    source: Source,
    tokenizer: Tokenizer,
    model: ModelConfig,
    left_out: Counter[str],
    coarse: Sequence[str],
    written: bool,
) -> Iterator[Item]:
    """The usable clips of the last bank."""
    bank = banks[-1]
    grammar = None if model.decoder is None else TreeGrammar(model.trees, tokenizer.pieces)
    phones = read_phones(source.phones) if source.phones else {}
    teacher = read_teacher(source.teacher) if source.teacher else {}
    lexicon = Lexicon.load() if model.phones else None
    for index in range(len(bank)):
        meta, frames = bank.meta(index), bank.frames(index)
        text = normalise(meta.text) if source.transcripts and not source.unlabelled else ""
        tokens = tuple(tokenizer.encode(display(text) if written else text))
        intent, tags = _meaning(meta, text, source, tokenizer, model.heads, coarse)
        tree = () if grammar is None else _tree(meta, text, source, grammar, tokenizer)
        problem = _problem(tokens, frames, model.ctc_rate, useful=source.unlabelled or intent >= 0 or bool(tree))
        if problem:
            left_out[problem] += 1
            continue
        if source.unlabelled:
            yield Item(len(banks) - 1, index, frames, (), teacher=teacher.get(meta.id))
            continue
        yield Item(
            len(banks) - 1,
            index,
            frames,
            tokens,
            intent,
            tags,
            phones.get(meta.id, b""),
            teacher.get(meta.id),
            (meta.source or "").startswith(manifest.SYNTHESIS),
            tree,
            () if lexicon is None else _pronounced(lexicon.phones(text), frames, model.ctc_rate),
        )


def _problem(tokens: Sequence[int], frames: int, ctc_rate: int, *, useful: bool) -> str | None:
    if not tokens and not useful:
        return "without a transcript or a meaning to learn"
    if UNKNOWN in tokens:
        return "with letters that the tokenizer does not know"
    if not LEAST_FRAMES <= frames <= MOST_FRAMES:
        return "shorter than 0.3 s or longer than 20 s"
    return None if _fits(tokens, frames, ctc_rate) else "with more tokens than rows of CTC"


def _fits(labels: Sequence[int], frames: int, ctc_rate: int) -> bool:
    """Whether CTC has a row for every label and for the blank between two that are the same."""
    return len(labels) + sum(a == b for a, b in pairwise(labels)) <= ctc_rate * (int(frames * _ROOM) // FACTOR)


def _pronounced(phones: Sequence[int], frames: int, ctc_rate: int) -> tuple[int, ...]:
    return tuple(phones) if _fits(phones, frames, ctc_rate) else ()


def _meaning(
    meta: ClipMeta, text: str, source: Source, tokenizer: Tokenizer, heads: HeadConfig, coarse: Sequence[str]
) -> tuple[int, tuple[int, ...]]:
    negative = source.negative or meta.negative
    intent = intent_label(meta.intent, negative, heads, coarse)
    if meta.intent is None or not heads.tags or not text:
        return intent, ()
    known = [slot for slot in _spoken(meta) if f"B-{slot.name}" in heads.tags]
    return intent, token_tags(text, known, tokenizer, heads)


def _tree(meta: ClipMeta, text: str, source: Source, grammar: TreeGrammar, tokenizer: Tokenizer) -> tuple[int, ...]:
    slots = _spoken(meta) if text else [slot.model_copy(update={"text": normalise(slot.value)}) for slot in meta.slots]
    meaning = None if meta.intent is None or source.negative else (meta.intent, slots)
    return tree_tokens(text, meaning, None if source.negative else meta.tree, grammar, tokenizer)


def _spoken(meta: ClipMeta) -> list[Slot]:
    """The clip's slots as the recogniser spells them."""
    return [slot.model_copy(update={"text": normalise(slot.text)}) for slot in meta.slots]


def _check_share(share: float | None, train: Sequence[Item]) -> None:
    """Both kinds of speech must be there where a batch is to have both."""
    made = sum(item.synthetic for item in train)
    real = len(train) - made
    lacking = "synthetic" if share and not made else "real" if share is not None and share < 1 and not real else ""
    if lacking:
        raise ConfigError(
            f"data.synthetic_share = {share}: none of {len(train)} training clips is {lacking}. Clips are synthetic "
            f"where their source begins with '{manifest.SYNTHESIS}', as 'sayso data synth' writes it; add a source "
            "of the other kind, or leave the key out"
        )


def _check_intents(heads: HeadConfig, heard: Counter[str], coarse: Mapping[str, Sequence[str]], say: Say) -> None:
    if not heads.intents:
        return
    for name in heads.intents:
        if name not in heard:
            raise ConfigError(f"intent '{name}' of the recipe: no training clip has it; {nearest(name, heard)}")
    others = sorted(set(heard) - set(heads.intents) - set(coarse))
    if others and coarse:
        legal = nearest(others[0], [*heads.intents, *coarse])
        raise ConfigError(f"clips are labelled '{others[0]}', which no version of data.refinements knows; {legal}")
    if others:
        say(f"intents that the recipe does not name, trained as speech without a meaning: {', '.join(others)}")


def differing_keys(old: Config, new: Config, prefix: str = "") -> list[str]:
    """Dotted keys at which two settings of one class differ."""
    found: list[str] = []
    for name in type(old).model_fields:
        first, second = getattr(old, name), getattr(new, name)
        if isinstance(first, Config) and type(first) is type(second):
            found += differing_keys(first, second, f"{prefix}{name}.")
        elif first != second:
            found.append(f"{prefix}{name}")
    return found
