"""The bundle: a folder, or one zip, that holds a whole model; read with suspicion, written all at once.

Reading checks the format version, then the sha256 of the manifest and of every file, and only then parses anything; a
name that would leave the folder is refused wherever it stands. A zip is read in place, never unpacked. Writing goes to
a temporary name beside the target and ends in a rename, so that a killed export leaves the old bundle or none.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from sayso.core.config import parse
from sayso.core.errors import BundleError, ConfigError
from sayso.core.files import whole
from sayso.core.manifest import FORMAT, WRITERS, Manifest

MANIFEST = "bundle.json"
BUNDLED = "home"
_LARGEST_MANIFEST = 4 << 20
_BLOCK = 1 << 20
_REMEDY = "copy or export the bundle again"


class Bundle:
    """A verified bundle. Only files that the manifest lists, and whose hashes matched, can be read through it."""

    def __init__(self, manifest: Manifest, source: _Source, where: str) -> None:
        self.manifest, self.where = manifest, where
        self._source = source

    def file(self, name: str) -> bytes:
        """Content of one listed file; ``BundleError`` where it is not listed or has changed since it was verified."""
        if name not in self.manifest.files:
            raise BundleError(
                f"{self.where}: '{name}' is not in this bundle. It has: {', '.join(sorted(self.manifest.files))}"
            )
        with self._source.open(name) as stream:
            data = stream.read()
        if hashlib.sha256(data).hexdigest() != self.manifest.files[name]:
            raise BundleError(f"{self.where}: {name} changed while the bundle was open; load it again")
        return data

    def manifest_text(self) -> bytes:
        """``bundle.json`` as it stands."""
        with self._source.open(MANIFEST) as stream:
            return stream.read()

    @property
    def size_bytes(self) -> int:
        """All listed files together."""
        return sum(self._source.size(name) for name in self.manifest.files)


def read_bundle(path: Path | str) -> Bundle:
    """Open and verify a bundle (folder or zip). Raises ``BundleError`` that names the file and the remedy."""
    path = Path(path)
    source = _open(path)
    data = _manifest(source, path)
    files = data.get("files")
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        raise BundleError(f"{path}: {MANIFEST} has no table 'files' of hashes; {_REMEDY}")
    for name, digest in files.items():
        _check_name(name, path)
        _verify(source, name, digest, path)
    try:
        manifest = parse(Manifest, data, where=f"{path}/{MANIFEST}")
    except ConfigError as error:
        raise BundleError(f"{error}\n{_REMEDY}") from None
    _complete(manifest, path)
    return Bundle(manifest, source, str(path))


def resolve(path: Path | str) -> Path:
    """The place of a bundle; the word ``home`` means the bundled one (``./home`` a folder of that name)."""
    if str(path) != BUNDLED:
        return Path(path)
    folder = Path(str(resources.files("sayso"))) / "bundles"
    for place in (folder / BUNDLED, folder / f"{BUNDLED}.zip"):
        if place.exists():
            return place
    raise BundleError(
        f"the bundled model '{BUNDLED}' is not in this installation; install a released wheel, "
        "or make one: sayso build domains/home.yaml --out home.bundle"
    )


def write_bundle(manifest: Manifest, files: Mapping[str, bytes], out: Path | str) -> Manifest:
    """Write ``files`` and the manifest (hashes filled in) as folder ``out``, or as a zip where it ends in ``.zip``.

    An existing bundle is replaced at the very end. Raises ``BundleError`` where ``out`` is something else than a
    bundle, or the manifest names a file that is not given. Returns the manifest as written.
    """
    out = Path(out)
    for name in files:
        _check_name(name, out)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    manifest = manifest.model_copy(update={"files": hashes, "sha256": ""})
    manifest = manifest.model_copy(update={"sha256": _own_hash(manifest.model_dump(mode="json"))})
    _complete(manifest, out)
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    write_verbatim(text.encode(), files, out)
    return manifest


def write_verbatim(manifest: bytes, files: Mapping[str, bytes], out: Path | str) -> None:
    """Write a manifest's text and its ``files`` as they are, as ``write_bundle`` does in the end; the same errors."""
    out = Path(out)
    contents = {MANIFEST: manifest, **dict(sorted(files.items()))}
    check_target(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".zip":
            _write_zip(contents, out)
        else:
            _write_folder(contents, out)
    except OSError as error:
        raise BundleError(f"{out}: cannot be written ({error.strerror}); choose another place for the bundle") from None


def copy_bundle(bundle: Bundle, out: Path | str) -> Manifest:
    """The same bundle elsewhere: packs where ``out`` ends in ``.zip``, else unpacks."""
    return write_bundle(bundle.manifest, {name: bundle.file(name) for name in bundle.manifest.files}, out)


class _Source(Protocol):
    """Where the files of a bundle lie."""

    def open(self, name: str) -> BinaryIO: ...

    def size(self, name: str) -> int: ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str) -> BinaryIO:
        return self._inside(name).open("rb")

    def size(self, name: str) -> int:
        return self._inside(name).stat().st_size

    def _inside(self, name: str) -> Path:
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root.resolve()):
            raise BundleError(f"{self._root}: {name} is a link that leads out of the bundle; {_REMEDY}")
        return path


