"""The marginal likelihood of totalVI's module, which is importance-sampled under its own prior."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scvi.model import TOTALVI
from torch import Tensor

from vmmscvi import TOTALVI_VMM
from vmmscvi.data import simulate_cite
from vmmscvi.module._prior_loss import marginal_log_likelihood

PRIORS = ["standard_normal", "gmm"]


def module_of(cls: Any, **options: Any) -> tuple[Any, dict[str, Tensor]]:
    """A module in evaluation mode, and its data's first cells."""
    torch.manual_seed(0)
    adata = simulate_cite(n_cells=40, n_genes=12, n_types=4, n_proteins=8, n_batches=2, seed=0)
    cls.setup_anndata(adata, "protein", batch_key="batch")
    model = cls(adata, n_latent=2, n_hidden=8, empirical_protein_background_prior=False, **options)
    return model.module.eval(), next(iter(model._make_data_loader(adata=adata, batch_size=20)))


@pytest.mark.parametrize("observed", [True, False], ids=["observed library", "latent library"])
def test_the_marginal_likelihood_under_the_standard_normal_is_that_of_scvi_tools(observed: bool) -> None:
    ours, tensors = module_of(TOTALVI_VMM, prior="standard_normal", use_observed_lib_size=observed)
    stock, _ = module_of(TOTALVI, use_observed_lib_size=observed)
    weights = {name: v for name, v in ours.state_dict().items() if not name.startswith("latent_prior")}
    stock.load_state_dict(weights)
    values = []
    for module in (ours, stock):
        torch.manual_seed(1)
        with torch.inference_mode():
            values.append(module.marginal_ll(tensors, n_mc_samples=5, return_mean=True))
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_another_prior_changes_the_weight_of_a_sample_by_the_ratio_of_the_densities() -> None:
    (normal, tensors), (mixture, _) = (module_of(TOTALVI_VMM, prior=prior) for prior in PRIORS)
    normal.load_state_dict({k: mixture.state_dict().get(k, v) for k, v in normal.state_dict().items()})
    values, z = [], torch.empty(0)
    for module in (normal, mixture):
        torch.manual_seed(1)
        z = module(tensors)[0]["z"].detach()
        torch.manual_seed(1)
        values.append(module.marginal_ll(tensors, n_mc_samples=1, return_mean=False))
    expected = mixture.latent_prior.log_prob(z) - normal.latent_prior.log_prob(z)
    torch.testing.assert_close(values[1] - values[0], expected.detach(), rtol=1e-3, atol=1e-3)


def test_weights_are_averaged_over_the_samples() -> None:
    log_weights = iter(torch.tensor([[0.0, -700.0], [math.log(3.0), -700.0 + math.log(5.0)]]))

    def outputs(*args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        return None, None, None

    found = marginal_log_likelihood(outputs, {}, 2, lambda *_: next(log_weights))
    torch.testing.assert_close(found, torch.tensor([math.log(2.0), -700.0 + math.log(3.0)]))
