"""Trained networks as forecasters: loaded from their files, and only for what they learned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from crevnet.checkpoint import CheckpointError, load_model
from crevnet.correction import Correction
from crevnet.devices import OtherProcessError
from crevnet.loop import DivergedError
from crevnet.task import Task
from crevnet.zoo import ZooError
from flows.blueprint import frames_of
from flows.cities import name_of
from flows.config import RunConfig
from flows.examples import CityInputs
from flows.window_inputs import WindowInputs
from pipeline.context import planes
from pipeline.errors import ModelError
from pipeline.flips import Mirror, forecast_mirrors
from pipeline.store import Store
from pipeline.usual import digest, mix_weights
from pipeline.windows import Window


@contextmanager
def named_faults() -> Iterator[None]:
    """Turn what `crevnet` refuses into an error that a person is told."""
    try:
        yield
    except (CheckpointError, ZooError, DivergedError, OtherProcessError) as fault:
        raise ModelError(str(fault)) from None


class Told(Protocol):
    """What a network is told of a city besides the frames."""

    def told(
        self, history: NDArray[np.float32], windows: Sequence[Window]
    ) -> tuple[NDArray[np.float16] | None, NDArray[np.float16] | None]:
        """Return what is usual `(B, T + horizon, C, H, W)` and the planes `(B, S, H, W)`."""
        ...

    def mirrored(
        self,
        turn: Mirror,
        usual: NDArray[np.float16] | None,
        static: NDArray[np.float16] | None,
    ) -> tuple[NDArray[np.float16] | None, NDArray[np.float16] | None]:
        """Return the same, mirrored."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class NetworkForecaster:
    """A network and what it is told of a city; a `pipeline.forecasters.Forecaster`.

    Attributes:
        correction: The network and its task, on its device.
        inputs: What it is told besides the frames.
        device: Where it runs.
        batch: Windows at a time.
        bfloat16: Whether convolutions run in bfloat16.
        mirrors: The forecast is the mean over the city as it is and mirrored by each of these.
        learned: Days whose windows its weights were trained on.
    """

    correction: Correction
    inputs: Told
    device: torch.device
    batch: int = 4
    bfloat16: bool = False
    mirrors: tuple[Mirror, ...] = ()
    learned: tuple[str, ...] = ()

    def forecast(
        self, history: NDArray[np.float32], windows: Sequence[Window]
    ) -> NDArray[np.float32]:
        """Return forecasts of the windows' leads, `(B, L, C, H, W)` in [0, 1].

        Raises:
            ModelError: It was trained for other leads, or another history.
        """
        task = self.correction.task
        found, trained = (history.shape[1], windows[0].leads), (task.history, task.leads)
        if found != trained:
            raise ModelError(f"history and leads {found}, but the network learned {trained}")
        parts = [
            self._forecast(history[at : at + self.batch], windows[at : at + self.batch])
            for at in range(0, len(windows), self.batch)
        ]
        return np.concatenate(parts)

    def _forecast(
        self, history: NDArray[np.float32], windows: Sequence[Window]
    ) -> NDArray[np.float32]:
        usual, static = self.inputs.told(history, windows)
        total = self._say(history, usual, static)
        for turn in self.mirrors:
            said = self._say(turn.means(history), *self.inputs.mirrored(turn, usual, static))
            total += turn.means(said)
        return total / np.float32(1 + len(self.mirrors))

    @torch.inference_mode()
    def _say(
        self, history: NDArray[np.float32], *inputs: NDArray[np.float16] | None
    ) -> NDArray[np.float32]:
        usual, static = (
            None if half is None else torch.from_numpy(half).to(self.device) for half in inputs
        )
        frames = torch.from_numpy(np.ascontiguousarray(history)).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            said = self.correction.ahead(frames, usual, static)
        forecast: NDArray[np.float32] = said.float().cpu().numpy()
        return forecast


def model_path(config: RunConfig, name: str) -> Path:
    """Return the file of a trained model: as named, or the one that `t4c train` makes."""
    return (
        Path(name)
        if name.endswith(".safetensors")
        else models_folder(config) / f"{name}.safetensors"
    )


def models_folder(config: RunConfig) -> Path:
    """Return where trained models are kept."""
    return config.out / "models"


