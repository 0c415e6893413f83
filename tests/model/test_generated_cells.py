"""Generated observations as AnnData: values under their names, of the modality and batch that they are of."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vmmscvi import TOTALVI_VMM
from vmmscvi.data import simulate_cite


def test_generated_cells_have_the_names_of_genes_proteins_and_batches() -> None:
    adata = simulate_cite(n_cells=40, n_genes=20, n_types=4, n_proteins=8, n_batches=2, seed=0)
    TOTALVI_VMM.setup_anndata(adata, "protein", batch_key="batch")
    model: Any = TOTALVI_VMM(adata, n_latent=2, n_hidden=8, prior="standard_normal")
    genes, proteins = torch.arange(60.0).reshape(3, 20), torch.arange(24.0).reshape(3, 8)
    z = torch.arange(6.0).reshape(3, 2)
    cells = model._generated_anndata({"X": genes, "protein": proteins}, z, torch.tensor([[1], [0], [1]]))
    np.testing.assert_array_equal(cells.X.toarray(), genes)
    assert list(cells.var_names) == list(adata.var_names) and "modality" not in cells.var
    table = cells.obsm["protein"]
    assert list(table.columns) == list(adata.obsm["protein"].columns)
    assert list(table.index) == list(cells.obs_names)
    np.testing.assert_array_equal(table, proteins)
    names = [str(name) for name in sorted(set(adata.obs["batch"]))]
    assert list(cells.obs["batch"]) == [names[1], names[0], names[1]]
    np.testing.assert_array_equal(cells.obsm["X_vmm"], z)
    assert "component" not in cells.obs
