"""Whatever the encoder sees of a cell, a pseudo-input has as well; every likelihood and dispersion trains."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData

from vmmscvi import SCVI_VMM
from vmmscvi.priors._parameters import inverse_softplus

Make = Callable[..., SCVI_VMM]

CATEGORIES = {"batch_key": "batch", "categorical_covariate_keys": ["donor", "phase"]}
EVERYTHING = {**CATEGORIES, "continuous_covariate_keys": ["stress", "size_factor"]}
SEEN: dict[str, dict[str, Any]] = {
    "batch": {},
    "no batch": {"setup": {}},
    "nothing but counts": {"encode_covariates": False, "setup": EVERYTHING},
    "categories": {"setup": CATEGORIES},
    "categories without batches": {"setup": {"categorical_covariate_keys": ["donor"]}},
    "continuous": {"setup": {"batch_key": "batch", "continuous_covariate_keys": ["stress"]}},
    "everything": {"setup": EVERYTHING},
    "batch embedding": {"batch_representation": "embedding"},
    "everything, batch embedding": {"batch_representation": "embedding", "setup": EVERYTHING},
    "batch embedding, unseen": {"batch_representation": "embedding", "encode_covariates": False},
    "everything, two layers": {"setup": EVERYTHING, "n_layers": 2, "deeply_inject_covariates": False},
    "size factors": {"setup": {"batch_key": "batch", "size_factor_key": "size_factor"}},
    "latent library": {"setup": EVERYTHING, "use_observed_lib_size": False},
    "counts as they are": {"setup": EVERYTHING, "log_variational": False},
    "pseudo-inputs as counts": {"setup": EVERYTHING, "pseudo_input_space": "counts"},
}
FLOOR = -100.0
"""Pre-image of zero under a softplus, and logit of a probability of zero, in float32."""


@torch.no_grad()
def imitate(model: SCVI_VMM, tensors: dict[str, torch.Tensor]) -> None:
    """Set the parameters of the pseudo-inputs to cells, without the floors that keep a gradient."""
    _, captured = model.module.capture_inputs(tensors)
    n_genes = tensors["X"].shape[1]
    for name, pseudo in model.module.pseudo_inputs.items():
        given, pseudo.n_nonnegative = captured[name], n_genes
        pseudo.values.copy_(given.values)
        positive = pseudo._to_softplus(given.values[:, :n_genes])
        pseudo.values[:, :n_genes] = torch.where(
            positive > 0, inverse_softplus(positive.clamp_min(1e-3)), FLOOR
        )
        for logits, categories in zip(pseudo.category_logits, given.categories, strict=True):
            logits.copy_((1 - categories) * FLOOR)


@pytest.mark.parametrize("options", SEEN.values(), ids=SEEN.keys())
def test_a_pseudo_input_that_equals_a_cell_is_encoded_like_the_cell(
    make_model: Make, minibatch: Callable[..., dict[str, torch.Tensor]], options: dict[str, Any]
) -> None:
    model = make_model(**options)
    module, tensors = model.module.eval(), minibatch(model, 8)
    for layer in module.z_encoder.modules():  # as if trained: no layer normalises by zero and one
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.running_mean.normal_(), layer.running_var.uniform_(0.5, 2.0)
    imitate(model, tensors)
    with torch.no_grad():
        expected = module.inference(**module._get_inference_input(tensors))["qz"]
        found = module.encode_pseudo_inputs()
    torch.testing.assert_close(found.loc, expected.loc, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.scale, expected.scale, rtol=1e-4, atol=1e-5)
    assert found.loc.std(0).min() > 1e-3  # cells are not all encoded alike


@pytest.mark.parametrize(
    ("dispersion", "gene_likelihood"),
    list(product(["gene", "gene-batch", "gene-label", "gene-cell"], ["zinb", "nb", "poisson", "normal"])),
)
def test_every_dispersion_trains_with_every_likelihood(
    make_model: Make, adata: AnnData, dispersion: str, gene_likelihood: str
) -> None:
    cells = adata[:60, :30].copy()
    cells = cells[np.asarray(cells.X.sum(1)).ravel() > 0].copy()
    setup = {"batch_key": "batch", "labels_key": "cell_type"}
    model = make_model(cells, setup=setup, dispersion=dispersion, gene_likelihood=gene_likelihood)
    model.train(max_epochs=2, n_warmup_epochs=1, accelerator="cpu", enable_progress_bar=False)
    assert all(torch.isfinite(p).all() for p in model.module.parameters())
    assert np.isfinite(float(model.get_elbo())) and len(model.predict()) == len(cells)


@pytest.mark.parametrize(
    "name", ["everything", "everything, batch embedding", "latent library", "size factors"]
)
def test_a_prior_that_starts_from_the_embedding_trains_with_covariates(
    make_model: Make, minibatch: Callable[..., dict[str, torch.Tensor]], name: str
) -> None:
    model = make_model(**SEEN[name])
    model.train(max_epochs=2, n_warmup_epochs=1, lr=1e-3, accelerator="cpu", enable_progress_bar=False)
    assert np.isfinite(float(model.get_elbo()))
    assert np.isfinite(float(model.get_marginal_ll(indices=list(range(20)), n_mc_samples=3)))
    values, *categories = model.module.pseudo_inputs["z_encoder"]()
    if name == "everything":
        batches, donors = categories[:2]
        assert batches.shape[1] == model.module.n_batch
        # mean cells of clusters: they belong to donors as their cells do, not to all alike
        assert float((donors - 1 / 3).abs().max()) > 1e-3
        assert (values[:, -1] > 50).all()  # the mean of the cells' totals
