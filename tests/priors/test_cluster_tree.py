from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, is_monotonic, is_valid_linkage
from sklearn.metrics import adjusted_rand_score

from vmmscvi.priors import N_EFFECTIVE, ClusterTree, fit_cluster_tree, fit_coarsened_mixture
from vmmscvi.priors._cluster_names import in_order
from vmmscvi.priors._evidence import Evidence, Statistics, Wishart, merge_gain
from vmmscvi.priors._learned_wishart import most_likely_wishart
from vmmscvi.priors._tree_fitting import LARGEST_SAMPLE
from vmmscvi.priors._tree_joining import join, log_evidence, scales

N, P = 3000, 4
BROAD, FINE = np.repeat(np.arange(3), N // 3), np.repeat(np.arange(6), N // 6)


def nested(seed: int = 0) -> np.ndarray:
    """Three groups, each of two halves that are much closer to each other."""
    rng = np.random.default_rng(seed)
    far, near = 20 * np.eye(P)[BROAD], 1.6 * np.eye(P)[-1] * (2 * (FINE % 2)[:, None] - 1)
    return far + near + 0.5 * rng.normal(size=(N, P))


def named(labels: np.ndarray) -> pd.Series:
    return pd.Series(pd.Categorical(labels.astype(str)), [f"cell{i}" for i in range(len(labels))])


def called(names: Sequence[object]) -> pd.Series:
    """Clusters under other names."""
    return pd.Series(np.array(names, dtype=object)[BROAD])


def with_value(value: float) -> np.ndarray:
    z = nested()
    z[7, 1] = value
    return z


@pytest.fixture(scope="module")
def tree() -> ClusterTree:
    return fit_cluster_tree(nested(), named(BROAD))


def test_parts_of_clusters_are_found_and_clusters_keep_their_names(tree: ClusterTree) -> None:
    assert tree.leaves == ("0.0", "0.1", "1.0", "1.1", "2.0", "2.1")
    assert tree.clusters == ("0", "0", "1", "1", "2", "2")
    assert adjusted_rand_score(tree.assignments, FINE) > 0.99
    pd.testing.assert_series_equal(tree.cut(), named(BROAD), check_names=False)
    assert tree.cut().name == "vmm_cluster"


@pytest.mark.parametrize(
    "names",
    [
        ["B cell", "CD4+ T", "CD8+ T"],
        ["T2", "T10", "T10 act."],
        [0.5, 1.5, 2.5],
        ["-1", "0", "10"],
        [0, 1, 2],
    ],
)
def test_the_type_of_names_changes_only_the_names(tree: ClusterTree, names: list[object]) -> None:
    other = fit_cluster_tree(nested(), called(names))
    texts = [str(name) for name in names]
    assert other.clusters == tuple(np.repeat(texts, 2))
    assert other.leaves == tuple(f"{name}.{part}" for name in texts for part in (0, 1))
    np.testing.assert_array_equal(other.merges, tree.merges)
    np.testing.assert_array_equal(other.n_effective, tree.n_effective)
    np.testing.assert_array_equal(other.assignments.cat.codes, tree.assignments.cat.codes)
    assert list(other.cut().cat.categories) == texts
    assert set(other.cut(n_clusters=1)) == {"+".join(texts)}
    back = ClusterTree.from_dict(other.to_dict(), other.assignments.astype(str))
    pd.testing.assert_series_equal(back.cut(n_clusters=2), other.cut(n_clusters=2))


def test_a_name_that_looks_like_one_of_a_merge_joins_nothing() -> None:
    merges = [
        fit_cluster_tree(nested(), pd.Series(np.array(["a", "b", "c", "d", "e", last])[FINE]), 1.0).merges
        for last in ("f", "node 1")
    ]
    np.testing.assert_array_equal(*merges)


def test_names_are_in_the_order_of_their_numbers_then_of_their_text() -> None:
    expected = ["-1", "0", "0+10", "0.1", "0.1+0.2", "0.10", "2", "10", "B", "T2", "T2.0", "T10", "T-cell"]
    assert sorted(expected[::-1], key=in_order) == expected
    # equal numbers: a set of names has one order all the same
    assert sorted(["01", "1"], key=in_order) == sorted(["1", "01"], key=in_order)


def test_every_cut_is_a_coarsening_of_the_finer_one_with_the_number_asked_for(tree: ClusterTree) -> None:
    finer = tree.cut(n_clusters=6)
    for n_clusters in (5, 4, 3, 2, 1):
        coarser = tree.cut(n_clusters=n_clusters)
        assert coarser.nunique() == n_clusters
        assert (pd.crosstab(finer, coarser) > 0).sum(axis=1).eq(1).all()
        finer = coarser
    assert set(tree.cut(n_clusters=1)) == {"0+1+2"}


def test_parts_of_a_cluster_are_joined_before_clusters_are() -> None:
    z = nested()
    mixed = np.where(FINE == 1, 1, BROAD)  # half of a group is assigned to a cluster far away
    tree = fit_cluster_tree(z, named(mixed))
    pd.testing.assert_series_equal(tree.cut(), named(mixed), check_names=False)


@pytest.mark.parametrize("side", [0.8, 1.25])
def test_the_level_of_a_merge_is_where_the_classification_likelihood_changes_its_mind(
    tree: ClusterTree, side: float
) -> None:
    z = torch.as_tensor(nested())
    at = float(tree.n_effective[-1]) * side
    (left, right), cells = tree.cut(n_clusters=2).cat.categories, tree.cut(n_clusters=2)
    r = torch.as_tensor(np.column_stack((cells == left, cells == right))).double()
    groups = [z[torch.as_tensor(BROAD == group)] for group in range(3)]
    shares = (torch.full((3,), 1 / 3), [g.sum(0) for g in groups], [g.mT @ g for g in groups])
    counts, first, second = shares[0].double(), torch.stack(shares[1]) / N, torch.stack(shares[2]) / N
    cells = Statistics(*(N_EFFECTIVE * share for share in (counts, first, second)))
    evidence = Evidence(z, at, most_likely_wishart(cells, (1.0,)))
    apart = evidence.classification_likelihood(r)
    together = evidence.classification_likelihood(torch.ones(N, 1, dtype=torch.float64))
    # empty components cost nothing, so that the two are comparable
    assert (together > apart) == (side < 1)


@pytest.mark.parametrize("scale", [0.2, 1.0, 4.0])
def test_a_cut_by_effective_cells_agrees_with_a_fit_of_as_many_under_the_same_prior(scale: float) -> None:
    z = nested()
    tree = fit_cluster_tree(z, named(BROAD), wishart_scale_factor=scale)
    for n_effective, n_clusters in ((100.0, 3), (500.0, 6), (2000.0, 6)):
        fit = fit_coarsened_mixture(z, n_effective=n_effective, wishart_scale_factor=scale)
        assert len(fit.weights) == n_clusters
        assert adjusted_rand_score(tree.cut(n_effective=n_effective), fit.responsibilities.argmax(1)) > 0.98


def test_the_tree_is_a_valid_monotonic_linkage_whose_clusters_are_the_cuts(tree: ClusterTree) -> None:
    linkage = tree.linkage()
    assert is_valid_linkage(linkage) and is_monotonic(linkage)
    assert linkage[-1, 3] == 6
    flat = fcluster(linkage, 3, criterion="maxclust")[tree.assignments.cat.codes]
    assert adjusted_rand_score(flat, tree.cut(n_clusters=3)) == 1


def test_cells_beyond_the_sample_get_the_leaf_of_their_kind() -> None:
    half = np.repeat([0, 1], LARGEST_SAMPLE)
    z = 1.6 * (2 * half[:, None] - 1) * np.eye(2)[0] + 0.5 * np.random.default_rng(0).normal(
        size=(len(half), 2)
    )
    tree = fit_cluster_tree(z, named(np.zeros_like(half)))
    assert len(tree.leaves) == 2
    assert adjusted_rand_score(tree.assignments, half) > 0.99


def test_one_cluster_without_parts_is_a_tree_of_one_leaf() -> None:
    z = np.random.default_rng(0).normal(size=(500, P))
    tree = fit_cluster_tree(z, named(np.zeros(500, dtype=int)), n_effective=500)
    assert tree.leaves == ("0",) and tree.linkage().shape == (0, 4)
    assert set(tree.cut(n_clusters=1)) == set(tree.cut(n_effective=1e6)) == {"0"}


def test_clusters_of_a_few_cells_have_no_parts() -> None:
    z = np.concatenate((nested(), np.full((3, P), 50.0)))
    tree = fit_cluster_tree(z, named(np.append(BROAD, [7, 7, 7])))
    assert "7" in tree.leaves and tree.cut().value_counts()["7"] == 3


def test_same_seed_same_tree_and_neither_input_nor_random_state_is_changed() -> None:
    z, clusters = nested(), named(BROAD)
    kept, state = z.copy(), torch.get_rng_state()
    trees = [fit_cluster_tree(z, clusters, seed=3) for _ in range(2)]
    pd.testing.assert_series_equal(trees[0].assignments, trees[1].assignments)
    np.testing.assert_array_equal(trees[0].n_effective, trees[1].n_effective)
    np.testing.assert_array_equal(z, kept)
    assert torch.equal(state, torch.get_rng_state())


def test_a_tree_comes_back_from_a_dictionary(tree: ClusterTree) -> None:
    back = ClusterTree.from_dict(tree.to_dict(), tree.assignments.astype(str))
    np.testing.assert_array_equal(back.linkage(), tree.linkage())
    pd.testing.assert_series_equal(back.cut(n_clusters=4), tree.cut(n_clusters=4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.cut(n_clusters=0), "`n_clusters` must be from 1 to 6, found 0"),
        (lambda t: t.cut(n_clusters=7), "`n_clusters` must be from 1 to 6, found 7"),
        (lambda t: t.cut(n_effective=0.0), "`n_effective` must be positive, found 0.0"),
        (lambda t: t.cut(2, 10.0), "exclude each other"),
        (lambda t: fit_cluster_tree(nested(), named(BROAD[:-1])), "for each row of `z`"),
        (lambda t: fit_cluster_tree(nested(), named(BROAD), n_effective=-1.0), "`n_effective` must be pos"),
        (lambda t: fit_cluster_tree(nested(), named(BROAD), 1.0, -1.0), "`wishart_scale_factor` must be pos"),
        (lambda t: fit_cluster_tree(with_value(np.nan), named(BROAD)), "`z` .* with 1 values that are not"),
        (lambda t: fit_cluster_tree(with_value(np.inf), named(BROAD)), "`z` .* with 1 values that are not"),
        (lambda t: fit_cluster_tree(nested()[:, 0], named(BROAD)), r"`z` must be a finite matrix"),
        (lambda t: fit_cluster_tree(nested(), named(BROAD).replace("2", np.nan)), "found 1000 missing"),
        (lambda t: fit_cluster_tree(nested(), called(["a", "b", "a.1"])), r"\['a\.1'\] could be parts"),
        (lambda t: fit_cluster_tree(nested(), called(["a", "b", "a+b"])), r"\['a\+b'\] could be parts"),
        (lambda t: fit_cluster_tree(nested(), called([1, "1", 2])), "different names for different clusters"),
    ],
)
def test_bad_arguments_are_named(
    tree: ClusterTree, call: Callable[[ClusterTree], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(tree)


@pytest.mark.filterwarnings("error:.*not writable")
def test_codes_of_pandas_which_are_read_only_are_no_reason_to_warn() -> None:
    torch.set_warn_always(True)
    try:
        fit_cluster_tree(nested(), named(BROAD))
    finally:
        torch.set_warn_always(False)


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
def test_a_cell_without_a_leaf_has_no_cluster(missing: Any) -> None:
    z = np.repeat([[-5.0, 0.0], [0.0, 0.0], [5.0, 0.0]], 50, axis=0)
    z = z + np.random.default_rng(0).normal(0, 0.3, z.shape)
    tree = fit_cluster_tree(z, pd.Series(np.repeat(["0", "1", "2"], 50)))
    leaves = tree.assignments.astype(object)
    leaves.iloc[0] = missing
    back = ClusterTree.from_dict(tree.to_dict(), leaves)
    for level in ({}, {"n_clusters": 2}, {"n_effective": 1e6}):
        found, expected = back.cut(**level), tree.cut(**level)
        assert found.isna().tolist() == [True] + [False] * 149
        assert found[1:].astype(str).tolist() == expected[1:].astype(str).tolist()
    assert ClusterTree.from_dict(tree.to_dict(), back.assignments).assignments.equals(back.assignments)


def test_a_cell_of_an_unknown_leaf_is_refused() -> None:
    z = np.random.default_rng(0).normal(size=(60, 2)) + np.repeat([[0.0], [9.0]], 30, axis=0)
    tree = fit_cluster_tree(z, pd.Series(np.repeat(["0", "1"], 30)))
    leaves = tree.assignments.astype(str)
    leaves.iloc[0] = "7"
    with pytest.raises(ValueError, match=r"leaves of the tree, \['0', '1'\]; found \['7'\]"):
        ClusterTree.from_dict(tree.to_dict(), leaves)


def drawn_shares(n_leaves: int, p: int = 3) -> Statistics:
    """Statistics of leaves of very different sizes, the smallest of one cell."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 50, n_leaves)
    cells = [torch.tensor(rng.normal(size=(n, p)) + 3 * rng.normal(size=p)) for n in sizes]
    return Statistics(
        torch.tensor(sizes / sizes.sum()),
        torch.stack([c.sum(0) for c in cells]) / sizes.sum(),
        torch.stack([c.mT @ c for c in cells]) / sizes.sum(),
    )


def test_the_gain_of_a_merge_at_every_scale_is_that_of_the_search_for_clusters() -> None:
    shares, wishart = drawn_shares(6), Wishart.of_paper(0.2, 3)
    i, j = torch.triu_indices(6, 6, offset=1)
    alone, together = log_evidence(shares, wishart), log_evidence(shares.merged(i, j), wishart)
    gains = together - alone[i] - alone[j]
    evidence = Evidence(torch.zeros(1, 3, dtype=torch.float64), 1.0, wishart)
    for step, n in enumerate(scales()):
        expected = merge_gain(Statistics(*(n * s for s in shares)), i, j, evidence)
        torch.testing.assert_close(gains[:, step], expected, rtol=1e-9, atol=1e-9)


def test_three_hundred_leaves_are_joined_and_cut_in_seconds() -> None:
    parents = [str(i % 15) for i in range(300)]
    before = time.process_time()
    merges, levels = join(drawn_shares(300, p=10), parents, Wishart.of_paper(0.1, 10))
    leaves = tuple(f"{parent}.{i}" for i, parent in enumerate(parents))
    cells = pd.Series(pd.Categorical([leaf for leaf in leaves for _ in range(10)], categories=leaves))
    tree = ClusterTree(leaves, tuple(parents), merges, levels, cells)
    assert tree.cut(n_clusters=40).nunique() == 40
    assert time.process_time() - before < 10  # it took minutes with one determinant for each scale


@pytest.fixture
def uneven_tree() -> ClusterTree:
    """Leaves of 2 to 50 cells in three clusters; the smallest, cluster 2, joins last."""
    sizes = {"0.0": 50, "0.1": 3, "1.0": 40, "1.1": 30, "1.2": 2, "2": 4}
    cells = pd.Series(pd.Categorical([leaf for leaf, n in sizes.items() for _ in range(n)], list(sizes)))
    merges = np.array([[0, 1], [3, 4], [2, 7], [6, 8], [5, 9]])
    levels = np.array([5000.0, 4000.0, 3000.0, 300.0, 30.0])
    return ClusterTree(tuple(sizes), ("0", "0", "1", "1", "1", "2"), merges, levels, cells)


def test_smaller_clusters_join_their_sibling_in_the_tree(uneven_tree: ClusterTree) -> None:
    finest = uneven_tree.cut(n_effective=1e6, min_size=5)
    # 2 joins all others, of which 0 and 1 are apart: the larger side is 1, whose larger part is 1.0
    assert finest.value_counts().to_dict() == {"0": 53, "1.0+2": 44, "1.1+1.2": 32}
    assert uneven_tree.cut(min_size=5).value_counts().to_dict() == {"1+2": 76, "0": 53}


@pytest.mark.parametrize("min_size", [1, 3, 5, 35, 60])
def test_no_cluster_is_smaller_than_asked_for_and_levels_are_nested(
    uneven_tree: ClusterTree, min_size: int
) -> None:
    finer = uneven_tree.cut(n_effective=1e6, min_size=min_size)
    for level in (4500.0, 3500.0, 1000.0, 100.0, 1.0):
        cut = uneven_tree.cut(n_effective=level, min_size=min_size)
        assert cut.value_counts().min() >= min_size
        assert (pd.crosstab(finer, cut) > 0).sum(axis=1).eq(1).all()
        finer = cut


def test_a_number_of_clusters_is_one_of_clusters_that_are_large_enough(uneven_tree: ClusterTree) -> None:
    for n in (1, 2, 3):
        cut = uneven_tree.cut(n_clusters=n, min_size=5)
        assert cut.nunique() == n and cut.value_counts().min() >= 5
    with pytest.raises(ValueError, match="at most 3 clusters of `min_size` 5 or more"):
        uneven_tree.cut(n_clusters=4, min_size=5)
    with pytest.raises(ValueError, match=r"`min_size` must be from 1 to 129 \(all cells\), found 0"):
        uneven_tree.cut(min_size=0)


def test_sides_of_a_merge_are_what_it_joins(uneven_tree: ClusterTree) -> None:
    assert uneven_tree.sides()[3] == ([0, 1], [2, 3, 4])
    assert [uneven_tree.name_of(side) for side in uneven_tree.sides()[2]] == ["1.0", "1.1+1.2"]
