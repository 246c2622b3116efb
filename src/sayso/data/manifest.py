"""Lhotse ``CutSet`` JSONL with meaning: how Sayso keeps what recordings say.

A cut has one supervision whose ``custom`` holds ``intent``, ``slots`` (``[{"name", "value", "text"}]``), ``domain``,
``source``, ``curation.TRAITS`` where known, and where meanings are several or nested ``frames`` (``[{"intent", "slots",
"parent", "slot"}]``, the first the outermost, ``parent`` the index of the frame that another stands in and ``slot`` the
index of the slot there) and ``tree``, the same as it is written with its words (``nlu/trees.py``), ``[IN:NAME words
[SL:NAME words ] ]``. ``"intent": null`` written out means that the recording must be rejected; without the key the
intent is unknown, as ``evaluation.examples`` reads it. Files name audio relative to their own folder where it lies
inside, so a folder of data may be moved; in memory the paths are absolute.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment  # type: ignore[import-untyped]

from sayso.audio.decode import info
from sayso.core.errors import DataError
from sayso.core.files import whole
from sayso.core.result import Example, Slot, traits
from sayso.nlu.trees import read_trees, write_trees

SYNTHESIS = "synthesis:"  # how the source of speech that nobody spoke begins
_MEANING = ("intent", "slots", "frames", "tree", "source")


def make_cut(
    id: str,
    audio: str | Path,
    text: str | None = None,
    speaker: str | None = None,
    *,
    duration: float | None = None,
    sampling_rate: int = 16000,
    custom: Mapping[str, Any] | None = None,
) -> MonoCut:
    """A cut of a whole recording. With ``duration`` (s) given the file is not opened; without, ``AudioError`` when it
    cannot be read, and its own sampling rate counts. ``custom`` is what ``meaning`` makes."""
    if duration is None:
        header = info(audio)
        duration, sampling_rate = header.duration_s, header.sample_rate
    samples = round(duration * sampling_rate)
    if samples < 1:
        raise DataError(f"{audio}: a duration of {duration} s holds no sample; legal is a positive number of seconds")
    duration = samples / sampling_rate
    recording = Recording(
        id=id,
        sources=[AudioSource(type="file", channels=[0], source=str(audio))],
        sampling_rate=sampling_rate,
        num_samples=samples,
        duration=duration,
    )
    supervision = SupervisionSegment(
        id=id,
        recording_id=id,
        start=0.0,
        duration=duration,
        channel=0,
        text=text,
        language="en",
        speaker=speaker,
        custom=dict(custom or {}),
    )
    return MonoCut(id=id, start=0.0, duration=duration, channel=0, supervisions=[supervision], recording=recording)


def meaning(
    intent: str | None = None,
    slots: Sequence[Slot] = (),
    *,
    domain: str | None = None,
    source: str | None = None,
    negative: bool = False,
    tree: str | None = None,
) -> dict[str, Any]:
    """The ``custom`` of a supervision. ``negative`` writes ``intent`` None out: must be rejected. ``tree`` is a
    written one."""
    if negative and intent is not None:
        raise DataError(f"an example cannot be negative and mean '{intent}'; give one of the two")
    result: dict[str, Any] = {"domain": domain, "source": source}
    if intent is not None or negative:
        result["intent"] = intent
        result["slots"] = [{"name": slot.name, "value": slot.value, "text": slot.text} for slot in slots]
    if tree is not None:
        result["tree"] = tree
    return result


def written_tree(cut: MonoCut) -> str | None:
    """The cut's meaning as a written tree, None where it has none; ``DataError`` where it is malformed."""
    tree = (cut.supervisions[0].custom or {}).get("tree") if cut.supervisions else None
    if tree is None:
        return None
    try:
        return write_trees(read_trees(tree))
    except (DataError, AttributeError) as error:
        raise DataError(f"cut {cut.id}: 'tree' must be one, '[IN:NAME words [SL:NAME words ] ]' ({error})") from None


def to_example(cut: MonoCut) -> Example:
    """The cut as what it should be understood as; ``DataError`` where its custom fields are malformed."""
    spoken = cut.supervisions[0] if cut.supervisions else None
    custom: dict[str, Any] = (spoken.custom or {}) if spoken is not None else {}
    intent, slots = custom.get("intent"), custom.get("slots")
    try:
        parsed = None if slots is None else tuple(_slot(item) for item in slots)
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"cut {cut.id}: 'slots' must be a list of {{name, value, text}}, found {slots!r}") from None
    return Example(
        audio=audio_path(cut),
        text=spoken.text if spoken is not None else None,
        intent=intent,
        slots=() if parsed is None and intent is not None else parsed,
        negative="intent" in custom and intent is None,
        speaker=spoken.speaker if spoken is not None else None,
        language=(spoken.language if spoken is not None else None) or "en",
        source=custom.get("source"),
        duration_s=float(cut.duration),
        custom=({"gender": spoken.gender} if spoken is not None and spoken.gender else {}) | traits(custom, _MEANING),
    )


