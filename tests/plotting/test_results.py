"""Plots of annotated data: genes, markers, cuts of the tree, and models in the place of data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from mudata import MuData

from vmmscvi.plotting import cluster_cuts, cluster_tree, cluster_weights, embedding, markers
from vmmscvi.plotting._palette import category_colors
from vmmscvi.priors import ClusterTree


@pytest.fixture
def annotated(cells):
    """Cells with a tree over their clusters, of which 10 has two parts."""
    leaves = np.where(cells.obs["vmm_cluster"] == "10", "10.0", cells.obs["vmm_cluster"].astype(str))
    leaves[np.flatnonzero(leaves == "10.0")[::3]] = "10.1"
    order = ["2", "7", "10.0", "10.1"]
    cells.obs["vmm_leaf"] = pd.Categorical(leaves, order)
    cells.uns["vmmscvi"]["cluster_tree"] = {
        "leaves": np.array(order),
        "clusters": np.array(["2", "7", "10", "10"]),
        "merges": np.array([[2, 3], [0, 1], [4, 5]]),
        "n_effective": np.array([4000.0, 300.0, 20.0]),
    }
    cells.uns["vmmscvi"]["versions"] = {"vmmscvi": "0"}
    cells.uns["vmmscvi"]["clusters"] = pd.DataFrame(
        {"name": ["T cells", "B cells", "NK"]}, index=["2", "7", "10"]
    )
    return cells


class Model:
    """What plots take for a model."""

    def __init__(self, adata) -> None:
        self.adata = adata

    def annotate(self) -> None:
        raise AssertionError("plots annotate nothing")


def test_cells_are_coloured_by_the_logged_share_of_a_gene(cells):
    ax = embedding(cells, "3")
    counts = cells.X.toarray()
    expected = np.log1p(counts[:, 3] / counts.sum(1) * 1e4)
    shown = np.sort(ax.collections[-1].get_array())
    np.testing.assert_allclose(shown, np.sort(expected))
    with pytest.raises(ValueError, match="`color` is 'no gene'; expected a gene or a column"):
        embedding(cells, "no gene")


def test_a_model_can_replace_its_annotated_data(annotated):
    ours = [bar.get_height() for bar in cluster_weights(annotated).patches]
    assert [bar.get_height() for bar in cluster_weights(Model(annotated)).patches] == ours
    del annotated.uns["vmmscvi"]
    with pytest.raises(ValueError, match=r"a model without annotated data: call its `annotate\(\)` first"):
        cluster_weights(Model(annotated))
    with pytest.raises(ValueError, match="`adata` is a DataFrame; expected an AnnData or a trained model"):
        cluster_weights(annotated.obs)


def test_clusters_are_called_by_their_names(annotated):
    labels = {text.get_text() for text in embedding(annotated, "vmm_cluster").get_legend().get_texts()}
    assert labels == {"T cells (2)", "B cells (7)", "NK (10)"}


def test_names_have_the_colours_of_their_clusters(annotated):
    names = {"2": "T cells", "7": "B cells", "10": "T cells"}
    annotated.obs["vmm_cluster_name"] = annotated.obs["vmm_cluster"].map(names).astype("category")
    of_clusters = category_colors(["2", "7", "10"])
    legend = embedding(annotated, "vmm_cluster_name").get_legend()
    shown = {
        t.get_text(): to_hex(h.get_color())
        for t, h in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }
    assert shown == {"T cells": of_clusters["2"], "B cells": of_clusters["7"]}


def test_branches_have_the_colours_of_the_map_and_lines_mark_the_levels(annotated):
    annotated.uns["vmm_cluster_colors"] = ["#aa0000", "#00aa00", "#0000aa"]  # of 10, 2, 7
    ax = cluster_tree(annotated, n_clusters=2)
    points = {
        float(line.get_ydata()[0]): to_hex(line.get_color()) for line in ax.lines if line.get_marker() == "o"
    }
    colors = {t.get_text().split(" (")[0]: points[t.get_position()[1]] for t in ax.get_yticklabels()}
    # 2 and 7 are one, and have the colour of the larger
    assert colors == {"NK 10.0": "#aa0000", "NK 10.1": "#aa0000", "T cells": "#00aa00", "B cells": "#00aa00"}
    assert {text.get_text() for text in ax.texts} == {"model: 3", "cut: 2"}
    at = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    limit = np.log10(1e4)
    np.testing.assert_allclose(sorted(at), sorted(limit - np.log10(np.sqrt([4000 * 300.0, 300 * 20.0]))))
    assert "cells needed to separate groups" in ax.get_xlabel()


def test_genes_are_written_at_the_split_that_they_drive(annotated):
    genes = pd.DataFrame(
        {
            "node": [6, 6, 4, 4],
            "side": ["left", "right", "left", "right"],
            "rank": 1,
            "gene": ["A", "B", "C", "D"],
        }
    )
    texts = {t.get_text(): t.xy for t in cluster_tree(annotated, genes=genes).texts if len(t.get_text()) == 1}
    assert set(texts) == {"A", "B", "C", "D"}
    assert texts["A"][0] == texts["B"][0] > texts["C"][0]  # coarser splits are further left
    assert texts["C"][1] != texts["D"][1]


def test_cuts_are_side_by_side_in_related_colours(annotated):
    figure = cluster_cuts(annotated, [1, 2, 4])
    assert [ax.get_title() for ax in figure.axes] == ["1 cluster", "2 clusters", "4 clusters"]
    assert [len(ax.texts) for ax in figure.axes] == [1, 2, 4]
    assert [ax.get_title() for ax in cluster_cuts(annotated).axes][1] == "3 clusters (the model's)"
    assert [ax.get_title() for ax in cluster_cuts(annotated, min_size=30).axes] == ["2 clusters"]
    tree = ClusterTree.from_anndata(annotated)
    own = category_colors(tree.cut().cat.categories)
    shown = {to_hex(c) for c in figure.axes[2].collections[0].get_facecolors()}
    assert {own["2"], own["7"], own["10"]} < shown and len(shown) == 4


def test_markers_are_a_dot_plot_of_counts_or_a_map_of_decoded_centres(annotated, tmp_path):
    table = pd.DataFrame(
        {
            "cluster": ["2", "7", "10"],
            "gene": ["0", "1", "2"],
            "rank": 1,
        }
    )
    markers(annotated, table, save=tmp_path / "dots.png")
    decoded = pd.DataFrame(np.eye(3, 20), ["2", "7", "10"], annotated.var_names)
    markers(annotated, table, decoded=decoded, save=tmp_path / "decoded.png")
    for name in ("dots", "decoded"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="expected genes of the data"):
        markers(annotated, {"2": ["absent"]})
    with pytest.raises(ValueError, match="a table of `get_markers`"):
        markers(annotated, decoded)


def test_the_annotation_of_a_mudata_is_drawn(annotated):
    annotated.obs_names = [f"cell{i}" for i in range(annotated.n_obs)]
    mdata = MuData({"rna": annotated[:, :10].copy(), "atac": annotated[:, 10:].copy()})
    mdata.obs = annotated.obs.copy()
    mdata.obsm["X_umap"], mdata.uns["vmmscvi"] = annotated.obsm["X_umap"], annotated.uns["vmmscvi"]
    for data in (mdata, Model(mdata)):
        ours = [bar.get_height() for bar in cluster_weights(data).patches]
        assert ours == [bar.get_height() for bar in cluster_weights(annotated).patches]
        assert embedding(data, "vmm_cluster").collections
        assert cluster_tree(data).get_xlabel()
