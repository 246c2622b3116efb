"""Speech corpora as cuts: the known ones by name, and other people's folders by format.

The corpora lie outside the repository (``SAYSO_CORPORA``). A corpus is a folder with ``SPLIT.jsonl`` (``audio``,
``text``, ``speaker``, ``duration``) and the audio beside it. Texts are normalised on the way in; where that changes
them the original stays as ``custom["written"]``, because the validation part is cut by it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhotse import CutSet, MonoCut  # type: ignore[import-untyped]

from sayso.core.errors import DataError, nearest
from sayso.core.result import Slot
from sayso.data.manifest import make_cut, meaning
from sayso.text.normalise import normalise


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A known corpus: the file of each split, its licence, and where it comes from. ``dev`` is only ever reported."""

    splits: Mapping[str, str]
    licence: str
    origin: str


CORPORA: dict[str, Corpus] = {
    "librispeech-tc5": Corpus(
        splits={"train": "train.jsonl"}, licence="CC BY 4.0", origin="LibriSpeech, Panayotov et al. 2015"
    ),
    "librispeech-devclean-half": Corpus(
        splits={"dev": "dev.jsonl"}, licence="CC BY 4.0", origin="LibriSpeech, Panayotov et al. 2015; band-limited"
    ),
    "commonvoice-v1": Corpus(
        splits={"train": "train.jsonl", "dev": "dev.jsonl"}, licence="CC0", origin="Common Voice, Mozilla 2017"
    ),
    "speechocean762-adults": Corpus(
        splits={"train": "train.jsonl"}, licence="CC BY 4.0", origin="Zhang et al. 2021 (arXiv:2104.01378)"
    ),
    "coffee-dev": Corpus(
        splits={"dev": "labels.jsonl"}, licence="Apache-2.0", origin="Picovoice speech-to-intent benchmark"
    ),
}
TRAINING = tuple(name for name, corpus in CORPORA.items() if "train" in corpus.splits)


def corpora_root() -> Path:
    """The corpora folder: ``SAYSO_CORPORA``, else ``../shared/data``; ``DataError`` where there is none."""
    named = os.environ.get("SAYSO_CORPORA")
    root = Path(named) if named else Path("../shared/data")
    if not root.is_dir():
        what = "SAYSO_CORPORA names" if named else "SAYSO_CORPORA is not set and the default is"
        raise DataError(f"{what} {root}, which is not a folder; set SAYSO_CORPORA to the folder that holds the corpora")
    return root.resolve()


def read_corpus(name: str, split: str = "train", root: Path | None = None) -> CutSet:
    """A split of the corpus in folder ``name``; ``DataError`` names what is missing, or file and line."""
    base = corpora_root() if root is None else Path(root)
    if not (base / name).is_dir():
        here = [item.name for item in base.iterdir() if any(item.glob("*.jsonl"))] if base.is_dir() else []
        raise DataError(f"no corpus '{name}' under {base}; {nearest(name, here)}")
    known = CORPORA[name].splits if name in CORPORA else {}
    file = base / name / known.get(split, f"{split}.jsonl")
    if not file.is_file():
        have = {path.stem for path in (base / name).glob("*.jsonl")} - {"labels"} | set(known)
        raise DataError(f"corpus '{name}' has no split '{split}'; {nearest(split, have)}")
    return CutSet.from_cuts(list(_json_cuts(file, name)))


def import_jsonl(path: str | Path) -> CutSet:
    """Plain JSONL: ``audio``, and ``text``, ``speaker``, ``duration``, ``intent``, ``slots`` where known.

    ``"intent": null`` written out means must be rejected. Without ``duration`` the audio's header is read.
    """
    file = Path(path)
    return CutSet.from_cuts(list(_json_cuts(file, file.resolve().parent.name)))


def import_labels(path: str | Path) -> CutSet:
    """As ``import_jsonl``, and every line must say its ``intent``."""
    return CutSet.from_cuts(list(_json_cuts(Path(path), Path(path).resolve().parent.name, labelled=True)))


