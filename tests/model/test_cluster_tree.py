from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from anndata import AnnData
from sklearn.metrics import adjusted_rand_score

from vmmscvi import SCVI_VMM, priors

Embedded = Callable[[str], tuple[SCVI_VMM, Any]]


@pytest.mark.parametrize("prior", ["vmm", "gmm"])
def test_the_models_own_clusters_are_a_level_of_its_tree(embedded: Embedded, prior: str) -> None:
    model, _ = embedded(prior)
    clusters = model.predict()
    tree = model.get_cluster_tree()
    pd.testing.assert_series_equal(tree.cut(), clusters)
    assert tree.cut(n_clusters=1).nunique() == 1
    coarser = tree.cut(n_clusters=2)
    assert (pd.crosstab(clusters, coarser) > 0).sum(axis=1).eq(1).all()


def test_a_tree_of_some_cells_has_their_names(embedded: Embedded) -> None:
    model, _ = embedded("vmm")
    indices = list(range(10, 150))
    tree = model.get_cluster_tree(indices=indices)
    assert tree.assignments.index.equals(model.adata.obs_names[indices])


@pytest.mark.parametrize(
    ("own_level", "asked", "expected"),
    [
        (None, None, 10_000.0),
        (500.0, None, 10_000.0),
        (20_000.0, None, 80_000.0),
        (20_000.0, 3000.0, 3000.0),
    ],
)
def test_leaves_are_finer_than_the_models_own_clusters_unless_asked_otherwise(
    embedded: Embedded,
    monkeypatch: pytest.MonkeyPatch,
    own_level: float | None,
    asked: float | None,
    expected: float,
) -> None:
    model, _ = embedded("gmm")
    levels: list[float] = []
    monkeypatch.setattr(model.module.latent_prior, "n_effective", own_level)
    monkeypatch.setattr(priors, "fit_cluster_tree", lambda *a, n_effective, **k: levels.append(n_effective))
    model.get_cluster_tree(n_effective=asked)
    assert levels == [expected]


def test_a_mixture_that_was_not_found_in_an_embedding_has_a_tree(trained: Callable[[str], SCVI_VMM]) -> None:
    model = trained("vampprior")
    pd.testing.assert_series_equal(model.get_cluster_tree().cut(), model.predict())


def test_the_cut_at_the_number_of_types_is_the_types(embedded: Embedded) -> None:
    model, _ = embedded("vmm")
    types = model.adata.obs["cell_type"]
    merged = model.get_cluster_tree().cut(n_clusters=types.nunique())
    assert adjusted_rand_score(types, merged) > 0.9


def test_a_prior_without_components_and_an_untrained_model_have_no_tree(
    embedded: Embedded, counts: AnnData
) -> None:
    with pytest.raises(ValueError, match="no clusters"):
        embedded("standard_normal")[0].get_cluster_tree()
    adata = counts.copy()
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    with pytest.raises(RuntimeError, match="has not been trained"):
        SCVI_VMM(adata).get_cluster_tree()
