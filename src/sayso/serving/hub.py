"""The bundles that are served, and how one is exchanged while people speak.

An edition is one state of one bundle. It is verified (every hash), copied, loaded by every engine and run warm before
anybody is sent there; then new streams go to it, and the old one is dropped once its last stream has ended. A bundle
that fails anywhere on this way changes nothing. Engines load from the copy: a file that changes underneath cannot reach
them, and one that is restarted gets what the others have.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sayso.core.bundle import copy_bundle, read_bundle, resolve
from sayso.core.errors import BundleError, nearest
from sayso.core.manifest import Manifest
from sayso.serving.pool import Pool
from sayso.serving.refusal import Refusal


@dataclass(eq=False)
class Edition:
    """One state of one bundle; ``users`` are streams that run on it."""

    number: int
    name: str
    manifest: Manifest
    folder: Path
    users: int = field(default=0)

    @property
    def revision(self) -> str:
        """The beginning of the manifest's hash: what metrics and records call the version."""
        return self.manifest.sha256[:12]


class Hub:
    """Bundles by name; the first is the default. ``bundles`` maps names to places."""

    def __init__(self, bundles: Mapping[str, str], pool: Pool) -> None:
        self._places, self._pool = dict(bundles), pool
        self._current: dict[str, Edition] = {}
        self._numbers = itertools.count(1)
        self._copies = Path(tempfile.mkdtemp(prefix="sayso-serve-"))
        self._changing = asyncio.Lock()

    @property
    def editions(self) -> list[Edition]:
        """What new streams get, in the order of the configuration."""
        return [self._current[name] for name in self._places if name in self._current]

    async def open(self) -> None:
        """Load all bundles. Raises ``BundleError``."""
        for name in self._places:
            await self.reload(name)

    def close(self) -> None:
        """Remove the copies."""
        shutil.rmtree(self._copies, ignore_errors=True)

    def find(self, name: str | None, language: str | None = None) -> Edition:
        """By name; without one, the first that knows the language, else the first. ``Refusal`` says what there is."""
        if name is not None and name not in self._current:
            raise Refusal("not_found", f"there is no bundle '{name[:40]}'; {nearest(name[:40], self._current)}")
        found = [self._current[name]] if name is not None else self.editions
        if language is None:
            return found[0]
        for edition in found:
            if _base(language) in [_base(known) for known in edition.manifest.languages]:
                return edition
        known = sorted({known for edition in found for known in edition.manifest.languages})
        raise Refusal("bad_request", f"no bundle for language '{language[:40]}'; legal: {', '.join(known)}")

    def enter(self, edition: Edition) -> None:
        """A stream begins on this edition."""
        edition.users += 1

    def leave(self, edition: Edition) -> None:
        """A stream has ended; the last one of an old edition takes it along."""
        edition.users -= 1
        if self._current.get(edition.name) is not edition and edition.users == 0:
            self._remove(edition)

    async def reload(self, name: str) -> Edition:
        """Verify, copy, load, run warm, switch. Raises ``BundleError``, and then the old edition goes on."""
        if name not in self._places:
            raise Refusal("not_found", f"there is no bundle '{name[:40]}'; {nearest(name[:40], self._places)}")
        async with self._changing:
            number = next(self._numbers)
            folder = self._copies / str(number)
            try:
                manifest = await asyncio.to_thread(_copy, self._places[name], folder)
                await self._pool.load(number, folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            old = self._current.get(name)
            self._current[name] = Edition(number, name, manifest, folder)
            if old is not None and old.users == 0:
                self._remove(old)
            return self._current[name]

    def _remove(self, edition: Edition) -> None:
        self._pool.drop(edition.number)
        shutil.rmtree(edition.folder, ignore_errors=True)


def _copy(place: str, folder: Path) -> Manifest:
    """A verified copy; the manifest as it is in its place."""
    try:
        bundle = read_bundle(resolve(place))
        copy_bundle(bundle, folder)
        return bundle.manifest
    except OSError as error:
        raise BundleError(f"{place}: cannot be read or copied ({error.strerror})") from None


def _base(language: str) -> str:
    return language.replace("_", "-").split("-")[0].lower()