def _slot(item: Mapping[str, Any]) -> Slot:
    return Slot(name=item["name"], value=str(item["value"]), text=item.get("text") or "")


def audio_path(cut: MonoCut) -> str:
    """The file of the cut's recording; ``DataError`` where its audio is not a file."""
    sources = cut.recording.sources if cut.has_recording else []
    if len(sources) != 1 or sources[0].type != "file":
        raise DataError(f"cut {cut.id}: its recording must have one source of type 'file'; save it with its audio")
    return str(sources[0].source)


def write(cuts: Iterable[MonoCut], path: str | Path) -> Path:
    """Write ``.jsonl`` or ``.jsonl.gz``, whole or not at all. ``DataError`` for no cuts, equal ids or another name."""
    target = Path(path)
    if not target.name.endswith((".jsonl", ".jsonl.gz")):
        raise DataError(f"{target}: a manifest ends in .jsonl or .jsonl.gz; rename it")
    folder = target.parent.resolve()
    seen: set[str] = set()
    with whole(target) as fresh:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            raw = fresh.open("wb")
        except OSError as error:
            raise DataError(f"{target}: cannot be written ({error.strerror}); choose a folder that can") from None
        with raw:
            # no name and no time in the gzip header: equal cuts make equal files
            out = gzip.GzipFile("", "wb", 6, raw, mtime=0) if target.suffix == ".gz" else raw
            for cut in cuts:
                if cut.id in seen:
                    raise DataError(f"{target}: two cuts have the id '{cut.id}'; ids must differ")
                seen.add(cut.id)
                row = cut.to_dict()
                source = row["recording"]["sources"][0]
                full = Path(audio_path(cut)).resolve()
                source["source"] = str(full.relative_to(folder) if full.is_relative_to(folder) else full)
                out.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
            if out is not raw:
                out.close()
        if not seen:
            raise DataError(f"{target}: there are no cuts to write")
    return target


def read(path: str | Path) -> CutSet:
    """The cuts of a manifest, audio paths resolved against its folder; ``DataError`` names file and line."""
    file = Path(path)
    cuts: list[MonoCut] = []
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    cuts.append(parse_cut(line, f"{file}:{number}", file.parent))
    except FileNotFoundError:
        raise DataError(f"{file}: no such manifest; 'sayso data import' and 'sayso data synth' write them") from None
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"{file}: cannot be read as a manifest ({error})") from None
    if not cuts:
        raise DataError(f"{file}: holds no cuts")
    return CutSet.from_cuts(cuts)


def parse_cut(line: str, where: str, folder: Path) -> MonoCut:
    """One line of a manifest, its audio resolved against ``folder``; ``DataError`` names ``where``."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON ({error.msg}); one cut per line is expected") from None
    if not isinstance(row, dict) or row.get("type") != "MonoCut":
        raise DataError(f"{where}: not a MonoCut of Lhotse; plain labels come in through 'sayso data import'")
    try:
        del row["type"]
        cut = MonoCut.from_dict(row)
        source = cut.recording.sources[0]
        source.source = str((folder / audio_path(cut)).absolute())
        to_example(cut)
        written_tree(cut)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, AssertionError) as error:
        raise DataError(f"{where}: not a complete MonoCut ({type(error).__name__}: {error})") from None
    return cut


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a set of cuts holds; counts are of cuts, the intent None counts must-reject cuts under ``(negative)``."""

    n: int
    hours: float
    speakers: int
    intents: dict[str, int]
    sources: dict[str, int]


def summary(cuts: Iterable[MonoCut]) -> Summary:
    """Count what ``sayso data show`` prints."""
    examples = [to_example(cut) for cut in cuts]
    meant = [item.intent or ("(negative)" if item.negative else "(unknown)") for item in examples]
    return Summary(
        n=len(examples),
        hours=sum(item.duration_s or 0.0 for item in examples) / 3600,
        speakers=len({(item.source, item.speaker) for item in examples if item.speaker}),
        intents=dict(Counter(meant).most_common()),
        sources=dict(Counter(item.source or "(unknown)" for item in examples).most_common()),
    )
