"""`metaformer`: finds the command, runs it, and turns the user's mistakes into one line."""

import importlib
import io
import os
import signal
import sys
from types import FrameType

from metaformer.cli.parsing import UsageError, parse_and_call

# The words of a command -> its module, which has one function of the command's name; and what it is for.
COMMANDS = {
    ("study", "quick"): ("study_quick", "compare token mixers on real data; ends with a table and a page"),
    ("study", "paper"): ("study_paper", "every row of the papers' ablations, several seeds, claims judged by the data"),
    ("card",): ("card", "the report card of one token mixer, yours or ours"),
    ("train",): ("train", "train one model by a recipe, on any images"),
    ("report",): ("report", "make the page of a study again, from its records"),
    ("models",): ("models", "list the models, with parameters and MACs"),
    ("convert",): ("convert", "weights from any known layout to any other"),
    ("evaluate",): ("evaluate", "measure trained weights on labelled images: accuracy, loss, confusion"),
    ("predict",): ("predict", "what trained weights see in images"),
    ("analyze",): ("analyze", "what models do: rank, similarity, reach, frequencies, curvature, robustness"),
    ("profile",): ("profile", "count what one model costs, part by part"),
    ("optimize",): ("optimize", "a faster copy of a model with the same outputs, chosen by a timed trial"),
    ("bench",): ("bench", "our models beside their peers, in one interleaved run"),
    ("doctor",): ("doctor", "what works on this machine, and why the rest does not"),
}
# First words of the commands that keep what they have done; the others begin anew.
RESUMED = ("study", "card", "train", "analyze")


def main() -> None:
    """The entry point. Exit codes: 0 done, 1 the answer is bad, 2 the request was wrong."""
    signal.signal(signal.SIGTERM, _terminate)
    # A terminal that cannot show a sign shows a question mark, and the work is not lost for it.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = run(sys.argv[1:])
        # What is still held back is written here, where a reader that has gone is no error.
        sys.stdout.flush()
        sys.exit(code)
    except KeyboardInterrupt:
        _say_stopped("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough, as `head` has.
        # What is left goes nowhere, so that Python's own last flush finds nobody missing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except SystemExit as stop:
        # rich takes the broken pipe itself, and exits with 1.
        sys.exit(0 if isinstance(stop.__context__, BrokenPipeError) else stop.code)


def run(words: list[str]) -> int:
    """Runs a command line; returns its exit code."""
    from metaformer.core.errors import ConfigError, DataError, MissingExtraError, ShapeError, StoppedError, one_line

    try:
        return _dispatch(words)
    except (ConfigError, ShapeError, DataError, MissingExtraError, UsageError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except StoppedError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if words[0] in ("-V", "--version"):
        from metaformer import __version__

        print(f"metaformer {__version__}")
        return 0
    command = _find(words)
    module_name, _ = COMMANDS[command]
    module = importlib.import_module(f"metaformer.cli.{module_name}")
    rest, prog = words[len(command) :], " ".join(("metaformer", *command))
    if hasattr(module, "command"):
        # A command whose options depend on its words.
        function, rest, prog = module.command(rest)
    else:
        function = getattr(module, module_name)
    return parse_and_call(function, rest, prog=prog)


def _find(words: list[str]) -> tuple[str, ...]:
    from metaformer.core.errors import did_you_mean

    for length in (2, 1):
        if tuple(words[:length]) in COMMANDS:
            return tuple(words[:length])
    first_words = sorted({command[0] for command in COMMANDS})
    if words[0] in first_words:
        rest = [command[1] for command in COMMANDS if command[0] == words[0]]
        if len(words) == 1 or words[1] in ("-h", "--help"):
            raise UsageError(f"'metaformer {words[0]}' needs one more word: {', '.join(rest)}.")
        raise UsageError(
            f"unknown command '{words[0]} {words[1]}'.{did_you_mean(words[1], rest)} Known: {', '.join(rest)}."
        )
    raise UsageError(f"unknown command {words[0]!r}.{did_you_mean(words[0], first_words)} See: metaformer --help")


def _usage() -> str:
    width = max(len(" ".join(command)) for command in COMMANDS)
    lines = [f"  {' '.join(command):{width}}  {purpose}" for command, (_, purpose) in COMMANDS.items()]
    return "\n".join(
        [
            "metaformer: the workbench for MetaFormer vision models",
            "",
            *lines,
            "",
            "Options of a command: metaformer COMMAND --help",
        ]
    )


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    _say_stopped("terminated")
    sys.exit(128 + signal.SIGTERM)


def _say_stopped(how: str) -> None:
    goes_on = "; the same command continues where it stopped" if sys.argv[1:2] and sys.argv[1] in RESUMED else ""
    print(f"\n{how}{goes_on}", file=sys.stderr)
