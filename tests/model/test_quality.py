"""Clusters that hold outliers are detected, and each cell receives a verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData

from vmmscvi import SCVI_VMM

Make = Callable[..., SCVI_VMM]


@pytest.fixture
def model(make_model: Make, training: dict[str, Any]) -> SCVI_VMM:
    trained = make_model(prior="gmm")
    trained.train(**training)
    return trained


def test_quality_describes_the_cells_of_each_cluster(model: SCVI_VMM) -> None:
    table = model.cluster_quality()
    probabilities, clusters = model.get_cluster_probabilities(), model.predict().astype(str)
    assert set(table.index) == set(clusters)
    batches = model.adata.obs["batch"]
    for name, row in table.iterrows():
        of_cluster = (clusters == name).to_numpy()
        assert row["n_cells"] == of_cluster.sum()
        assert row["share"] == pytest.approx(of_cluster.mean())
        assert row["mean_probability"] == pytest.approx(probabilities[name][of_cluster].mean(), abs=1e-5)
        assert row["largest_batch"] == pytest.approx(batches[of_cluster].value_counts(normalize=True).iloc[0])
        novelty = model.get_novelty_score(indices=np.flatnonzero(of_cluster), calibration="pooled")
        assert row["low_density"] == pytest.approx((novelty > 0.95).mean())


def test_quality_of_some_cells_counts_these_alone(model: SCVI_VMM) -> None:
    cells = np.arange(1, 300, 3)
    table, clusters = model.cluster_quality(indices=cells), model.predict().astype(str).iloc[cells]
    batches = model.adata.obs["batch"].iloc[cells]
    assert table["n_cells"].to_dict() == clusters.value_counts().to_dict()
    for name, row in table.iterrows():
        shares = batches[(clusters == name).to_numpy()].value_counts(normalize=True)
        assert row["largest_batch"] == pytest.approx(shares.iloc[0])


def test_a_broad_component_of_outliers_is_a_catch_all(model: SCVI_VMM) -> None:
    assert model.get_catch_alls() == []
    _make_broad(model, component=0)
    table = model.cluster_quality()
    assert model.get_catch_alls() == ["0"]
    assert table.index[table["catch_all"]].tolist() == ["0"]
    assert table.loc["0", "spread"] > 2 and table.loc["0", "low_density"] > 0.5


def test_cells_of_a_catch_all_are_unknown(model: SCVI_VMM) -> None:
    _make_broad(model, component=0)
    verdict = model.get_verdict()
    assert (verdict["cluster"] == "0").any()
    assert (verdict["verdict"][verdict["cluster"] == "0"] == "unknown").all()


def _make_broad(model: SCVI_VMM, component: int) -> None:
    """Turn a component into one of outliers: few cells, far from all, in all directions."""
    prior = model.module.latent_prior
    kept = model.reference_cells_["z"][(model.predict() != str(component)).to_numpy()]
    with torch.no_grad():
        prior.loc[component] = 0.0
        cholesky = prior.precision_cholesky().clone()
        cholesky[component] = 0.2 * torch.eye(prior.n_latent)
        prior.precision_cholesky.assign(cholesky)
        prior.pi_logits[component] -= 4.0
    rng = np.random.default_rng(0)
    outliers = rng.normal(0, 5.0, size=(8, prior.n_latent)).astype(np.float32)
    cells = np.concatenate([kept, outliers])
    clusters = prior.responsibilities(torch.as_tensor(cells)).argmax(1).numpy()
    model.reference_cells_ = {"z": cells}
    density = prior.log_prob(torch.as_tensor(cells)).detach().numpy()
    model.reference_log_densities_ = np.sort(density)
    assert (clusters[-8:] == component).mean() > 0.5


def test_the_share_of_unknown_reference_cells_is_the_false_alarm_rate(model: SCVI_VMM) -> None:
    for rate in (0.05, 0.2):
        verdict = model.get_verdict(false_alarm_rate=rate)
        assert (verdict["verdict"] == "unknown").mean() == pytest.approx(rate, abs=0.04)
    known = verdict["verdict"] != "unknown"
    assert (verdict["verdict"][known].astype(str) == verdict["cluster"][known].astype(str)).all()


def test_a_verdict_says_the_name_of_the_cluster(model: SCVI_VMM) -> None:
    model.rename_clusters({name: f"type {name}" for name in model.component_names()})
    verdict = model.get_verdict()
    known = verdict["verdict"] != "unknown"
    assert verdict["verdict"][known].astype(str).str.startswith("type ").all()
    model.annotate(tree=False)
    assert "vmm_verdict" not in model.adata.obs, "one in twenty cells of the reference would be unknown"
    assert {"low_density", "spread", "catch_all"} <= set(model.adata.uns["vmmscvi"]["clusters"].columns)


def test_a_rate_that_is_none_is_refused(model: SCVI_VMM) -> None:
    with pytest.raises(ValueError, match="`false_alarm_rate` must be between 0 and 1, found 5"):
        model.get_verdict(false_alarm_rate=5)


def test_a_small_cluster_has_no_more_false_alarms_than_a_large_one(
    make_model: Make, adata: AnnData, training: dict[str, Any]
) -> None:
    model = make_model(adata)
    model.train(**training)
    score, clusters = model.get_novelty_score(), model.predict()
    shares = (score > 0.9).groupby(clusters, observed=True).mean()
    sizes = clusters.value_counts()
    assert (sizes >= 30).any()
    for name, share in shares.items():
        if sizes[name] >= 30:
            assert share < 0.2, name
