"""A bundle is read back as written, and any damage is one message that names the file."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sayso.core.bundle import MANIFEST, Bundle, _own_hash, copy_bundle, read_bundle, write_bundle
from sayso.core.errors import BundleError
from sayso.core.manifest import GraphSpec, IntentSpec, Manifest, PassSpec, StatePair

FILES = {
    "encoder.onnx": bytes(range(256)) * 9,
    "ctc.onnx": b"ctc",
    "tokenizer.model": b"pieces",
    "adapters/anna.safetensors": b"x" * 33,
    "README.md": "# Küche\n".encode(),
}


def make(**changes: Any) -> Manifest:
    encoder = GraphSpec(
        file="encoder.onnx",
        inputs=("x", "lengths"),
        outputs=("out", "out_lengths"),
        states=(
            StatePair(input="keys", output="keys_next", shape=(2, 8, 4)),
            StatePair(input="peak", output="peak_next", shape=(1,), initial=-1e4),
        ),
        optional={"gain": 0.1},
    )
    fields: dict[str, Any] = {
        "name": "test",
        "chunk_ms": 320,
        "left_context_ms": 2560,
        "lookahead_ms": 240,
        "graphs": {"encoder": encoder, "ctc": GraphSpec(file="ctc.onnx", inputs=("x",), outputs=("y",))},
        "passes": (
            PassSpec(name="first", when="chunk", graphs=("encoder", "ctc")),
            PassSpec(name="choose", when="endpoint"),
        ),
        "intents": (IntentSpec(name="lock", risk="confirm", clarify="Lock which door?"), IntentSpec(name="grüßen")),
        "figures": {"acceptance": 0.1 + 0.2, "size": 1e-07},
    }
    return Manifest(**(fields | changes))


@pytest.fixture(params=["b.bundle", "b.zip"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / str(request.param)
    write_bundle(make(), FILES, path)
    return path


def same(bundle: Bundle) -> bool:
    return {name: bundle.file(name) for name in bundle.manifest.files} == FILES


def edit(path: Path, **changes: Any) -> None:
    """Change the manifest of a folder and make its own hash right again, as a forger would."""
    data = json.loads((path / MANIFEST).read_text()) | changes
    data["sha256"] = _own_hash(data)
    (path / MANIFEST).write_text(json.dumps(data))


def test_reads_back_what_was_written(bundle: Path) -> None:
    read = read_bundle(bundle)
    assert same(read)
    assert read.manifest.model_copy(update={"files": {}, "sha256": ""}) == make()
    assert read.size_bytes == sum(map(len, FILES.values()))
    assert [entry.name for entry in bundle.parent.iterdir()] == [bundle.name], "a temporary file was left"


def test_packs_and_unpacks_to_the_same(bundle: Path, tmp_path: Path) -> None:
    first = read_bundle(bundle)
    copy_bundle(first, tmp_path / "x.zip")
    copy_bundle(read_bundle(tmp_path / "x.zip"), tmp_path / "y")
    again = read_bundle(tmp_path / "y")
    assert same(again) and again.manifest == first.manifest


def test_equal_content_gives_equal_zips(tmp_path: Path) -> None:
    write_bundle(make(), FILES, tmp_path / "a.zip")
    write_bundle(make(), FILES, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_found(data: st.DataObject, tmp_path: Path) -> None:
    out = tmp_path / "flip"
    if not out.exists():
        write_bundle(make(), FILES, out)
    name = data.draw(st.sampled_from([*FILES, MANIFEST]))
    content = bytearray((out / name).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if name == MANIFEST and chr(content[place]).isspace():
        return  # white space between JSON tokens carries nothing
    original = bytes(content)
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    (out / name).write_bytes(bytes(content))
    try:
        with pytest.raises(BundleError) as caught:
            read_bundle(out)
        assert name in str(caught.value) or name == MANIFEST
        assert "again" in str(caught.value)
    finally:
        (out / name).write_bytes(original)


def test_truncated_zip(tmp_path: Path) -> None:
    write_bundle(make(), FILES, tmp_path / "a.zip")
    data = (tmp_path / "a.zip").read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 3):
        (tmp_path / "a.zip").write_bytes(data[:size])
        with pytest.raises(BundleError, match=r"a\.zip"):
            read_bundle(tmp_path / "a.zip")


def test_flipped_byte_inside_a_zip(tmp_path: Path) -> None:
    write_bundle(make(), FILES, tmp_path / "a.zip")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(FILES["encoder.onnx"]) + 5] ^= 1
    (tmp_path / "a.zip").write_bytes(bytes(data))
    with pytest.raises(BundleError, match=r"encoder\.onnx.*again"):
        read_bundle(tmp_path / "a.zip")


def test_other_version_is_named_before_anything_else(tmp_path: Path) -> None:
    out = tmp_path / "b"
    write_bundle(make(), FILES, out)
    (out / "encoder.onnx").write_bytes(b"damaged too")
    (out / MANIFEST).write_text('{"format": 2, "what": "no other field is as in format 1"}')
    with pytest.raises(BundleError, match=r"format 2.*reads format 1"):
        read_bundle(out)


def test_missing_graph(tmp_path: Path) -> None:
    out = tmp_path / "b"
    write_bundle(make(), FILES, out)
    (out / "ctc.onnx").unlink()
    with pytest.raises(BundleError, match=r"ctc\.onnx is missing"):
        read_bundle(out)
    with pytest.raises(BundleError, match=r"encoder\.onnx"):
        write_bundle(make(), {n: c for n, c in FILES.items() if n != "encoder.onnx"}, tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "c:secret", "", "a\0b"])
def test_names_that_leave_the_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"s")
    out = tmp_path / "b"
    write_bundle(make(), FILES, out)
    listed = json.loads((out / MANIFEST).read_text())["files"]
    edit(out, files={**listed, name: "0" * 64})
    with pytest.raises(BundleError, match="leads out"):
        read_bundle(out)
    with pytest.raises(BundleError, match="leads out"):
        write_bundle(make(), {**FILES, name: b""}, tmp_path / "c")


def test_zip_slip(tmp_path: Path) -> None:
    write_bundle(make(), FILES, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("../evil", b"x")
    with pytest.raises(BundleError, match="evil"):
        read_bundle(tmp_path / "a.zip")


def test_link_out_of_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "b"
    write_bundle(make(), FILES, out)
    (tmp_path / "outside").write_bytes(FILES["ctc.onnx"])  # even with the right hash
    (out / "ctc.onnx").unlink()
    os.symlink(tmp_path / "outside", out / "ctc.onnx")
    with pytest.raises(BundleError, match=r"ctc\.onnx is a link"):
        read_bundle(out)


def test_only_listed_files_can_be_read(bundle: Path) -> None:
    with pytest.raises(BundleError, match="not in this bundle"):
        read_bundle(bundle).file(MANIFEST)


def test_a_file_that_changes_later_is_not_served(tmp_path: Path) -> None:
    write_bundle(make(), FILES, tmp_path / "b")
    opened = read_bundle(tmp_path / "b")
    (tmp_path / "b" / "ctc.onnx").write_bytes(b"CTC")
    with pytest.raises(BundleError, match=r"ctc\.onnx changed"):
        opened.file("ctc.onnx")


def test_unknown_and_wrong_fields(tmp_path: Path) -> None:
    out = tmp_path / "b"
    write_bundle(make(), FILES, out)
    edit(out, chunkms=3)
    with pytest.raises(BundleError, match="'chunkms' is not a known key; did you mean 'chunk_ms'"):
        read_bundle(out)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff\xfe", b'{"format": 1}'])
def test_manifest_that_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=MANIFEST):
        read_bundle(tmp_path)


def test_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle"):
        read_bundle(tmp_path / "nothing")
    with pytest.raises(BundleError, match="missing"):
        read_bundle(tmp_path)
    (tmp_path / "f.wav").write_bytes(b"RIFF")
    with pytest.raises(BundleError, match="neither a folder nor a zip"):
        read_bundle(tmp_path / "f.wav")


def test_replaces_a_bundle_but_nothing_else(bundle: Path) -> None:
    write_bundle(make(name="second"), FILES, bundle)
    assert read_bundle(bundle).manifest.name == "second"
    other = bundle.parent / "thesis"
    other.mkdir()
    (other / "chapter1.txt").write_text("years of work")
    with pytest.raises(BundleError, match="left alone"):
        write_bundle(make(), FILES, other)
    assert (other / "chapter1.txt").read_text() == "years of work"


def test_a_failure_half_way_leaves_the_old_bundle(bundle: Path) -> None:
    before = io.BytesIO(bundle.read_bytes()).getvalue() if bundle.is_file() else None
    broken: dict[str, Any] = {**FILES, "adapters": b"a file where a folder must be"}
    if bundle.is_dir():
        with pytest.raises(BundleError, match="cannot be written"):
            write_bundle(make(name="broken"), broken, bundle)
    else:
        with pytest.raises(BundleError):
            write_bundle(make(name="broken"), {"encoder.onnx": b""}, bundle)
        assert bundle.read_bytes() == before
    assert same(read_bundle(bundle)) and read_bundle(bundle).manifest.name == "test"
    assert [entry.name for entry in bundle.parent.iterdir()] == [bundle.name]
