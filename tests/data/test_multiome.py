"""Simulated multiome: genes and peaks of the same cells, in scvi-tools' layout, complete or cut."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import cross_val_score

from vmmscvi.data import simulate_multiome

SMALL = {"n_cells": 300, "n_genes": 200, "n_peaks": 500, "n_types": 3}
THIRDS = dict.fromkeys(["accessibility", "paired", "expression"], 1 / 3)


def accuracy(counts, labels):
    values = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e3)
    return cross_val_score(
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), values, labels, cv=3
    ).mean()


def test_genes_come_first_and_all_cells_are_paired_by_default():
    adata = simulate_multiome(**SMALL)
    assert isinstance(adata.X, sp.csr_matrix) and adata.X.dtype == np.float32
    assert adata.shape == (300, 700)
    assert (adata.var["modality"][:200] == "Gene Expression").all()
    assert (adata.var["modality"][200:] == "Peaks").all()
    assert (adata.obs["modality"] == "paired").all()
    assert adata.X[:, :200].sum(axis=1).min() >= 1 and adata.X[:, 200:].sum(axis=1).min() >= 1
    assert adata.var_names.is_unique and adata.obs_names.is_unique


def test_a_third_of_the_cells_lacks_peaks_and_a_third_genes():
    adata = simulate_multiome(**SMALL, modalities=THIRDS)
    has_genes, has_peaks = (adata.X[:, part].sum(axis=1).A1 > 0 for part in (slice(200), slice(200, None)))
    found = {
        name: (has_genes[cells].mean(), has_peaks[cells].mean(), cells.sum())
        for name in THIRDS
        for cells in [(adata.obs["modality"] == name).to_numpy()]
    }
    assert found == {"paired": (1, 1, 100), "expression": (1, 0, 100), "accessibility": (0, 1, 100)}


def test_cutting_keeps_the_counts_that_are_left():
    whole, cut = simulate_multiome(**SMALL), simulate_multiome(**SMALL, modalities=THIRDS)
    for adata in (whole, cut):
        adata.obs_names = adata.obs_names.str.split("_").str[0]
    whole = whole[cut.obs_names]
    for name, part in (("expression", slice(200)), ("accessibility", slice(200, None))):
        cells = cut.obs["modality"].isin([name, "paired"]).to_numpy()
        assert (whole.X[cells][:, part] != cut.X[cells][:, part]).nnz == 0


@pytest.mark.skipif(
    not hasattr(anndata.AnnData, "concatenate"), reason="organize_multiome_anndatas fails with anndata 0.13"
)
def test_the_layout_is_that_of_scvi_tools():
    scvi_data = pytest.importorskip("scvi.data")
    adata = simulate_multiome(**SMALL, modalities=THIRDS)
    parts = {}
    for name, features in (
        ("paired", slice(None)),
        ("expression", slice(200)),
        ("accessibility", slice(200, None)),
    ):
        part = adata[adata.obs["modality"] == name, features].copy()
        part.obs_names = part.obs_names.str.split("_").str[0]
        parts[name] = part
    organised = scvi_data.organize_multiome_anndatas(*parts.values())
    assert list(organised.obs_names) == list(adata.obs_names)
    assert list(organised.var_names) == list(adata.var_names)
    assert list(organised.obs["modality"]) == list(adata.obs["modality"])
    np.testing.assert_array_equal(sp.csr_matrix(organised.X).toarray(), adata.X.toarray())


def test_both_modalities_of_a_cell_reveal_its_type():
    adata = simulate_multiome(**SMALL, proportions="equal")
    counts = adata.X.toarray()
    assert accuracy(counts[:, :200], adata.obs["cell_type"]) > 0.9
    assert accuracy(counts[:, 200:], adata.obs["cell_type"]) > 0.9


def test_subtypes_without_gene_markers_are_separated_by_peaks_alone():
    adata = simulate_multiome(
        **{**SMALL, "n_cells": 900},
        n_subtypes={"type0": 2},
        proportions="equal",
        rna={"n_subtype_markers": 0},
        peaks={"n_subtype_markers": 20},
    )
    pair = adata[adata.obs["cell_type_coarse"] == "type0"]
    counts = pair.X.toarray()
    assert accuracy(counts[:, :200], pair.obs["cell_type"]) < 0.6
    assert accuracy(counts[:, 200:], pair.obs["cell_type"]) > 0.95


def test_same_seed_gives_identical_data_and_modalities_have_streams_of_their_own():
    first, again, other = (simulate_multiome(**SMALL, seed=seed) for seed in (3, 3, 4))
    assert (first.X != again.X).nnz == 0
    pd.testing.assert_frame_equal(first.obs, again.obs)
    assert (first.X != other.X).nnz > 1000
    deeper = simulate_multiome(**SMALL, seed=3, rna={"depth": 900.0})
    assert (first.X[:, 200:] != deeper.X[:, 200:]).nnz == 0
    assert deeper.X[:, :200].sum() == pytest.approx(1.5 * first.X[:, :200].sum(), rel=0.05)


def test_depths_of_the_two_modalities_are_independent_given_the_type():
    adata = simulate_multiome(**{**SMALL, "n_cells": 2000, "n_types": 1, "n_batches": 1})
    logs = np.log(adata.obs[["expected_library_size", "expected_fragments"]].to_numpy())
    assert abs(np.corrcoef(logs.T)[0, 1]) < 0.1
    assert np.exp(np.median(logs[:, 1])) == pytest.approx(2500, rel=0.01)


def test_multiome_data_survive_an_h5ad_file(tmp_path):
    adata = simulate_multiome(**SMALL, modalities=THIRDS, peaks={"depth": 500.0})
    adata.write_h5ad(tmp_path / "multiome.h5ad")
    read = anndata.read_h5ad(tmp_path / "multiome.h5ad")
    assert (read.X != adata.X).nnz == 0
    simulation = read.uns["simulation"]
    assert simulation["rna"]["profiles"].shape == (3, 200)
    assert simulation["peaks"]["profiles"].shape == (3, 500)
    assert simulation["settings"]["peaks"]["depth"] == 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_genes": 1}, "n_genes is 1"),
        ({"n_peaks": 0}, "n_peaks is 0"),
        ({"modalities": "thirds"}, "modalities is 'thirds'; expected a mapping"),
        ({"modalities": {"rna": 1.0}}, r"modalities holds \['rna'\]; .*'paired'"),
        ({"modalities": {"paired": 0.5}}, "modalities sums to 0.5"),
        ({"modalities": {"paired": 1.0, "expression": 0.0}}, "modalities is .*above 0"),
        ({"rna": 300}, "rna is 300; expected a mapping"),
        ({"rna": {"n_types": 3}}, r"rna holds \['n_types'\]; expected names among"),
        ({"peaks": {"dispersion": 0.1}}, r"peaks holds \['dispersion'\]"),
        ({"depth": 300.0}, r"options holds \['depth'\]"),
        ({"n_cells": 2}, "n_cells is 2"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_errors_for_impossible_arguments_name_the_expected_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_multiome(**{**SMALL, **arguments})
