"""Differential accessibility: each row says which group it is of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scvi
from mudata import MuData

from vmmscvi import MULTIVI_VMM, PEAKVI_VMM
from vmmscvi.data import simulate_multiome

TYPES = ["type0", "type1", "type2"]


@pytest.fixture(scope="module", params=["PEAKVI", "MULTIVI"])
def model(request: pytest.FixtureRequest) -> Any:
    scvi.settings.seed = 0
    cells = simulate_multiome(n_cells=160, n_genes=40, n_peaks=100, n_types=3, seed=0)
    is_gene = (cells.var["modality"] == "Gene Expression").to_numpy()
    peaks = cells[:, ~is_gene].copy()
    if request.param == "PEAKVI":
        PEAKVI_VMM.setup_anndata(peaks)
        made: Any = PEAKVI_VMM(peaks, n_hidden=8, n_latent=3, n_components=4)
    else:
        mdata = MuData({"rna": cells[:, is_gene].copy(), "atac": peaks})
        mdata.obs["cell_type"] = cells.obs["cell_type"].reindex(mdata.obs_names)
        MULTIVI_VMM.setup_mudata(mdata, modalities={"rna_layer": "rna", "atac_layer": "atac"})
        made = MULTIVI_VMM(mdata, n_hidden=8, n_latent=3, n_components=4)
    made.train(max_epochs=2, n_warmup_epochs=1, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    return made


def test_peaks_of_every_group_are_those_of_one_comparison_each(model: Any) -> None:
    table = model.differential_accessibility(groupby="cell_type", silent=True)
    assert list(table["group1"].unique()) == TYPES and len(table) == 100 * len(TYPES)
    one = model.differential_accessibility(groupby="cell_type", group1="type1", silent=True)
    own = table[table["group1"] == "type1"]
    np.testing.assert_array_equal(own["emp_prob1"].sort_index(), one["emp_prob1"].sort_index())
    is_type = (model.adata.obs["cell_type"] == "type1").to_numpy()
    peaks = model.adata["atac"] if hasattr(model.adata, "mod") else model.adata
    expected = np.asarray((peaks.X[is_type] > 0).mean(axis=0)).ravel()
    np.testing.assert_allclose(own["emp_prob1"].loc[peaks.var_names], expected, rtol=1e-5)


def test_groups_are_those_of_the_data_that_are_given(model: Any) -> None:
    if hasattr(model.adata, "mod"):
        pytest.skip("scvi-tools compares MuData of the model itself")
    others = model.adata[:80].copy()
    others.obs["half"] = np.where(np.arange(80) < 30, "first", "second")
    table = model.differential_accessibility(others, groupby="half", silent=True)
    assert list(table["group1"].unique()) == ["first", "second"]
    expected = np.asarray((others.X[:30] > 0).mean(axis=0)).ravel()
    own = table[table["group1"] == "first"]
    np.testing.assert_allclose(own["emp_prob1"].loc[others.var_names], expected, rtol=1e-5)


def test_unknown_columns_and_single_groups_are_named(model: Any) -> None:
    with pytest.raises(ValueError, match="`groupby` is 'nothing'"):
        model.differential_accessibility(groupby="nothing")
    model.adata.obs["one"] = "a"
    with pytest.raises(ValueError, match="Found only one group"):
        model.differential_accessibility(groupby="one")
