"""A score of novelty: the share of the reference that fits the clusters better, wherever the model goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy.stats import percentileofscore
from sklearn.metrics import roc_auc_score

from vmmscvi import SCVI_VMM
from vmmscvi.data import simulate_counts
from vmmscvi.model import _novelty_mixin

Make = Callable[..., SCVI_VMM]


@pytest.fixture
def query(counts: AnnData) -> AnnData:
    """Other cells of the same types and genes, from an unknown batch."""
    adata = simulate_counts(n_cells=120, n_genes=100, n_types=4, n_batches=2, seed=0)
    adata.obs["batch"] = "new"
    return AnnData(adata.X, obs=adata.obs[["batch", "cell_type"]], var=counts.var.copy())


@pytest.mark.parametrize("prior", ["vmm", "gmm", "vampprior", "standard_normal"])
def test_score_is_the_share_of_reference_cells_that_are_denser(
    make_model: Make, prior: str, training: dict[str, Any]
) -> None:
    model = make_model(prior=prior)
    model.train(**{**training, "max_epochs": 2})
    density = model.get_prior_log_density()
    score = model.get_novelty_score(calibration="pooled")
    expected = [1 - percentileofscore(density, value, kind="weak") / 100 for value in density]
    np.testing.assert_allclose(score, expected, atol=1e-12)
    assert score.min() == 0 and score.max() == pytest.approx(1 - 1 / 300)
    assert score.index.equals(model.adata.obs_names) and score.name == "novelty"
    two = model.get_novelty_score(indices=[5, 2], calibration="pooled")
    np.testing.assert_allclose(two, score.iloc[[5, 2]], atol=0.01)  # two neighbours may change places


def test_cells_unlike_any_other_have_a_score_of_one(
    make_model: Make, adata: AnnData, training: dict[str, Any]
) -> None:
    model = make_model(adata)
    model.train(**training)
    strange = adata.copy()
    strange.X = np.roll(adata.X.toarray(), 37, axis=1)  # other genes are expressed
    score = model.get_novelty_score(strange)
    assert (score > 0.95).mean() > 0.5
    assert ((score >= 0) & (score <= 1)).all()


def test_a_type_that_the_reference_lacks_is_novel(
    make_model: Make, adata: AnnData, query: AnnData, training: dict[str, Any]
) -> None:
    held_out = "type3"
    assert held_out in set(adata.obs["cell_type"])
    model = make_model(adata[adata.obs["cell_type"] != held_out].copy())
    model.train(**training)
    mapped = SCVI_VMM.load_query_data(query, model)
    mapped.train(**{**training, "max_epochs": 5})
    is_novel = query.obs["cell_type"] == held_out
    score = mapped.get_novelty_score()
    assert roc_auc_score(is_novel, score) > 0.9
    assert score[~is_novel].median() < 0.9


def test_the_reference_goes_along_to_files_and_queries(
    make_model: Make, query: AnnData, tmp_path: Path, training: dict[str, Any]
) -> None:
    reference = make_model()
    reference.train(**training)
    kept = reference.reference_log_densities_
    assert kept.shape == (300,) and (np.diff(kept) >= 0).all()
    reference.save(tmp_path / "reference")
    for source in (reference, str(tmp_path / "reference")):
        model = SCVI_VMM.load_query_data(query.copy(), source)
        model.train(**{**training, "max_epochs": 1})
        np.testing.assert_array_equal(model.reference_log_densities_, kept)
    expected = model.get_novelty_score()
    model.save(tmp_path / "query")
    loaded = SCVI_VMM.load(tmp_path / "query", adata=model.adata)
    np.testing.assert_array_equal(loaded.get_novelty_score(), expected)


def test_a_query_that_trains_an_unfrozen_prior_takes_the_place_of_the_reference(
    make_model: Make, query: AnnData, training: dict[str, Any]
) -> None:
    reference = make_model()
    reference.train(**training)
    model = SCVI_VMM.load_query_data(query, reference, unfrozen=True)
    np.testing.assert_array_equal(model.reference_log_densities_, reference.reference_log_densities_)
    model.train(**{**training, "max_epochs": 1})
    np.testing.assert_array_equal(model.reference_log_densities_, np.sort(model.get_prior_log_density()))
    # ranks among the 120 cells of the query themselves: one in twenty is above 0.95, whatever they are
    score = model.get_novelty_score(calibration="pooled")
    np.testing.assert_allclose(np.sort(score), np.arange(120) / 120, atol=1e-9)


def test_many_cells_are_represented_by_some(
    make_model: Make, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any]
) -> None:
    monkeypatch.setattr(_novelty_mixin, "N_REFERENCE_CELLS", 150)
    model = make_model()
    model.train(**{**training, "max_epochs": 2})
    assert model.reference_log_densities_.shape == (150,)
    assert set(model.reference_log_densities_) <= set(model.get_prior_log_density())
    everything = model.get_prior_log_density().rank(pct=True, ascending=False)
    assert abs(model.get_novelty_score(calibration="pooled") - everything).max() < 0.12


def test_a_model_without_a_reference_says_so(make_model: Make, training: dict[str, Any]) -> None:
    model = make_model()
    with pytest.raises(RuntimeError, match="has not been trained"):
        model.get_novelty_score()
    model.train(**{**training, "max_epochs": 1})
    model.reference_log_densities_ = None
    with pytest.raises(RuntimeError, match="The model stores no reference cells"):
        model.get_novelty_score()


def test_keeping_a_reference_draws_no_random_numbers(make_model: Make, training: dict[str, Any]) -> None:
    model = make_model()
    model.train(**{**training, "max_epochs": 1})
    state = torch.random.get_rng_state()
    model._remember_reference()
    assert torch.equal(torch.random.get_rng_state(), state)
