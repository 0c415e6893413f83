"""Simulated CITE-seq: proteins with background and foreground, and types that only proteins distinguish."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import cross_val_score

from vmmscvi.data import simulate_cite, simulate_counts

SMALL = {"n_cells": 800, "n_genes": 300, "n_types": 3, "n_proteins": 12, "n_batches": 2}
ONE_BATCH = {**SMALL, "n_batches": 1, "proportions": "equal"}


def accuracy(values, labels):
    return cross_val_score(LinearDiscriminantAnalysis(), values, labels, cv=3).mean()


def logs(adata):
    counts = adata.X.toarray()
    genes = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 600)
    return genes, np.log1p(adata.obsm["protein"].to_numpy())


def test_proteins_are_a_table_of_counts_beside_the_genes():
    adata = simulate_cite(**SMALL)
    protein = adata.obsm["protein"]
    assert isinstance(protein, pd.DataFrame) and protein.shape == (800, 12)
    assert (protein.index == adata.obs_names).all() and protein.columns[0] == "protein0"
    np.testing.assert_array_equal(protein, protein.round())
    assert protein.to_numpy().min() >= 0 and adata.shape == (800, 300)
    assert adata.obs["has_protein"].all()


def test_same_seed_gives_identical_data_and_another_seed_does_not():
    first, again, other = (simulate_cite(**SMALL, seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first.obsm["protein"], again.obsm["protein"])
    assert (first.X != again.X).nnz == 0
    assert (first.obsm["protein"] != other.obsm["protein"]).to_numpy().mean() > 0.5
    assert (first.X != other.X).nnz > 1000


def test_a_generator_advances():
    rng = np.random.default_rng(5)
    first, second = simulate_cite(**SMALL, seed=rng), simulate_cite(**SMALL, seed=rng)
    assert (first.X != second.X).nnz > 1000


def test_types_of_a_pair_share_their_genes_and_differ_in_proteins():
    adata = simulate_cite(**ONE_BATCH, n_protein_pairs=1)
    assert list(adata.obs["cell_type"].cat.categories) == ["type0.0", "type0.1", "type1", "type2"]
    profiles = adata.uns["simulation"]["profiles"]
    np.testing.assert_array_equal(profiles[0], profiles[1])
    pair = adata[adata.obs["cell_type_coarse"] == "type0"]
    genes, proteins = logs(pair)
    assert accuracy(proteins, pair.obs["cell_type"]) > 0.95
    assert accuracy(genes, pair.obs["cell_type"]) < 0.6
    assert accuracy(logs(adata)[0], adata.obs["cell_type_coarse"]) > 0.9


def test_markers_of_a_pair_are_carried_by_one_half_and_by_no_other_type():
    carried = simulate_cite(**SMALL, n_protein_pairs=2, n_pair_markers=3).uns["simulation"]["protein"][
        "carried"
    ]
    assert carried.shape == (5, 12)
    for pair, (n_first, n_second) in enumerate([(2, 1), (2, 1)]):
        first, second = carried[2 * pair], carried[2 * pair + 1]
        others = np.delete(carried, [2 * pair, 2 * pair + 1], axis=0).any(axis=0)
        assert (first & ~second & ~others).sum() >= n_first
        assert (second & ~first & ~others).sum() >= n_second
        assert (first != second).sum() == 3


def test_protein_counts_have_the_recorded_background_and_foreground():
    adata = simulate_cite(**{**ONE_BATCH, "n_cells": 6000}, background_sd=0.0, protein_dispersion=0.1)
    protein = adata.uns["simulation"]["protein"]
    codes = adata.obs["cell_type"].cat.codes.to_numpy()
    for leaf, carried in enumerate(protein["carried"]):
        mean = protein["background"] * np.where(carried, np.exp(protein["log_fold_change"]), 1)
        counts = adata.obsm["protein"].to_numpy()[codes == leaf]
        variance = mean + 0.1 * mean**2
        assert (np.abs(counts.mean(axis=0) - mean) < 5 * np.sqrt(variance / len(counts))).all()
        np.testing.assert_allclose(counts.var(axis=0) / variance, 1, atol=0.3)


def test_the_background_varies_between_cells_in_common():
    options = {**ONE_BATCH, "n_types": 1, "n_protein_pairs": 0, "n_proteins": 20, "protein_dispersion": 0.0}
    correlation = {}
    for sd in (0.0, 0.8):
        adata = simulate_cite(**options, background_sd=sd)
        correlation[sd] = np.corrcoef(logs(adata)[1].T)[~np.eye(20, dtype=bool)].mean()
    assert abs(correlation[0.0]) < 0.05 and correlation[0.8] > 0.25


def test_batches_differ_in_background_only_as_much_as_asked():
    options = {**SMALL, "n_types": 1, "n_protein_pairs": 0, "background_sd": 0.0, "n_cells": 2000}
    for effect, least, most in ((0.0, 0.0, 0.06), (0.5, 0.3, 1.5)):
        adata = simulate_cite(**options, protein_batch_effect=effect)
        means = adata.obsm["protein"].groupby(adata.obs["batch"].to_numpy()).mean()
        assert least <= np.log(means.iloc[0] / means.iloc[1]).std() <= most


def test_a_batch_without_proteins_has_zeros_and_keeps_its_genes():
    adata = simulate_cite(**SMALL, without_protein=["batch1"])
    absent = (adata.obs["batch"] == "batch1").to_numpy()
    assert (adata.obsm["protein"][absent] == 0).to_numpy().all()
    assert adata.obsm["protein"][~absent].sum().min() > 0
    np.testing.assert_array_equal(adata.obs["has_protein"], ~absent)
    complete = simulate_cite(**SMALL)
    assert (complete.X != adata.X).nnz == 0
    pd.testing.assert_frame_equal(complete.obsm["protein"][~absent], adata.obsm["protein"][~absent])


def test_cite_data_survive_an_h5ad_file(tmp_path):
    adata = simulate_cite(**SMALL, without_protein=["batch0"])
    adata.write_h5ad(tmp_path / "cite.h5ad")
    read = anndata.read_h5ad(tmp_path / "cite.h5ad")
    pd.testing.assert_frame_equal(read.obsm["protein"], adata.obsm["protein"])
    protein = read.uns["simulation"]["protein"]
    assert list(protein["settings"]["without_protein"]) == ["batch0"]
    np.testing.assert_array_equal(protein["carried"], adata.uns["simulation"]["protein"]["carried"])


def test_genes_are_those_of_the_simulator_of_counts():
    cite = simulate_cite(**{**SMALL, "n_protein_pairs": 0})
    counts = simulate_counts(n_cells=800, n_genes=300, n_types=3, n_batches=2)
    for adata in (cite, counts):
        assert adata.var["marker_of"].value_counts().iloc[0] == 50
    assert cite.X.sum() == pytest.approx(counts.X.sum(), rel=0.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_proteins": 0}, "n_proteins is 0; expected an integer of at least 1"),
        ({"n_types": 0}, "n_types is 0"),
        ({"n_protein_pairs": 4}, "n_protein_pairs is 4; expected at most n_types=3"),
        ({"n_pair_markers": 0}, "n_pair_markers is 0"),
        ({"n_pair_markers": 9}, "n_pair_markers is 9 for 2 pairs.*at most n_proteins=12"),
        ({"protein_log_fold_change": -1.0}, "protein_log_fold_change is -1.0"),
        ({"background_sd": float("nan")}, "background_sd is nan"),
        ({"protein_dispersion": -0.1}, "protein_dispersion is -0.1"),
        ({"without_protein": "batch1"}, "without_protein is the string 'batch1'; expected a list"),
        ({"without_protein": ["batch7"]}, r"without_protein holds \['batch7'\]"),
        ({"without_protein": ["batch0", "batch1"]}, "without_protein is .*every batch"),
        ({"n_subtypes": 2}, r"options holds \['n_subtypes'\]"),
        ({"depth": 0.0}, "depth is 0"),
        ({"seed": "today"}, "seed is 'today'"),
    ],
)
def test_errors_for_impossible_arguments_name_the_expected_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_cite(**{**SMALL, **arguments})
