"""A Dask cluster given by its address: two worker processes, the same bytes as without."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import dask
import distributed
import numpy as np
import pytest
import yaml  # Prefect brings it

from flows.config import read_config
from flows.ingest import ingest
from flows.maps import maps
from pipeline import cluster as cluster_room
from pipeline.climatology import fit_sums
from pipeline.cluster import connected, in_order
from pipeline.errors import ClusterError, ConfigError, StoreError
from pipeline.store import Store
from pipeline.usual import UsualFrames
from tests.world import NORTH_UP, TINY, TRAINING


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as here:
        yield here.scheduler_address


def contents(folder, *kinds):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in kinds
    }


def of_address(text, address):
    return text if address is None else yaml.safe_dump(yaml.safe_load(text) | {"cluster": address})


def test_ingest_fit_and_maps_on_a_cluster_are_the_same_bytes(world, cluster):
    text, made = world.config.read_text() + "maps: {parts: []}\n", {}
    for address in (None, cluster):
        for folder in (world.store, world.out):
            shutil.rmtree(folder, ignore_errors=True)
        world.config.write_text(of_address(text, address))
        config = read_config(world.config)
        assert config.cluster == address
        assert not ingest(config).faults
        assert not maps(config).faults
        made[address] = contents(world.store, ".nc") | contents(world.out, ".nc", ".png")
    alone, there = made.values()
    assert {name.split("/")[0] for name in alone} >= {"Aal", "Bex", "maps", "fitted"}
    assert alone == there


def test_sums_of_more_days_than_the_cluster_takes_at_once_are_those_of_one_process(
    pristine, cluster, tmp_path
):
    store = Store.open(pristine.store, TINY, NORTH_UP)
    days = [*TRAINING] * 3
    alone = fit_sums(store, days, "weekday", workers=1)
    there = fit_sums(store, days, "weekday", cluster=cluster)
    np.testing.assert_array_equal(alone.sums, there.sums)
    np.testing.assert_array_equal(alone.frames, there.frames)
    files = [
        UsualFrames.fit(store, TRAINING, tmp_path / str(address), cluster=address).path.read_bytes()
        for address in (None, cluster)
    ]
    assert files[0] == files[1]


def slow_to_begin(number):
    import time

    time.sleep(0.2 if number == 0 else 0)
    return number


def refuse(number):
    raise StoreError(f"{number}: no such day")


@pytest.mark.parametrize("workers", [1, 3, None])
def test_results_come_in_the_order_of_the_jobs_and_faults_through(cluster, workers):
    where = {"cluster": cluster} if workers is None else {"workers": workers}
    jobs = [(number,) for number in range(11)]
    assert [*in_order(slow_to_begin, jobs, **where)] == [*range(11)]
    assert [*in_order(slow_to_begin, [], **where)] == []
    with pytest.raises(StoreError, match=r"[0-2]: no such day"):  # of three at a time, any
        list(in_order(refuse, jobs, **where))


def test_an_address_without_a_scheduler_is_named(pristine):
    nowhere = "tcp://127.0.0.1:9"
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        config = read_config(pristine.config, [f"cluster={nowhere}"])
        with pytest.raises(ConfigError, match="no Dask scheduler at 'tcp://127.0.0.1:9'"):
            maps(config)


def test_a_cluster_without_workers_is_named(monkeypatch):
    monkeypatch.setattr(cluster_room, "WORKER_SECONDS", 0.5)
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as here:
        where = here.scheduler_address
        with pytest.raises(ClusterError, match=rf"{where}' has no worker, and none came within 0"):
            list(in_order(slow_to_begin, [(0,)], cluster=where))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            distributed.KilledWorker("die-1", SimpleNamespace(address="tcp://w:1"), 3),
            "'die-1'.*w:1",
        ),
        (distributed.client.FutureCancelledError("die-1", "lost"), "gone: die-1.*lost"),
    ],
)
def test_a_cluster_that_breaks_at_work_is_named(cluster, fault, said):
    with pytest.raises(ClusterError, match=f"'{cluster}': .*{said}"), connected(cluster):
        raise fault
