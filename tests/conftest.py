"""Small simulated data and models of them; each model is trained once and shared."""

from __future__ import annotations

import os
import sys

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch and numba count the cores: workers share them
    os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import scanpy as sc
import scvi
import torch
from anndata import AnnData
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from vmmscvi import SCVI_VMM
from vmmscvi.data import simulate_counts
from vmmscvi.starts._clusters import mean_inputs

SMALL_MODEL: dict[str, Any] = {"n_components": 8, "n_hidden": 16, "n_latent": 4}
SHORT_TRAINING: dict[str, Any] = {
    "max_epochs": 2,
    "start": "cells",  # all components, and both steps, from the first minibatch on
    "batch_size": 64,
    "accelerator": "cpu",
    "enable_progress_bar": False,
}

MakeModel = Callable[..., SCVI_VMM]


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test starts from the same random state, whatever ran before."""
    scvi.settings.seed = 0


@pytest.fixture(scope="session")
def counts() -> AnnData:
    """300 cells, 100 genes, two batches, with covariates; shared, so to be copied before it is changed."""
    adata = simulate_counts(n_cells=300, n_genes=100, n_types=4, n_batches=2, seed=0)
    rng = np.random.default_rng(0)
    adata.obs["donor"] = rng.choice(["anna", "ben", "carl"], adata.n_obs)
    adata.obs["phase"] = rng.choice(["G1", "S"], adata.n_obs)
    adata.obs["stress"] = rng.normal(size=adata.n_obs)
    adata.obs["size_factor"] = np.asarray(adata.X.sum(axis=1)).ravel()
    return adata


@pytest.fixture
def adata(counts: AnnData) -> AnnData:
    return counts.copy()


def _make_model(adata: AnnData, setup: dict[str, Any] | None = None, **kwargs: Any) -> SCVI_VMM:
    SCVI_VMM.setup_anndata(adata, **({"batch_key": "batch"} if setup is None else setup))
    return SCVI_VMM(adata, **{**SMALL_MODEL, **kwargs})


@pytest.fixture
def make_model(counts: AnnData) -> MakeModel:
    """An untrained model of a copy of the data, or of ``adata``; ``setup`` goes to ``setup_anndata``."""

    def make(adata: AnnData | None = None, setup: dict[str, Any] | None = None, **kwargs: Any) -> SCVI_VMM:
        return _make_model(counts.copy() if adata is None else adata, setup, **kwargs)

    return make


@pytest.fixture
def hide_package(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a package look as if it were not installed."""
    return lambda name: monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]


@pytest.fixture
def no_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scanpy draw the first dimensions as its map: UMAP is compiled for half a minute."""

    def first_dimensions(adata: AnnData, random_state: int = 0) -> None:
        basis = adata.uns["neighbors"]["params"]["use_rep"]
        adata.obsm["X_umap"] = adata.obsm[basis][:, :2]

    monkeypatch.setattr(sc.pp, "neighbors", partial(sc.pp.neighbors, method="gauss"))
    monkeypatch.setattr(sc.tl, "umap", first_dimensions)


@pytest.fixture
def before_every_step() -> Iterator[Callable[[Callable[[Optimizer], None]], None]]:
    """Have a function called before every step of any optimiser."""
    handles = []

    def register(function: Callable[[Optimizer], None]) -> None:
        handles.append(register_optimizer_step_pre_hook(lambda optimizer, *_: function(optimizer)))

    yield register
    for handle in handles:
        handle.remove()


@pytest.fixture
def short_training() -> dict[str, Any]:
    return dict(SHORT_TRAINING)


@pytest.fixture(scope="session")
def trained(counts: AnnData) -> Callable[[str], SCVI_VMM]:
    """The model with a prior of this name, trained once; not to be changed."""
    models: dict[str, SCVI_VMM] = {}

    def get(prior: str = "vmm") -> SCVI_VMM:
        if prior not in models:
            scvi.settings.seed = 0
            models[prior] = _make_model(counts.copy(), prior=prior)
            models[prior].train(**{**SHORT_TRAINING, "max_epochs": 3})
            scvi.settings.seed = 0
        return models[prior]

    return get


@pytest.fixture
def minibatch() -> Callable[..., dict[str, torch.Tensor]]:
    """The first cells of a model's data, as its module is given them."""

    def draw(model: SCVI_VMM, n_cells: int = 32) -> dict[str, torch.Tensor]:
        return next(iter(model._make_data_loader(adata=model.adata, batch_size=n_cells)))

    return draw


@pytest.fixture
def fill_pseudo_inputs(minibatch: Callable[..., dict[str, torch.Tensor]]) -> Callable[[SCVI_VMM], SCVI_VMM]:
    """Start the pseudo-inputs of an untrained model from its first cells, and forget any symmetry."""

    def fill(model: SCVI_VMM) -> SCVI_VMM:
        module, n_components = model.module, model.module.latent_prior.n_components
        cells = [minibatch(model, n_components)]
        module.install_prior(module.latent_prior, mean_inputs(module, cells, torch.eye(n_components)))
        with torch.no_grad():
            for logits in module.pseudo_inputs["z_encoder"].category_logits:
                logits.normal_()
        return model

    return fill
