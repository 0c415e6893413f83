import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vmmscvi.benchmark import load_config
from vmmscvi.benchmark._cells import Cell, cells_of
from vmmscvi.benchmark._pools import LocalPool, RayPool
from vmmscvi.benchmark._schema import EMBEDDING_FILE
from vmmscvi.benchmark._worker import Task, environment, thread_environment


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    simulated = {"name": "t", "simulate": "single_type", "arguments": {"n_cells": 40, "n_genes": 20}}
    config = load_config({"datasets": [simulated], "methods": [{"name": "PCA", "kind": "pca"}]})
    return next(cells_of(config, tmp_path))


def test_a_process_that_dies_costs_its_own_task_alone(cell: Cell) -> None:
    pool = LocalPool(jobs=1, threads=1)
    try:
        pool.submit(Task("train", cell))
        (worker,) = pool._workers
        os.kill(worker.process.pid, signal.SIGKILL)
        ((task, ending),) = pool.wait()
        assert (task.cell, ending.status) == (cell, "failed")
        assert "exit code -9" in ending.reason
        assert cell.record()["status"] == "failed"
        pool.submit(Task("train", cell))  # by a new process
        ((_, ending),) = pool.wait()
        assert ending.status == "done"
        assert (cell.folder / EMBEDDING_FILE).is_file()
    finally:
        pool.close()


def test_closing_ends_what_is_under_way(cell: Cell) -> None:
    endless = replace(cell.method, kind="scvi", train={"max_epochs": 10**6})
    pool = LocalPool(jobs=1, threads=1)
    pool.submit(Task("train", replace(cell, method=endless)))
    process = pool._workers[0].process
    start = time.monotonic()
    pool.close()
    assert not process.is_alive()
    assert time.monotonic() - start < 30


def test_threads_are_limited_for_processes_that_are_started_and_not_afterwards() -> None:
    before = dict(os.environ)
    with environment(thread_environment(3)):
        assert os.environ["OMP_NUM_THREADS"] == "3"
        assert os.environ["NUMBA_NUM_THREADS"] == "3"
    assert dict(os.environ) == before


@pytest.fixture
def ray_pool() -> Iterator[RayPool]:
    pytest.importorskip("ray", reason="needs ray")
    pool = RayPool(jobs=2, threads=1)
    yield pool
    pool.close()


@pytest.mark.slow
def test_a_task_that_ray_loses_costs_itself_alone(cell: Cell, ray_pool: RayPool) -> None:
    endless = replace(cell.method, kind="scvi", train={"max_epochs": 10**6})
    lost = Task("train", replace(cell, method=endless, folder=cell.folder.parent / "lost"))
    for task in (lost, Task("train", cell)):
        ray_pool.submit(task)
    ((task, ending),) = ray_pool.wait()
    assert (task.cell, ending.status) == (cell, "done")
    assert (cell.folder / EMBEDDING_FILE).is_file()
    (reference,) = ray_pool._running
    ray_pool._ray.cancel(reference, force=True)
    ((task, ending),) = ray_pool.wait()
    assert (task, ending.status) == (lost, "failed")
    assert ending.reason.startswith("Ray: ")
    assert lost.cell.record()["error"] == ending.reason


def test_ray_that_is_not_installed_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmmscvi.benchmark._pools.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install ray"):
        RayPool(jobs=1, threads=1)
