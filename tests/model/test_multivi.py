"""What MULTIVI_VMM does beyond the stock model."""

from __future__ import annotations

import numpy as np
import pytest
import scvi
from mudata import MuData

from vmmscvi import MULTIVI_VMM
from vmmscvi.data import simulate_multiome


@pytest.fixture(scope="module")
def model() -> MULTIVI_VMM:
    scvi.settings.seed = 0
    cells = simulate_multiome(n_cells=160, n_genes=40, n_peaks=100, n_types=3, seed=0)
    is_gene = (cells.var["modality"] == "Gene Expression").to_numpy()
    mdata = MuData({"rna": cells[:, is_gene].copy(), "atac": cells[:, ~is_gene].copy()})
    mdata.obs["type"] = cells.obs["cell_type"].reindex(mdata.obs_names)
    MULTIVI_VMM.setup_mudata(mdata, modalities={"rna_layer": "rna", "atac_layer": "atac"})
    model = MULTIVI_VMM(mdata, n_hidden=8, n_latent=3, n_components=4)
    model.train(max_epochs=2, n_warmup_epochs=1, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    return model


def test_peaks_of_every_group_are_those_of_one_comparison_each(model: MULTIVI_VMM) -> None:
    types = sorted(model.adata.obs["type"].unique())
    table = model.differential_accessibility(groupby="type", silent=True)
    assert list(table["group1"].unique()) == types and len(table) == 100 * len(types)
    one = model.differential_accessibility(groupby="type", group1=types[1], silent=True)
    own = table[table["group1"] == types[1]]
    np.testing.assert_array_equal(own["emp_prob1"], one["emp_prob1"])
    assert list(one.index) == list(own.index) == list(model.adata["atac"].var_names)


def test_an_unknown_column_is_named(model: MULTIVI_VMM) -> None:
    with pytest.raises(ValueError, match="`groupby` is 'nothing'"):
        model.differential_accessibility(groupby="nothing")
