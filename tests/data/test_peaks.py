"""Simulated peaks: sparse, Poisson around the recorded profiles, and as many as 100,000."""

from __future__ import annotations

import tracemalloc

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy import stats

from vmmscvi.data import simulate_peaks

SMALL = {"n_cells": 300, "n_peaks": 800, "n_types": 3}
ONE_TYPE = {"n_cells": 4000, "n_peaks": 100, "n_types": 1, "n_batches": 1, "depth": 200.0}


def test_fragments_are_csr_float32_integers_and_no_cell_is_empty():
    adata = simulate_peaks(**SMALL, depth=0.5)
    assert isinstance(adata.X, sp.csr_matrix) and adata.X.dtype == np.float32
    assert adata.shape == (300, 800)
    assert adata.X.has_sorted_indices and adata.X.data.min() >= 1
    np.testing.assert_array_equal(adata.X.data, np.rint(adata.X.data))
    assert adata.X.sum(axis=1).min() >= 1


def test_same_seed_gives_identical_data_and_another_seed_does_not():
    first, again, other = (simulate_peaks(**SMALL, seed=seed) for seed in (3, 3, 4))
    assert (first.X != again.X).nnz == 0
    pd.testing.assert_frame_equal(first.obs, again.obs)
    assert (first.X != other.X).nnz > 1000


def test_counts_are_independent_poisson_with_the_recorded_means():
    adata = simulate_peaks(**ONE_TYPE, depth_sd=0.0)
    counts = adata.X.toarray()
    expected = adata.uns["simulation"]["profiles"][0] * 200
    assert (np.abs(counts.mean(axis=0) - expected) < 5 * np.sqrt(expected / 4000)).all()
    seen = expected > 0.5
    np.testing.assert_allclose(counts.var(axis=0)[seen] / expected[seen], 1, atol=0.15)
    np.testing.assert_allclose((counts == 0).mean(axis=0), stats.poisson(expected).pmf(0), atol=0.04)
    correlation = np.corrcoef(counts[:, seen].T)
    assert np.abs(correlation[~np.eye(seen.sum(), dtype=bool)]).max() < 6 / np.sqrt(4000)


def test_each_cell_is_drawn_from_the_profile_of_its_own_type_and_batch():
    adata = simulate_peaks(**SMALL, depth=20_000.0)
    simulation = adata.uns["simulation"]
    log_profiles = np.log(simulation["profiles"]) + simulation["batch_effects"]
    profiles = np.exp(log_profiles).reshape(6, -1)
    profiles /= profiles.sum(axis=1, keepdims=True)
    likelihood = adata.X @ np.log(profiles).T
    codes = 3 * adata.obs["batch"].cat.codes.to_numpy() + adata.obs["cell_type"].cat.codes.to_numpy()
    np.testing.assert_array_equal(likelihood.argmax(axis=1), codes)


def test_cells_of_a_continuum_follow_pseudotime():
    adata = simulate_peaks(n_cells=300, n_peaks=500, n_types=2, n_batches=1, continuum=True)
    of_last = (adata.var["marker_of"] == "type1").to_numpy()
    assert of_last.sum() == 5
    share = adata.X[:, of_last].sum(axis=1).A1 / adata.X.sum(axis=1).A1
    assert stats.spearmanr(share, adata.obs["pseudotime"]).statistic > 0.8


def test_markers_grow_with_the_number_of_peaks_unless_given():
    def per_type(**options):
        return simulate_peaks(**{**SMALL, **options}).var["marker_of"].value_counts().unique().tolist()

    assert per_type(n_peaks=2000) == [20]
    assert per_type(n_peaks=5000) == [50]
    assert per_type(n_markers=7) == [7]
    assert per_type(n_peaks=60, n_types=50) == [0]


def test_a_hundred_thousand_peaks_never_make_a_dense_matrix():
    tracemalloc.start()
    adata = simulate_peaks(n_cells=1000, n_peaks=100_000, depth=1000.0, seed=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert adata.shape == (1000, 100_000)
    assert 300 < adata.X.nnz / 1000 < 3000
    assert peak < 1000 * 100_000 * 8 / 4
    assert "profiles" in adata.uns["simulation"] and "batch_effects" not in adata.uns["simulation"]


def test_reads_are_two_for_each_fragment_or_one_less():
    scvi_data = pytest.importorskip("scvi.data")
    fragments, reads = (simulate_peaks(**SMALL, reads=reads) for reads in (False, True))
    assert (fragments.X.indices == reads.X.indices).all()
    lost = 2 * fragments.X.data - reads.X.data
    assert lost.min() == 0 and (lost <= fragments.X.data).all()
    assert lost.sum() / fragments.X.data.sum() == pytest.approx(0.2, abs=0.01)
    scvi_data.reads_to_fragments(reads)
    recovered = reads.layers["fragments"].data
    np.testing.assert_array_equal(recovered[lost <= 1], fragments.X.data[lost <= 1])


def test_peaks_survive_an_h5ad_file(tmp_path):
    adata = simulate_peaks(**SMALL, missing={"batch1": ["type2"]})
    adata.write_h5ad(tmp_path / "peaks.h5ad")
    read = anndata.read_h5ad(tmp_path / "peaks.h5ad")
    assert (read.X != adata.X).nnz == 0
    assert read.uns["simulation"]["settings"]["n_peaks"] == 800
    assert read.var_names[0] == "peak0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_peaks": 1}, "n_peaks is 1; expected an integer of at least 2"),
        ({"n_peaks": "many"}, "n_peaks is 'many'"),
        ({"reads": 1}, "reads is 1; expected True or False"),
        ({"n_genes": 100}, r"options holds \['n_genes'\]; expected names among"),
        ({"dispersion": 0.1}, r"options holds \['dispersion'\]"),
        ({"depth": 0.0}, "depth is 0"),
        ({"n_cells": 2}, "n_cells is 2"),
        ({"n_markers": 400}, "n_markers is 400"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_errors_for_impossible_arguments_name_the_expected_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_peaks(**{**SMALL, **arguments})
