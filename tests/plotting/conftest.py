"""Labelled cells with everything that plots read, made without training."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def make_cells(n_obs: int = 120, seed: int = 0) -> AnnData:
    rng = np.random.default_rng(seed)
    cells = AnnData(sparse.csr_matrix(rng.poisson(2.0, size=(n_obs, 20)).astype(np.float32)))
    cluster = rng.choice(["10", "2", "7"], size=n_obs, p=[0.5, 0.3, 0.2])
    cells.obs["vmm_cluster"] = pd.Categorical(cluster, categories=["10", "2", "7"])
    cells.obs["vmm_cluster_probability"] = rng.uniform(0.3, 1.0, size=n_obs)
    cells.obs["batch"] = pd.Categorical(rng.choice(["a", "b"], size=n_obs))
    cells.obs["cell_type"] = rng.choice(["B", "T"], size=n_obs)
    cells.obsm["X_vmm"] = rng.normal(size=(n_obs, 5))
    cells.obsm["X_umap"] = rng.normal(size=(n_obs, 2))
    cells.obsm["X_umap_normal"] = rng.normal(size=(n_obs, 2))
    epochs = np.arange(40)
    cells.uns["vmmscvi"] = {
        "weights": {"10": 0.45, "2": 0.35, "7": 0.15},
        "history": {
            "elbo_train": 500 + 100 * np.exp(-epochs / 10),
            "elbo_validation": 510 + (epochs - 25.0) ** 2,
            "n_utilized_clusters": np.maximum(3, 30 - epochs).astype(float),
        },
    }
    return cells


@pytest.fixture
def cells() -> AnnData:
    return make_cells()


@pytest.fixture
def generated() -> AnnData:
    made = make_cells(60, seed=1)
    made.obs["component"] = made.obs["vmm_cluster"]
    return made
