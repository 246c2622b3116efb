"""What takes long: ten thousand utterances. ``make soak``; SAYSO_SOAK sets how many."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import numpy as np
import pytest
from live_service import Server, pcm16, serving, timeless
from numpy.typing import NDArray

from sayso.core.result import Result

pytestmark = pytest.mark.soak
UTTERANCES, AT_ONCE = int(os.environ.get("SAYSO_SOAK", "10000")), 16
MOST_GROWTH = 1.1  # of resident memory from the first fifth to the end


def memory_mb(server: Server) -> float:
    """Of the engines, and of this process, which holds the service."""
    numbers = [os.getpid(), *(engine.pid for engine in server.running.service.pool.engines if engine.pid)]
    pages = sum(int(Path(f"/proc/{number}/statm").read_text().split()[1]) for number in numbers)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_everybody_gets_their_own_and_memory_stays(
    speech: dict[str, NDArray[np.float32]], truth: dict[str, Result]
) -> None:
    sounds = {name: pcm16(samples) for name, samples in speech.items()}
    with serving(engines=2) as server:
        sizes: list[float] = []

        async def person(number: int) -> int:
            dice, wrong = random.Random(number), 0
            async with server.client().connect() as connection:
                for _ in range(UTTERANCES // AT_ONCE):
                    name = dice.choice(list(sounds))
                    stream = await connection.start(partials=dice.random() < 0.5)
                    for start in range(0, len(sounds[name]), 6400):
                        await stream.send(sounds[name][start : start + 6400])
                    await stream.end()
                    result = await stream.result()
                    wrong += result.text != truth[name].text or timeless(result).slots != truth[name].slots
                    if number == 0:
                        sizes.append(memory_mb(server))
            return wrong

        async def crowd() -> list[int]:
            return await asyncio.gather(*(person(number) for number in range(AT_ONCE)))

        assert sum(asyncio.run(crowd())) == 0
        assert sizes[-1] < MOST_GROWTH * sizes[len(sizes) // 5]
