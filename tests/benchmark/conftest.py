"""A benchmark that is small enough to be run in the process of the tests, and one that has been run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmmscvi.benchmark import BenchmarkRun, _runner, run
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
    monkeypatch.setattr(_runner, "LocalPool", lambda jobs, threads: pool)
    return pool.performed


@pytest.fixture
def run_tiny(inline: list[Task], tmp_path: Path) -> Callable[..., BenchmarkRun]:
    """Run the small benchmark, with some entries changed, in ``tmp_path``."""

    def run_it(changes: dict[str, Any] | None = None, **kwargs: Any) -> BenchmarkRun:
        return run({**TINY, **(changes or {})}, tmp_path, progress=False, **kwargs)

    return run_it
