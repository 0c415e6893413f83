"""Posteriors of several modalities are mixed for pseudo-inputs as they are for cells."""

from __future__ import annotations

from typing import Any

import anndata as ad
import mudata
import pytest
import torch
from torch import Tensor

from vmmscvi import MULTIVI_VMM
from vmmscvi.data import simulate_multiome
from vmmscvi.module._evaluation_mode import captured_arguments


@pytest.fixture
def cells(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Tensor], Tensor]:
    """A module in evaluation mode, its data's cells, and which of them have both modalities."""
    torch.manual_seed(0)
    adata = simulate_multiome(
        n_cells=60, n_genes=20, n_peaks=40, modalities={"paired": 0.5, "expression": 0.5},
        n_types=2, n_batches=2, seed=0,
    )  # fmt: skip
    is_gene = (adata.var["modality"] == "Gene Expression").to_numpy()
    parts = {"rna": adata[:, is_gene].copy(), "atac": adata[:, ~is_gene].copy()}
    data = mudata.MuData({k: ad.AnnData(p.X, obs=p.obs.copy(), var=p.var[[]]) for k, p in parts.items()})
    layers = {"rna_layer": "rna", "atac_layer": "atac", "batch_key": "rna"}
    MULTIVI_VMM.setup_mudata(data, batch_key="batch", modalities=layers)
    model = MULTIVI_VMM(data, n_latent=3, n_hidden=8, n_components=4, modality_weights=request.param)
    tensors = next(iter(model._make_data_loader(adata=data, batch_size=60)))
    has_both = torch.as_tensor(parts["atac"].X.sum(1) > 0).ravel()
    assert 10 < int(has_both.sum()) < 50
    return model.module.eval(), tensors, has_both


@torch.no_grad()
@pytest.mark.parametrize("cells", ["equal", "universal"], indirect=True)
def test_the_encoders_inputs_of_a_cell_have_the_posterior_of_the_cell(cells: Any) -> None:
    module, tensors, has_both = cells
    if module.mod_weights.requires_grad:  # learned ones, away from where they start
        module.mod_weights.copy_(torch.tensor([1.5, -0.5, 0.3]))
    with captured_arguments(module.latent_encoders()) as calls:
        expected = module.posterior(module.encode_for_prior(tensors))
    outputs = {name: encoder(*calls[name]) for name, encoder in module.latent_encoders().items()}
    assert set(outputs) == {"z_encoder_expression", "z_encoder_accessibility"}
    found = module.posterior_of_encoders(outputs)
    torch.testing.assert_close(found.mean[has_both], expected.mean[has_both])
    torch.testing.assert_close(found.variance[has_both], expected.variance[has_both])


@pytest.mark.parametrize("cells", ["equal"], indirect=True)
def test_a_modality_is_averaged_over_the_cells_that_have_it(cells: Any) -> None:
    module, tensors, has_both = cells
    _, inputs = module.capture_inputs(tensors)
    assert inputs["z_encoder_expression"].present.all()
    assert torch.equal(inputs["z_encoder_accessibility"].present, has_both)
