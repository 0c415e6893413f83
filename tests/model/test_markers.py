"""Markers: what the simulator made them, in every cluster, and none that is a difference of batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData

from vmmscvi import SCVI_VMM, TOTALVI_VMM
from vmmscvi._markers import marker_table
from vmmscvi._splits import split_table
from vmmscvi.data import simulate_cite, simulate_counts
from vmmscvi.priors import ClusterTree

Embedded = Callable[[str], tuple[SCVI_VMM, Any]]


def table_of(adata: AnnData, n_genes: int = 10, groups: pd.Series | None = None) -> pd.DataFrame:
    labels = adata.obs["cell_type"].cat.remove_unused_categories() if groups is None else groups
    batches = adata.obs["batch"].cat.codes.to_numpy()
    wanted = list(labels.cat.categories)
    return marker_table(adata.X, list(adata.var_names), labels, batches, wanted, n_genes)


def precision(genes: pd.Series, adata: AnnData, kind: str) -> float:
    return float((adata.var["marker_of"].loc[genes] == kind).mean())


@pytest.fixture(scope="module")
def shallow() -> AnnData:
    """Weak markers, few molecules."""
    return simulate_counts(
        n_cells=800, n_genes=500, n_types=5, n_batches=2, marker_log_fold_change=0.8, depth=1000, seed=7
    )


def test_more_of_the_first_ten_are_true_than_of_a_rank_test(shallow: AnnData) -> None:
    ours = table_of(shallow)
    logged = AnnData(shallow.X.copy(), obs=shallow.obs[["cell_type"]], var=shallow.var[[]])
    sc.pp.normalize_total(logged)
    sc.pp.log1p(logged)
    sc.tl.rank_genes_groups(logged, "cell_type", method="wilcoxon")
    kinds = list(shallow.obs["cell_type"].cat.categories)
    of_test = [
        precision(sc.get.rank_genes_groups_df(logged, kind)["names"][:10], shallow, kind) for kind in kinds
    ]
    own = [precision(ours.loc[ours["cluster"] == kind, "gene"], shallow, kind) for kind in kinds]
    assert np.mean(own) > 0.8 and np.mean(own) > np.mean(of_test) + 0.05


def test_every_cluster_has_its_rows_and_small_ones_are_named(shallow: AnnData) -> None:
    labels = shallow.obs["cell_type"].astype(str)
    labels.iloc[:3] = "tiny"
    table = table_of(shallow, 7, labels.astype("category"))
    assert (table["cluster"].value_counts() == 7).all() and table["cluster"].nunique() == 6
    assert set(table.loc[table["is_small"], "cluster"]) == {"tiny"}
    assert (table.groupby("cluster")["score"].diff().dropna() <= 0).all()
    assert list(table["rank"].unique()) == [1, 2, 3, 4, 5, 6, 7]


def test_a_difference_between_batches_is_none_between_clusters() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 300)
    batch = (rng.random(600) < np.where(group == 0, 0.9, 0.1)).astype(int)  # confounded, not fully
    counts = rng.poisson(2.0, size=(600, 50)).astype(float)
    counts[:, 0] = rng.poisson(np.where(batch == 1, 8.0, 1.0))
    counts[:, 1] = rng.poisson(np.where(group == 0, 4.0, 2.0))
    labels = pd.Series(pd.Categorical.from_codes(group, ["a", "b"]))
    names = [f"g{i}" for i in range(50)]
    blocked = marker_table(counts, names, labels, batch, ["a"], 50).set_index("gene")
    unblocked = marker_table(counts, names, labels, np.zeros(600), ["a"], 50).set_index("gene")
    assert unblocked.index[0] == "g0" and unblocked.loc["g0", "log2_fold_change"] > 1
    assert blocked.index[0] == "g1" and abs(blocked.loc["g0", "log2_fold_change"]) < 0.4
    assert blocked.loc["g1", "log2_fold_change"] == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("given", [False, True], ids=["the model's data", "other data"])
def test_a_model_compares_within_the_batches_that_it_knows(given: bool) -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(["a", "b"], 150)
    batch = np.where(rng.random(300) < np.where(group == "a", 0.9, 0.1), "first", "second")
    counts = rng.poisson(2.0, size=(300, 20)).astype(np.float32)
    counts[:, 0] = rng.poisson(np.where(batch == "first", 16.0, 1.0))
    counts[:, 1] = rng.poisson(np.where(group == "a", 6.0, 2.0))
    best = {}
    for batch_key in ("batch", None):
        adata = AnnData(
            counts, obs=pd.DataFrame({"group": group, "batch": batch}, index=map(str, range(300)))
        )
        SCVI_VMM.setup_anndata(adata, batch_key=batch_key)
        model = SCVI_VMM(adata, n_components=4, n_hidden=4, n_latent=2)
        markers = model.get_markers(1, groupby="group", groups="a", adata=adata.copy() if given else None)
        best[batch_key] = markers["gene"].iloc[0]
    assert best == {"batch": "1", None: "0"}


def test_a_cluster_alone_in_its_batch_is_compared_and_named(shallow: AnnData) -> None:
    batches = (shallow.obs["cell_type"] == "type0").to_numpy().astype(int)
    labels = shallow.obs["cell_type"]
    table = marker_table(shallow.X, list(shallow.var_names), labels, batches, ["type0", "type1"], 10)
    assert table.groupby("cluster")["within_batches"].first().to_dict() == {"type0": False, "type1": True}
    assert precision(table.loc[table["cluster"] == "type0", "gene"], shallow, "type0") > 0.6


def test_dense_and_sparse_counts_and_many_groups_give_the_same(shallow: AnnData) -> None:
    labels = pd.Series(pd.Categorical([str(i) for i in np.arange(shallow.n_obs) % 150]))
    args = (list(shallow.var_names), labels, np.zeros(shallow.n_obs), ["3"], 5)
    sparse, dense = marker_table(shallow.X, *args), marker_table(shallow.X.toarray(), *args)
    pd.testing.assert_frame_equal(sparse, dense)
    assert sparse["n_cells"].iloc[0] == (labels == "3").sum()


def test_splits_are_driven_by_the_markers_of_their_sides(shallow: AnnData) -> None:
    kinds = list(shallow.obs["cell_type"].cat.categories)
    leaves = shallow.obs["cell_type"].rename("leaf")
    merges = np.array([[0, 1], [2, 3], [4, 6], [5, 7]])
    tree = ClusterTree(tuple(kinds), tuple(kinds), merges, np.array([900.0, 800.0, 70.0, 6.0]), leaves)
    batches = shallow.obs["batch"].cat.codes.to_numpy()
    table = split_table(shallow.X, list(shallow.var_names), tree, batches, 5, 1)
    assert list(table["node"].unique()) == [8, 7, 6, 5]
    finest = table[table["node"] == 5]
    for side, kind in (("left", "type0"), ("right", "type1")):
        own = finest[finest["side"] == side]
        assert (own["members"] == kind).all() and precision(own["gene"], shallow, kind) >= 0.6
    assert split_table(shallow.X, list(shallow.var_names), tree, batches, 5, 10_000).empty


def test_markers_of_the_models_clusters_are_the_simulators(embedded: Embedded) -> None:
    model, _ = embedded("vmm")
    markers = model.get_markers(5)
    kind_of = pd.crosstab(model.predict(), model.adata.obs["cell_type"]).idxmax(axis=1)
    found = [precision(own["gene"], model.adata, kind_of[name]) for name, own in markers.groupby("cluster")]
    assert np.mean(found) > 0.7
    assert list(markers["cluster"].unique()) == list(model.predict().cat.categories)


def test_errors_for_unknown_groups_columns_and_numbers_list_the_known_ones(embedded: Embedded) -> None:
    model, _ = embedded("vmm")
    with pytest.raises(ValueError, match=r"`groups` has \['type9'\]; expected some of \['type0', 'type1'"):
        model.get_markers(groupby="cell_type", groups=["type0", "type9"])
    with pytest.raises(ValueError, match="`groupby` is 'nothing'"):
        model.get_markers(groupby="nothing")
    with pytest.raises(ValueError, match="`n_genes` must be a positive integer"):
        model.get_markers(0)
    assert set(model.get_markers(groupby="cell_type", groups="type1")["cluster"]) == {"type1"}


def test_genes_that_the_model_does_not_have_are_ranked_as_well(embedded: Embedded, counts: AnnData) -> None:
    model, _ = embedded("vmm")
    more = AnnData(
        np.column_stack([counts.X.toarray(), (counts.obs["cell_type"] == "type0") * 5.0]),
        obs=counts.obs.copy(),
    )
    more.var_names = [*counts.var_names, "extra"]
    markers = model.get_markers(3, groupby="cell_type", adata=more)
    assert markers.loc[markers["cluster"] == "type0", "gene"].iloc[0] == "extra"


def test_decoded_centres_are_what_the_cells_of_a_cluster_are_on_average(embedded: Embedded) -> None:
    model, _ = embedded("vmm")
    decoded = model.get_decoded_centers()
    clusters = model.predict()
    assert list(decoded.index) == model.component_names() and list(decoded) == list(model.adata.var_names)
    expression = model.get_normalized_expression(library_size=1e4, n_samples=1)
    for name in clusters.cat.categories:
        assert np.corrcoef(decoded.loc[name], expression[clusters == name].mean())[0, 1] > 0.95


@pytest.fixture
def cite() -> TOTALVI_VMM:
    """Two pairs of types that proteins alone tell apart; the proteins of a batch were not measured."""
    adata = simulate_cite(
        n_cells=300, n_genes=60, n_types=3, n_protein_pairs=2, n_batches=2, without_protein=["batch1"], seed=0
    )
    TOTALVI_VMM.setup_anndata(adata, "protein", batch_key="batch")
    return TOTALVI_VMM(adata, n_components=5)


def test_marker_proteins_of_a_pair_are_the_simulators(cite: TOTALVI_VMM) -> None:
    truth = cite.adata.uns["simulation"]
    types, carried = list(truth["types"]), truth["protein"]["carried"]
    markers = cite.get_protein_markers(2, groupby="cell_type").set_index("cluster")
    for half, other in (("type0.0", "type0.1"), ("type1.1", "type1.0")):
        only = carried[types.index(half)] & ~carried[types.index(other)]
        assert set(markers.loc[half, "gene"]) == set(truth["protein"]["names"][only])


def test_clusters_without_proteins_are_named_and_the_others_are_compared(
    cite: TOTALVI_VMM, caplog: pytest.LogCaptureFixture
) -> None:
    types = cite.adata.obs["cell_type"].astype(str)
    has_protein = cite.adata.obs["has_protein"]
    cite.adata.obs["group"] = types.where(has_protein, "unmeasured").astype("category")
    with caplog.at_level("WARNING", logger="vmmscvi"):
        markers = cite.get_protein_markers(groupby="group")
    assert "without counts have no markers: ['unmeasured']" in caplog.text
    assert set(markers["cluster"]) == set(types[has_protein])
    cite.adata.obs["group"] = has_protein.map({True: "yes", False: "no"})
    with pytest.raises(ValueError, match="Only one group has counts"):
        cite.get_protein_markers(groupby="group")
    with pytest.raises(ValueError, match="`n_proteins`"):
        cite.get_protein_markers(0)
