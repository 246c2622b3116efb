"""Draws ``docs/stream.svg``: what ``sayso understand --stream`` knows of one recording while it is heard.

    python benchmarks/picture.py [--bundle B] [--audio FILE] [--out docs/stream.svg]

The recording goes through a stream in packets, exactly as the command does; each change of the partial result is a
line, placed at the time on the clock of the audio when it appeared, stable words dark and words that may still change
pale. Below stands the final result. The picture is written by hand as SVG: no library, small, and it follows the
reader's light or dark setting.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from _lines import ROOT
from numpy.typing import NDArray

from sayso.audio import decode
from sayso.core.files import write_text
from sayso.core.result import Result
from sayso.runtime.load import load

WIDTH, LEFT, RIGHT = 860, 92, 24
WAVE_TOP, WAVE_HEIGHT = 64, 64
ROW, CARD = 27, 116
LINE = 90  # characters
STYLE = """
  .panel { fill: #ffffff; stroke: #d0d7de; }
  .ink { fill: #1f2328; }
  .faint { fill: #6e7781; }
  .wave { fill: #54aeff; }
  .heard { fill: #eaf3fd; }
  .rule { stroke: #d0d7de; }
  .mark { stroke: #54aeff; }
  .card { fill: #f6f8fa; stroke: #d0d7de; }
  .chip { fill: #ddf4ff; stroke: #54aeff; }
  .good { fill: #1a7f37; }
  .ask { fill: #9a6700; }
  .bad { fill: #cf222e; }
  text { font-family: ui-sans-serif, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 15px; }
  .small { font-size: 12px; }
  .mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 12px; }
  .bold { font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    .panel { fill: #0d1117; stroke: #30363d; }
    .ink { fill: #e6edf3; }
    .faint { fill: #8b949e; }
    .wave { fill: #388bfd; }
    .heard { fill: #14233a; }
    .rule { stroke: #30363d; }
    .mark { stroke: #388bfd; }
    .card { fill: #161b22; stroke: #30363d; }
    .chip { fill: #12283f; stroke: #388bfd; }
    .good { fill: #3fb950; }
    .ask { fill: #d29922; }
    .bad { fill: #f85149; }
  }
"""


@dataclass(frozen=True)
class Partial:
    """One change of what the stream says: seconds of audio heard, stable words, words that may change."""

    audio_s: float
    stable: str
    rest: str


def listen(bundle: str, samples: NDArray[np.float32], packet_ms: int) -> tuple[list[Partial], Result]:
    """Every change of the partial, and the final result."""
    model = load(bundle)
    rate = model.manifest.sample_rate
    stream, found = model.stream(), [Partial(0.0, "", "")]
    step = rate * packet_ms // 1000
    for start in range(0, len(samples), step):
        result = stream.accept(samples[start : start + step])
        rest = result.text[len(result.stable) :] if result.text.startswith(result.stable) else ""
        now = Partial(result.timing.audio_s, result.stable, rest)
        if (now.stable, now.rest) != (found[-1].stable, found[-1].rest):
            found.append(now)
    return found[1:], stream.finish()


def waveform(samples: NDArray[np.float32], width: float) -> str:
    """An SVG path of the extremes of every 2 px, as wide as ``width``."""
    columns = np.array_split(samples, max(1, round(width / 2)))
    scale = WAVE_HEIGHT / 2 / max(1e-6, float(np.abs(samples).max()))
    middle = WAVE_TOP + WAVE_HEIGHT / 2
    bars = []
    for number, column in enumerate(columns):
        high, low = (float(v) * scale for v in (column.max(), column.min()))
        bars.append(f"M{LEFT + 2 * number} {middle - max(high, 0.5):.1f}h1.4V{middle - min(low, -0.5):.1f}h-1.4z")
    return f'<path class="wave" d="{"".join(bars)}"/>'


def clock(length_s: float, scale: float, bottom: float) -> list[str]:
    """Ticks every half second."""
    parts = []
    for half in range(int(length_s * 2) + 1):
        x = LEFT + half / 2 * scale
        parts.append(f'<line class="rule" x1="{x:.1f}" y1="{WAVE_TOP - 8}" x2="{x:.1f}" y2="{bottom:.1f}"/>')
        parts.append(f'<text class="faint mono" x="{x + 3:.1f}" y="{WAVE_TOP - 12}">{half / 2:g} s</text>')
    return parts


def shortened(text: str) -> str:
    """What fits into a line; babble can be long."""
    return text if len(text) <= LINE else text[: LINE - 1] + "…"


def row(partial: Partial, y: float, scale: float) -> list[str]:
    """One partial: what had been heard as a bar, the clock on the left, the text on top."""
    width = partial.audio_s * scale
    stable = f'<tspan class="ink bold">{escape(shortened(partial.stable))}</tspan>' if partial.stable else ""
    rest = f'<tspan class="faint">{escape(shortened(partial.stable + partial.rest)[len(partial.stable) :])}</tspan>'
    return [
        f'<rect class="heard" x="{LEFT}" y="{y:.1f}" width="{width:.1f}" height="{ROW - 5}" rx="4"/>',
        f'<line class="mark" x1="{LEFT + width:.1f}" y1="{WAVE_TOP}" x2="{LEFT + width:.1f}" y2="{y + ROW - 5:.1f}" '
        'stroke-dasharray="2 3"/>',
        f'<text class="faint mono" x="{LEFT - 10}" y="{y + 16:.1f}" text-anchor="end">{partial.audio_s:.2f} s</text>',
        f'<text xml:space="preserve" x="{LEFT + 8}" y="{y + 16:.1f}">{stable}{rest}</text>',
    ]


def card(result: Result, y: float) -> list[str]:
    """The final result: text, intent, slots, confidence, decision, latency."""
    inner, intent = LEFT + 8, result.intent
    tone = {"accept": "good", "clarify": "ask", "reject": "bad"}[result.decision]
    name = intent.name if intent is not None else "no intent"
    sure = "" if intent is None or intent.confidence is None else f"confidence {intent.confidence:.2f}"
    why = f": {result.reason}" if result.reason else ""
    timing = "" if result.timing.final_s is None else f"{1000 * result.timing.final_s:.0f} ms after the end"
    parts = [
        f'<rect class="card" x="{LEFT - 68}" y="{y:.1f}" width="{WIDTH - LEFT - RIGHT + 68}" height="{CARD}" rx="8"/>',
        f'<text class="faint mono" x="{LEFT - 10}" y="{y + 30:.1f}" text-anchor="end">final</text>',
        f'<text class="ink bold" x="{inner}" y="{y + 30:.1f}">{escape(shortened(result.display or "no text"))}</text>',
        f'<text class="faint small" x="{WIDTH - RIGHT - 14}" y="{y + 30:.1f}" text-anchor="end">{timing}</text>',
        f'<text class="{tone} bold" x="{WIDTH - RIGHT - 14}" y="{y + 62:.1f}" text-anchor="end">'
        f"{result.decision}{escape(why)}</text>",
        f'<text class="faint small" x="{WIDTH - RIGHT - 14}" y="{y + 92:.1f}" text-anchor="end">{sure}</text>',
        f'<text class="ink mono" x="{inner}" y="{y + 62:.1f}">intent <tspan class="bold">{escape(name)}</tspan></text>',
    ]
    x = float(inner)
    for slot in result.slots:
        label = f"{slot.name} = {slot.value}"
        width = 7.4 * len(label) + 18
        parts.append(f'<rect class="chip" x="{x:.1f}" y="{y + 76:.1f}" width="{width:.1f}" height="25" rx="12"/>')
        parts.append(f'<text class="ink mono" x="{x + 9:.1f}" y="{y + 93:.1f}">{escape(label)}</text>')
        x += width + 8
    return parts


def draw(partials: list[Partial], result: Result, samples: NDArray[np.float32], rate: int) -> str:
    """The whole picture as SVG text."""
    length_s = len(samples) / rate
    scale = (WIDTH - LEFT - RIGHT) / length_s
    first = WAVE_TOP + WAVE_HEIGHT + 14
    bottom = first + ROW * len(partials)
    height = bottom + 12 + CARD + 22
    title = "sayso understand --stream: text grows while the person speaks"
    body = [
        f'<rect class="panel" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="10"/>',
        f'<text class="ink bold" x="{LEFT - 68}" y="28">sayso understand --stream</text>',
        f'<text class="small" x="{WIDTH - RIGHT}" y="28" text-anchor="end"><tspan class="ink bold">stable: will not '
        'change</tspan><tspan class="faint">   may still change</tspan></text>',
        *clock(length_s, scale, bottom),
        waveform(samples, WIDTH - LEFT - RIGHT),
    ]
    for number, partial in enumerate(partials):
        body += row(partial, first + ROW * number, scale)
    body += card(result, bottom + 12)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{title}">'
    )
    return "\n".join([head, f"<title>{title}</title>", f"<style>{STYLE}</style>", *body, "</svg>", ""])


def main() -> None:
    """Listen and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="home", help="folder, zip, or home")
    parser.add_argument(
        "--audio", type=Path, default=ROOT / "examples" / "dim-the-bedroom-lights-to-thirty-percent.flac"
    )
    parser.add_argument("--packet-ms", type=int, default=320)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "stream.svg")
    arguments = parser.parse_args()
    rate = 16000
    samples = decode.read(arguments.audio, rate)
    partials, result = listen(arguments.bundle, samples, arguments.packet_ms)
    if not partials:
        print(f"{arguments.audio}: no partial result; the picture shows the final one alone", file=sys.stderr)
    write_text(arguments.out, [draw(partials, result, samples, rate)])
    print(result.model_dump_json(), file=sys.stderr)


if __name__ == "__main__":
    main()
