"""The simulator keeps its promises: reproducible, labelled as asked, and distributed as documented."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, roc_auc_score, silhouette_score

from vmmscvi.data import simulate_counts, simulate_preset
from vmmscvi.data._annotation import MAX_STORED_ENTRIES
from vmmscvi.data._drawing import CHUNK_ENTRIES

DATA = Path(os.environ.get("VMMSCVI_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
SMALL: dict[str, Any] = {"n_cells": 600, "n_genes": 300, "n_types": 4, "n_batches": 2}
ONE_TYPE: dict[str, Any] = {"n_types": 1, "n_batches": 1, "n_genes": 200, "n_cells": 4000}


def log_normalised(adata: AnnData) -> NDArray[np.float64]:
    counts = adata.X.toarray().astype(np.float64)
    return np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e3)


def principal_components(adata: AnnData) -> NDArray[np.float64]:
    return PCA(n_components=15, random_state=0).fit_transform(log_normalised(adata))


def batch_silhouette_within_types(adata: AnnData) -> float:
    components = principal_components(adata)
    scores = []
    for cell_type in adata.obs["cell_type"].unique():
        cells = (adata.obs["cell_type"] == cell_type).to_numpy()
        scores.append(silhouette_score(components[cells], adata.obs["batch"][cells]))
    return float(np.mean(scores))


def mean_log_profiles(adata: AnnData) -> pd.DataFrame:
    table = pd.DataFrame(adata.X.toarray(), columns=adata.var_names)
    sums = table.groupby(adata.obs["cell_type"].to_numpy(), observed=True).sum()
    return np.log(sums.div(sums.sum(axis=1), axis=0) + 1e-5)


# --- what is returned ---------------------------------------------------------------------------


def test_counts_are_csr_float32_integers_and_no_cell_is_empty():
    adata = simulate_counts(**SMALL)
    assert isinstance(adata.X, sp.csr_matrix)
    assert adata.X.dtype == np.float32
    assert adata.X.has_sorted_indices and adata.X.data.min() >= 1
    np.testing.assert_array_equal(adata.X.data, np.rint(adata.X.data))
    assert adata.shape == (600, 300)
    assert adata.X.sum(axis=1).min() >= 1
    assert adata.obs_names.is_unique and adata.var_names.is_unique


def test_cells_that_would_be_empty_get_one_molecule_from_their_profile():
    adata = simulate_counts(**ONE_TYPE, depth=0.05, gene_mean_sd=1.0)
    totals = np.asarray(adata.X.sum(axis=1)).ravel()
    assert totals.min() == 1 and np.mean(totals == 1) > 0.9
    found = np.asarray(adata.X.sum(axis=0)).ravel()
    expected = adata.uns["simulation"]["profiles"][0] * totals.sum()
    common = expected > 20
    assert common.sum() > 20
    np.testing.assert_allclose(found[common] / expected[common], 1, atol=0.6)
    assert np.corrcoef(found[common], expected[common])[0, 1] > 0.95


def test_labels_are_categories_with_all_names():
    adata = simulate_counts(**SMALL, n_subtypes={"type1": 2})
    assert list(adata.obs["batch"].cat.categories) == ["batch0", "batch1"]
    assert list(adata.obs["cell_type"].cat.categories) == ["type0", "type1.0", "type1.1", "type2", "type3"]
    assert list(adata.obs["cell_type_coarse"].cat.categories) == ["type0", "type1", "type2", "type3"]
    coarse_from_name = adata.obs["cell_type"].astype(str).str.split(".").str[0]
    assert (coarse_from_name == adata.obs["cell_type_coarse"].astype(str)).all()


def test_settings_and_true_profiles_are_stored_and_survive_an_h5ad_file(tmp_path):
    adata = simulate_counts(
        **SMALL,
        n_subtypes={"type0": 2},
        proportions={"type3": 0.1},
        missing={"batch1": ["type2"]},
        seed=np.random.default_rng(0),
    )
    adata.write_h5ad(tmp_path / "simulated.h5ad")
    read = anndata.read_h5ad(tmp_path / "simulated.h5ad")
    assert (read.X != adata.X).nnz == 0
    pd.testing.assert_frame_equal(read.obs, adata.obs)
    pd.testing.assert_frame_equal(read.var, adata.var)
    simulation = read.uns["simulation"]
    assert simulation["settings"]["n_genes"] == 300
    assert list(simulation["settings"]["missing"]["batch1"]) == ["type2"]
    assert simulation["profiles"].shape == (5, 300)
    assert simulation["batch_effects"].shape == (2, 5, 300)
    np.testing.assert_allclose(simulation["profiles"].sum(axis=1), 1, rtol=1e-5)


def test_true_profiles_are_left_out_when_large():
    n_types, n_genes = 20, MAX_STORED_ENTRIES // 40  # half a million entries for each batch
    adata = simulate_counts(n_cells=100, n_genes=n_genes, n_types=n_types, n_batches=3)
    simulation = adata.uns["simulation"]
    assert "profiles" in simulation and "batch_effects" not in simulation


# --- reproducibility ----------------------------------------------------------------------------


def test_same_seed_gives_identical_data_and_another_seed_does_not():
    first, again, other = (simulate_counts(**SMALL, seed=seed) for seed in (3, 3, 4))
    assert (first.X != again.X).nnz == 0
    pd.testing.assert_frame_equal(first.obs, again.obs)
    pd.testing.assert_frame_equal(first.var, again.var)
    assert (first.X != other.X).nnz > 1000


def test_a_generator_is_reproducible_and_advances():
    rng = np.random.default_rng(5)
    first, second = simulate_counts(**SMALL, seed=rng), simulate_counts(**SMALL, seed=rng)
    again = simulate_counts(**SMALL, seed=np.random.default_rng(5))
    assert (first.X != again.X).nnz == 0
    assert (first.X != second.X).nnz > 1000


def test_global_random_state_is_neither_read_nor_changed():
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = simulate_counts(**SMALL)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert (first.X != simulate_counts(**SMALL).X).nnz == 0


# --- proportions, rare types, missing types -------------------------------------------------------


def test_a_type_of_half_a_percent_of_ten_thousand_cells_has_exactly_fifty():
    adata = simulate_counts(n_cells=10_000, n_genes=120, proportions={"type6": 0.005}, seed=2)
    assert (adata.obs["cell_type"] == "type6").sum() == 50
    assert sorted(pd.crosstab(adata.obs["cell_type"], adata.obs["batch"]).loc["type6"]) == [16, 17, 17]


def test_given_proportions_are_met_exactly_in_total_and_within_batches():
    shares, batch_shares = [0.5, 0.3, 0.15, 0.05], [0.75, 0.25]
    adata = simulate_counts(**SMALL, proportions=shares, batch_proportions=batch_shares)
    table = pd.crosstab(adata.obs["cell_type"], adata.obs["batch"]).to_numpy()
    np.testing.assert_allclose(table, 600 * np.outer(shares, batch_shares), atol=0.51)
    np.testing.assert_array_equal(table.sum(axis=1), [300, 180, 90, 30])


def test_inexact_proportions_vary_around_their_expectation():
    options = {**SMALL, "n_cells": 2000, "n_genes": 60}
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    counts = [
        simulate_counts(**options, proportions=shares, exact_proportions=False, seed=seed)
        .obs["cell_type"].value_counts(sort=False).to_numpy()
        for seed in range(5)
    ]  # fmt: skip
    assert len({tuple(count) for count in counts}) == 5
    for count in counts:
        assert stats.chisquare(count, 2000 * shares).pvalue > 1e-4


def test_drawn_proportions_differ_and_every_type_has_cells():
    counts = simulate_counts(n_cells=40, n_genes=200, n_types=20, proportions="random").obs["cell_type"]
    assert counts.value_counts().min() >= 1
    equal = simulate_counts(**SMALL, proportions="equal").obs["cell_type"].value_counts()
    assert (equal == 150).all()


def test_a_missing_type_is_absent_from_its_batch_only_and_keeps_its_share():
    adata = simulate_counts(**SMALL, proportions="equal", missing={"batch1": ["type3"]})
    table = pd.crosstab(adata.obs["cell_type"], adata.obs["batch"])
    assert table.loc["type3", "batch1"] == 0
    assert table.loc["type3", "batch0"] == 150
    assert (table.drop(index="type3") > 0).all(axis=None)


def test_a_missing_coarse_type_takes_its_subtypes_along():
    adata = simulate_counts(**SMALL, n_subtypes={"type2": 2}, missing={"batch0": ["type2"]})
    table = pd.crosstab(adata.obs["cell_type_coarse"], adata.obs["batch"])
    assert table.loc["type2", "batch0"] == 0 and table.loc["type2", "batch1"] > 0


# --- types and markers ----------------------------------------------------------------------------


def test_markers_are_recovered_from_the_counts():
    adata = simulate_counts(batch_effect=0.0, n_genes=600, n_markers=20)
    profiles = mean_log_profiles(adata)
    assert adata.var["marker_of"].value_counts().eq(20).all()
    for name in profiles.index:
        others = profiles.drop(index=name).mean()
        is_marker = (adata.var["marker_of"] == name).to_numpy()
        assert roc_auc_score(is_marker, profiles.loc[name] - others) > 0.97
        score = log_normalised(adata)[:, is_marker].sum(axis=1)
        assert roc_auc_score((adata.obs["cell_type"] == name).to_numpy(), score) > 0.97


def test_recorded_fold_changes_are_those_of_the_counts():
    adata = simulate_counts(batch_effect=0.0, type_effect=0.0, n_genes=600, n_markers=20, n_cells=6000)
    profiles = mean_log_profiles(adata)
    assert (adata.var.loc[adata.var["marker_of"].isna(), "marker_log_fold_change"] == 0).all()
    seen = adata.var["marker_of"].notna() & (adata.var["mean"] > 0.2)
    found = [
        profiles.loc[name, gene] - profiles.drop(index=name)[gene].mean()
        for gene, name in adata.var.loc[seen, "marker_of"].items()
    ]
    recorded = adata.var.loc[seen, "marker_log_fold_change"]
    assert len(recorded) > 50
    # Expression is relative, so a type whose markers are high has everything else a little lower.
    np.testing.assert_allclose(np.asarray(found), recorded, atol=0.6)
    assert stats.pearsonr(found, recorded).statistic > 0.8


def test_subtypes_share_markers_and_are_closer_than_coarse_types():
    adata = simulate_counts(n_subtypes={"type0": 3, "type1": 2}, n_types=4, n_batches=1, proportions="equal")
    of_subtypes = adata.var.loc[adata.var["marker_level"] == "subtype", "marker_of"]
    assert set(of_subtypes) == {"type0.0", "type0.1", "type0.2", "type1.0", "type1.1"}
    assert adata.var["marker_of"].eq("type0").sum() > 2 * adata.var["marker_of"].eq("type0.0").sum()

    profiles = mean_log_profiles(adata)
    distance = pd.DataFrame(
        np.linalg.norm(profiles.to_numpy()[:, None] - profiles.to_numpy(), axis=-1),
        index=profiles.index,
        columns=profiles.index,
    )
    siblings = ["type0.0", "type0.1", "type0.2"]
    largest_within = distance.loc[siblings, siblings].to_numpy().max()
    smallest_between = distance.loc[siblings].drop(columns=siblings).to_numpy().min()
    assert largest_within < 0.7 * smallest_between


def test_a_single_type_has_no_markers_and_one_group():
    adata = simulate_preset("single_type", n_cells=800, n_genes=300)
    assert adata.var["marker_of"].isna().all()
    assert adata.obs["cell_type"].nunique() == adata.obs["batch"].nunique() == 1
    components = principal_components(adata)
    halves = components[:, 0] > np.median(components[:, 0])
    assert silhouette_score(components, halves) < 0.1


def test_cells_of_a_continuum_follow_pseudotime_without_a_gap():
    adata = simulate_counts(**{**SMALL, "n_types": 2, "n_batches": 1}, continuum=True, proportions="equal")
    pseudotime = adata.obs["pseudotime"].to_numpy()
    assert pseudotime.min() >= 0 and pseudotime.max() <= 1
    np.testing.assert_array_equal(adata.obs["cell_type"] == "type1", pseudotime > 0.5)
    axis = principal_components(adata)[:, 0]
    assert abs(stats.spearmanr(axis, pseudotime).statistic) > 0.95
    groups = simulate_counts(**{**SMALL, "n_types": 2, "n_batches": 1}, proportions="equal")
    group_axis = principal_components(groups)[:, 0]
    assert np.diff(np.sort(axis)).max() / np.ptp(axis) < 0.05
    assert np.diff(np.sort(group_axis)).max() / np.ptp(group_axis) > 0.2


def test_a_marker_rises_and_falls_along_a_continuum():
    adata = simulate_preset("continuum", n_genes=400)
    expression = log_normalised(adata)
    bins = np.clip((adata.obs["pseudotime"].to_numpy() * 8).round().astype(int), 0, 8)
    for state in range(5):
        of_state = (adata.var["marker_of"] == f"type{state}").to_numpy()
        course = [expression[bins == b][:, of_state].mean() for b in range(9)]
        assert np.argmax(course) == 2 * state


# --- batches --------------------------------------------------------------------------------------


def test_batches_separate_more_the_stronger_their_effect():
    scores = [
        batch_silhouette_within_types(simulate_counts(**SMALL, batch_effect=b)) for b in (0, 0.2, 0.4, 0.8)
    ]
    assert abs(scores[0]) < 0.03
    assert scores[3] > 0.3
    assert (np.diff(scores) > 0.02).all()


def test_without_batch_effect_batches_are_exchangeable():
    # Equal depths: otherwise all genes of a cell rise and fall together, and their tests with them.
    options = {**ONE_TYPE, "n_batches": 2, "n_cells": 1000}
    adata = simulate_counts(**options, batch_effect=0.0, depth_sd=0.0, gene_mean_sd=1.0)
    first = (adata.obs["batch"] == "batch0").to_numpy()
    pvalues = stats.ttest_ind(*(adata.X[c].toarray().astype(np.float64) for c in (first, ~first))).pvalue
    assert stats.kstest(pvalues, "uniform").pvalue > 1e-3
    assert stats.ttest_ind(*(np.log(adata.X[c].sum(axis=1).A1) for c in (first, ~first))).pvalue > 1e-3


def test_a_change_of_strength_scales_the_same_effects_on_the_same_cells():
    weak, strong = (simulate_counts(**SMALL, batch_effect=b) for b in (0.2, 0.6))
    pd.testing.assert_frame_equal(weak.var, strong.var)
    pd.testing.assert_series_equal(weak.obs["cell_type"], strong.obs["cell_type"])
    effects = [adata.uns["simulation"]["batch_effects"] for adata in (weak, strong)]
    np.testing.assert_allclose(3 * effects[0], effects[1], rtol=1e-5)
    assert effects[1].std() == pytest.approx(0.6, rel=0.1)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_interaction_is_the_share_of_variance_that_differs_between_types(share):
    adata = simulate_counts(**{**SMALL, "n_types": 10}, batch_effect=0.5, batch_type_interaction=share)
    effects = adata.uns["simulation"]["batch_effects"]
    assert effects.var(axis=1, ddof=1).mean() / 0.25 == pytest.approx(share, abs=0.04)
    assert effects.var() / 0.25 == pytest.approx(1, abs=0.15)


def test_strong_batch_effects_make_batches_differ_in_depth():
    options = {**SMALL, "n_batches": 6, "type_depth_sd": 0.0}
    spread = [
        np.log(simulate_counts(**options, batch_effect=b).obs.groupby("batch", observed=True)[
            "expected_library_size"
        ].median()).std()
        for b in (0.0, 0.5)
    ]  # fmt: skip
    assert spread[0] < 0.08 and spread[1] > 0.15


# --- the distribution of the counts ---------------------------------------------------------------


def test_counts_are_negative_binomial_with_the_recorded_mean_and_dispersion():
    adata = simulate_counts(**ONE_TYPE, depth_sd=0.0)
    mean, dispersion = (adata.var[name].to_numpy() for name in ("mean", "dispersion"))
    law = stats.nbinom(1 / dispersion, 1 / (1 + dispersion * mean))
    counts = adata.X.toarray()
    seen = mean > 0.5
    assert seen.sum() > 50
    standard_error = law.std() / np.sqrt(len(counts))
    assert (np.abs(counts.mean(axis=0) - law.mean()) < 5 * standard_error).all()
    np.testing.assert_allclose(np.median(counts.var(axis=0)[seen] / law.var()[seen]), 1, atol=0.03)
    np.testing.assert_allclose((counts == 0).mean(axis=0), law.pmf(0), atol=0.04)


def test_counts_are_overdispersed_against_poisson_unless_dispersion_is_zero():
    fano = {}
    for dispersion, trend in ((0.05, 0.25), (0.0, 0.0)):
        counts = simulate_counts(
            **ONE_TYPE, depth_sd=0.0, dispersion=dispersion, dispersion_trend=trend
        ).X.toarray()
        seen = counts.mean(axis=0) > 1
        fano[dispersion] = (counts.var(axis=0) / counts.mean(axis=0))[seen]
    assert (fano[0.05] > 1.1).all()
    np.testing.assert_allclose(fano[0.0], 1, atol=0.12)


def test_dispersion_falls_with_the_mean_towards_its_floor():
    adata = simulate_counts(n_genes=3000, n_cells=10, dispersion_sd=0.0)
    order = np.argsort(adata.var["mean"].to_numpy())
    dispersion = adata.var["dispersion"].to_numpy()[order]
    assert (np.diff(dispersion) <= 0).all()
    assert dispersion.min() > 0.05 and dispersion.max() < 3


def test_library_sizes_are_log_normal_with_the_given_median_and_spread():
    adata = simulate_counts(**ONE_TYPE, depth=5000.0, depth_sd=0.5, dispersion=0.0, dispersion_trend=0.0)
    size = np.asarray(adata.X.sum(axis=1)).ravel()
    assert np.median(size) == pytest.approx(5000, rel=0.02)
    assert np.log(size).std() == pytest.approx(0.5, rel=0.05)
    assert abs(stats.skew(np.log(size))) < 0.15


def test_zeros_come_from_depth():
    zeros = [1 - simulate_counts(**SMALL, depth=d).X.nnz / 180_000 for d in (100.0, 400.0, 1600.0)]
    assert zeros[0] > zeros[1] > zeros[2]


def test_counts_do_not_stop_at_a_chunk_border():
    n_cells = 2 * (CHUNK_ENTRIES // SMALL["n_genes"]) + 600  # two whole chunks, and a part of one
    adata = simulate_counts(**SMALL | {"n_cells": n_cells}, depth_sd=0.0, batch_effect=0.0)
    assert adata.shape == (n_cells, 300)
    size = np.asarray(adata.X.sum(axis=1)).ravel()
    assert stats.pearsonr(np.log(size), np.log(adata.obs["expected_library_size"])).statistic > 0.5


def _realism(adata: AnnData) -> dict[str, float]:
    """Sparsity, spread of the library sizes, and slope of log variance on log mean over genes."""
    size = np.asarray(adata.X.sum(axis=1)).ravel()
    mean = np.asarray(adata.X.mean(axis=0)).ravel()
    variance = np.asarray(adata.X.multiply(adata.X).mean(axis=0)).ravel() - mean**2
    seen = mean > 0.01
    slope = np.polyfit(np.log(mean[seen]), np.log(variance[seen]), 1)[0]
    zeros = 1 - adata.X.nnz / (adata.n_obs * adata.n_vars)
    return {"zeros": zeros, "size": float(np.log(size).std()), "slope": float(slope)}


@pytest.mark.skipif(not (DATA / "kang_8donors.h5ad").exists(), reason="real data not present")
def test_the_default_set_lies_between_two_real_sets_of_blood_cells():
    real = [_realism(anndata.read_h5ad(DATA / f"{name}.h5ad")) for name in ("kang_8donors", "pbmc_2src")]
    simulated = _realism(simulate_counts())
    for name, slack in (("zeros", 0.0), ("size", 0.15), ("slope", 0.05)):
        low, high = sorted(values[name] for values in real)
        assert low - slack <= simulated[name] <= high + slack, name


# --- difficulty -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def leiden():
    sc = pytest.importorskip("scanpy")
    pytest.importorskip("igraph")

    def cluster(adata: AnnData) -> pd.Series:
        copy = AnnData(log_normalised(adata).astype(np.float32), obs=adata.obs)
        sc.pp.pca(copy, n_comps=20, random_state=0)
        sc.pp.neighbors(copy, n_neighbors=15, transformer="sklearn", random_state=0)
        sc.tl.leiden(copy, resolution=1.0, flavor="igraph", n_iterations=2, random_state=0)
        return copy.obs["leiden"]

    return cluster


def test_leiden_finds_well_separated_types_without_batch_effect(leiden):
    adata = simulate_preset("well_separated", batch_effect=0.0, n_cells=1200)
    assert adjusted_rand_score(adata.obs["cell_type"], leiden(adata)) > 0.9


def test_strong_batch_effects_split_uncorrected_clusters_by_batch(leiden):
    adata = simulate_preset("strong_batch", n_cells=1500)
    share = pd.crosstab(leiden(adata), adata.obs["batch"], normalize="index")
    assert share.max(axis=1).median() > 0.9


def test_types_are_separable_after_subtraction_of_strong_batch_effects():
    adata = simulate_preset("strong_batch", n_cells=1500, missing={})
    values = log_normalised(adata)
    for batch in adata.obs["batch"].cat.categories:
        cells = (adata.obs["batch"] == batch).to_numpy()
        values[cells] -= values[cells].mean(axis=0)
    components = PCA(n_components=15, random_state=0).fit_transform(values)
    assert silhouette_score(components, adata.obs["cell_type"]) > 0.1


# --- presets and errors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_types", "n_batches"),
    [
        ("well_separated", 6, 2),
        ("strong_batch", 6, 4),
        ("many_types", 40, 3),
        ("single_type", 1, 1),
        ("continuum", 5, 1),
    ],
)
def test_presets_have_their_types_and_batches(name, n_types, n_batches):
    adata = simulate_preset(name, n_cells=300, n_genes=200, seed=1)
    assert adata.shape == (300, 200)
    assert adata.obs["cell_type"].nunique() == n_types
    assert adata.obs["batch"].nunique() == n_batches


def test_the_nested_rare_preset_holds_subtypes_and_fifty_rare_cells():
    adata = simulate_preset("nested_rare", n_genes=300)
    assert adata.n_obs == 10_000
    assert adata.obs["cell_type"].nunique() == 9 and adata.obs["cell_type_coarse"].nunique() == 6
    assert (adata.obs["cell_type"] == "type5").sum() == 50


def test_an_unknown_preset_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match=r"name is 'pancreas'.*well_separated"):
        simulate_preset("pancreas")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_cells": 0}, "n_cells is 0; expected an integer of at least 1"),
        ({"n_cells": 100.5}, "n_cells is 100.5"),
        ({"n_genes": True}, "n_genes is True"),
        ({"n_cells": 5}, "n_cells is 5; expected at least one cell for each of the 7 types"),
        ({"n_cells": 10, "n_batches": 11}, "n_cells is 10; .*11 batches"),
        ({"n_types": 0}, "n_types is 0"),
        ({"n_batches": -1}, "n_batches is -1"),
        ({"n_subtypes": 0}, "n_subtypes is 0"),
        ({"n_subtypes": {"type9": 2}}, r"n_subtypes holds \['type9'\]; expected names among"),
        ({"proportions": "uneven"}, "proportions is 'uneven'; expected 'random', 'equal'"),
        ({"proportions": [0.5, 0.5]}, r"proportions has shape \(2,\); expected 7"),
        ({"proportions": [0.2] * 7}, "proportions sums to 1.4"),
        ({"proportions": [1.0, 0, 0, 0, 0, 0, 0]}, "proportions is .*above 0"),
        ({"proportions": {"type8": 0.1}}, r"proportions holds \['type8'\]"),
        ({"proportions": {"type1": 1.0}}, "proportions is .* leaves 0 for 6 other types"),
        ({"proportions": {"type1": -0.1}}, r"proportions\['type1'\] is -0.1"),
        ({"exact_proportions": 1}, "exact_proportions is 1; expected True or False"),
        ({"n_types": 1, "continuum": True}, "n_types is 1 with continuum=True"),
        ({"n_markers": 500}, "n_markers is 500 for 7 types.*expected at most 780"),
        ({"n_markers": -1}, "n_markers is -1"),
        ({"marker_log_fold_change": float("nan")}, "marker_log_fold_change is nan"),
        ({"batch_effect": -0.1}, "batch_effect is -0.1; expected a finite number between 0 and 3"),
        ({"batch_effect": "strong"}, "batch_effect is 'strong'"),
        ({"batch_type_interaction": 1.5}, "batch_type_interaction is 1.5; .*between 0 and 1"),
        ({"batch_proportions": [0.5, 0.6, -0.1]}, "batch_proportions is .*above 0"),
        ({"missing": ["type1"]}, "missing is .*expected a mapping"),
        ({"missing": {"batch7": ["type1"]}}, r"missing holds \['batch7'\]"),
        ({"missing": {"batch1": ["type77"]}}, r"missing\['batch1'\] holds \['type77'\]"),
        ({"missing": {"batch1": "type1"}}, "missing.*is the string 'type1'; expected a list"),
        (
            {"missing": {f"batch{b}": ["type1"] for b in range(3)}},
            r"missing removes \['type1'\] from every batch",
        ),
        ({"missing": {"batch0": [f"type{t}" for t in range(7)]}}, r"missing leaves no type in \['batch0'\]"),
        ({"depth": 0.0}, "depth is 0"),
        ({"depth": 1e9}, "depth is 1e[+]09"),
        ({"depth_sd": 10.0}, "depth_sd is 10.0"),
        ({"dispersion": -1.0}, "dispersion is -1.0; expected a finite number of at least 0"),
        ({"seed": -1}, "seed is -1; expected a non-negative integer"),
        ({"seed": "today"}, "seed is 'today'"),
    ],
)
def test_errors_for_impossible_arguments_name_the_expected_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_counts(**{"n_cells": 200, **arguments})
