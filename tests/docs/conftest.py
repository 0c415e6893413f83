"""The examples of the documentation, and a folder in which they can run."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
import scvi
from anndata import AnnData
from sklearn.datasets import load_digits

import vmmscvi.data
from vmmscvi._threads import training_threads_kept
from vmmscvi.data import simulate_counts
from vmmscvi.model._training_mixin import TrainingMixin
from vmmscvi.vae import VAE

N_CELLS = {"counts": 240, "reference": 240, "query": 120}
N_EPOCHS = 20
"""The tests check that examples run, and that there are several clusters, but no other results."""
DISTINCT = {"marker_log_fold_change": 3.0}
SMALLER: dict[str, dict[str, Any]] = {
    "simulate_counts": {"n_cells": N_CELLS["counts"]},
    "simulate_cite": {"n_cells": 240, "n_genes": 80, **DISTINCT},
    # few fragments: of many in few peaks, zeros and ones would be ones
    "simulate_peaks": {"n_cells": 240, "n_peaks": 200, "depth": 150.0, "n_markers": 10, **DISTINCT},
    "simulate_multiome": {"n_cells": 240, "n_genes": 80, "n_peaks": 200, "rna": DISTINCT, "peaks": DISTINCT},
}
"""What examples simulate, whatever size they ask for; types are so distinct that few epochs find them."""


def shortened(train: Callable[..., None], **settings: Any) -> Callable[..., None]:
    """Cut a training to few epochs, on the CPU and without a progress bar."""
    settings |= {"max_epochs": N_EPOCHS, "accelerator": "cpu", "enable_progress_bar": False}

    @wraps(train)
    def train_shortly(self: Any, **kwargs: Any) -> None:
        train(self, **{**kwargs, **settings})

    return train_shortly


def with_arguments(simulate: Callable[..., AnnData], **arguments: Any) -> Callable[..., AnnData]:
    """Simulate with other arguments than an example asks for."""

    @wraps(simulate)
    def simulate_smaller(**kwargs: Any) -> AnnData:
        return simulate(**{**kwargs, **arguments})

    return simulate_smaller


@pytest.fixture(scope="session")
def files() -> dict[str, AnnData]:
    """What the examples read: counts of four types in two batches, in two donors' more for a query."""
    drawn = {}
    for i, (name, n_cells) in enumerate(N_CELLS.items()):
        adata = simulate_counts(
            n_cells=n_cells, n_genes=80, n_types=4, marker_log_fold_change=3.0, n_batches=2, seed=i
        )
        types = adata.obs["cell_type"].cat.add_categories("unknown")
        adata.obs["cell_type"] = types.where(np.arange(n_cells) % 10 > 0, "unknown")
        if name == "query":
            adata.obs["batch"] = adata.obs["batch"].cat.rename_categories(lambda batch: f"query_{batch}")
        adata.layers["counts"] = adata.layers["fragments"] = adata.X.copy()
        adata.obsm["protein"] = adata[:, :10].to_df()
        adata.obs["chemistry"] = np.random.default_rng(0).choice(["v2", "v3"], n_cells)
        adata.uns.clear()
        adata.varm.clear()
        drawn[name] = adata
    return drawn


@pytest.fixture
def folder_with_files(files: dict[str, AnnData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty folder with the files that examples read; trainings are short, and no window opens."""
    for name, adata in files.items():
        adata.copy().write_h5ad(tmp_path / f"{name}.h5ad")
    monkeypatch.chdir(tmp_path)
    scvi.settings.seed = 0
    few_steps_are_enough = {"batch_size": 32, "lr": 1e-2}
    monkeypatch.setattr(TrainingMixin, "train", shortened(TrainingMixin.train, **few_steps_are_enough))
    for model in (scvi.model.SCVI, scvi.model.SCANVI, scvi.external.SOLO):
        monkeypatch.setattr(model, "train", shortened(model.train))
    for simulator, arguments in SMALLER.items():
        monkeypatch.setattr(
            vmmscvi.data, simulator, with_arguments(getattr(vmmscvi.data, simulator), **arguments)
        )
    # scanpy's, and compiled for half a minute when they are called first
    monkeypatch.setattr(sc.pp, "neighbors", lambda adata, use_rep, transformer: adata.obsm[use_rep])
    monkeypatch.setattr(sc.tl, "umap", lambda adata: adata.obsm.update(X_umap=adata.obsm["X_vmm"][:, :2]))
    digits = load_digits()
    digits.data = digits.data[:150]
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: digits)
    fit = VAE.fit

    def fit_shortly(self: VAE, *args: Any, **kwargs: Any) -> VAE:
        self.max_epochs = N_EPOCHS
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(VAE, "fit", fit_shortly)
    with mpl.rc_context({"backend": "Agg"}), training_threads_kept():
        yield tmp_path
    plt.close("all")
