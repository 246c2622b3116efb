"""Speech engines and their voices: found, or skipped with a message that says how to install them.

Which voice may be heard where is a fixed table in the engines' modules, never a setting: ``examples`` (flite slt)
speaks the recordings that ship and is heard nowhere else; ``valid`` (flite rms and two espeak-ng voices whose accent
and variant occur nowhere else) measures and calibrates; ``train`` is the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from sayso.core.errors import SynthesisError, nearest
from sayso.data.synthesis.engine import Engine, Role, Voice
from sayso.data.synthesis.espeak import Espeak
from sayso.data.synthesis.festival import Festival
from sayso.data.synthesis.flite import Flite
from sayso.data.synthesis.hibari import Hibari
from sayso.data.synthesis.kokoro import Kokoro
from sayso.data.synthesis.piper import Piper

__all__ = ["ENGINES", "Engine", "Role", "Voice", "voices"]

ENGINES: dict[str, Engine] = {
    engine.name: engine for engine in (Hibari(), Flite(), Festival(), Piper(), Kokoro(), Espeak())
}

_log = logging.getLogger("sayso.data")


def voices(role: Role | None = None, engines: Iterable[str] | None = None) -> list[Voice]:
    """The voices of ``role`` (None: all) that can speak on this machine, in a fixed order.

    ``engines`` names a selection (None: all). A missing engine is logged and skipped; ``SynthesisError`` when nothing
    is left says what to install, or names the engine that does not exist.
    """
    chosen = list(ENGINES) if engines is None else list(engines)
    found: list[Voice] = []
    missing: list[str] = []
    for name in chosen:
        if name not in ENGINES:
            raise SynthesisError(f"no speech engine '{name}'; {nearest(name, ENGINES)}")
        problem = ENGINES[name].missing()
        if problem:
            missing.append(problem)
            _log.warning("going on without %s: %s", name, problem)
            continue
        found += [voice for voice in ENGINES[name].voices() if role in (None, voice.role)]
    if not found:
        what = "; or ".join(missing) or f"{', '.join(chosen) or 'no engine'} has none, so take another engine"
        raise SynthesisError(f"no voice to speak with{f' for {role}' if role else ''}: {what}")
    return found
