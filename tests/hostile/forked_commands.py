"""Runs many command lines, each in a fork of one process that has imported the package: a child costs milliseconds.

Read on stdin: JSON, a list of lists of words. Written on stdout, a JSON line each: exit code or null where the time ran
out, what was said on stderr, and seconds.
"""

import contextlib
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time

LIMIT_S = 15
# Address space: what a number asks for beyond that ends in MemoryError, and not in the machine's swap.
LIMIT_BYTES = 12 << 30


def run_forked(words: list[str]) -> tuple[int | None, str, float]:
    """One command line in a child."""
    from metaformer.cli.main import run

    started = time.perf_counter()
    with tempfile.TemporaryFile("w+", errors="backslashreplace") as said:
        child = os.fork()
        if child == 0:
            code = 3
            try:
                os.setsid()
                resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
                os.dup2(said.fileno(), 2)
                with contextlib.redirect_stdout(io.StringIO()):
                    code = run(words)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(code)
        code = _wait(child, started)
        said.seek(0)
        return code, said.read(), time.perf_counter() - started


def _wait(child: int, started: float) -> int | None:
    while time.perf_counter() - started < LIMIT_S:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> None:
    """Runs what stdin asks for."""
    import importlib

    import torch

    from metaformer.cli.main import COMMANDS

    torch.set_num_threads(1)
    for module, _ in COMMANDS.values():
        importlib.import_module(f"metaformer.cli.{module}")
    for words in json.load(sys.stdin):
        print(json.dumps(run_forked(words)), flush=True)


if __name__ == "__main__":
    main()
