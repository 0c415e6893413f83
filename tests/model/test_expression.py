"""Decoded expression and derived quantities, compared with the truth of the simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData
from sklearn.metrics import roc_auc_score

from vmmscvi import SCVI_VMM
from vmmscvi.data import simulate_counts

N_CELLS, N_GENES = 400, 120


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Four types with markers; sample "b" lacks the last type."""
    adata = simulate_counts(n_cells=N_CELLS, n_genes=N_GENES, n_types=4, n_batches=2, n_markers=12, seed=3)
    samples = np.random.default_rng(0).choice(["a", "b"], N_CELLS)
    adata.obs["sample"] = np.where(adata.obs["cell_type"] == "type3", "a", samples)
    return adata


@pytest.fixture(scope="module")
def model(cells: AnnData) -> SCVI_VMM:
    scvi.settings.seed = 0
    adata = cells.copy()
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata, n_components=12, n_hidden=32, n_latent=5, gene_likelihood="nb")
    training = {"max_epochs": 16, "batch_size": 32, "lr": 5e-3}
    model.train(**training, accelerator="cpu", enable_progress_bar=False)
    model.adata.obs["vmm_cluster"] = model.predict()
    return model


@pytest.fixture(scope="module")
def markers(model: SCVI_VMM) -> pd.DataFrame:
    return model.differential_expression(groupby="vmm_cluster", mode="change", silent=True)


def test_markers_of_the_clusters_are_the_simulators(model: SCVI_VMM, markers: pd.DataFrame) -> None:
    obs, marker_of = model.adata.obs, model.adata.var["marker_of"]
    clusters = [c for c in obs["vmm_cluster"].cat.categories if (obs["vmm_cluster"] == c).sum() > 20]
    assert len(clusters) >= 3
    scores = []
    for cluster in clusters:
        cell_type = obs.loc[obs["vmm_cluster"] == cluster, "cell_type"].mode()[0]
        table = markers[markers["group1"] == cluster]
        scores.append(roc_auc_score(marker_of[table.index] == cell_type, table["lfc_mean"]))
    assert np.mean(scores) > 0.9 and min(scores) > 0.8


def test_genes_called_at_a_false_discovery_rate_are_rarely_no_markers(
    model: SCVI_VMM, markers: pd.DataFrame
) -> None:
    called = markers[markers["is_de_fdr_0.05"] & (markers["lfc_mean"] > 1)]
    assert len(called) > 10
    # a marker of any type is expressed differently between its type and the rest
    assert (model.adata.var.loc[called.index, "marker_of"].astype(str) != "").mean() > 0.8


def test_normalized_expression_has_lost_the_batch(model: SCVI_VMM) -> None:
    by_batch = [
        model.get_normalized_expression(transform_batch=batch, return_numpy=True)
        for batch in ("batch0", "batch1")
    ]
    for expression in by_batch:
        np.testing.assert_allclose(expression.sum(1), 1, rtol=1e-4)
    both = model.get_normalized_expression(transform_batch=["batch0", "batch1"], n_samples=20)
    own = model.get_normalized_expression(n_samples=20)
    batch, of_type = model.adata.obs["batch"], model.adata.obs["cell_type"] == "type0"
    effects = []
    for expression in (both, own):
        logs = np.log(expression.to_numpy() + 1e-5)
        means = [logs[of_type & (batch == name)].mean(0) for name in ("batch0", "batch1")]
        effects.append(np.abs(means[0] - means[1]).mean())
    assert effects[0] < 0.4 * effects[1]


def test_decoding_into_another_batch_finds_the_simulators_batch_effects(model: SCVI_VMM) -> None:
    simulation, obs = model.adata.uns["simulation"], model.adata.obs
    log_shares = [
        np.log(model.get_normalized_expression(transform_batch=batch, return_numpy=True))
        for batch in ("batch0", "batch1")
    ]
    expressed = simulation["profiles"].min(0) > 2e-3  # genes with about a count or more in every type
    assert expressed.sum() > 20
    for j, name in enumerate(simulation["types"]):
        found = (log_shares[1] - log_shares[0])[obs["cell_type"] == name].mean(0)
        expected = simulation["batch_effects"][1, j] - simulation["batch_effects"][0, j]
        assert np.corrcoef(found[expressed], expected[expressed])[0, 1] > 0.6, name


