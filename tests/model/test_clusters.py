"""Methods for clusters: results, their shape, index and type, and the selection of cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData
from pandas.testing import assert_frame_equal, assert_series_equal

from vmmscvi import SCVI_VMM

Make = Callable[..., SCVI_VMM]
Trained = Callable[..., SCVI_VMM]

MIXTURES = ("vmm", "gmm", "vampprior")
PRIORS = (*MIXTURES, "standard_normal")
NAMES = [str(i) for i in range(8)]


def unregistered(adata: AnnData) -> AnnData:
    """The same cells as a user would bring them, without a trace of any registration."""
    columns = [name for name in adata.obs if not name.startswith("_scvi")]
    return AnnData(adata.X.copy(), obs=adata.obs[columns].copy(), var=adata.var.copy())


@pytest.mark.parametrize("prior", MIXTURES)
def test_probabilities_are_a_frame_of_cells_by_components_whose_rows_sum_to_one(
    trained: Trained, prior: str
) -> None:
    model = trained(prior)
    probabilities = model.get_cluster_probabilities()
    assert isinstance(probabilities, pd.DataFrame)
    assert probabilities.index.equals(model.adata.obs_names)
    assert list(probabilities.columns) == NAMES
    assert (probabilities.dtypes == np.float32).all()
    assert (probabilities >= 0).all(axis=None)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("prior", MIXTURES)
def test_probabilities_are_the_priors_responsibilities_at_the_posterior_mean(
    trained: Trained, prior: str
) -> None:
    model = trained(prior)
    z = torch.as_tensor(model.get_latent_representation())
    with torch.no_grad():
        expected = model.module.latent_prior.responsibilities(z, model.module.centers())
    np.testing.assert_allclose(model.get_cluster_probabilities(), expected, atol=1e-6)


@pytest.mark.parametrize("prior", MIXTURES)
def test_prediction_is_the_most_probable_component_as_a_categorical_series(
    trained: Trained, prior: str
) -> None:
    model = trained(prior)
    clusters, probabilities = model.predict(), model.get_cluster_probabilities()
    assert isinstance(clusters, pd.Series) and isinstance(clusters.dtype, pd.CategoricalDtype)
    assert clusters.index.equals(model.adata.obs_names)
    assert (clusters.astype(str) == probabilities.idxmax(axis=1)).all()
    assert list(clusters.cat.categories) == [name for name in NAMES if (clusters == name).any()]


def test_soft_prediction_is_the_frame_of_probabilities(trained: Trained) -> None:
    model = trained()
    assert_frame_equal(model.predict(soft=True), model.get_cluster_probabilities())


def test_prediction_is_a_column_that_scanpy_and_an_h5ad_file_take(trained: Trained, tmp_path: Any) -> None:
    model = trained()
    adata = unregistered(model.adata)
    adata.obs["vmm_cluster"] = model.predict()
    adata.write_h5ad(tmp_path / "clusters.h5ad")
    read = anndata.read_h5ad(tmp_path / "clusters.h5ad")
    assert (read.obs["vmm_cluster"].astype(str) == model.predict().astype(str)).all()


@pytest.mark.parametrize("prior", MIXTURES)
def test_weights_are_a_named_series_that_sums_to_one(trained: Trained, prior: str) -> None:
    weights = trained(prior).get_cluster_weights()
    assert isinstance(weights, pd.Series) and list(weights.index) == NAMES
    assert (weights >= 0).all() and weights.sum() == pytest.approx(1, rel=1e-5)
    assert (weights.nunique() > 1) == (prior != "vampprior")


@pytest.mark.parametrize("prior", MIXTURES)
def test_centers_are_a_frame_of_components_by_latent_dimensions(trained: Trained, prior: str) -> None:
    model = trained(prior)
    centers = model.get_cluster_centers()
    assert isinstance(centers, pd.DataFrame) and list(centers.index) == NAMES and centers.shape == (8, 4)
    with torch.no_grad():
        expected = (
            model.module.latent_prior.loc if prior == "gmm" else model.module.encode_pseudo_inputs().loc
        ).numpy()
    np.testing.assert_allclose(centers, expected, atol=1e-6)


@pytest.mark.parametrize("prior", PRIORS)
def test_log_density_is_the_priors_at_the_posterior_mean(trained: Trained, prior: str) -> None:
    model = trained(prior)
    density = model.get_prior_log_density()
    assert isinstance(density, pd.Series) and density.index.equals(model.adata.obs_names)
    z = torch.as_tensor(model.get_latent_representation())
    with torch.no_grad():
        expected = model.module.latent_prior.log_prob(z, model.module.centers())
    np.testing.assert_allclose(density, expected, rtol=1e-4, atol=1e-4)


def test_a_cell_far_from_every_cluster_has_a_low_log_density(trained: Trained) -> None:
    model = trained()
    nearest = model.get_prior_log_density()
    with torch.no_grad():
        far = model.module.latent_prior.log_prob(torch.full((1, 4), 20.0))
    assert float(far) < nearest.min()


@pytest.mark.parametrize("method", ["get_cluster_probabilities", "predict", "get_prior_log_density"])
def test_cells_can_be_chosen_in_any_order_and_minibatch(trained: Trained, method: str) -> None:
    model = trained()
    call = getattr(model, method)
    indices = [250, 3, 77, 3]
    everything, chosen = call(), call(indices=indices, batch_size=3)
    assert list(chosen.index) == list(model.adata.obs_names[indices])
    expected = everything.iloc[indices]
    if method == "predict":
        assert list(chosen) == list(expected)
    else:
        np.testing.assert_allclose(chosen, expected, rtol=1e-4, atol=1e-5)


def test_cells_can_be_chosen_by_a_mask(trained: Trained) -> None:
    model = trained()
    mask = (model.adata.obs["batch"] == "batch1").to_numpy()
    chosen = model.predict(indices=mask)
    assert list(chosen.index) == list(model.adata.obs_names[mask])
    assert list(chosen) == list(model.predict()[mask])


@pytest.mark.parametrize("method", ["get_cluster_probabilities", "get_prior_log_density"])
def test_new_data_with_the_same_genes_is_treated_as_the_training_data(trained: Trained, method: str) -> None:
    model = trained()
    cells = np.flatnonzero(model.adata.obs["batch"] == "batch1")[:20]  # one batch of the two
    new = unregistered(model.adata[cells])
    new.obs_names = [f"new_{i}" for i in range(20)]
    found, expected = getattr(model, method)(new), getattr(model, method)(indices=cells)
    assert list(found.index) == list(new.obs_names)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_names_and_results_are_stable_between_calls(trained: Trained) -> None:
    model = trained()
    assert_frame_equal(model.get_cluster_probabilities(), model.get_cluster_probabilities())
    assert_series_equal(model.predict(), model.predict())
    assert model.component_names() == NAMES


def test_nothing_here_consumes_the_global_random_state(trained: Trained) -> None:
    model = trained()
    before = torch.get_rng_state()
    model.sample_prior(5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("prior", PRIORS)
def test_generated_cells_are_an_anndata_of_counts(trained: Trained, prior: str) -> None:
    model = trained(prior)
    generated = model.sample_prior(350)  # more than there are cells
    assert generated.shape == (350, 100) and sp.issparse(generated.X)
    counts = generated.X.toarray()
    assert (counts >= 0).all() and (counts == np.round(counts)).all() and counts.sum() > 0
    assert generated.var_names.equals(model.adata.var_names)
    assert generated.obs_names.is_unique
    assert generated.obsm["X_vmm"].shape == (350, 4)
    assert list(generated.obs["batch"].cat.categories) == ["batch0", "batch1"]
    assert set(generated.obs["batch"]) == {"batch0", "batch1"}
    assert ("component" in generated.obs) == (prior != "standard_normal")


def test_generated_cells_of_a_component_surround_its_center(trained: Trained) -> None:
    model = trained()
    distribution = model.module.latent_prior.component_distribution()
    for component in ("2", 5):
        z = model.sample_prior(4000, component=component).obsm["X_vmm"]
        loc = distribution.loc[int(component)].detach().numpy()
        covariance = distribution.covariance_matrix[int(component)].detach().numpy()
        standard_error = np.sqrt(np.diag(covariance) / len(z))
        np.testing.assert_array_less(np.abs(z.mean(axis=0) - loc), 4 * standard_error)
        np.testing.assert_allclose(np.cov(z.T), covariance, atol=0.1 * np.diag(covariance).max())


def test_generated_cells_can_be_given_a_batch_which_changes_counts_but_not_positions(
    trained: Trained,
) -> None:
    model = trained()
    first, second = (model.sample_prior(2000, batch=name, seed=1) for name in ("batch0", "batch1"))
    assert (first.obs["batch"] == "batch0").all() and (second.obs["batch"] == "batch1").all()
    np.testing.assert_array_equal(first.obsm["X_vmm"], second.obsm["X_vmm"])
    assert abs(first.X - second.X).sum() > 0


def test_generated_cells_have_the_library_size_that_is_asked_for(trained: Trained) -> None:
    small, large = (trained().sample_prior(500, library_size=size, seed=1).X.sum() for size in (1000, 3000))
    assert large / small == pytest.approx(3, rel=0.1)


def test_generated_cells_depend_on_the_seed_alone(trained: Trained) -> None:
    model = trained()
    first = model.sample_prior(20, seed=3)
    torch.randn(100)
    assert (first.X != model.sample_prior(20, seed=3).X).nnz == 0
    assert (first.X != model.sample_prior(20, seed=4).X).nnz > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "`n` must be a positive integer, found 0"),
        ({"n": 2, "component": "8"}, "`component` must be one of '0' to '7', found '8'"),
        ({"n": 2, "component": -1}, "`component` must be one of '0' to '7', found -1"),
        ({"n": 2, "batch": "s9"}, r"`batch` must be one of \['batch0', 'batch1'\], found 's9'"),
        ({"n": 2, "library_size": 0}, "`library_size` must be a positive number"),
    ],
)
def test_impossible_requests_for_generated_cells_are_refused(
    trained: Trained, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        trained().sample_prior(**arguments)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize(
    "method", ["get_cluster_probabilities", "predict", "get_prior_log_density", "get_cluster_weights"]
)
def test_an_untrained_model_says_that_it_has_to_be_trained(make_model: Make, prior: str, method: str) -> None:
    with pytest.raises(RuntimeError, match="has not been trained: call `train` first"):
        getattr(make_model(prior=prior), method)()


def test_an_untrained_model_has_no_centers_and_generates_nothing(make_model: Make) -> None:
    model = make_model()
    for call in (model.get_cluster_centers, model.component_names, lambda: model.sample_prior(3)):
        with pytest.raises(RuntimeError, match="call `train` first"):
            call()


@pytest.mark.parametrize(
    "method", ["predict", "get_cluster_weights", "get_cluster_centers", "component_names"]
)
def test_a_model_without_components_says_which_priors_have_them(trained: Trained, method: str) -> None:
    with pytest.raises(ValueError, match="StandardNormalPrior has no clusters: use `prior='vmm'`"):
        getattr(trained("standard_normal"), method)()


@pytest.mark.parametrize("prior", PRIORS)
def test_methods_of_scvi_still_work(trained: Trained, prior: str) -> None:
    model, cells = trained(prior), list(range(40))
    assert np.isfinite(float(model.get_elbo(indices=cells)))
    assert np.isfinite(float(model.get_marginal_ll(indices=cells, n_mc_samples=4)))
    assert np.isfinite(float(model.get_reconstruction_error(indices=cells)["reconstruction_loss"]))
    assert model.get_normalized_expression(indices=cells).shape == (40, 100)
    assert model.posterior_predictive_sample(indices=cells).shape == (40, 100)
    assert "SCVI_VMM model" in repr(model) or model._model_summary_string.startswith("SCVI_VMM")
