"""Writing whole files or none: content goes to a temporary name beside its target and is renamed when complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sayso.core.errors import UsageError


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write a file or a folder to; it takes the target's place when the block ends well.

    Otherwise it is removed and the target is as it was. A folder replaces a folder in two renames: in between the old
    one is at ``.NAME.old`` beside it, from where a killed writer's reader can take it.
    """
    fresh = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    _remove(fresh)  # a killed writer's: in a container every run may have the same number
    try:
        yield fresh
        if not fresh.is_dir():
            os.replace(fresh, target)
            return
        old = aside(target)
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(fresh, target)
        except BaseException:
            if old.exists():
                os.replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        _remove(fresh)


def _remove(path: Path) -> None:
    """Whatever is there; where nothing can be written at all, the writer's own error says so."""
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def aside(target: Path) -> Path:
    """Where ``whole`` keeps a folder's old content while the new one moves in."""
    return target.with_name(f".{target.name}.old")


def write_text(path: str | Path, parts: Iterable[str]) -> Path:
    """Write ``parts`` one after another; on any failure the target is as it was. ``UsageError`` when it cannot be
    written.
    """
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{target}: is a folder; name a file to write")
    with whole(target) as fresh:
        try:
            file = fresh.open("w", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{target}: cannot be written ({error.strerror}); name a file in an existing, writable folder"
            ) from None
        with file:
            file.writelines(parts)
    return target
