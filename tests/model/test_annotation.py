"""``annotate`` writes the results of the methods, does not replace foreign entries, and survives a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import entropy

import vmmscvi
from vmmscvi import SCVI_VMM
from vmmscvi.priors import ClusterTree

Embedded = Callable[[str], tuple[SCVI_VMM, Any]]
Trained = Callable[[str], SCVI_VMM]

COLUMNS = {
    "vmm_cluster",
    "vmm_cluster_probability",
    "vmm_second_cluster",
    "vmm_entropy",
    "vmm_novelty",
    "vmm_leaf",
}


@pytest.fixture
def model(embedded: Embedded) -> SCVI_VMM:
    return embedded("vmm")[0]


@pytest.fixture
def annotated(model: SCVI_VMM, counts: AnnData) -> AnnData:
    adata = counts.copy()
    model.annotate(adata)
    return adata


def test_columns_are_what_the_methods_return(model: SCVI_VMM, annotated: AnnData, counts: AnnData) -> None:
    assert set(annotated.obs) - set(counts.obs) - {"_scvi_batch", "_scvi_labels"} == COLUMNS
    np.testing.assert_allclose(annotated.obsm["X_vmm"], model.get_latent_representation(), atol=1e-6)
    pd.testing.assert_series_equal(annotated.obs["vmm_cluster"], model.predict(), check_names=False)
    r = model.get_cluster_probabilities()
    np.testing.assert_allclose(annotated.obs["vmm_cluster_probability"], r.max(axis=1), atol=1e-6)
    second = annotated.obs["vmm_second_cluster"].astype(str)
    assert (second != annotated.obs["vmm_cluster"].astype(str)).all()
    of_second = r.to_numpy()[np.arange(len(r)), r.columns.get_indexer(second)]
    np.testing.assert_allclose(of_second, np.sort(r, axis=1)[:, -2], atol=1e-6)
    np.testing.assert_allclose(annotated.obs["vmm_entropy"], entropy(r, axis=1), atol=1e-5)
    np.testing.assert_allclose(annotated.obs["vmm_novelty"], model.get_novelty_score(), atol=1e-6)
    pd.testing.assert_series_equal(
        annotated.obs["vmm_leaf"], model.get_cluster_tree().assignments, check_names=False
    )


def test_an_annotated_file_gives_everything_back(annotated: AnnData, model: SCVI_VMM, tmp_path: Path) -> None:
    annotated.write_h5ad(tmp_path / "annotated.h5ad")
    read = anndata.read_h5ad(tmp_path / "annotated.h5ad")
    stored = read.uns["vmmscvi"]
    assert stored["settings"]["prior"] == "vmm" and stored["settings"]["batch_key"] == "batch"
    assert stored["settings"]["n_latent"] == 4 and stored["settings"]["model"] == "SCVI_VMM"
    assert stored["versions"]["vmmscvi"] == vmmscvi.__version__
    pd.testing.assert_frame_equal(stored["clusters"], annotated.uns["vmmscvi"]["clusters"])
    tree, expected = ClusterTree.from_anndata(read), model.get_cluster_tree()
    np.testing.assert_array_equal(tree.merges, expected.merges)
    pd.testing.assert_series_equal(tree.cut(n_clusters=2), expected.cut(n_clusters=2))
    vmmscvi.pl.cluster_weights(read)
    vmmscvi.pl.training_history(read)


def test_the_table_describes_each_cluster(annotated: AnnData, model: SCVI_VMM) -> None:
    table, clusters = annotated.uns["vmmscvi"]["clusters"], annotated.obs["vmm_cluster"]
    assert list(table.index) == list(clusters.cat.categories)
    assert table["n_cells"].to_dict() == clusters.value_counts().to_dict()
    assert table["share"].sum() == pytest.approx(1)
    np.testing.assert_allclose(table["weight"], model.get_cluster_weights()[table.index])
    probability = annotated.obs["vmm_cluster_probability"]
    by_hand = [(probability[clusters == name] < 0.8).mean() for name in table.index]
    np.testing.assert_allclose(table["undecided"], by_hand)
    assert (table["nearest"] != table.index).all()
    assert table["n_leaves"].sum() == annotated.obs["vmm_leaf"].nunique()


@pytest.mark.parametrize("slot", ["obs", "obsm", "uns"])
def test_what_others_wrote_is_replaced_when_told_to_only(model: SCVI_VMM, counts: AnnData, slot: str) -> None:
    adata = counts.copy()
    name = {"obs": "vmm_novelty", "obsm": "X_vmm", "uns": "vmmscvi"}[slot]
    mine = {"note": 1} if slot == "uns" else np.ones((adata.n_obs, 2))[:, 0 if slot == "obs" else slice(None)]
    getattr(adata, slot)[name] = mine
    with pytest.raises(ValueError, match=f"{slot}/{name}, not written by `annotate`"):
        model.annotate(adata)
    assert "vmm_cluster" not in adata.obs
    model.annotate(adata, overwrite=True)
    assert set(adata.obs) >= COLUMNS


def test_a_second_annotation_replaces_the_first(model: SCVI_VMM, annotated: AnnData) -> None:
    annotated.obs["mine"] = 1
    model.annotate(annotated, tree=False)
    assert "vmm_leaf" not in annotated.obs and "cluster_tree" not in annotated.uns["vmmscvi"]
    assert (annotated.obs["mine"] == 1).all()


def test_results_of_some_cells_can_be_replaced_in_a_subset(model: SCVI_VMM, annotated: AnnData) -> None:
    some = annotated[:50].copy()
    tree = ClusterTree.from_anndata(some)
    assert len(tree.cut()) == 50
    model.annotate(some)
    assert len(some.obs["vmm_leaf"]) == 50


def test_data_with_more_genes_than_the_model_are_annotated_and_keep_them(counts: AnnData) -> None:
    few = counts[:, :40].copy()
    SCVI_VMM.setup_anndata(few, batch_key="batch")
    model = SCVI_VMM(few, n_components=8, n_hidden=16, n_latent=4)
    model.train(max_epochs=2, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    everything = counts[:, ::-1].copy()
    model.annotate(everything)
    assert everything.n_vars == counts.n_vars
    pd.testing.assert_series_equal(everything.obs["vmm_cluster"], model.predict(), check_names=False)
    with pytest.raises(ValueError, match="lacks 1 features of the model"):
        model.annotate(counts[:, 1:].copy())


def test_a_prior_without_clusters_gives_embedding_and_novelty(trained: Trained, counts: AnnData) -> None:
    adata = counts.copy()
    trained("standard_normal").annotate(adata)
    assert "X_vmm" in adata.obsm and set(adata.obs) & COLUMNS == {"vmm_novelty"}


def test_one_component_has_no_second(make_model: Callable[..., SCVI_VMM], short_training: Any) -> None:
    model = make_model(n_components=1)
    model.train(**short_training)
    model.annotate()
    assert (model.adata.obs["vmm_cluster_probability"] == 1).all()
    assert "vmm_second_cluster" not in model.adata.obs


def test_an_untrained_model_says_so(make_model: Callable[..., SCVI_VMM]) -> None:
    with pytest.raises(RuntimeError, match="has not been trained"):
        make_model().annotate()


def test_data_without_a_tree_are_refused_with_advice(counts: AnnData) -> None:
    with pytest.raises(ValueError, match="`annotate` or"):
        ClusterTree.from_anndata(counts)
