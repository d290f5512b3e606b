"""A lawful city drawn from a seed: the embedded default data, in the layout of the real releases.

Roads, arterials, rush hours and jams that move along roads; every day is a pure function of seed,
city, grid and date. `realism` says how like real traffic it is.
"""

from pipeline.headings import HEADING_CODES
from pipeline.synthetic.movie import (
    CHANNELS_2019,
    CHANNELS_2020,
    Movie,
    decode,
    encode,
    encode_2019,
    encode_2020,
)
from pipeline.synthetic.realism import TARGETS, city_realism, realism
from pipeline.synthetic.release import (
    PlannedDay,
    ReleaseSummary,
    plan_release,
    truth_frames,
    write_release,
)
from pipeline.synthetic.style import DEFAULT_STYLE, CityStyle, Kind
from pipeline.synthetic.traffic import city_streams, draw_day

__all__ = [
    "CHANNELS_2019",
    "CHANNELS_2020",
    "DEFAULT_STYLE",
    "HEADING_CODES",
    "TARGETS",
    "CityStyle",
    "Kind",
    "Movie",
    "PlannedDay",
    "ReleaseSummary",
    "city_realism",
    "city_streams",
    "decode",
    "draw_day",
    "encode",
    "encode_2019",
    "encode_2020",
    "plan_release",
    "realism",
    "truth_frames",
    "write_release",
]
