"""A flow whose worker died carries on, though nobody reads any more what it prints."""

from __future__ import annotations

import os
from contextlib import suppress

from rich.console import Console


def outlive_the_worker() -> None:
    """Have this process, a run's, go on when a pipe that it prints to is broken, until it ends.

    Prefect's runs print their log through Rich to a pipe of their worker's. Where that is broken
    Rich ends the thread that prints, be it a run's own; so a run died of its next line. The log
    that the server keeps goes another way.
    """
    Console.on_broken_pipe = _print_to_nobody  # type: ignore[assignment,method-assign]


def _print_to_nobody(console: Console) -> None:
    console.quiet = True
    nobody = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError, AttributeError):  # of memory, or closed
        os.dup2(nobody, console.file.fileno())
    os.close(nobody)
