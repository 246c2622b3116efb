"""Component settings, the registry built from them, and TOML recipes.

Each component owns a frozen, keyword-only pydantic ``Config`` with a literal ``kind`` and a ``build()``. A family's
registry is one explicit union over ``kind`` (greppable, no decorators). A recipe is a TOML file of such tables;
``key=value`` overrides address it by dotted path. An unknown key is an error that names the nearest legal one.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, TypeAdapter, ValidationError

from sayso.core.errors import ConfigError, nearest

M = TypeVar("M", bound=BaseModel)


class Config(BaseModel):
    """Base of every component's settings: frozen, keyword-only, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def one_of(default: str) -> Discriminator:
    """What tells the members of a union apart, each marked ``Tag(kind)``: its ``kind``, ``default`` where none is said.

    So ``model.predictor.width=128`` needs no ``kind``, and recipes older than the choice stay valid.
    """
    return Discriminator(lambda value: value.get("kind", default) if isinstance(value, dict) else value.kind)


def parse(model: type[M], data: dict[str, Any], *, where: str) -> M:
    """Validate ``data`` as ``model``; every problem becomes one teaching ``ConfigError`` that starts with ``where``."""
    try:
        return TypeAdapter(model).validate_python(data)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(model, problem, where) for problem in error.errors())) from None


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; ``ConfigError`` names the file and the line."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe. Recipes of this checkout are under recipes/") from None
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a recipe ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def override(data: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Apply ``a.b.c=value`` assignments (values are JSON, else plain strings) to a copy of ``data``."""
    result: dict[str, Any] = json.loads(json.dumps(data))
    for assignment in assignments:
        key, separator, raw = assignment.partition("=")
        if not separator or not key:
            raise ConfigError(f"'{assignment}' is not an override; write key=value, for example training.steps=100")
        table = result
        *parents, leaf = key.strip().split(".")
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"override '{assignment}': '{parent}' is a value, not a table")
        try:
            table[leaf] = json.loads(raw)
        except json.JSONDecodeError:
            table[leaf] = raw
    return result


def _explain(model: type[BaseModel], problem: Any, where: str) -> str:
    path = [str(part) for part in problem["loc"]]
    place = f"{where}: '{'.'.join(path)}'" if path else where
    if problem["type"] == "extra_forbidden":
        return f"{place} is not a known key; {nearest(path[-1], _legal(model, path[:-1]))}"
    if problem["type"] == "missing":
        return f"{place} is missing and has no default; add it"
    listed = problem["type"] in ("tuple_type", "list_type")
    shape = ", written [..., ...], texts in it in double quotes" if listed else ""
    return f"{place}: {problem['msg']}{shape} (found {problem.get('input')!r})"


def _legal(model: type[BaseModel], path: list[str]) -> list[str]:
    """Field names legal at ``path``; discriminated unions put the ``kind`` tag into the path, and any member
    answers."""
    candidates: list[type[BaseModel]] = [model]
    for part in path:
        following: list[type[BaseModel]] = []
        for candidate in candidates:
            if part in candidate.model_fields:
                following += _models(candidate.model_fields[part].annotation)
            elif "kind" in candidate.model_fields and part in get_args(candidate.model_fields["kind"].annotation):
                following.append(candidate)
        candidates = following or candidates
    return [name for candidate in candidates for name in candidate.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]
