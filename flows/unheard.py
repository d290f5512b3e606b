"""A flow whose worker died carries on, though nobody reads any more what it prints."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from rich.console import Console


def outlive_the_worker() -> None:
    """Have this process go on when the pipe that it prints to is broken; lasts until it ends.

    Prefect's runs print their log through Rich to a pipe of their worker's. Where that is broken
    Rich ends the thread that prints, be it a run's own; so a run died of its next line. The log
    that the server keeps goes another way.
    """
    Console.on_broken_pipe = _print_to_nobody  # type: ignore[assignment,method-assign]


def _print_to_nobody(console: Console) -> None:
    console.quiet = True
    nobody = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # none, or no file of the system's
            os.dup2(nobody, stream.fileno())
    os.close(nobody)
