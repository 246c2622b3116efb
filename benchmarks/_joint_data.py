"""What the tables of ``joint.py`` are trained and judged on: a domain's synthetic speech with templates, slot values
and voices held out, and the same with other labels.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from lhotse import MonoCut  # type: ignore[import-untyped]
from lhotse.utils import fastcopy  # type: ignore[import-untyped]

from sayso.build.config import BuildConfig
from sayso.build.speech import SEEN, UNSEEN_TEMPLATES, UNSEEN_VALUES, speak, write_script
from sayso.core.result import Example
from sayso.data import manifest
from sayso.nlu.domain import load_domain
from sayso.training.progress import to_stderr

HELD = (SEEN, UNSEEN_TEMPLATES, UNSEEN_VALUES)  # all by voices that training never hears
Cut = Callable[[MonoCut], MonoCut | None]


def spoken(args: argparse.Namespace, domain: Path, folder: Path) -> dict[str, Path]:
    """Manifests of the domain's speech by kind, made once: ``args.sentences`` to train on, ``args.each`` of each kind
    to judge on."""
    described = load_domain(domain)
    amounts = BuildConfig(
        least_sentences=args.sentences,
        most_sentences=args.sentences,
        seen=args.each,
        unseen_templates=args.each,
        unseen_values=args.each,
        engines=("espeak-ng", "flite"),
        processes=1,
    )
    script = write_script(described, [], [], 1.0, amounts, 0)
    return speak(script, folder, described, amounts, 0, to_stderr)


def examples(manifests: Mapping[str, Path], limit: int | None = None) -> list[Example]:
    """What is held out, of each kind at most ``limit``; ``source`` says of which kind."""
    return [
        manifest.to_example(cut).model_copy(update={"source": kind})
        for kind in HELD
        if kind in manifests
        for cut in list(manifest.read(manifests[kind]))[:limit]
    ]


def relabelled(source: Path, out: Path, change: Cut) -> Path:
    """``source`` with every cut as ``change`` gives it, without those that it gives None for; made once."""
    if not out.exists():
        manifest.write([cut for cut in map(change, manifest.read(source)) if cut is not None], out)
    return out


def with_custom(cut: MonoCut, **fields: object) -> MonoCut:
    """The cut with other ``custom`` fields; a field of None is taken out."""
    (said,) = cut.supervisions
    custom = {name: value for name, value in {**said.custom, **fields}.items() if value is not None}
    return fastcopy(cut, supervisions=[fastcopy(said, custom=custom)])


def share_of(cut: MonoCut) -> float:
    """A number in [0, 1) that is the cut's own: what is below a share is that share of all cuts."""
    return int.from_bytes(hashlib.sha256(str(cut.id).encode()).digest()[:6], "big") / 2**48
