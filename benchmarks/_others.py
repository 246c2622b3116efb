"""Open recognisers on the commands of a domain: PocketSphinx with the closed grammar, Whisper with phrase matching.

Each is a callable from samples to a Result, as ``evaluation.predict.Run`` wants it, and keeps to one core.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from _nearest import Nearest
from _probe import peak_mb
from numpy.typing import NDArray

from sayso.core.automaton import Automaton, Network
from sayso.core.errors import UsageError
from sayso.core.result import Result
from sayso.nlu.cascade import answer
from sayso.nlu.compile import compile_domain
from sayso.nlu.grammar import Alt, Chars, Node, Seq
from sayso.nlu.schema import Domain
from sayso.text.lexicon import PHONES, Lexicon
from sayso.text.normalise import normalise

Floats = NDArray[np.float32]
PROBE = Path(__file__).with_name("_probe.py")
PROMPT_WORDS = 120  # Whisper's prompt holds 224 tokens


class Other:
    """A recogniser whose text is taken for the domain's nearest sentence; nothing is ever refused."""

    def __init__(self, domain: Domain) -> None:
        self._automaton = compile_domain(domain, Words(domain))
        self._nearest = Nearest(self._automaton)

    def __call__(self, samples: Floats, rate: int) -> Result:
        """What ``samples`` (N,) at 16 kHz mean."""
        text = normalise(self.hear(samples))
        return answer([(text, 0.0)], self._nearest(text) if text else [])

    def hear(self, samples: Floats) -> str:
        """The text."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of what was held."""

    @property
    def peak_mb(self) -> float:
        """High-water mark of the memory of the process that recognises."""
        return peak_mb()


class PocketSphinx(Other):
    """Its English model with the domain as a grammar (Huggins-Daines et al. 2006); our lexicon has what its own
    dictionary lacks."""

    def __init__(self, domain: Domain) -> None:
        super().__init__(domain)
        try:
            from pocketsphinx import Config, Decoder
        except ImportError:
            raise UsageError("the closed grammar needs PocketSphinx: pip install pocketsphinx==5.1.1") from None
        wide = {
            "beam": 1e-80,
            "pbeam": 1e-80,
            "wbeam": 1e-60,
            "bestpath": False,
        }  # more right than its defaults, no slower
        self._decoder: Any = Decoder(Config(samprate=16000, loglevel="FATAL", lm=None, **wide))
        lexicon = Lexicon.load()
        for word in (piece.removeprefix("▁") for piece in self._automaton.pieces[2:]):
            if self._decoder.lookup_word(word) is None:
                self._decoder.add_word(word, " ".join(PHONES[phone] for phone in lexicon.pronounce(word)[0]), True)
        network = self._decoder.create_fsg("domain", 0, 1, arcs(self._automaton))
        self._decoder.add_fsg("domain", network)
        self._decoder.activate_search("domain")

    def hear(self, samples: Floats) -> str:
        """The grammar's best sentence; empty where no path survives."""
        self._decoder.start_utt()
        self._decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return "" if found is None else str(found.hypstr)


class Listener:
    """Whisper (Radford et al. 2022), int8 in ``faster-whisper``, beam 5, in a Python of its own; ``weights`` are a
    folder or ``tiny.en``."""

    def __init__(self, python: str, weights: str, prompt: str = "") -> None:
        command = [python, str(PROBE), "listen", weights, prompt]
        self._worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.peak_mb = 0.0
        self(np.zeros(16000, np.float32))

    def __call__(self, samples: Floats) -> tuple[str, float]:
        """The text of ``samples`` (N,) at 16 kHz, and the geometric mean of its tokens' probabilities (0
        where there are none)."""
        into, out = self._worker.stdin, self._worker.stdout
        line = b""
        if into is not None and out is not None and self._worker.poll() is None:
            into.write(len(samples).to_bytes(8, "little") + samples.astype("<f4").tobytes())
            into.flush()
            line = out.readline()
        if not line:
            raise UsageError("the Python with faster_whisper has ended; what it said is above")
        said: dict[str, Any] = json.loads(line)
        self.peak_mb = float(said["peak_mb"])
        return str(said["text"]), float(said.get("confidence", 0.0))

    def close(self) -> None:
        """Let the other Python end."""
        self._worker.communicate()


class Whisper(Other):
    """``Listener``, told the domain's words beforehand."""

    def __init__(self, domain: Domain, python: str, weights: str) -> None:
        super().__init__(domain)
        words = dict.fromkeys(word for spec in domain.lists.values() for text, _ in spec.forms for word in text.split())
        prompt = "Vocabulary: " + ", ".join(list(words)[:PROMPT_WORDS]) + "."
        self._listener = Listener(python, weights, prompt)

    def hear(self, samples: Floats) -> str:
        """The text."""
        return self._listener(samples)[0]

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    @property
    def peak_mb(self) -> float:
        """Of the other Python."""
        return self._listener.peak_mb


class Words:
    """A tokenizer whose tokens are whole words, so that an automaton is a network of words."""

    def __init__(self, domain: Domain) -> None:
        texts = [text for spec in domain.lists.values() for text, _ in spec.forms]
        texts += [text for template in domain.templates for text in _texts(template.tree)]
        words = sorted({word for text in texts for word in normalise(text).split()})
        self.pieces = ("", "", *(f"▁{word}" for word in words))
        self.sha256 = hashlib.sha256(" ".join(words).encode()).hexdigest()
        self._ids = {word: number for number, word in enumerate(words, 2)}

    def encode(self, text: str) -> list[int]:
        """A token a word; 1 for what the domain never says."""
        return [self._ids.get(word, 1) for word in text.split()]


def arcs(automaton: Automaton) -> list[tuple[int, int, float] | tuple[int, int, float, str]]:
    """A network of words as arcs (from, to, probability, word; no word: nothing is said) from state 0 to state 1.

    Behind node n of the main network is state n + 2; every place where a list is called has states of its own.
    """
    found: list[tuple[int, int, float] | tuple[int, int, float, str]] = []
    free = 2 + automaton.main.nodes

    def lay(network: Network, start: int, first: int, leave: int) -> None:
        nonlocal free
        into: dict[int, list[int]] = {int(node): [start] for node in network.entry}
        for node in range(network.nodes):
            for after in network.succ[network.succ_ptr[node] : network.succ_ptr[node + 1]]:
                into.setdefault(int(after), []).append(first + node)
        for node, sources in into.items():
            token = int(network.token[node])
            if token < 0:
                spoken = automaton.lists[automaton.calls[int(network.call[node])].list or ""].network
                begin, inner, free = free, free + 1, free + 1 + spoken.nodes
                found.extend((source, begin, 1.0) for source in sources)
                lay(spoken, begin, inner, first + node)
            else:
                word = automaton.pieces[token].removeprefix("▁")
                found.extend((source, first + node, 1.0, word) for source in sources)
            if network.final_ptr[node + 1] > network.final_ptr[node]:
                found.append((first + node, leave, 1.0))

    lay(automaton.main, 0, 2, 1)
    return found


def _texts(node: Node) -> Iterator[str]:
    if isinstance(node, Chars):
        yield node.text
    for child in node.parts if isinstance(node, Seq) else node.options if isinstance(node, Alt) else ():
        yield from _texts(child)
