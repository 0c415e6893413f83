"""A benchmark that is small enough to be run in the process of the tests, and one that has been run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmmscvi.benchmark import BenchmarkRun, _scheduler, run
from vmmscvi.benchmark._pools import Outcome
from vmmscvi.benchmark._worker import Task, perform

TINY: dict[str, Any] = {
    "datasets": [
        {
            "name": "tiny",
            "simulate": "well_separated",
            "arguments": {"n_cells": 120, "n_genes": 60, "n_types": 3},
            "train": {"max_epochs": 2},
        }
    ],
    "methods": [
        {
            "name": "VMM",
            "kind": "scvi_vmm",
            "model": {"n_components": 6, "n_hidden": 8, "n_latent": 3},
            "train": {"start": "cells", "batch_size": 32},
        },
        {"name": "PCA", "kind": "pca", "model": {"n_components": 3}},
    ],
    "clusterings": ["own", "leiden_1", "kmeans"],
    "scib": False,
}


class InlinePool:
    """Performs tasks in this process, and remembers which."""

    capacity = 1

    def __init__(self, jobs: int = 1, threads: int = 1) -> None:
        self.performed: list[Task] = []
        self._waiting: list[Task] = []

    def submit(self, task: Task) -> None:
        self._waiting.append(task)

    def wait(self) -> list[Outcome]:
        task = self._waiting.pop()
        self.performed.append(task)
        return [(task, perform(task))]

    def close(self) -> None:
        pass


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Let benchmarks run in this process; returns the tasks that have been performed."""
    pool = InlinePool()
    monkeypatch.setattr(_scheduler, "LocalPool", lambda jobs, threads: pool)
    return pool.performed


@pytest.fixture
def run_tiny(inline: list[Task], tmp_path: Path) -> Callable[..., BenchmarkRun]:
    """Run the small benchmark, with some entries changed, in ``tmp_path``."""

    def run_it(changes: dict[str, Any] | None = None, **kwargs: Any) -> BenchmarkRun:
        return run({**TINY, **(changes or {})}, tmp_path, progress=False, **kwargs)

    return run_it


@pytest.fixture(scope="session")
def small_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets x two methods x two seeds, one cell of which failed, and a set that was never run."""
    from vmmscvi.benchmark import collect, load_config
    from vmmscvi.benchmark._cells import cells_of
    from vmmscvi.benchmark._config import dump_config
    from vmmscvi.benchmark._score_cell import score_cell
    from vmmscvi.benchmark._train_cell import train_cell

    out = tmp_path_factory.mktemp("benchmark") / "results"
    size = {"n_cells": 80, "n_genes": 40, "n_types": 3}
    content: dict[str, Any] = {
        "datasets": [
            {"name": "two_batches", "simulate": "well_separated", "arguments": size},
            {"name": "one_batch", "simulate": "well_separated", "arguments": {**size, "n_batches": 1}},
            {"name": "never_run", "simulate": "well_separated", "arguments": size},
        ],
        "methods": [
            {"name": "VMM", "kind": "scvi_vmm", "model": {"n_components": 6}, "train": {"max_epochs": 2}},
            {"name": "PCA", "kind": "pca"},
        ],
        "seeds": [0, 1],
        "scib": False,
    }
    config = load_config(content)
    out.mkdir()
    (out / "config.yaml").write_text(dump_config(config))
    for cell in cells_of(config, out):
        if cell.dataset.name == "never_run":
            continue
        if (cell.dataset.name, cell.method.name, cell.seed) == ("two_batches", "PCA", 1):
            cell.record_failure("train", "ValueError: out of luck")
            continue
        train_cell(cell)
        score_cell(cell)
    collect(out)
    return out
