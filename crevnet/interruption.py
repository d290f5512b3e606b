"""A training that is asked to stop, stops between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """A training was asked to stop, and has saved its state; run again, it goes on from there.

    Attributes:
        step: Steps that are done.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class Signals:
    """Notes SIGTERM and SIGINT instead of dying of them, inside a `with`.

    A second SIGINT interrupts at once. Outside the main thread nothing is noted: only that one
    hears of signals.
    """

    def __init__(self) -> None:
        self.heard = ""
        self._before: dict[signal.Signals, signal.Handlers] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._hear)  # type: ignore[assignment]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.heard and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.heard = signal.Signals(number).name
