"""The processes of a training: started, stopped and parted from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.recipe import StoppedError
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from crevnet.settings import TrainingSettings


@contextmanager
def training_fabric(settings: TrainingSettings, folder: Path, section: str) -> Iterator[Fabric]:
    """Yield a Fabric that is started, for one training inside a `with`.

    Args:
        settings: Of the training.
        folder: Where its state is.
        section: What the settings are called in the configuration.

    Raises:
        ConfigError: There are no such devices, or a setting of theirs is impossible.
        StoppedError: A signal asked to stop; the state is saved.
    """
    from crevnet.allocator import allocating
    from crevnet.devices import end_processes, start_fabric
    from crevnet.interruption import Interrupted

    with allocating(settings.memory):
        try:
            fabric = start_fabric(settings)
        except (RuntimeError, ValueError) as fault:
            raise ConfigError(f"{section}: {str(fault).splitlines()[0]}") from None
        try:
            yield fabric
        except Interrupted as stop:
            raise StoppedError(f"{folder}: {stop}") from None
        finally:
            end_processes(fabric)
