"""The steps of the Snakefile as modules, and a small experiment that has been through all of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STEPS = BENCHMARKS / "steps"
NAMES = {path.stem for path in STEPS.glob("*.py")}

if not STEPS.is_dir():
    collect_ignore_glob = ["test_*.py"]  # a source distribution without the scripts

CONFIG: dict[str, Any] = {
    "experiments": {
        "tiny": {
            "datasets": {
                "two batches": {
                    "simulate": "well_separated",
                    "arguments": {"n_cells": 150, "n_genes": 60, "n_types": 3},
                    "train": {"max_epochs": 3},
                },
                "one batch": {
                    "simulate": "well_separated",
                    "arguments": {"n_cells": 120, "n_genes": 60, "n_types": 3, "n_batches": 1},
                    "train": {"max_epochs": 3},
                },
            },
            "methods": {
                "VMM": {
                    "kind": "scvi_vmm",
                    "model": {"n_components": 6, "n_hidden": 8, "n_latent": 3},
                    "train": {"start": "cells", "batch_size": 32},
                },
                "PCA": {"kind": "pca", "model": {"n_components": 3}},
            },
            "seeds": [0, 1],
            "scib": False,
        }
    }
}


@pytest.fixture(scope="session")
def steps() -> Iterator[Any]:
    """Import a step by its name, as the scripts import each other; nothing is left in ``sys``."""

    class Steps:
        def __getattr__(self, name: str) -> ModuleType:
            return import_module(name)

    sys.path.insert(0, str(STEPS))
    yield Steps()
    sys.path.remove(str(STEPS))
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def tiny(steps: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets x two methods x two seeds, trained and scored; layouts of the first seed."""
    out = tmp_path_factory.mktemp("results")
    experiment = steps.settings.read_experiment(CONFIG, "tiny")
    counts = {name: out / name / "counts.h5ad" for name in experiment.datasets}
    for name, spec in experiment.datasets.items():
        counts[name].parent.mkdir()
        steps.data.load(spec, Path()).write_h5ad(counts[name])
    for cell in experiment.cells:
        folder = out / cell.folder
        folder.mkdir(parents=True)
        method = json.loads(experiment.training(cell.dataset, cell.method))
        embedding = steps.train.train(steps.train.read_h5ad(counts[cell.dataset]), method, cell.seed)
        embedding.write_h5ad(folder / "embedding.h5ad")
        files = folder / "scores.csv", folder / "clusters.csv.gz"
        steps.score.score(folder / "embedding.h5ad", counts[cell.dataset], experiment.scoring, *files)
        if cell.seed == 0:
            steps.layout.layout(embedding).write_h5ad(folder / "layout.h5ad")
    return out
