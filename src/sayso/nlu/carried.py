"""The domain file that a bundle carries: what it was compiled from, so that it can be changed and compiled again.

A change is made in the YAML's node tree, so that words such as ``on`` stay words; comments in a changed file are lost.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import yaml  # type: ignore[import-untyped]

from sayso.core.errors import DomainError
from sayso.nlu.domain import files_of, load_domain
from sayso.nlu.schema import Domain

FOLDER = "domain"
Files = dict[str, bytes]  # by name in the bundle
Values = Sequence[str | tuple[str, str]]  # as spoken, or (spoken, out)


def carry(path: Path) -> tuple[str, Files]:
    """The name under which a bundle keeps the domain at ``path`` (a file, or a folder), and its files."""
    path = path.resolve()
    source = f"{FOLDER}/{path.name}"
    place = source if path.is_dir() else FOLDER
    try:
        return source, {f"{place}/{file.name}": file.read_bytes() for file in files_of(path)}
    except OSError as error:
        raise DomainError(
            f"cannot be read ({error.strerror}); give a domain file or a folder", file=str(path)
        ) from None


def read_carried(source: str, files: Mapping[str, bytes]) -> Domain:
    """The domain of carried files. Raises ``DomainError``, which names places as the bundle does."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        try:
            return load_domain(Path(folder) / source)
        except DomainError as error:
            raise DomainError(str(error).replace(f"{folder}/", "")) from None


def with_list(source: str, files: Mapping[str, bytes], name: str, values: Values) -> Files:
    """The files with the values of a list that is there replaced; ``DomainError`` where there is none of that name."""
    for file, content in files.items():
        top = _compose(content, file)
        lists = _get(top, "lists")
        if isinstance(lists, yaml.MappingNode) and _get(lists, name) is not None:
            given = [value if isinstance(value, str) else {"in": value[0], "out": value[1]} for value in values]
            _set(lists, name, _node({"values": given}))
            return {**files, file: _text(top)}
    raise DomainError(f"{source} has no list '{name}'; a new one comes with the sentences that use it: give a domain")


def with_sentences(source: str, files: Mapping[str, bytes], intent: str, sentences: Sequence[str]) -> Files:
    """The files with more sentences of an intent, which may be a new one."""
    tops = {file: _compose(content, file) for file, content in files.items()}
    for file, top in tops.items():
        intents = _get(top, "intents")
        there = _get(intents, intent) if isinstance(intents, yaml.MappingNode) else None
        data = _get(there, "data") if isinstance(there, yaml.MappingNode) else None
        if isinstance(data, yaml.SequenceNode):
            data.value.append(_node({"sentences": list(sentences)}))
            return {**files, file: _text(top)}
    file = _main(source, files)
    intents = _get(tops[file], "intents")
    if not isinstance(intents, yaml.MappingNode):
        intents = _node({})
        _set(tops[file], "intents", intents)
    _set(intents, intent, _node({"data": [{"sentences": list(sentences)}]}))
    return {**files, file: _text(tops[file])}


def _main(source: str, files: Mapping[str, bytes]) -> str:
    """Where something new is written: the file of the domain, the first of a folder."""
    return source if source in files else min(files, key=lambda name: PurePosixPath(name).name)


def _compose(content: bytes, file: str) -> yaml.MappingNode:
    try:
        node = yaml.compose(content.decode(), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DomainError(f"not valid YAML: {error}", file=file) from None
    if not isinstance(node, yaml.MappingNode):
        raise DomainError("a domain file is a mapping with 'intents:'", file=file)
    return node


def _node(value: object) -> yaml.Node:
    return yaml.compose(yaml.safe_dump(value, allow_unicode=True, sort_keys=False), Loader=yaml.SafeLoader)


def _text(node: yaml.Node) -> bytes:
    return str(yaml.serialize(node, Dumper=yaml.SafeDumper, allow_unicode=True, width=120)).encode()


def _get(table: yaml.Node, key: str) -> yaml.Node | None:
    if not isinstance(table, yaml.MappingNode):
        return None
    return next((value for name, value in table.value if getattr(name, "value", None) == key), None)


def _set(table: yaml.MappingNode, key: str, value: yaml.Node) -> None:
    kept = [(k, value if getattr(k, "value", None) == key else v) for k, v in table.value]
    if _get(table, key) is None:
        kept.append((_node(key), value))
    table.value = kept
