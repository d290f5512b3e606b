"""One page that a team lead reads in a minute: the ladder, the maps, where it fails, how made."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd

from flows.config import RunConfig
from flows.maps import CityMaps, in_a_name, make_maps, mapped_models
from flows.models import identity
from flows.recipe import Outcome, publish_image, publish_markdown, publish_table
from flows.score import in_units, score_city
from pipeline import web_page as web
from pipeline.atomic import write_text
from pipeline.comparison import paired_difference
from pipeline.error_curves import (
    draw_error_curves,
    draw_reliability,
    timed_rows,
    worst_days,
    worst_windows,
)
from pipeline.error_tables import Errors, join
from pipeline.kept_fits import digest
from pipeline.maps.scales import THEMES, ThemeName
from pipeline.store import Store

BOTH: tuple[ThemeName, ThemeName] = ("light", "dark")
PACKAGES = ("crevnet-traffic4cast", "numpy", "pandas", "xarray", "matplotlib", "torch")
SHOWN = {
    "mse": "Mean squared error of each cell; cells that were never active are blank.",
    "skill": "Skill: share of the baseline's error that is gone; blue is better.",
    "difference": "Difference of errors; blue: the first is better. Dots: more than chance.",
}


def report(config: RunConfig) -> Outcome:
    """Score the ladder, map and draw the chosen models, and write it all as one page."""
    names = list(dict.fromkeys([*config.ladder, *mapped_models(config)]))
    errors = join([score_city(config, city, names) for city in config.chosen_cities()])
    made = make_maps(config, BOTH, SHOWN)
    said = _said(errors)
    title = f"{errors.edition.title}: where the forecasts stand"
    body = [
        web.heading(title, 1),
        *_ladder(errors, said),
        *_curves(config, errors, made),
        *_maps(made),
        *_failures(errors),
        *_making(config, names),
    ]
    path = write_text(config.out / "report.html", web.page(title, body))
    key = f"{errors.edition.name}-report"
    publish_markdown(key, f"# {title}\n\n{' '.join(said)}", title)
    publish_table(f"{key}-ladder", in_units(errors.table(), errors.edition)[0], "The ladder")
    for city in made:
        for (data, kind, theme), picture in city.pictures.items():
            if theme == "light":
                publish_image(f"{key}-{data.stem}-{kind}", picture, SHOWN[kind])
    size = path.stat().st_size
    return Outcome(
        [*said, f"report: {path} ({size / 1e6:.1f} MB)"],
        {"report": str(path), "bytes": size, "scores": errors.leaderboard().to_dict()},
    )


def _said(errors: Errors) -> list[str]:
    """Return in two or three sentences what the ladder says."""
    scaled, unit = in_units(errors.table(), errors.edition)
    best = str(scaled.index[-1])
    scores = scaled["mse"].to_numpy(float)
    said = [f"Best is {best}: mean squared error {scores[-1]:.3f} {_written(unit)}."]
    if len(scaled) > 1:
        second = str(scaled.index[-2])
        found = paired_difference(errors, [best], [second])
        said.append(f"That is {-found.share:.1%} below the next, {second}.")
        if found.dates > 1 and np.isfinite([found.low, found.high]).all():
            said.append(
                f"Over days, with 95 % confidence, the difference is {found.low:+.1%} to "
                f"{found.high:+.1%} ({found.dates} days)."
            )
    return said


def _ladder(errors: Errors, said: list[str]) -> list[str]:
    scaled, unit = in_units(errors.table(), errors.edition)
    shown = scaled[::-1].reset_index(names="forecast")
    windows = len(errors.rows[["city", "day", "slot"]].drop_duplicates())
    days = sorted(errors.rows["day"].unique(), key=errors.edition.day_of)
    note = (
        f"Mean squared error {_written(unit)} over {windows} windows of {len(days)} days, "
        f"{days[0]} to {days[-1]}; forecasts are rounded to bytes. A click on a column's head "
        "sorts by it."
    )
    return [
        web.paragraph(" ".join(said), "lead"),
        web.table(shown, best=str(shown["forecast"].iloc[0])),
        web.paragraph(note, "soft"),
    ]


def _curves(config: RunConfig, errors: Errors, made: list[CityMaps]) -> list[str]:
    """Draw the curves; return the section that shows them."""
    folder, rows, chosen = config.out / "maps", timed_rows(errors), mapped_models(config)
    endings = {"light": "", "dark": "_dark"}
    curves = [
        draw_error_curves(folder / f"curves{endings[t]}.png", errors, chosen, THEMES[t], rows)
        for t in BOTH
    ]
    parts = [
        web.heading("When the error is"),
        web.picture(curves[0], "By local hour, lead, channel and weekday.", curves[1]),
    ]
    channel = errors.edition.channels[0]
    for city in made:
        stem = f"{in_a_name(city.city)}_reliability"
        drawn = [
            draw_reliability(folder / f"{stem}{endings[t]}.png", city.reliable, channel, THEMES[t])
            for t in BOTH
        ]
        said = f"{city.city}: how often a cell was active, by the {channel} that was forecast."
        parts.append(web.picture(drawn[0], said, drawn[1]))
    return parts


def _maps(made: list[CityMaps]) -> list[str]:
    parts = [web.heading("Where the error is")]
    for city in made:
        shown = [
            web.picture(
                picture,
                f"{_named(data, city)}: {SHOWN[kind]}",
                city.pictures.get((data, kind, "dark")),
            )
            for (data, kind, theme), picture in city.pictures.items()
            if theme == "light"
        ]
        parts += [web.heading(city.city, 3), web.side_by_side(shown)]
    return parts


def _named(data: Path, city: CityMaps) -> str:
    """Return the model, or the two models, of a file of maps."""
    pairs = {path: f"{one} against {other}" for (one, other), path in city.pairs.items()}
    return pairs.get(data) or next(name for name, path in city.models.items() if path == data)


def _failures(errors: Errors) -> list[str]:
    best = str(errors.table().index[-1])

    def scaled(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(mse=in_units(frame[["mse"]], errors.edition)[0]["mse"])

    return [
        web.heading("Where it fails"),
        web.paragraph(
            f"The windows and days in which {best} is furthest off; time is the local start of "
            "the first frame that is forecast, times how often the mean error that is.",
            "soft",
        ),
        web.side_by_side(
            [
                web.table(scaled(worst_windows(errors, best))),
                web.table(scaled(worst_days(errors, best).head(10))),
            ]
        ),
    ]


def _making(config: RunConfig, names: list[str]) -> list[str]:
    edition = config.read_edition()
    facts = []
    for city in config.chosen_cities():
        store = Store.open(config.store, edition, city)
        for split in ("training", "validation"):
            days = store.days(split)
            if days:
                said = f"{len(days)} days, {days[0]} to {days[-1]}"
                facts.append(f"{city.name}, {split}: {said}, digest {digest(store, days)}")
        facts += [f"{city.name}, {name}: {identity(config, store, name)}" for name in names]
    versions = [f"{name} {found}" for name in PACKAGES if (found := _version(name))]
    return [
        web.heading("How it was made"),
        web.listing([f"Python {platform.python_version()}; {'; '.join(versions)}", edition.terms]),
        web.folded("Days and models, by checksum", "\n".join(facts)),
        web.folded("Configuration", config.model_dump_json(indent=1)),
    ]


def _written(unit: str) -> str:
    return {"10^-3": "× 10⁻³", "bytes^2": "bytes²"}[unit]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