def import_kaldi(path: str | Path) -> CutSet:
    """A Kaldi data folder: ``wav.scp``, ``text``, and ``utt2spk`` where present.

    Pipes in ``wav.scp`` are refused (they are commands of a stranger), and so is ``segments``.
    """
    folder = Path(path)
    if (folder / "segments").exists():
        raise DataError(f"{folder / 'segments'}: parts of recordings are not read; cut them (Kaldi: extract-segments)")
    texts = {key: value for _, key, value in _kaldi(folder / "text")}
    speakers = {k: v for _, k, v in _kaldi(folder / "utt2spk")} if (folder / "utt2spk").exists() else {}
    cuts = []
    for line, key, audio in _kaldi(folder / "wav.scp"):
        where = f"{folder / 'wav.scp'}:{line}"
        if audio.endswith("|"):
            raise DataError(f"{where}: '{audio}' is a command, which is not run; write the audio to a file and name it")
        if key not in texts:
            raise DataError(f"{where}: '{key}' has no line in {folder / 'text'}")
        row = {"audio": audio, "text": texts[key], "speaker": speakers.get(key) or None}
        cuts.append(_cut(row, folder, where, folder.resolve().name, key))
    if not cuts:
        raise DataError(f"{folder / 'wav.scp'}: holds no recordings")
    return CutSet.from_cuts(cuts)


IMPORTERS: dict[str, Callable[[str | Path], CutSet]] = {
    "jsonl": import_jsonl,
    "labels": import_labels,
    "kaldi": import_kaldi,
}


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line.strip()
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text ({error})") from None


def _kaldi(file: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in _lines(file):
        key, _, value = line.partition(" ")
        yield number, key, value.strip()


def _json_cuts(file: Path, source: str, *, labelled: bool = False) -> Iterator[MonoCut]:
    some = False
    seen: set[str] = set()
    for number, line in _lines(file):
        where = f"{file}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not valid JSON ({error.msg}); one object per line is expected") from None
        if not isinstance(row, dict) or not isinstance(row.get("audio"), str) or not row["audio"]:
            raise DataError(f"{where}: expected an object with 'audio', a path relative to {file.parent}")
        if labelled and "intent" not in row:
            raise DataError(f"{where}: 'intent' is missing; null means must be rejected; without labels use 'jsonl'")
        id = f"{source}/{Path(row['audio']).with_suffix('').as_posix()}"
        if id in seen:
            raise DataError(f"{where}: {row['audio']} occurs twice; list every recording once")
        seen.add(id)
        yield _cut(row, file.parent, where, source, id)
        some = True
    if not some:
        raise DataError(f"{file}: holds no recordings")


def _cut(row: Mapping[str, Any], folder: Path, where: str, source: str, id: str) -> MonoCut:
    text, speaker, duration = row.get("text"), row.get("speaker"), row.get("duration")
    if isinstance(speaker, int):
        speaker = str(speaker)
    for key, value in (("text", text), ("speaker", speaker), ("intent", row.get("intent"))):
        if value is not None and not isinstance(value, str):
            raise DataError(f"{where}: '{key}' must be a string, found {value!r}")
    number = isinstance(duration, (int, float)) and not isinstance(duration, bool)
    if duration is not None and not (number and 0 < duration < 1e6):
        raise DataError(f"{where}: 'duration' must be a positive number of seconds, found {duration!r}")
    intent = row.get("intent")
    custom = meaning(
        intent, _slots(row.get("slots"), where), source=source, negative="intent" in row and intent is None
    )
    spoken = None if text is None else normalise(text)
    if spoken != text:
        custom["written"] = text
    return make_cut(id, (folder / row["audio"]).absolute(), spoken, speaker, duration=duration, custom=custom)


def _slots(value: Any, where: str) -> tuple[Slot, ...]:
    if isinstance(value, dict):
        value = [{"name": name, "value": item} for name, item in value.items()]
    if value is None:
        return ()
    try:
        return tuple(Slot(name=i["name"], value=str(i["value"]), text=i.get("text") or "") for i in value)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise DataError(f"{where}: 'slots' must be an object, or a list of {{name, value}}; found {value!r}") from None
