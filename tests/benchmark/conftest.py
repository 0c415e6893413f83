"""Results of a real, tiny benchmark: trained and scored once, not to be changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


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
