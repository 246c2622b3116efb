"""The microphone: blocks where there is one, one clear message where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from sayso.audio import microphone
from sayso.core.errors import AudioError, MissingExtra


def test_blocks_or_a_message_that_says_what_to_do() -> None:
    recording = microphone.record(16000, block_s=0.05)
    try:
        block = next(recording)
    except AudioError as error:
        assert str(error).startswith("microphone: found no ")
        assert "legal" in str(error)
        assert "apt-get install libportaudio2" in str(error) or "sayso understand" in str(error)
    except MissingExtra as error:
        assert "sayso[mic]" in str(error)
    else:
        assert block.dtype == np.float32
        assert block.ndim == 1
        assert np.abs(block).max(initial=0) <= 1
    finally:
        recording.close()


def test_a_package_that_is_not_there_names_its_extra() -> None:
    with pytest.raises(MissingExtra, match=r"sayso\[mic\]"):
        microphone.require("no_such_package_here", extra="mic", purpose="the microphone")
