from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from pipeline.ingest import ingest_city
from pipeline.store import Store
from tests.world import TINY, World, build_world

os.environ.setdefault("DO_NOT_TRACK", "1")
settings.register_profile("shared", deadline=None)  # shared machines pause at any moment
settings.load_profile("shared")
ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("T4C_SHARED_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A tiny release, ingested once; not to be written to."""
    world = build_world(tmp_path_factory.mktemp("pristine"))
    for city in TINY.cities:
        ingest_city(world.release, TINY, city, world.store, workers=0)
    return world


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A tiny release of one's own to spoil."""
    return build_world(tmp_path)


@pytest.fixture
def stores(pristine: World) -> list[Store]:
    """The stores of both cities."""
    return [Store.open(pristine.store, TINY, city) for city in TINY.cities]


@pytest.fixture
def ingested(pristine: World, tmp_path: Path) -> World:
    """A copy of the tiny release, ingested."""
    shutil.copytree(pristine.root, tmp_path, dirs_exist_ok=True)
    config = (tmp_path / "run.yaml").read_text().replace(str(pristine.root), str(tmp_path))
    (tmp_path / "run.yaml").write_text(config)
    return World(tmp_path)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data that does not come with the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}; set T4C_SHARED_DATA")
    return SHARED
