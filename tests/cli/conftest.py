"""A small input file, and a way to run commands in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from anndata.io import write_h5ad
from typer.testing import CliRunner

from vmmscvi.cli import app
from vmmscvi.data import simulate_counts

mpl.use("Agg")

Run = Callable[..., Any]


def make_input() -> AnnData:
    """200 cells of 80 genes, raw counts in X and in a layer, and whatever else a file may hold."""
    adata = simulate_counts(n_cells=200, n_genes=80, n_types=3, n_batches=2, n_markers=8, seed=0)
    rng = np.random.default_rng(0)
    adata.layers["counts"] = adata.X.copy()
    adata.layers["logged"] = adata.X.copy()
    adata.layers["logged"].data = np.log1p(adata.layers["logged"].data)
    adata.obs["text"] = [f"cell number {i}" for i in range(adata.n_obs)]
    adata.obs["score"] = rng.normal(size=adata.n_obs)
    adata.obs["flag"] = rng.random(adata.n_obs) > 0.5
    adata.obsm["X_pca"] = rng.normal(size=(adata.n_obs, 3))
    adata.varm["loadings"] = rng.normal(size=(adata.n_vars, 3))
    adata.obsp["graph"] = adata.X @ adata.X.T
    adata.uns["nested"] = {
        "table": pd.DataFrame({"a": [1.5, 2.5]}),
        "word": "x",
        "list": np.array(["p", "q"]),
    }
    adata.raw = adata[:, :50].copy()
    return adata


@pytest.fixture(scope="session")
def input_data() -> AnnData:
    return make_input()


@pytest.fixture
def source(input_data: AnnData, tmp_path: Path) -> Path:
    path = tmp_path / "cells.h5ad"
    write_h5ad(path, input_data, convert_strings_to_categoricals=False, compression="gzip")
    return path


@pytest.fixture
def write_input(input_data: AnnData, tmp_path: Path) -> Callable[..., Path]:
    """Write the input after a change."""

    def write(change: Callable[[AnnData], None]) -> Path:
        adata = input_data.copy()
        change(adata)
        path = tmp_path / "changed.h5ad"
        adata.write_h5ad(path)
        return path

    return write


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty folder's neighbourhood; ``result.output`` is standard output and error."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


QUICK = ("--max-epochs", 24, "--n-components", 10, "--n-latent", 4, "--accelerator", "cpu", "--quiet")
"""Options of a training that takes a second."""


@pytest.fixture
def integrate(run: Run, source: Path) -> Run:
    """Run ``vmmscvi integrate`` on the input, with a short training."""

    def invoke(*arguments: object, source: Path = source) -> Any:
        return run("integrate", source, "--batch-key", "batch", *QUICK, *arguments)

    return invoke


@pytest.fixture
def no_training(before_every_step: Callable[..., None]) -> None:
    """Fail if a command gets as far as training."""

    def fail(optimizer: object) -> None:
        raise AssertionError("training started")

    before_every_step(fail)
