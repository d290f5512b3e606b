"""A trainer: a process that calls one training for the flow that started it (`flows.apart`).

It is sent SIGTERM when its flow dies, however that dies; and SIGTERM makes a training save its
state after the step it is at, and end.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from flows.apart import LATER, RESULT, STOPPED, from_json
from flows.recipe import StoppedError
from pipeline.errors import PipelineError

WATCH_SECONDS = 2.0
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Be the trainer of `flows.apart.listen`: what to call, a file of arguments, its process."""
    name, path, parent = sys.argv[1:4]
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # of the processes of several devices
    if first:
        _end_with(int(parent))
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    logging.getLogger("crevnet").setLevel(logging.INFO)
    value, faults, code = None, list[str](), 0
    try:
        value = _call(name, json.loads(Path(path).read_text()))
    except StoppedError as stop:
        with suppress(OSError):  # nobody may be listening any more
            print(stop, flush=True)  # noqa: T201
        raise SystemExit(STOPPED) from None
    except (PipelineError, OSError) as fault:
        faults = str(fault).splitlines() or [repr(fault)]
        code = LATER if isinstance(fault, OSError) else 1
    if first:
        with suppress(OSError):
            said = json.dumps({"value": value, "faults": faults})
            print(f"\n{RESULT}{said}", flush=True)  # noqa: T201 - whatever line was begun
    elif faults:
        with suppress(OSError):
            print("\n".join(faults), flush=True)  # noqa: T201 - the first speaks for itself alone
    raise SystemExit(code)


def _call(name: str, arguments: dict[str, Any]) -> Any:
    """Call a training by its module and name; return what came of it in plain values."""
    module, _, attribute = name.partition(":")
    function = getattr(import_module(module), attribute)
    value = function(**from_json(function, arguments))
    return TypeAdapter(get_type_hints(function)["return"]).dump_python(value, mode="json")


def _end_with(parent: int) -> None:
    """Have SIGTERM sent to this process when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    else:

        def watch() -> None:
            while os.getppid() == parent:
                time.sleep(WATCH_SECONDS)
            os.kill(os.getpid(), signal.SIGTERM)

        Thread(target=watch, daemon=True).start()
    if os.getppid() != parent:  # it died before
        raise SystemExit(STOPPED)


if __name__ == "__main__":
    main()
