"""STOP (Tomasello et al. 2022, arXiv:2207.10643) and other data in TOP's trees: frames inside the slots of frames.

``[IN:GET_WEATHER [SL:LOCATION [IN:GET_LOCATION [SL:POINT coast ] ] ] ]`` is an intent whose slot is filled by another
intent (Gupta et al. 2018, arXiv:1810.07942); decoupled trees (Aghajanyan et al. 2020) leave out the words between
slots, full ones keep them: both are read. The outermost frame is the flat intent with its slots, whose values are all
words below them; ``frames`` holds every frame, outermost first, and ``tree`` the tree as it is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sayso.core.errors import DataError
from sayso.data.importers.rows import Row, Rows, Tabs, said_in, table

TREES = ("decoupled_normalized_seqlogical", "normalized_seqlogical", "seqlogical")
TEXTS = ("normalized_utterance", "utterance")
MOST_FRAMES = 64


def read_stop(source: Path, audio: Path | None) -> Rows:
    """Rows of ``manifests/train.tsv`` and the like: ``file_id``, an utterance, a tree, and ``domain``, ``gender`` and
    ``native`` where present. ``file_id`` is relative to ``audio`` (default: the folder above ``manifests``)."""
    folder = audio or (source.parent.parent if source.parent.name == "manifests" else source.parent)
    for where, fields in table(source, ("file_id",), Tabs):
        text = next((fields[name] for name in TEXTS if fields.get(name)), None)
        tree = next((fields[name] for name in TREES if fields.get(name)), None)
        if text is None or tree is None or not fields["file_id"]:
            legal = f"'file_id', one of {', '.join(TEXTS)} and one of {', '.join(TREES)}"
            yield DataError(f"{where}: needs {legal}")
            continue
        try:
            frames = parse_frames(tree)
        except DataError as error:
            yield DataError(f"{where}: {error}")
            continue
        for slot in (slot for frame in frames for slot in frame["slots"]):
            slot["text"] = said_in(slot["value"], text)
        row = {
            "audio": _recording(folder, fields["file_id"]),
            "text": text,
            "intent": frames[0]["intent"],
            "slots": frames[0]["slots"],
            "frames": frames,
            "tree": " ".join(tree.replace("]", " ] ").split()),
            "domain": fields.get("domain") or None,
            "gender": fields.get("gender"),
            "accent": {"yes": "native", "no": "non-native"}.get(fields.get("native", ""), fields.get("native")),
        }
        id = f"stop/{Path(fields['file_id']).with_suffix('').as_posix()}"
        yield Row(where=where, id=id, source="stop", folder=folder, fields=row)


@dataclass
class _Open:
    """A bracket that is not closed yet; ``place`` is its frame's number, or its slot's number in its frame."""

    frame: bool
    place: int
    words: list[str] = field(default_factory=list)


def parse_frames(tree: str) -> list[dict[str, Any]]:
    """``[{"intent", "slots": [{"name", "value"}], "parent", "slot"}]`` of a tree, outermost first.

    ``DataError`` where brackets do not match, a slot stands outside an intent, or two trees stand side by side.
    """
    frames: list[dict[str, Any]] = []
    stack: list[_Open] = []
    for token in tree.replace("]", " ] ").split():
        top = stack[-1] if stack else None
        if token.startswith("[IN:") and (top is None or not top.frame) and not (frames and top is None):
            parent = next((item.place for item in reversed(stack) if item.frame), None)
            inside = None if top is None else top.place
            stack.append(_Open(True, len(frames)))
            frames.append({"intent": token[4:], "slots": [], "parent": parent, "slot": inside})
        elif token.startswith("[SL:") and top is not None and top.frame:
            slots = frames[top.place]["slots"]
            stack.append(_Open(False, len(slots)))
            slots.append({"name": token[4:], "value": ""})
        elif token == "]" and top is not None:
            stack.pop()
            if not top.frame:
                frames[stack[-1].place]["slots"][top.place]["value"] = " ".join(top.words)
            if stack:
                stack[-1].words += top.words
        elif not token.startswith("[") and token != "]" and top is not None:
            top.words.append(token)
        else:
            raise DataError(f"'{tree}' is no tree at '{token}'; legal is [IN:… [SL:… words or [IN:… ] ] ]")
        if len(frames) > MOST_FRAMES:
            raise DataError(f"a tree of more than {MOST_FRAMES} intents")
    if stack or not frames:
        raise DataError(f"'{tree}' is no tree: {len(stack)} brackets are open at its end; each [ needs its ]")
    return frames


def _recording(folder: Path, name: str) -> str:
    """Where a file is: some archives have ``eval_0/alarm_eval/1.wav`` for the manifests' ``…/alarm_eval_0/1.wav``."""
    split = name.partition("/")[0]
    other = name.replace(f"_{split}/", f"_{split.removesuffix('_0')}/")
    return other if not (folder / name).is_file() and (folder / other).is_file() else name
