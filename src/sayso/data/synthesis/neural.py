"""What neural voices that read phonemes have in common: words to IPA by the program ``espeak-ng``, and onnxruntime."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]

from sayso.core.errors import SynthesisError
from sayso.data.synthesis.engine import Floats, Voice, call

_PROGRAM = "espeak-ng"


def no_phonemes() -> str | None:
    """None, or how to install the program."""
    return None if shutil.which(_PROGRAM) else "it needs the program espeak-ng for phonemes: apt install espeak-ng"


@functools.lru_cache(maxsize=4096)
def phonemes(text: str, accent: str = "en-us") -> str:
    """IPA with stress marks and spaces between words. Raises ``SynthesisError``."""
    said = call([_PROGRAM, "-v", accent, "-q", "--ipa", "--stdin"], text).decode("utf-8")
    # a command line breaks clauses into lines; the zero-width joiner ties what is one phoneme
    return " ".join(said.split()).replace("\u200d", "")


def load(path: Path) -> Any:
    """The model in ``path`` on one thread: synthesis runs in several processes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: Any, inputs: dict[str, Any], voice: Voice, text: str) -> Floats:
    """The first output as samples (n,). Raises ``SynthesisError``."""
    try:
        return np.asarray(session.run(None, inputs)[0], np.float32).ravel()
    except Exception as error:  # a foreign model may raise anything; one sentence must not end the run
        raise SynthesisError(f"{voice.id}: failed on {text!r}: {error}") from error
