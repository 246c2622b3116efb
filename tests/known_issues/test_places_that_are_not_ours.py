"""A new user's finds of 2026-11-30: builds wrote over somebody's file and out of their folder, and took settings in
vain."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from sayso.build.config import BuildConfig
from sayso.build.line import build
from sayso.core.bundle import MANIFEST, check_target, read_bundle
from sayso.core.config import override, parse
from sayso.core.errors import BundleError, ConfigError, DomainError
from sayso.nlu.domain import parse_domain


def test_a_zip_that_is_no_bundle_is_left_alone(tmp_path: Path) -> None:
    photos = tmp_path / "photos.zip"
    photos.write_text("my holiday")
    with pytest.raises(BundleError, match=r"photos.zip: a file that is not a whole bundle stands here"):
        check_target(photos)
    with zipfile.ZipFile(photos, "w") as archive:
        archive.writestr("beach.jpg", "sand")
    with pytest.raises(BundleError, match="left alone"):
        check_target(photos)
    with zipfile.ZipFile(photos, "a") as archive:
        archive.writestr(MANIFEST, "{}")
    check_target(photos)
    check_target(tmp_path / "free.zip")


def test_a_bundle_cut_off_says_what_may_have_happened(tmp_path: Path) -> None:
    (tmp_path / "half.zip").write_bytes(b"PK\x03\x04 and no end")
    with pytest.raises(BundleError, match="copy or export the bundle again"):
        read_bundle(tmp_path / "half.zip")


@pytest.mark.parametrize("name", ["../../evil", "a/b", ".hidden", "a\\b", ""])
def test_a_domain_is_not_named_like_a_path(name: str) -> None:
    text = f"intents: {{stop: {{data: [{{sentences: [stop]}}]}}}}\nsayso:\n  name: '{name}'\n"
    with pytest.raises(DomainError, match=r"domain:3: .*name"):
        parse_domain(text)


def test_a_folder_where_the_report_goes_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "d.bundle.html").mkdir()
    with pytest.raises(BundleError, match=r"d.bundle.html: a folder stands where the report goes"):
        build(tmp_path / "no.yaml", tmp_path / "d.bundle")
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="a file is in the way"):
        build(tmp_path / "no.yaml", tmp_path / "file" / "d.bundle")


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("training.minutes=9", "give --minutes"),
        ("training.seed=3", "give --seed"),
        ("engines=espeak-ng", r"written \[..., ...\], texts in it in double quotes"),
    ],
)
def test_settings_are_not_taken_in_vain(setting: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        parse(BuildConfig, override(BuildConfig().model_dump(mode="json"), [setting]), where="sayso build")