def load_network(config: RunConfig, store: Store, name: str) -> NetworkForecaster:
    """Return a trained network as a forecaster of a city.

    A city that it did not learn from is met as `forecasting.unseen_city` says. Where that allows
    it, the naive mix below its word is fitted on the city too, if any day of it may be used.

    Raises:
        ModelError: There is no such file, it is damaged, or it was trained for another edition,
            city, grid, history or set of days.
        ConfigError: Its forecasts cannot be mirrored, and should be.
    """
    path = model_path(config, name)
    if not path.is_file():
        raise ModelError(f"{path}: no such model; `t4c train` makes those of the configuration")
    mirrors = forecast_mirrors(store.edition, store.city, config.forecasting.flips)
    device = device_of(config)
    if config.forecasting.threads:
        torch.set_num_threads(config.forecasting.threads)
    with named_faults():
        network, task, extra = load_model(path, device)
    _check(path, network, task, extra, config, store)
    correction = Correction(network, task).eval()
    how = config.forecasting
    city = name_of(task.edition, store.edition, store.city)
    common = (device, how.batch, how.bfloat16, mirrors)
    if city not in task.cities:
        task, inputs = _unseen(task, extra, config, store)
        correction = Correction(network, task).eval()
        return NetworkForecaster(correction.to(device), inputs, *common)
    days, fitted = _days(extra, "days", city), _entry(extra, "fitted", city)
    if days is None or not isinstance(fitted, str):
        raise ModelError(f"{path}: does not say which days of {city} it was fitted on")
    unknown = sorted({*days} - {*store.days("training")})
    if unknown:
        raise ModelError(f"{path}: fitted on days that {city}'s store does not have: {unknown}")
    if digest(store, days) != fitted:
        raise ModelError(f"{path}: days of {city} were other ones when it was trained")
    learned = tuple(_days(extra, "learned", city) or days)  # of unsaid days, any
    fit = _inputs(task, extra, config, store, days)
    return NetworkForecaster(correction.to(device), fit, *common, learned)


def _inputs(
    task: Task, extra: dict[str, Any], config: RunConfig, store: Store, days: Sequence[str]
) -> CityInputs:
    return CityInputs.fit(
        store,
        days,
        task.base,
        task.inputs,
        config.out / "fitted",
        known=known_cities(extra),
        workers=max(1, config.workers),
    )


def _unseen(
    task: Task, extra: dict[str, Any], config: RunConfig, store: Store
) -> tuple[Task, Told]:
    """Return the task and what is told of a city that a network did not learn from."""
    if config.forecasting.unseen_city == "window":
        return task, WindowInputs.of(task, store.edition, store.city, known_cities(extra))
    days, folder = store.days("training"), config.out / "fitted"
    if task.base == "mix":
        workers = max(1, config.workers)
        weights = mix_weights(store, days, config.cut(store.edition), folder, workers=workers)
        task = replace(task, weights=tuple(tuple(map(float, row)) for row in weights))
    return task, _inputs(task, extra, config, store, days)


def known_cities(extra: dict[str, Any]) -> tuple[str, ...]:
    """Return the cities that have a plane of `city`, as a model's file says."""
    known = extra.get("known")
    return tuple(map(str, known)) if isinstance(known, list) else ()


def _entry(extra: dict[str, Any], name: str, city: str) -> Any:
    by_city = extra.get(name)
    return by_city.get(city) if isinstance(by_city, dict) else None


def _days(extra: dict[str, Any], name: str, city: str) -> list[str] | None:
    days = _entry(extra, name, city)
    whole = isinstance(days, list) and all(isinstance(day, str) for day in days)
    return days if whole else None


def checksum(config: RunConfig, name: str) -> str:
    """Return the sha256 of a trained model's file.

    Raises:
        ModelError: There is none.
    """
    path = model_path(config, name)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise ModelError(f"{path}: {fault.strerror}; `t4c train` makes it") from None


def device_of(config: RunConfig) -> torch.device:
    """Return where networks forecast.

    Raises:
        ModelError: This machine has no such device.
    """
    name = config.forecasting.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as fault:
        first = str(fault).splitlines()[0]
        raise ModelError(f"forecasting.device: {name} is not here: {first}") from None
    return device


def _check(
    path: Path,
    network: torch.nn.Module,
    task: Task,
    extra: dict[str, Any],
    config: RunConfig,
    store: Store,
) -> None:
    edition, city = store.edition, store.city
    channels = edition.frame_shape[2]
    known = known_cities(extra)
    static = planes(task.inputs, edition, known) + (channels if task.recent else 0)
    wanted = {
        "extra planes": (getattr(network.config, "static_channels", static), static),
        "channels of a frame": (getattr(network.config, "channels", channels), channels),
        "channels": (task.channels, edition.channels),
        "leads": (task.leads, edition.leads),
        "history": (task.history, config.history),
        "frames": (extra.get("frames", frames_of(edition)), frames_of(edition)),
    }
    unseen = name_of(task.edition, edition, city) not in task.cities
    if unseen and config.forecasting.unseen_city == "refuse":
        wanted["edition"] = (task.edition, edition.name)
    if task.grid is not None:
        wanted["grid"] = (task.grid, edition.frame_shape[:2])
    faults = [
        f"{what} {learned}, but this run has {here}"
        for what, (learned, here) in wanted.items()
        if learned != here
    ]
    if unseen and config.forecasting.unseen_city == "refuse":
        faults.append(
            f"cities {list(task.cities)}, and not {city.name} "
            "(forecasting.unseen_city can allow that)"
        )
    if faults:
        raise ModelError(f"{path}: learned {'; '.join(faults)}")
