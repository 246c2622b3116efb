"""``sayso listen``: the microphone, live partials, and a result at every endpoint."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sayso.cli.console import Live, note
from sayso.cli.understand import read_lists, show

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sayso.audio.vad import Endpointer
    from sayso.core.result import Result
    from sayso.runtime.stream import Stream

BLOCK_S = 0.1
LEAD_BLOCKS = 6  # what was heard before speech was sure: its first sounds are in there


def listen(
    bundle: Annotated[str, typer.Option(help="A bundle: folder, zip, or 'home' for the one inside.")] = "home",
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines, partial results too.")] = False,
    lists: Annotated[
        list[str] | None,
        typer.Option("--list", metavar="NAME=FILE", help="Slot values in place of the domain's; one a line."),
    ] = None,
    session: Annotated[bool, typer.Option("--session", help="A dialogue: what was said before counts.")] = False,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long; default: at Ctrl-C.", min=0.1)] = None,
) -> int:
    """Understand what is said into the microphone."""
    from sayso.audio.microphone import record
    from sayso.audio.vad import EndpointConfig
    from sayso.runtime.lists import indexed
    from sayso.runtime.load import load

    given, model = read_lists(lists or []), load(bundle)
    replaced = indexed(model.engine, given)
    model.stream(replaced)  # a wrong list is a mistake of the command line, before anybody speaks
    begin = model.session(replaced).stream if session else partial(model.stream, replaced)
    blocks: Iterator[Any] = record(model.manifest.sample_rate, BLOCK_S)
    first = next(blocks)  # opens the device: only then is it true that we listen
    note("listening; Ctrl-C ends it")
    heard: Iterator[Any] = itertools.chain([first], blocks)
    if seconds is not None:
        heard = itertools.islice(heard, max(1, round(seconds / BLOCK_S)))
    live = Live()
    for result in hear(begin, heard, EndpointConfig().build()):
        if result.final:
            live.end()
            show(result, "microphone", as_json)
        elif as_json:
            show(result, "microphone", True)
        else:
            live.show(result.timing.audio_s, result.stable, result.text)
    return 0


def hear(begin: Callable[[], Stream], blocks: Iterable[NDArray[Any]], endpointer: Endpointer) -> Iterator[Result]:
    """Partials (when they change) and one final result per utterance of an endless stream at the model's rate;
    ``begin`` opens the stream of each.

    Blocks without speech cost only the voice detector; a few of them are kept, because speech begins before it is
    recognised as such. An utterance that is open when ``blocks`` end is finished.
    """
    lead: deque[NDArray[Any]] = deque(maxlen=LEAD_BLOCKS)
    stream: Stream | None = None
    last: tuple[str, str] | None = None
    for block in blocks:
        events = endpointer.accept(block, complete=stream is not None and stream.complete)
        for event in events:
            if event.kind == "end" and stream is not None:
                yield stream.finish()
                stream = None
            elif event.kind == "start" and stream is None:
                stream, last = begin(), None
                for earlier in lead:
                    stream.feed(earlier)
                lead.clear()
        if stream is None:
            lead.append(block)
            continue
        partial = stream.accept(block)
        if partial.text and (partial.stable, partial.text) != last:
            last = partial.stable, partial.text
            yield partial
    if stream is not None:
        yield stream.finish()