def test_posterior_predictive_samples_have_the_decoded_mean(model: SCVI_VMM) -> None:
    arguments: dict[str, Any] = {"indices": np.arange(30), "n_samples": 50}
    torch.manual_seed(0)
    samples = model.posterior_predictive_sample(**arguments).todense()
    assert samples.shape == (30, N_GENES, 50)
    assert (samples >= 0).all() and (samples == samples.round()).all()
    expected = model.get_normalized_expression(**arguments, library_size="latent", return_numpy=True)
    error = np.maximum(samples.std(2) / 50**0.5, 0.05)
    z_scores = (samples.mean(2) - expected) / error
    assert z_scores.std() < 1.5
    assert samples.mean() == pytest.approx(expected.mean(), rel=0.04)
    np.testing.assert_allclose(samples.mean((0, 2)), expected.mean(0), rtol=0.25, atol=0.05)
    # and fresh counts are as large as the observed ones
    totals = samples.sum(1).mean(1)
    assert np.corrcoef(totals, np.asarray(model.adata.X[:30].sum(1)).ravel())[0, 1] > 0.95


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_markers_of_a_type_are_correlated_and_those_of_others_are_not(model: SCVI_VMM, kind: str) -> None:
    correlation = model.get_feature_correlation_matrix(n_samples=3, correlation_type=kind)
    assert list(correlation.index) == list(correlation.columns) == list(model.adata.var_names)
    values = correlation.to_numpy()
    np.testing.assert_allclose(values, values.T, atol=1e-12)
    np.testing.assert_allclose(values.diagonal(), 1)
    marker_of = model.adata.var["marker_of"].astype(str).to_numpy()
    is_marker = (marker_of != "") & (marker_of != "nan")
    pairs = is_marker[:, None] & is_marker & ~np.eye(N_GENES, dtype=bool)
    same = marker_of[:, None] == marker_of
    assert values[pairs & same].mean() > 0.1 > values[pairs & ~same].mean()


@pytest.mark.slow  # Numba compiles what sparse arrays need
def test_criticism_finds_the_zeros_and_the_variation_of_the_data(model: SCVI_VMM) -> None:
    observed = AnnData(model.adata.X.astype(int), obs=model.adata.obs, var=model.adata.var)
    check = scvi.criticism.PosteriorPredictiveCheck(observed, {"vmm": model}, n_samples=2)
    check.zero_fraction()
    check.coefficient_of_variation("cells")
    counts = model.adata.X.toarray()
    zeros, variation = check.metrics["zero_fraction"], check.metrics["cv_gene"]
    # scvi-tools' "zero fraction" is that of the counts that are not zero
    np.testing.assert_allclose(zeros["Raw"], (counts != 0).mean(0), atol=1e-6)
    expected = counts.std(0) / np.maximum(counts.mean(0), 1e-12)  # zero for genes without counts
    np.testing.assert_allclose(variation["Raw"], expected, rtol=1e-3)
    assert np.corrcoef(zeros["vmm"], zeros["Raw"])[0, 1] > 0.95
    assert abs(zeros["vmm"] - zeros["Raw"]).mean() < 0.05
    both = variation[["vmm", "Raw"]].dropna()  # a gene of which nothing was generated has none
    assert len(both) > 0.9 * N_GENES and both.corr().iloc[0, 1] > 0.7


def test_abundance_tells_the_sample_that_lacks_a_type(model: SCVI_VMM) -> None:
    model.differential_abundance(sample_key="sample")
    log_probs = model.adata.obsm["da_log_probs"]
    assert set(log_probs.columns) == {"a", "b"} and np.isfinite(log_probs).all(axis=None)
    ratio = log_probs["a"] - log_probs["b"]
    is_lacking = model.adata.obs["cell_type"] == "type3"
    assert ratio[is_lacking].median() > 2
    assert abs(ratio[~is_lacking].median()) < 1
    assert roc_auc_score(is_lacking, ratio) > 0.9


def test_likelihood_parameters_are_those_of_the_decoder(model: SCVI_VMM) -> None:
    arguments: dict[str, Any] = {"indices": np.arange(10)}
    torch.manual_seed(0)
    parameters = model.get_likelihood_parameters(**arguments)
    torch.manual_seed(0)
    mean = model.get_normalized_expression(**arguments, library_size="latent", return_numpy=True)
    np.testing.assert_allclose(parameters["mean"], mean, rtol=1e-5)
    theta = model.module.px_r.exp().detach().numpy()
    np.testing.assert_allclose(parameters["dispersions"], np.broadcast_to(theta, (10, N_GENES)), rtol=1e-5)
    totals = np.asarray(model.adata.X[:10].sum(1)).ravel()
    library = model.get_latent_library_size(**arguments, give_mean=False)
    np.testing.assert_allclose(library.ravel(), totals, rtol=1e-5)
