"""``sayso understand``: recordings in, results out; a file that fails does not stop the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sayso.cli.console import BOLD, Live, complain, hushed, rows, say, styled
from sayso.core.errors import AudioError, UsageError

if TYPE_CHECKING:
    from sayso.core.result import Result, Slot
    from sayso.runtime.stream import Stream


def understand(
    audio: Annotated[list[str], typer.Argument(help="Recordings: wav, flac, ogg or mp3, any rate and channel count.")],
    bundle: Annotated[str, typer.Option(help="A bundle: folder, zip, or 'home' for the one inside.")] = "home",
    as_json: Annotated[bool, typer.Option("--json", help="One Result as JSON per line, nothing else.")] = False,
    stream: Annotated[bool, typer.Option("--stream", help="Show partial results as they come.")] = False,
    chunk_ms: Annotated[int, typer.Option(help="Packet size of --stream in ms.", min=1, max=60000)] = 320,
    lists: Annotated[
        list[str] | None,
        typer.Option("--list", metavar="NAME=FILE", help="Slot values in place of the domain's; one a line."),
    ] = None,
    session: Annotated[bool, typer.Option("--session", help="The recordings are turns of one dialogue.")] = False,
) -> int:
    """Understand recordings: text, intent, slots, confidence, decision, latency."""
    from sayso.runtime.blocks import blocks, through
    from sayso.runtime.lists import indexed
    from sayso.runtime.load import load

    given = read_lists(lists or [])
    model = load(bundle)
    replaced = indexed(model.engine, given)
    model.stream(replaced)  # a wrong list is a mistake of the command line, before any file
    dialogue, failed = model.session(replaced), False
    for path in audio:
        try:
            with hushed():
                opened = dialogue.stream() if session else model.stream(replaced)
                if stream:
                    result, titled = _streamed(opened, path, model.manifest.sample_rate, chunk_ms, as_json)
                else:
                    result, titled = through(opened, blocks(path, None, model.manifest.sample_rate)), False
        except AudioError as error:
            complain(error)
            failed = True
            continue
        show(result, path, as_json, titled=titled)
    return 1 if failed else 0


def show(result: Result, title: str, as_json: bool, *, titled: bool = False) -> None:
    """Print one result: a JSON line (with ``audio``: ``title``) or a block for people (``titled``: it has one)."""
    if as_json:
        # the model's own JSON, not json.dumps of its dict: infinities become null there and not an invalid word
        say(f'{{"audio": {json.dumps(title)}, {result.model_dump_json()[1:]}')
        return
    if not titled:
        say(styled(title, BOLD))
    rows(_block(result))


def read_lists(given: list[str]) -> dict[str, list[str | tuple[str, str]]]:
    """``NAME=FILE`` options as lists: a value per line, or the spoken words, a tab, and the value."""
    lists: dict[str, list[str | tuple[str, str]]] = {}
    for item in given:
        name, found, file = item.partition("=")
        if not found or not name or not file:
            raise UsageError(f"--list {item}: write NAME=FILE, for example --list contacts=contacts.txt")
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--list {item}: {file} cannot be read as text ({error})") from None
        pairs = [line.strip().partition("\t") for line in lines if line.strip()]
        lists[name] = [(spoken.strip(), value.strip()) if tab else spoken for spoken, tab, value in pairs]
    return lists


def _streamed(stream: Stream, path: str, sample_rate: int, chunk_ms: int, as_json: bool) -> tuple[Result, bool]:
    """Feed a file in packets, as fast as it goes; every change of the partial is shown.

    Also says whether the file's name has been printed, above the first partial.
    """
    from sayso.audio import decode

    live, last = Live(), None
    for block in decode.blocks(path, sample_rate, chunk_ms / 1000):
        partial = stream.accept(block)
        if as_json:
            if partial.text and (partial.stable, partial.text) != last:
                show(partial, path, True)
                last = partial.stable, partial.text
        else:
            if last is None and partial.text:
                say(styled(path, BOLD))
                last = "", ""
            live.show(partial.timing.audio_s, partial.stable, partial.text)
        if stream.truncated:
            break
    live.end()
    return stream.finish(), last is not None


def _block(result: Result) -> list[tuple[str, str]]:
    intent, slots, confidence = result.intent, result.slots, None
    lines = [("text", result.display or "-")]
    if intent is not None:
        confidence = intent.confidence
        lines.append(("intent", intent.name))
    elif result.alternatives and result.alternatives[0].intent:
        guess = result.alternatives[0]
        inside = f" ({spoken(guess.slots)})" if guess.slots else ""
        lines.append(("intent", f"-  (best guess: {guess.intent}{inside})"))
    else:
        lines.append(("intent", "-"))
    lines.append(("slots", spoken(slots) or "-"))
    lines.append(("confidence", "-" if confidence is None else f"{confidence:.2f}"))
    why = ": ".join(part for part in (result.decision, result.reason) if part)
    lines.append(("decision", f'{why}, ask "{result.prompt}"' if result.prompt else why))
    timing = result.timing
    parts = [] if timing.final_s is None else [f"final after {timing.final_s * 1000:.0f} ms"]
    parts += [] if timing.first_partial_s is None else [f"first partial after {timing.first_partial_s * 1000:.0f} ms"]
    parts += [] if timing.rtf is None else [f"RTF {timing.rtf:.3f}"]
    lines.append(("latency", f"{', '.join(parts) or '-'} ({timing.audio_s:.2f} s of audio)"))
    return lines


def spoken(slots: tuple[Slot, ...]) -> str:
    """``area=kitchen, level=20``."""
    return ", ".join(f"{slot.name}={slot.value}" for slot in slots)
