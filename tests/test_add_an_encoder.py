"""The page that adds an encoder, followed to the letter in a copy of the sources."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "add_an_encoder.md"
FOLLOW = """
import sys
from pathlib import Path
import pytest
code = pytest.main(["-q", "-p", "no:cacheprovider", "-k", "tdnn", "test_encoders.py"])
from sayso.training.run import train
train(Path("tdnn.toml"), sys.argv[1:], Path("run"), print)
sys.exit(code)
"""


def apply(diff: str, text: str) -> str:
    """``text`` with each added line put behind the line before it in the diff."""
    behind = ""
    for line in diff.splitlines():
        if line.startswith("+"):
            assert f"{behind}\n" in text, f"'{behind}' is not in the table's file"
            text = text.replace(f"{behind}\n", f"{behind}\n{line[1:]}\n")
        behind = line[1:]
    return text


def test_an_encoder_is_a_file_and_a_line(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    sf, manifest = pytest.importorskip("soundfile"), pytest.importorskip("sayso.data.manifest")
    source = tmp_path / "src" / "sayso"
    shutil.copytree(ROOT / "src" / "sayso", source, ignore=shutil.ignore_patterns("bundles", "__pycache__"))
    shutil.copy(ROOT / "tests" / "contracts" / "test_encoders.py", tmp_path)
    (code,), (diff,), (recipe,) = (blocks(PAGE, language) for language in ("python", "diff", "toml"))
    named = re.search(r"`src/sayso/(models/encoders/\w+\.py)`:", PAGE.read_text(encoding="utf-8"))
    assert named is not None
    (source / named[1]).write_text(code, encoding="utf-8")
    table = source / "models" / "encoders" / "__init__.py"
    table.write_text(apply(diff, table.read_text(encoding="utf-8")), encoding="utf-8")
    (tmp_path / "tdnn.toml").write_text(recipe, encoding="utf-8")

    rng, cuts = np.random.default_rng(0), []
    data = tmp_path / "runs" / "smoke-data"
    data.mkdir(parents=True)
    for number, text in enumerate(["turn on the lamp", "what is the time", "play some jazz", "open the blue door"]):
        path = data / f"{number}.wav"
        sf.write(path, rng.normal(0, 0.1, 48000).astype(np.float32), 16000)
        cuts.append(manifest.make_cut(f"{number}", path, text))
    manifest.write(cuts, data / "cuts.jsonl.gz")
    small = ["model.vocab=22", "model.encoder.width=16", "training.steps=2", "training.threads=1", "data.processes=1"]
    done = subprocess.run(
        [sys.executable, "-c", FOLLOW, *small],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    model = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert (model["encoder"]["kind"], model["encoder"]["layers"]) == ("tdnn", 6)
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) > 20
