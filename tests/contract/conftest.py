"""Every model with the mixture prior: how its data are made and registered, and what stock's twin is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anndata as ad
import mudata
import numpy as np
import pytest
import scvi
import torch

import vmmscvi
from vmmscvi.data import simulate_cite, simulate_counts, simulate_multiome, simulate_peaks

N_CELLS = 160
TRAINING: dict[str, Any] = {
    "max_epochs": 3,
    "n_warmup_epochs": 1,
    "batch_size": 64,
    "accelerator": "cpu",
    "enable_progress_bar": False,
}


def _counts() -> ad.AnnData:
    return simulate_counts(n_cells=N_CELLS, n_genes=40, n_types=3, n_batches=2, seed=0)


def _peaks() -> ad.AnnData:
    return simulate_peaks(n_cells=N_CELLS, n_peaks=120, n_types=3, n_batches=2, seed=0)


def _cite() -> ad.AnnData:
    return simulate_cite(n_cells=N_CELLS, n_genes=40, n_types=4, n_proteins=8, n_batches=2, seed=0)


def _velocity() -> ad.AnnData:
    adata = _counts()
    rng = np.random.default_rng(0)
    dense = np.asarray(adata.X.todense(), dtype=np.float32)
    adata.layers["spliced"] = np.log1p(dense) / 5
    adata.layers["unspliced"] = (np.log1p(dense) / 5 * rng.uniform(0.2, 0.8, dense.shape)).astype(np.float32)
    return adata


def _cytometry() -> ad.AnnData:
    adata = _counts()[:, :12].copy()
    adata.X = np.arcsinh(np.asarray(adata.X.todense(), dtype=np.float32))
    return adata


def _multiome() -> mudata.MuData:
    thirds = {"paired": 1 / 3, "expression": 1 / 3, "accessibility": 1 / 3}
    adata = simulate_multiome(
        n_cells=N_CELLS, n_genes=40, n_peaks=100, modalities=thirds, n_types=3, n_batches=2, seed=0
    )
    is_gene = (adata.var["modality"] == "Gene Expression").to_numpy()
    parts = {"rna": adata[:, is_gene].copy(), "atac": adata[:, ~is_gene].copy()}
    return mudata.MuData(
        {name: ad.AnnData(p.X, obs=p.obs.copy(), var=p.var[[]]) for name, p in parts.items()}
    )


def _batches(cls: Any, data: Any) -> None:
    cls.setup_anndata(data, batch_key="batch")


@dataclass(frozen=True)
class Case:
    """A model: its data, how they are registered, and the arguments that give ours the networks of stock."""

    ours: Any
    stock: Any
    make_data: Callable[[], Any]
    setup: Callable[[Any, Any], None] = _batches
    small: dict[str, Any] = field(default_factory=lambda: {"n_hidden": 8})
    stock_options: dict[str, Any] = field(default_factory=dict)
    """What our defaults differ in from stock's."""
    has_only_z: bool = True
    """Whether the loss depends on the weight of the divergence by that of z alone."""
    can_query: bool = True
    can_minify: bool = False
    can_sample: bool = True

    def model(self, stock: bool = False, **kwargs: Any) -> Any:
        """Make a small model of freshly made data."""
        scvi.settings.seed = 0
        cls, data = self.stock if stock else self.ours, self.make_data()
        if cls is scvi.external.CYTOVI:
            kwargs["prior_mixture"] = False
        self.setup(cls, data)
        scvi.settings.seed = 0
        return cls(data, **{**self.small, "n_latent": 3, **kwargs})


def _ambient(cls: Any, data: Any) -> None:
    cls.setup_anndata(data)


OLD_NETWORKS = {
    "n_layers_encoder": 2,
    "n_layers_decoder": 2,
    "use_batch_norm": "none",
    "use_layer_norm": "both",
    "encode_covariates": False,
}
with_vmm = vmmscvi.with_vmm

CASES = {
    "SCVI": Case(
        vmmscvi.SCVI_VMM,
        scvi.model.SCVI,
        _counts,
        can_minify=True,
        stock_options={"encode_covariates": False},
    ),
    "LinearSCVI": Case(
        vmmscvi.LinearSCVI_VMM,
        scvi.model.LinearSCVI,
        _counts,
        can_query=False,
        stock_options={"use_observed_lib_size": False},
    ),
    "TOTALVI": Case(
        vmmscvi.TOTALVI_VMM,
        scvi.model.TOTALVI,
        _cite,
        lambda cls, data: cls.setup_anndata(data, "protein", batch_key="batch"),
        can_minify=True,
    ),
    "PEAKVI": Case(
        vmmscvi.PEAKVI_VMM,
        scvi.model.PEAKVI,
        _peaks,
        stock_options={**OLD_NETWORKS, "stock_loss": True, "condition_on_depth": False},
    ),
    "POISSONVI": Case(
        vmmscvi.POISSONVI_VMM,
        scvi.external.POISSONVI,
        _peaks,
        stock_options={
            "n_layers": 2,
            "use_batch_norm": "none",
            "use_layer_norm": "both",
            "encode_covariates": False,
            "encode_shares": False,
            "extra_encoder_kwargs": {"activation_fn": torch.nn.LeakyReLU},
            "extra_decoder_kwargs": {"activation_fn": torch.nn.LeakyReLU},
        },
    ),
    "MULTIVI": Case(
        vmmscvi.MULTIVI_VMM,
        scvi.model.MULTIVI,
        _multiome,
        lambda cls, data: cls.setup_mudata(
            data,
            batch_key="batch",
            modalities={"rna_layer": "rna", "atac_layer": "atac", "batch_key": "rna"},
        ),
        stock_options=OLD_NETWORKS,
        can_query=False,  # scvi-tools maps MuData of this model with an error of its own
        can_minify=False,
    ),
    "AUTOZI": Case(
        with_vmm(scvi.model.AUTOZI), scvi.model.AUTOZI, _counts, can_query=False, can_sample=False
    ),
    "CYTOVI": Case(
        with_vmm(scvi.external.CYTOVI), scvi.external.CYTOVI, _cytometry, can_query=False, can_sample=False
    ),
    "SCAR": Case(
        with_vmm(scvi.external.SCAR), scvi.external.SCAR, _counts, _ambient, can_query=False, can_sample=False
    ),
    "VELOVI": Case(
        with_vmm(scvi.external.VELOVI),
        scvi.external.VELOVI,
        _velocity,
        lambda cls, data: cls.setup_anndata(data, "spliced", "unspliced"),
        has_only_z=False,
        can_query=False,
        can_sample=False,
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", list(CASES.values()), ids=list(CASES))


@pytest.fixture(scope="session")
def trained() -> Callable[[Case], Any]:
    """A model with the VMM, trained once with its mixture found in the embedding; not to be changed."""
    models: dict[int, Any] = {}

    def get(case: Case) -> Any:
        if id(case) not in models:
            model = case.model(n_components=8)
            model.train(**TRAINING)
            models[id(case)] = model
        return models[id(case)]

    return get


@pytest.fixture
def training() -> dict[str, Any]:
    return dict(TRAINING)


@pytest.fixture
def minibatch() -> Callable[[Any], dict[str, torch.Tensor]]:
    def draw(model: Any, n_cells: int = 32) -> dict[str, torch.Tensor]:
        return next(iter(model._make_data_loader(adata=model.adata, batch_size=n_cells)))

    return draw