class _Zip:
    """The archive stays in the file system; every read opens it anew, so that threads do not share a file position."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        for name in names:
            _check_name(name.rstrip("/"), path)
        if len(set(names)) != len(names):
            raise BundleError(f"{path}: the archive holds a name twice; {_REMEDY}")

    def open(self, name: str) -> BinaryIO:
        with zipfile.ZipFile(self._path) as archive:
            try:
                return io.BytesIO(archive.read(name))
            except KeyError:
                raise FileNotFoundError(name) from None
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
                raise BundleError(f"{self._path}: {name} is damaged ({error}); {_REMEDY}") from None

    def size(self, name: str) -> int:
        with zipfile.ZipFile(self._path) as archive:
            return archive.getinfo(name).file_size


def _open(path: Path) -> _Source:
    if path.is_dir():
        return _Folder(path)
    if not path.exists():
        raise BundleError(
            f"{path}: no such bundle. Give a folder or zip made by 'sayso build' or 'sayso export', or 'home'"
        )
    try:
        return _Zip(path)
    except PermissionError:
        raise BundleError(f"{path}: no permission to read it") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise BundleError(
            f"{path}: neither a folder nor a zip ({error}); a bundle is one of the two. Where it was one, {_REMEDY}"
        ) from None


def _manifest(source: _Source, path: Path) -> dict[str, Any]:
    """The raw manifest, once its version and its own hash are right."""
    try:
        with source.open(MANIFEST) as stream:
            text = stream.read(_LARGEST_MANIFEST)
    except FileNotFoundError:
        raise BundleError(
            f"{path}: not a bundle, {MANIFEST} is missing; make one with 'sayso build' or 'sayso export'"
        ) from None
    except OSError as error:
        raise BundleError(f"{path}/{MANIFEST}: cannot be read ({error.strerror})") from None
    try:
        data = json.loads(text)
    except ValueError:
        raise BundleError(f"{path}/{MANIFEST}: damaged, not JSON; {_REMEDY}") from None
    if not isinstance(data, dict) or "format" not in data:
        raise BundleError(f"{path}/{MANIFEST}: no 'format' version in it; {_REMEDY}")
    if data["format"] != FORMAT:
        raise BundleError(
            f"{path}/{MANIFEST}: bundle format {data['format']!r}, this version of Sayso reads format {FORMAT}; "
            "export the bundle again with this version, or install the version that made it"
        )
    if data.get("sha256") != _own_hash(data):
        raise BundleError(f"{path}/{MANIFEST}: damaged or edited, its own sha256 does not match; {_REMEDY}")
    return data


def _own_hash(data: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in data.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _check_name(name: str, path: Path) -> None:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
        raise BundleError(
            f"{path}: the file name {name!r} leads out of the bundle; only plain relative names are allowed"
        )


def _verify(source: _Source, name: str, digest: str, path: Path) -> None:
    found = hashlib.sha256()
    try:
        with source.open(name) as stream:
            while block := stream.read(_BLOCK):
                found.update(block)
    except FileNotFoundError:
        raise BundleError(f"{path}: {name} is missing; {_REMEDY}") from None
    except OSError as error:
        raise BundleError(f"{path}/{name}: cannot be read ({error.strerror}); {_REMEDY}") from None
    if found.hexdigest() != digest:
        raise BundleError(f"{path}: {name} is damaged, its sha256 does not match {MANIFEST}; {_REMEDY}")


def _complete(manifest: Manifest, path: Path) -> None:
    """Every file that the manifest relies on is listed, and every pass has its graphs."""
    needed = {f"graph '{role}'": spec.file for role, spec in manifest.graphs.items()}
    needed["tokenizer"] = manifest.tokenizer
    needed |= {f"compiled domain ({name})": name for name in manifest.automaton}
    if manifest.calibration is not None:
        needed["calibration"] = manifest.calibration
    if manifest.open_slots.get("file"):
        needed["model of open slots"] = str(manifest.open_slots["file"])
    for what, name in needed.items():
        if name not in manifest.files:
            raise BundleError(f"{path}: the {what} needs the file {name}, which is missing; {_REMEDY}")
    if manifest.private and (writers := sorted(set(WRITERS) & set(manifest.graphs))):
        raise BundleError(f"{path}: is private, and holds what can write words: {', '.join(writers)}; {_REMEDY}")
    for role in ("encoder",) if manifest.private else ("encoder", "ctc"):
        if role not in manifest.graphs:
            raise BundleError(f"{path}: the graph '{role}' is missing and nothing runs without it; {_REMEDY}")
    for step in manifest.passes:
        if absent := sorted(set(step.graphs) - set(manifest.graphs)):
            raise BundleError(
                f"{path}: pass '{step.name}' uses graphs that are missing: {', '.join(absent)}; {_REMEDY}"
            )


def check_target(out: Path) -> None:
    """``BundleError`` where something that is not a bundle stands at ``out``; for whoever works long before writing."""
    zipped = out.suffix == ".zip"
    if zipped and out.is_dir():
        raise BundleError(f"{out}: is a folder; a zipped bundle needs a file name that is free, or a bundle to replace")
    if zipped and out.exists():
        try:
            with zipfile.ZipFile(out) as archive:
                held = archive.namelist()
        except (zipfile.BadZipFile, OSError):
            held = []
        if MANIFEST not in held:
            raise BundleError(
                f"{out}: a file that is not a whole bundle stands here; it is left alone. Choose another name"
            )
    if not zipped and out.exists() and not out.is_dir():
        raise BundleError(f"{out}: is a file; give a folder name, or one that ends in .zip")
    if not zipped and out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise BundleError(
            f"{out}: a folder that is not a bundle stands here; it is left alone. Choose another name for the bundle"
        )


def _write_zip(contents: Mapping[str, bytes], out: Path) -> None:
    with whole(out) as fresh, zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():  # a fixed date: equal content gives equal bytes
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)


def _write_folder(contents: Mapping[str, bytes], out: Path) -> None:
    with whole(out) as fresh:
        for name, content in contents.items():
            target = fresh / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
