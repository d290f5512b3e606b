"""What a synthetic city is like: every number that shapes it, with a name and a unit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """What a road is for, from the humblest up."""

    STREET = 0
    COLLECTOR = 1
    ARTERIAL = 2
    MOTORWAY = 3


@dataclass(frozen=True, slots=True)
class CityStyle:
    """How a city looks and how its traffic behaves.

    The defaults meet the realism targets (`pipeline.synthetic.realism`), which were measured on
    real probe data, on any grid. Tuples by kind are in the order of `Kind`.

    Attributes:
        radials: Arterials that leave the centre; every other one turns into a motorway outside.
        block_cells: Distance of parallel side streets, cells: at least, at most.
        district_cells: Typical width of a district with streets of one orientation, cells.
        built_up: Share of the half-width over which the city thins out into the country.
        carriageway_gap: Distance of a carriageway from the road's middle by kind, cells.
        importance: Log flow of a road by kind.
        central_importance: Log flow that a road gains from the edge of the city to its centre.
        road_variety: Standard deviation of log flow between roads, by kind.
        cell_variety: Standard deviation of log flow between neighbouring cells of a road.
        flank: Log share of the probes that are seen beside their carriageway.
        flank_cells: How far beside, cells.
        heading_spread: Standard deviation of a probe's heading about its road's, degrees.
        heading_floor: Share of probes that go any other way, by heading: turns and side roads.
        stream_share: Share of all pairs of cell and heading that the rates are spread over.
        rate_median: Median over those pairs of the expected sightings in 5 minutes.
        rate_spread: Standard deviation of the logarithm of that rate over the pairs.
        rate_limit: Rate that no pair exceeds: those near it are held back.
        trace_cells: Cells in a row that one passing probe is seen in.
        catch: Share of the cells on its way that a passing probe leaves a sighting in.
        rush: Height of the rush hours above the day's plateau, as a share of it.
        night: Height of the night, as a share of the plateau.
        tilt: Share of the rush that is one-way: into the city at morning, out of it at evening.
        weekend: Height of Saturday and of Sunday, as a share of a weekday's plateau.
        day_variety: Standard deviation of log traffic between days of a kind.
        road_day_variety: The same for one road, on top.
        drift: Standard deviation of a road's log traffic within a day about its profile.
        drift_minutes: Time over which that deviation is forgotten.
        speed: Free speed by kind, bytes (255 is 120 km/h).
        speed_variety: Standard deviation of log free speed between roads, by kind.
        cell_speed_variety: Standard deviation of log free speed between cells of a road.
        busy_speed: Log free speed that a road gains for each unit of its log rate.
        fast_roads: Correlation of speed and traffic among the roads of a kind.
        congestion: Share of its speed that a busy road in the centre loses at the height of rush.
        speed_noise: Standard deviation of one sighting's speed, bytes.
        shared_noise: Share of that variance that all cells of a trace have in common.
        stop_share: Share of sightings that stand at a light or look for a place to park, by kind.
        volume_scale: Log volume of a sighting on a road of rate 1.
        volume_by_rate: Log volume gained for each unit of log rate.
        volume_variety: Standard deviation of log volume between cells.
        volume_noise: Standard deviation of log volume from one sighting to the next.
        jams: Jams of a weekday for each 1000 cells of carriageway that can jam.
        jam_cells: Half-length of a jam, cells: at least, at most.
        jam_minutes: Life of a jam: at least, at most.
        jam_drift: Cells that a jam moves against the traffic in 5 minutes.
        jam_depth: Share of the speed that is lost in it: at least, at most.
        jam_crowding: Share by which a full jam raises the rate of sightings.
    """

    radials: int = 7
    block_cells: tuple[float, float] = (2.3, 4.0)
    district_cells: float = 34.0
    built_up: float = 0.62
    carriageway_gap: tuple[float, float, float, float] = (0.1, 0.18, 0.3, 0.45)
    importance: tuple[float, float, float, float] = (0.0, 1.9, 3.6, 4.4)
    central_importance: float = 1.6
    road_variety: tuple[float, float, float, float] = (0.6, 0.6, 0.5, 0.2)
    cell_variety: float = 0.15
    flank: float = -1.3
    flank_cells: float = 0.6
    heading_spread: float = 14.0
    heading_floor: float = 0.012
    stream_share: float = 0.6
    rate_median: float = 0.0012
    rate_spread: float = 3.5
    rate_limit: float = 3.5
    trace_cells: int = 16
    catch: float = 0.9
    rush: float = 0.45
    night: float = 0.22
    tilt: float = 0.5
    weekend: tuple[float, float] = (0.85, 0.7)
    day_variety: float = 0.06
    road_day_variety: float = 0.12
    drift: float = 0.27
    drift_minutes: float = 50.0
    speed: tuple[float, float, float, float] = (72.0, 78.0, 80.0, 190.0)
    speed_variety: tuple[float, float, float, float] = (0.32, 0.3, 0.36, 0.1)
    cell_speed_variety: float = 0.12
    busy_speed: float = 0.09
    fast_roads: float = 0.6
    congestion: float = 0.15
    speed_noise: float = 20.5
    shared_noise: float = 0.5
    stop_share: tuple[float, float, float, float] = (0.26, 0.2, 0.16, 0.03)
    volume_scale: float = 1.7
    volume_by_rate: float = 0.35
    volume_variety: float = 0.4
    volume_noise: float = 0.8
    jams: float = 6.0
    jam_cells: tuple[float, float] = (4.0, 14.0)
    jam_minutes: tuple[float, float] = (30.0, 120.0)
    jam_drift: float = 1.5
    jam_depth: tuple[float, float] = (0.4, 0.8)
    jam_crowding: float = 0.6


DEFAULT_STYLE = CityStyle()
