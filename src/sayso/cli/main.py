"""Entry of the ``sayso`` command: the verbs, and how every mistake ends.

A user's mistake is one message on stderr and an exit code (1: some inputs failed, 2: wrong usage or an unusable bundle,
domain or recipe); ``--debug``, wherever it stands, adds the traceback. Ctrl-C leaves with 130 and a closed pipe with
141, both as a shell expects and without noise.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

import sayso
from sayso.cli import bench, bundle, data, domain, evaluate, listen, serve, training, understand
from sayso.cli.console import complain, note, say
from sayso.core.errors import SaysoError, nearest

INTERRUPTED, PIPE_CLOSED = 130, 141
_Refused: type[Exception] = typer.BadParameter.__mro__[2]  # ClickException, wherever this version of typer keeps it

app = typer.Typer(
    name="sayso",
    help="Speech straight into meaning: what was said, what was meant, and how sure that is.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.command("understand")(understand.understand)
app.command("listen")(listen.listen)
app.add_typer(domain.app, name="domain")
app.add_typer(data.app, name="data")
app.command("train")(training.train)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(training.export)
app.command("build")(training.build)
app.add_typer(bundle.app, name="bundle")
app.command("serve")(serve.serve)
app.command(
    "bench", add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)(bench.bench)  # "--help" behind a name is the benchmark's


def _version(wanted: bool) -> None:
    if wanted:
        say(f"sayso {sayso.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Options of every verb; ``debug`` is taken out of the line before it is parsed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's) and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug, words = _debugging(words)
    if logging.lastResort is not None:  # warnings look like our errors: one lower-case word, then the message
        logging.lastResort.setFormatter(logging.Formatter("warning: %(message)s"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file name need not be valid text
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _close_line()
        return INTERRUPTED
    except BrokenPipeError:
        # what is still buffered must not fail again when the interpreter flushes on its way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except (SaysoError, MemoryError, OSError) as error:
        if debug:
            traceback.print_exc()
        complain(error if str(error) else type(error).__name__)
        return error.exit_code if isinstance(error, SaysoError) else 2


def _run(words: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        with command.make_context("sayso", words) as context:
            answer = command.invoke(context)
    except typer.Exit as left:
        return left.exit_code
    except typer.Abort:
        return INTERRUPTED
    except _Refused as error:
        return _refuse(error)
    return answer if isinstance(answer, int) else 0


def _refuse(error: Any) -> int:
    """Wrong usage: the message, the nearest legal word, and where to read on."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        note(error.format_message())
        return 2
    message = str(error.format_message()).rstrip(".")
    verbs = getattr(getattr(context, "command", None), "commands", {})
    wrong = message.split("'")[1] if message.startswith("No such command '") else None
    if wrong is not None:
        message = f"no such command '{wrong}'; {nearest(wrong, verbs)}"
    elif type(error).__name__ == "NoSuchOption" and context is not None:
        options = [name for parameter in context.command.params for name in getattr(parameter, "opts", ())]
        message = f"no such option '{error.option_name}'; " + nearest(
            error.option_name, [name for name in options if name.startswith("-")] + ["--help"]
        )
    complain(message)
    if context is not None:
        note(f"help: {context.command_path} --help")
    return 2


def _debugging(words: list[str]) -> tuple[bool, list[str]]:
    """Whether ``--debug`` was given, and the line without it; what follows ``--`` or ``bench`` is not ours."""
    for number, word in enumerate(words):
        if word == "--" or word == "bench":
            break
        if word == "--debug":
            return True, words[:number] + words[number + 1 :]
    return False, words


def _close_line() -> None:
    if sys.stdout.isatty():
        say()


if __name__ == "__main__":
    sys.exit(main())
