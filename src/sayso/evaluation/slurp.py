"""SLURP's scorer on SLURP's own files (Bastianelli et al. 2020, arXiv:2011.13205; its ``scripts/evaluation``).

Gold is the release (``test.jsonl``: ``slurp_id``, ``scenario``, ``action``, ``tokens``, ``entities`` that name tokens,
``recordings``); predictions are lines of ``scenario``, ``action``, ``entities`` (``[{"type", "filler"}]``) and
``file``, the name of a recording, or ``slurp_id`` where gold transcripts were read (the script's ``--load-gold``).

What the official script does may surprise, and this does the same:

- Gold without a prediction is in no figure (it is not counted as missed), and neither is a prediction without gold.
  Both are counted here as ``not_predicted`` and ``unknown``.
- A name that occurs twice counts once: the later line.
- The words of a gold entity are lower-cased, those of a prediction are not: ``Friday`` is not ``friday``. A gold entity
  without a type is ``unknown``.
- The intent is ``scenario_action``; the release's field ``intent``, which sometimes differs, is not read.
- Scenario, action and intent are micro F1 of one label an utterance, which is accuracy.
- Entities take their partners greedily, in the order written (``metrics.distance_counts``); SLU-F1 is the F1 of the
  word and character counts summed over all utterances, not a mean of the two.

It compares entities as whole objects, so that one with any third key would never be exact; here that is an error. Where
nothing was counted it prints 0 and this gives None.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sayso.core.errors import DataError
from sayso.core.result import Slot
from sayso.evaluation.bootstrap import BootstrapConfig, ratio
from sayso.evaluation.evaluate import Figures, f1
from sayso.evaluation.examples import json_rows
from sayso.evaluation.metrics import distance_counts, slot_counts, slu_counts


class Meaning(NamedTuple):
    """What one utterance means in SLURP's terms; an entity's type is its slot's name."""

    scenario: str
    action: str
    entities: tuple[Slot, ...]

    @property
    def intent(self) -> str:
        """``scenario_action``."""
        return f"{self.scenario}_{self.action}"


def score_files(gold: str | Path, predictions: str | Path, bootstrap: BootstrapConfig | None = None) -> Figures:
    """``score`` of two files; ``DataError`` where a line is none of SLURP's or no prediction has gold."""
    predicted, key = read_predictions(predictions)
    expected = read_gold(gold, key=key)
    if not predicted.keys() & expected.keys():
        raise DataError(
            f"{predictions}: no '{key}' is one of {gold}: it has '{next(iter(predicted), '')}', "
            f"the gold has '{next(iter(expected), '')}'; names must be equal, endings too"
        )
    return score(expected, predicted, bootstrap)


def score(
    gold: Mapping[str, Meaning], predictions: Mapping[str, Meaning], bootstrap: BootstrapConfig | None = None
) -> Figures:
    """Counts and figures with intervals over what is in both: accuracies, exact entity F1, word, char and SLU-F1."""
    pairs = [(meaning, predictions[name]) for name, meaning in gold.items() if name in predictions]
    ones = [1] * len(pairs)
    entities = [(expected.entities, got.entities) for expected, got in pairs]
    return {
        "n": len(pairs),
        "not_predicted": len(gold) - len(pairs),
        "unknown": len(predictions) - len(pairs),
        "scenario_accuracy": ratio([expected.scenario == got.scenario for expected, got in pairs], ones, bootstrap),
        "action_accuracy": ratio([expected.action == got.action for expected, got in pairs], ones, bootstrap),
        "intent_accuracy": ratio([expected.intent == got.intent for expected, got in pairs], ones, bootstrap),
        "entity_f1": f1([slot_counts(*pair) for pair in entities], bootstrap),
        "word_f1": f1([distance_counts(*pair, "word") for pair in entities], bootstrap),
        "char_f1": f1([distance_counts(*pair, "char") for pair in entities], bootstrap),
        "slu_f1": f1([slu_counts(*pair) for pair in entities], bootstrap),
    }


def read_gold(path: str | Path, *, key: str = "file") -> dict[str, Meaning]:
    """The release by name of recording (``file``) or by ``slurp_id``."""
    result: dict[str, Meaning] = {}
    for line, row in json_rows(Path(path)):
        where = f"{path}:{line}"
        surfaces = [_string(token, "surface", f"{where}: tokens") for token in _objects(row, "tokens", where)]
        entities = tuple(
            Slot(name=str(item.get("type", "unknown")), value=_filler(item, surfaces, f"{where}: entities[{index}]"))
            for index, item in enumerate(_objects(row, "entities", where))
        )
        meaning = Meaning(_string(row, "scenario", where), _string(row, "action", where), entities)
        if key == "slurp_id":
            result[_string(row, key, where)] = meaning
        else:
            result.update({_string(item, "file", where): meaning for item in _objects(row, "recordings", where)})
    return result


def read_predictions(path: str | Path) -> tuple[dict[str, Meaning], str]:
    """Predictions by name and the key that names them, which is the first line's: ``file``, else ``slurp_id``."""
    result: dict[str, Meaning] = {}
    key = ""
    for line, row in json_rows(Path(path)):
        where = f"{path}:{line}"
        key = key or ("file" if "file" in row else "slurp_id")
        entities = []
        for index, item in enumerate(_objects(row, "entities", where)):
            place = f"{where}: entities[{index}]"
            if item.keys() - {"type", "filler"}:
                raise DataError(f"{place}: keys are 'type' and 'filler', found {', '.join(item)}; leave the others out")
            entities.append(Slot(name=_string(item, "type", place), value=_string(item, "filler", place)))
        meaning = Meaning(_string(row, "scenario", where), _string(row, "action", where), tuple(entities))
        result[_string(row, key, where)] = meaning
    if not result:
        raise DataError(f"{path}: holds no predictions; a line is an object with file, scenario, action and entities")
    return result, key


def _filler(entity: dict[str, Any], surfaces: list[str], where: str) -> str:
    span = entity.get("span")
    if not isinstance(span, list) or not all(type(item) is int and 0 <= item < len(surfaces) for item in span):
        raise DataError(f"{where}: 'span' must list tokens, 0 to {len(surfaces) - 1}; found {span!r}")
    return " ".join(surfaces[item].lower() for item in span)


def _string(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if isinstance(value, str) or (key == "slurp_id" and type(value) is int):
        return str(value)
    raise DataError(f"{where}: '{key}' must be a string, found {value!r}")


def _objects(row: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    value = row.get(key)
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return value
    raise DataError(f"{where}: '{key}' must be a list of objects, found {value!r}")
