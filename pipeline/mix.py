"""The best convex mix of what is now and what is usual: the strongest of the naive forecasts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.climatology import (
    GROUPS,
    STEPS_PER_BYTE,
    Climatology,
    Grouping,
    GroupSums,
    choose_grouping,
    day_sums,
    fit_sums,
    group_of,
    what_fits_rest_on,
)
from pipeline.editions import City, Edition
from pipeline.errors import StoreError
from pipeline.forecasters import MovingAverage
from pipeline.layout import WHITE
from pipeline.sink import save_dataset
from pipeline.sources.traffic import read_window
from pipeline.store import Store
from pipeline.windows import Cut, Window, WindowPlan

FIT_VERSION = 1
"""Of the way fits are made: a new one fits every city anew."""


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """`w * mean of the history + (1 - w) * climatology`, a weight for each lead and channel.

    Attributes:
        climatology: What is usual.
        weights: `(L, C)` in [0, 1], of the history's mean.
        history: Frames that the weights were fitted for.
        leads: Leads they were fitted for.
        fingerprint: Of the days, their checksums and the cut that it was fitted on.
    """

    climatology: Climatology
    weights: NDArray[np.float64]
    history: int
    leads: tuple[int, ...]
    fingerprint: str = ""

    def forecast(
        self, history: NDArray[np.float32], windows: Sequence[Window]
    ) -> NDArray[np.float32]:
        """Return the mix.

        Raises:
            ValueError: The weights are for another history or other leads.
        """
        found, fitted = (history.shape[1], windows[0].leads), (self.history, self.leads)
        if found != fitted:
            raise ValueError(f"history and leads {found}, but the mix was fitted for {fitted}")
        now = MovingAverage().forecast(history, windows)
        usual = self.climatology.forecast(history, windows)
        weights = self.weights.astype(np.float32)[..., None, None]  # (L, C, 1, 1)
        mixed: NDArray[np.float32] = weights * now + (1 - weights) * usual
        return mixed


def fit_mix(
    store: Store,
    days: Sequence[str],
    cut: Cut,
    *,
    grouping: Grouping | None = None,
    workers: int = 2,
    cluster: str | None = None,
) -> Mix:
    """Fit climatology and weights on some days, by least squares over all their windows.

    Each day's weights are fitted against the climatology of the *other* days: against its own, a
    day would find the usual better than it will ever be on a new day. A cluster, by its address,
    adds up the climatology; the weights are fitted here.

    Raises:
        StoreError: There are fewer than two days.
    """
    if len(days) < 2:
        raise StoreError(
            f"{store.root}: {store.city.name} has {len(days)} training days, a mix needs 2"
        )
    grouping = grouping or choose_grouping(store.edition, days)
    total = fit_sums(store, days, grouping, workers=workers, cluster=cluster)
    moments = np.zeros((2, len(cut.leads), len(store.edition.channels)))
    for day in days:
        moments += _day_moments(store, day, grouping, total, cut)
    product, square = moments
    weights = np.clip(product / np.where(square > 0, square, 1), 0, 1)
    usual = Climatology(store.edition, store.city, grouping, tuple(days), total.mean())
    return Mix(usual, weights, cut.history, cut.leads, fingerprint(store, days, cut))


def fitted_mix(
    path: Path, store: Store, cut: Cut, *, workers: int = 2, cluster: str | None = None
) -> Mix:
    """Return the mix of a store's training days: from its file, or fitted anew if they differ."""
    days = store.days("training")
    with suppress(StoreError):  # a fit that is missing or spoiled is made again
        mix = load_mix(path, store.edition, store.city)
        if mix.fingerprint == fingerprint(store, days, cut):
            return mix
    mix = fit_mix(store, days, cut, workers=workers, cluster=cluster)
    save_mix(path, mix)
    return mix


def fingerprint(store: Store, days: Sequence[str], cut: Cut) -> str:
    """Return a digest of everything that a fit depends on."""
    stored = store.manifest.by_day()
    grouping = choose_grouping(store.edition, days)
    parts = [repr((FIT_VERSION, grouping, cut, *what_fits_rest_on(store.edition, store.city)))]
    parts += [f"{day} {stored[day].source_sha256}" for day in days]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _day_moments(
    store: Store, day: str, grouping: Grouping, total: GroupSums, cut: Cut
) -> NDArray[np.float64]:
    """Return the sums of `(truth - usual)(now - usual)` and `(now - usual)^2`, `(2, L, C)`."""
    touched, own = day_sums(store, day, grouping)
    others = {
        int(group): (total.sums[group] - sums).astype(np.float32) / np.float32(rest)
        for group, sums, rest in zip(
            touched, own.sums, total.frames[touched] - own.frames, strict=True
        )
        if rest
    }
    labels = group_of(store.edition, store.city, day, grouping)
    moments = np.zeros((2, len(cut.leads), len(store.edition.channels)))
    for window in WindowPlan(store.city.name, (day,), cut):
        frames = read_window(store, window).astype(np.float32)
        now = frames[: cut.history].mean(axis=0)
        for lead, frame in enumerate(window.future):
            usual = others.get(int(labels[frame]))
            if usual is None:  # no other day has this hour: nothing to learn from
                continue
            step = now - usual
            error = frames[cut.history + lead] - usual
            moments[0, lead] += np.einsum("hwc,hwc->c", error, step, dtype=np.float64)
            moments[1, lead] += np.einsum("hwc,hwc->c", step, step, dtype=np.float64)
    return moments


def save_mix(path: Path, mix: Mix) -> Path:
    """Write climatology and weights as one netCDF-4 file, whole."""
    usual = mix.climatology
    dataset = xr.Dataset(
        {
            "mean": (("group", "y", "x", "channel"), usual.steps),
            "weight": (("lead", "channel"), mix.weights),
        },
        coords={"lead": list(mix.leads), "channel": list(usual.edition.channels)},
        attrs={
            "edition": usual.edition.name,
            "city": usual.city.name,
            "grouping": usual.grouping,
            "history": mix.history,
            "days": " ".join(usual.days),
            "fingerprint": mix.fingerprint,
        },
    )
    dataset["mean"].attrs = {"units": f"1/{STEPS_PER_BYTE} byte", "largest": WHITE * STEPS_PER_BYTE}
    chunk = {"zlib": True, "complevel": 4, "chunksizes": (1, *usual.steps.shape[1:])}
    return save_dataset(path, dataset, {"mean": chunk})


def load_mix(path: Path, edition: Edition, city: City) -> Mix:
    """Return a mix from its file.

    Raises:
        StoreError: There is no such file, or it is of another edition, city or grid.
    """
    if not path.is_file():
        raise StoreError(f"{path}: no such file; `t4c score` fits it")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            dataset.load()
        found = (dataset.attrs["edition"], dataset.attrs["city"], dataset["mean"].shape)
        grouping: Grouping = dataset.attrs["grouping"]
        wanted = (edition.name, city.name, (GROUPS[grouping], *edition.frame_shape))
        mix = Mix(
            Climatology(
                edition,
                city,
                grouping,
                tuple(str(dataset.attrs["days"]).split()),
                dataset["mean"].values,
            ),
            dataset["weight"].values,
            int(dataset.attrs["history"]),
            tuple(int(lead) for lead in dataset["lead"].values),
            str(dataset.attrs["fingerprint"]),
        )
    except (OSError, KeyError, ValueError) as fault:
        raise StoreError(f"{path}: not a fitted mix: {fault}") from None
    if found != wanted:
        raise StoreError(f"{path}: a mix for {found}, expected {wanted}")
    return mix
