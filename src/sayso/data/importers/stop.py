"""STOP (Tomasello et al. 2022, arXiv:2207.10643) and other data in TOP's trees: frames inside the slots of frames.

``[IN:GET_WEATHER [SL:LOCATION [IN:GET_LOCATION [SL:POINT coast ] ] ] ]`` is an intent whose slot is filled by another
intent (Gupta et al. 2018, arXiv:1810.07942); decoupled trees (Aghajanyan et al. 2020) leave out the words between
slots, full ones keep them: both are read. The outermost frame is the flat intent with its slots, whose values are all
words below them; ``frames`` holds every frame, outermost first, and ``tree`` the tree as it is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sayso.core.errors import DataError
from sayso.data.importers.rows import Row, Rows, Tabs, said_in, table
from sayso.nlu.trees import Tree, read_trees, words

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


def parse_frames(tree: str) -> list[dict[str, Any]]:
    """``[{"intent", "slots": [{"name", "value"}], "parent", "slot"}]`` of a tree, outermost first.

    ``DataError`` where brackets do not match, a slot stands outside an intent, or two trees stand side by side.
    """
    parts = read_trees(" ".join(tree.replace("]", " ] ").split()))
    if len(parts) != 1 or not isinstance(parts[0], Tree):
        raise DataError(f"'{tree}' is no tree; legal is one [IN:… [SL:… words or [IN:… ] ] ]")
    frames: list[dict[str, Any]] = []
    _collect(parts[0], None, None, frames)
    return frames


def _collect(tree: Tree, parent: int | None, slot: int | None, frames: list[dict[str, Any]]) -> None:
    """Add the frame of ``tree`` and all below it."""
    if not tree.is_intent:
        raise DataError(f"no tree: the slot [SL:{tree.name} stands in no intent")
    if len(frames) == MOST_FRAMES:
        raise DataError(f"a tree of more than {MOST_FRAMES} intents")
    number, slots = len(frames), list[dict[str, str]]()
    frames.append({"intent": tree.name, "slots": slots, "parent": parent, "slot": slot})
    for part in tree.parts:
        if isinstance(part, Tree):
            if part.is_intent:
                raise DataError(f"no tree: [IN:{part.name} stands in the intent {tree.name} and in no slot of it")
            slots.append({"name": part.name, "value": " ".join(words([part]))})
            for inner in part.parts:
                if isinstance(inner, Tree):
                    _collect(inner, number, len(slots) - 1, frames)


def _recording(folder: Path, name: str) -> str:
    """Where a file is: some archives have ``eval_0/alarm_eval/1.wav`` for the manifests' ``…/alarm_eval_0/1.wav``."""
    split = name.partition("/")[0]
    other = name.replace(f"_{split}/", f"_{split.removesuffix('_0')}/")
    return other if not (folder / name).is_file() and (folder / other).is_file() else name
