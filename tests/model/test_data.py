"""Every way in which data and covariates come, and every setting of scVI's that the prior could trip over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch
from anndata import AnnData

from vmmscvi import SCVI_VMM

Make = Callable[..., SCVI_VMM]

REPRESENTATIONS: dict[str, Callable[[sp.csr_matrix], Any]] = {
    "dense": lambda X: X.toarray(),
    "CSC": sp.csc_matrix,
    "integers": lambda X: X.astype(np.int64),
    "dense integers": lambda X: X.toarray().astype(np.int32),
    "double precision": lambda X: X.astype(np.float64),
}

CATEGORIES = {"batch_key": "batch", "categorical_covariate_keys": ["donor", "phase"]}
COVARIATES = {**CATEGORIES, "continuous_covariate_keys": ["stress"]}
SETTINGS: dict[str, dict[str, Any]] = {
    "single batch": {"setup": {}},
    "encoder without covariates": {"encode_covariates": False},
    "covariates": {"setup": COVARIATES},
    "covariates, encoder without": {"setup": COVARIATES, "encode_covariates": False},
    "covariates, single batch": {"setup": {"categorical_covariate_keys": ["donor"]}},
    "batch embedding": {"batch_representation": "embedding"},
    "batch embedding, covariates": {"batch_representation": "embedding", "setup": COVARIATES},
    "batch embedding, encoder without": {"batch_representation": "embedding", "encode_covariates": False},
    "labels": {"setup": {"batch_key": "batch", "labels_key": "cell_type"}, "dispersion": "gene-label"},
    "dispersion of a batch": {"dispersion": "gene-batch"},
    "dispersion of a cell": {"dispersion": "gene-cell"},
    "size factors": {"setup": {"batch_key": "batch", "size_factor_key": "size_factor"}},
    "latent library size": {"use_observed_lib_size": False},
    "negative binomial": {"gene_likelihood": "nb"},
    "Poisson": {"gene_likelihood": "poisson"},
    "two layers, shallow injection": {"n_layers": 2, "deeply_inject_covariates": False},
    "layer norm": {"use_batch_norm": "none", "use_layer_norm": "both"},
    "one component": {"n_components": 1},
    "one dimension": {"n_latent": 1},
    "pseudo-inputs as counts": {"pseudo_input_space": "counts"},
    "maximum likelihood": {"inference": "MLE"},
    "textbook responsibilities": {"responsibilities_in_gradient": False},
    "Wishart of the reference code": {"wishart_scale": "reference"},
}


@pytest.fixture(scope="module")
def reference(counts: AnnData) -> dict[str, Any]:
    return {}


def clusters(make_model: Make, adata: AnnData, setup: dict[str, Any], **training: Any) -> np.ndarray:
    model = make_model(adata, setup=setup)
    options = {"max_epochs": 1, "start": "cells", "batch_size": 64, "accelerator": "cpu"}
    model.train(**{**options, "enable_progress_bar": False, **training})
    return model.get_cluster_probabilities().to_numpy()


@pytest.mark.parametrize("convert", REPRESENTATIONS.values(), ids=REPRESENTATIONS.keys())
def test_clusters_do_not_depend_on_how_counts_are_stored(
    make_model: Make, adata: AnnData, reference: dict[str, Any], convert: Any
) -> None:
    if not reference:
        reference["CSR"] = clusters(make_model, adata.copy(), {"batch_key": "batch"})
    scvi.settings.seed = 0
    adata.X = convert(adata.X)
    np.testing.assert_allclose(
        clusters(make_model, adata, {"batch_key": "batch"}), reference["CSR"], rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("convert", [sp.csr_matrix, lambda X: X.toarray()], ids=["CSR", "dense"])
def test_counts_can_stay_on_disk(
    make_model: Make, adata: AnnData, short_training: dict[str, Any], tmp_path: Path, convert: Any
) -> None:
    adata.X = convert(adata.X)
    adata.write_h5ad(tmp_path / "counts.h5ad")
    model = make_model(anndata.read_h5ad(tmp_path / "counts.h5ad", backed="r"))
    model.train(**{**short_training, "max_epochs": 1})
    assert model.get_cluster_probabilities().shape == (300, 8)
    assert model.sample_prior(350).shape == (350, 100)


@pytest.mark.parametrize("sparse_tensors", [False, True])
def test_counts_can_be_in_a_layer(make_model: Make, adata: AnnData, sparse_tensors: bool) -> None:
    expected = clusters(make_model, adata.copy(), {"batch_key": "batch"})
    scvi.settings.seed = 0
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    setup = {"batch_key": "batch", "layer": "counts"}
    found = clusters(make_model, adata, setup, load_sparse_tensor=sparse_tensors)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS.keys())
def test_settings(make_model: Make, short_training: dict[str, Any], options: dict[str, Any]) -> None:
    model = make_model(**options)
    model.train(**{**short_training, "max_epochs": 1})
    probabilities = model.get_cluster_probabilities()
    assert probabilities.shape == (300, model.module.latent_prior.n_components)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert np.isfinite(model.get_prior_log_density()).all()
    assert np.isfinite(float(model.get_elbo()))
    assert np.isfinite(float(model.get_marginal_ll(n_mc_samples=2, indices=list(range(20)))))
    batch = model._batch_names()[-1]
    generated = model.sample_prior(20, component="0", batch=batch)
    assert np.isfinite(generated.X.data).all() and (generated.obs["batch"] == batch).all()


@pytest.mark.parametrize("prior", ["gmm", "vampprior", "standard_normal"])
@pytest.mark.parametrize(
    "name", ["single batch", "covariates", "encoder without covariates", "batch embedding, covariates"]
)
def test_settings_with_the_other_priors(
    make_model: Make, short_training: dict[str, Any], prior: str, name: str
) -> None:
    model = make_model(**SETTINGS[name], prior=prior)
    model.train(**{**short_training, "max_epochs": 1})
    assert np.isfinite(model.get_prior_log_density()).all()
    assert model.sample_prior(5).shape == (5, 100)


def test_normal_likelihood_takes_values_that_are_no_counts(
    make_model: Make, adata: AnnData, short_training: dict[str, Any]
) -> None:
    adata.X = np.log1p(adata.X.toarray())
    model = make_model(adata, gene_likelihood="normal", log_variational=False)
    model.train(**{**short_training, "max_epochs": 1})
    assert np.isfinite(model.get_cluster_probabilities()).all(axis=None)


def test_size_factors_set_the_library_size_of_generated_cells(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    model = make_model(**SETTINGS["size factors"])
    model.train(**{**short_training, "max_epochs": 1})
    with pytest.raises(
        ValueError, match="`library_size` must be a positive number, or None for a model with"
    ):
        model.sample_prior(3, library_size=1000)


def test_external_splits_are_respected(make_model: Make, short_training: dict[str, Any]) -> None:
    model = make_model()
    split = [np.arange(200), np.arange(200, 260), np.arange(260, 300)]
    model.train(**{**short_training, "max_epochs": 1}, datasplitter_kwargs={"external_indexing": split})
    np.testing.assert_array_equal(model.train_indices, split[0])
    cells = torch.expm1(model.module.pseudo_inputs["z_encoder"]()[0]).detach().round().numpy()
    assert len(cells) == 8
