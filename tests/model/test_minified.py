"""Minified data, with only the embedding, keep their clusters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pandas.testing import assert_frame_equal, assert_series_equal

from vmmscvi import SCVI_VMM

Make = Callable[..., SCVI_VMM]

KINDS = ("latent_posterior_parameters", "latent_posterior_parameters_with_counts")
TRAINING: dict[str, Any] = {
    "max_epochs": 4,
    "batch_size": 64,
    "lr": 5e-3,
    "accelerator": "cpu",
    "enable_progress_bar": False,
}


@pytest.fixture
def model(make_model: Make) -> SCVI_VMM:
    model = make_model()
    model.train(**TRAINING)
    return model


def minify(model: SCVI_VMM, kind: str) -> None:
    mean, variance = model.get_latent_representation(return_dist=True)
    model.adata.obsm["X_latent_qzm"], model.adata.obsm["X_latent_qzv"] = mean, variance
    model.minify_adata(kind)


def clusters(model: SCVI_VMM) -> dict[str, Any]:
    return {
        "probabilities": model.get_cluster_probabilities(),
        "clusters": model.predict(),
        "density": model.get_prior_log_density(),
        "novelty": model.get_novelty_score(),
    }


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert_frame_equal(found["probabilities"], expected["probabilities"])
    for name in ("clusters", "density", "novelty"):
        assert_series_equal(found[name], expected[name])


@pytest.mark.parametrize("kind", KINDS)
def test_clusters_are_those_of_the_full_data_also_after_a_save(
    model: SCVI_VMM, tmp_path: Path, kind: str
) -> None:
    expected, counts = clusters(model), model.adata.X.copy()
    minify(model, kind)
    assert model.minified_data_type == kind
    assert (model.adata.X.nnz == 0) == (kind == KINDS[0])
    assert_same(clusters(model), expected)
    model.save(tmp_path / "model", save_anndata=True)
    loaded = SCVI_VMM.load(tmp_path / "model")
    assert loaded.minified_data_type == kind
    assert_same(clusters(loaded), expected)
    if kind == KINDS[1]:
        np.testing.assert_array_equal(loaded.adata.X.toarray(), counts.toarray())


@pytest.mark.parametrize("kind", KINDS)
def test_expression_is_that_of_the_full_data(model: SCVI_VMM, kind: str) -> None:
    found = []
    for minified in (False, True):
        if minified:
            minify(model, kind)
        torch.manual_seed(0)
        found.append(model.get_normalized_expression(n_samples=100, library_size="latent"))
    ratio = np.log(found[1].sum() / found[0].sum())
    assert abs(ratio).max() < 0.05
    model.adata.obs["vmm_cluster"] = (model.adata.obs["cell_type"] == "type0").astype(str)
    table = model.differential_expression(groupby="vmm_cluster", group1="True", silent=True, all_stats=False)
    assert np.isfinite(table["bayes_factor"]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_generated_cells_are_as_large_as_those_of_the_full_data(model: SCVI_VMM, kind: str) -> None:
    expected = model.sample_prior(50, seed=1)
    minify(model, kind)
    found = model.sample_prior(50, seed=1)
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    assert found.X.sum() > 0


def test_what_needs_counts_is_refused(model: SCVI_VMM) -> None:
    minify(model, KINDS[0])
    for function in (model.get_elbo, model.get_marginal_ll, model.get_reconstruction_error):
        with pytest.raises(ValueError, match="does not support minified data"):
            function()
    with pytest.raises(ValueError, match="data are minified, and training needs counts"):
        model.train(**TRAINING)
    assert model.is_trained and len(model.predict()) == 300


def test_where_counts_are_kept_likelihoods_are_those_of_the_full_data(model: SCVI_VMM) -> None:
    def evaluate() -> dict[str, list[float]]:
        torch.manual_seed(0)
        return {
            "elbo": [float(model.get_elbo()) for _ in range(30)],
            "error": [float(model.get_reconstruction_error()["reconstruction_loss"]) for _ in range(30)],
        }

    expected = evaluate()
    minify(model, KINDS[1])
    for name, found in evaluate().items():
        noise = (np.var(found) / 30 + np.var(expected[name]) / 30) ** 0.5
        assert abs(np.mean(found) - np.mean(expected[name])) < 4 * noise, name
    with pytest.raises(ValueError, match="data are minified, and training needs counts"):
        model.train(**TRAINING)


def test_a_query_is_mapped_into_a_model_whose_data_are_minified(model: SCVI_VMM) -> None:
    full = model.adata.copy()
    expected = model.get_cluster_probabilities()
    minify(model, KINDS[0])
    mapped = SCVI_VMM.load_query_data(full, model)
    mapped.is_trained_ = True  # batches are known: there is nothing to adapt
    np.testing.assert_allclose(mapped.get_cluster_probabilities(), expected, atol=1e-4)
