"""Likelihoods and importance weights of a model with one latent dimension, against quadrature; and scVI's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import scvi
import torch
from anndata import AnnData
from scipy import stats
from torch import Tensor

from vmmscvi import SCVI_VMM

Make = Callable[..., SCVI_VMM]

N_CELLS = 12
Z = np.linspace(-12, 12, 4001)


class Truth(NamedTuple):
    """Integrals over the latent dimension, one value for each cell."""

    log_px: np.ndarray
    elbo: np.ndarray
    reconstruction: np.ndarray
    posterior: np.ndarray  # exact posterior on the grid, shape (n_grid, n_cells)


@pytest.fixture(scope="module", params=["vmm", "gmm", "vampprior"])
def model(request: Any, counts: AnnData) -> SCVI_VMM:
    """A trained model of one latent dimension: a prior far from N(0, 1), wide posteriors."""
    scvi.settings.seed = 0
    adata = counts[:, :20].copy()  # few genes: posteriors that samples can cover
    adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()
    adata = adata[np.argsort(adata.obs["batch"], kind="stable")].copy()  # the first cells are of one batch
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata, n_components=4, n_hidden=16, n_latent=1, prior=request.param)
    training = {"max_epochs": 8, "lr": 1e-2, "start": "cells", "batch_size": 64}
    model.train(**training, accelerator="cpu", enable_progress_bar=False)
    with torch.no_grad():
        model.module.z_encoder.var_encoder.weight.zero_()
        model.module.z_encoder.var_encoder.bias.fill_(np.log(2.0))
        model.module.cache_centers()
    return model


def prior_density(model: SCVI_VMM) -> np.ndarray:
    """Density of the prior on the grid, by SciPy, from weights, centres and variances."""
    components = model.module.latent_prior.component_distribution()
    means = components.loc.detach().numpy().ravel()
    deviations = components.covariance_matrix.detach().numpy().ravel() ** 0.5
    weights = model.get_cluster_weights().to_numpy()
    return (weights * stats.norm.pdf(Z[:, None], means, deviations)).sum(1)


def log_integral(log_values: np.ndarray) -> np.ndarray:
    largest = log_values.max(0)
    return largest + np.log(np.trapezoid(np.exp(log_values - largest), Z, axis=0))


def quadrature(model: SCVI_VMM) -> Truth:
    tensors = next(iter(model._make_data_loader(adata=model.adata, batch_size=N_CELLS)))
    grid = torch.as_tensor(Z, dtype=torch.float32)[:, None, None].expand(-1, N_CELLS, 1)
    library = tensors["X"].sum(1, keepdim=True).log().expand(len(Z), -1, -1)
    with torch.no_grad():
        inputs = model.module._get_generative_input(tensors, {"z": grid, "library": library})
        px = model.module.generative(**inputs)["px"]
        log_px_z = px.log_prob(tensors["X"]).double().sum(-1).numpy()
    mean, variance = model.get_latent_representation(indices=range(N_CELLS), return_dist=True)
    log_q = stats.norm.logpdf(Z[:, None], mean.ravel(), variance.ravel() ** 0.5)
    log_joint = log_px_z + np.log(prior_density(model))[:, None]
    q = np.exp(log_q)
    log_px = log_integral(log_joint)
    return Truth(
        log_px=log_px,
        elbo=np.trapezoid(q * (log_joint - log_q), Z, axis=0),
        reconstruction=-np.trapezoid(q * log_px_z, Z, axis=0),
        posterior=np.exp(log_joint - log_px),
    )


def decoded_shares(model: SCVI_VMM) -> np.ndarray:
    """Shares of the genes that the decoder gives to the grid in the first cells' batch, (n_grid, n_genes)."""
    tensors = next(iter(model._make_data_loader(adata=model.adata, batch_size=1)))
    grid = torch.as_tensor(Z, dtype=torch.float32)[:, None, None]
    library = torch.zeros(len(Z), 1, 1)
    with torch.no_grad():
        inputs = model.module._get_generative_input(tensors, {"z": grid, "library": library})
        shares: np.ndarray = model.module.generative(**inputs)["px"].scale[:, 0].double().numpy()
    return shares


def repeated(function: Callable[..., Tensor], n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error of a method that draws one sample at each call."""
    torch.manual_seed(0)
    draws = np.stack([function().numpy() for _ in range(n)]).astype(float)
    return draws.mean(0), draws.std(0) / n**0.5


def test_elbo_is_the_integral_in_expectation(model: SCVI_VMM) -> None:
    truth = quadrature(model)
    mean, error = repeated(lambda: model.get_elbo(indices=range(N_CELLS), return_mean=False))
    # scvi-tools returns the negative of the loss
    np.testing.assert_array_less(abs(mean - truth.elbo), 4.5 * error + 1e-2)
    assert (truth.elbo < truth.log_px).all()


def test_reconstruction_error_is_the_integral_in_expectation(model: SCVI_VMM) -> None:
    mean, error = repeated(
        lambda: model.get_reconstruction_error(indices=range(N_CELLS), return_mean=False)[
            "reconstruction_loss"
        ]
    )
    np.testing.assert_array_less(abs(mean - quadrature(model).reconstruction), 4.5 * error + 1e-2)


def test_marginal_likelihood_is_the_integral(model: SCVI_VMM) -> None:
    expected = quadrature(model).log_px
    arguments = {"n_mc_samples": 3000, "n_mc_samples_per_pass": 1000}
    found = model.get_marginal_ll(indices=range(N_CELLS), return_mean=False, **arguments)
    np.testing.assert_allclose(found, expected, atol=0.15)
    # with N(0, 1) in the place of the prior the integrals would be others
    others = expected - log_integral(
        np.log(quadrature(model).posterior + 1e-300)
        - np.log(prior_density(model))[:, None]
        + stats.norm.logpdf(Z)[:, None]
    )
    assert abs(others - expected).max() > 0.5


def samples_of(model: SCVI_VMM, n_samples: int) -> dict[str, Any]:
    """What ``get_normalized_expression`` hands to ``get_importance_weights``."""
    tensors = next(iter(model._make_data_loader(adata=model.adata, batch_size=N_CELLS)))
    torch.manual_seed(0)
    with torch.inference_mode():
        outputs, generated = model.module(
            tensors, inference_kwargs={"n_samples": n_samples}, compute_loss=False
        )
    return {"qz": outputs["qz"], "px": generated["px"], "zs": outputs["z"]}


def test_importance_weights_give_means_under_the_exact_posteriors(model: SCVI_VMM) -> None:
    samples = samples_of(model, n_samples=2000)
    arguments = {"adata": model.adata, "indices": np.arange(N_CELLS), "n_mc_samples": 4000}
    weights = model.get_importance_weights(**arguments, **samples)
    assert weights.shape == (2000 * N_CELLS,) and weights.sum() == pytest.approx(1.0)
    posterior = quadrature(model).posterior.mean(1)  # of a random cell of the population
    z = samples["zs"].numpy().ravel()
    for function in (lambda z: z, np.square, lambda z: z > 0):
        expected = np.trapezoid(function(Z) * posterior, Z)
        values = function(z)
        error = (weights**2 * (values - expected) ** 2).sum() ** 0.5
        assert error < 0.1
        assert abs((weights * values).sum() - expected) < 4 * error + 0.01
    stock = scvi.model.SCVI.get_importance_weights(model, **arguments, **samples)
    assert abs(stock - weights).sum() > 0.02  # its N(0, 1) is another prior


@pytest.mark.parametrize(("gene_likelihood", "truncation"), [("nb", False), ("zinb", False), ("zinb", True)])
def test_importance_weights_under_the_standard_normal_are_scvis(
    make_model: Make, gene_likelihood: str, truncation: bool
) -> None:
    model = make_model(prior="gmm", n_components=1, gene_likelihood=gene_likelihood)
    with torch.no_grad():
        model.module.latent_prior.loc.zero_()
    model.module.eval()
    arguments = {"adata": model.adata, "indices": np.arange(N_CELLS), "max_cells": 8, "n_mc_samples": 10}
    arguments["truncation"] = truncation
    found = []
    for function in (model.get_importance_weights, partial(scvi.model.SCVI.get_importance_weights, model)):
        scvi.settings.seed = 1
        found.append(function(**arguments, **samples_of(model, 5)))
    np.testing.assert_allclose(found[0], found[1], rtol=5e-3, atol=1e-6)


def test_importance_weights_of_poisson_counts_follow_the_anchors_library_size(make_model: Make) -> None:
    model = make_model(gene_likelihood="poisson", n_latent=1)
    model.module.eval()
    samples = samples_of(model, 3)
    tensors = next(iter(model._make_data_loader(adata=model.adata, batch_size=N_CELLS)))
    anchors = model._make_data_loader(adata=model.adata, indices=range(N_CELLS), batch_size=1)
    found = model._log_likelihoods(anchors, samples["px"])
    counts, scale = tensors["X"].numpy(), samples["px"].scale.numpy()
    expected = stats.poisson.logpmf(counts[:, None], scale[2, 4] * counts.sum(1)[:, None, None]).sum((1, 2))
    np.testing.assert_allclose(found[2, 4], expected, rtol=1e-4)


def test_importance_weights_need_counts(make_model: Make) -> None:
    model = make_model(gene_likelihood="normal")
    with pytest.raises(ValueError, match="`weights='importance'` needs a count likelihood"):
        model.get_importance_weights(model.adata, np.arange(4), **samples_of(model, 2))


def test_weighted_expression_is_drawn_under_the_exact_posteriors(model: SCVI_VMM) -> None:
    truth = quadrature(model)
    posterior = truth.posterior.mean(1)  # of a random cell of the population, which is of one batch
    expected = np.trapezoid(decoded_shares(model) * posterior[:, None], Z, axis=0)
    arguments = {"indices": np.arange(N_CELLS), "n_samples_overall": 12_000, "return_numpy": True}
    scvi.settings.seed = 0
    weighted = model.get_normalized_expression(**arguments, weights="importance", n_mc_samples=2000)
    assert weighted.shape == (12_000, 20)
    uniform = model.get_normalized_expression(**arguments)
    found, without = (abs(np.log(draws.mean(0) / expected)).max() for draws in (weighted, uniform))
    assert found < 0.05
    assert without > 2 * found


def test_differential_expression_asks_for_the_weights_of_both_groups(
    model: SCVI_VMM, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[np.ndarray] = []
    weigh = SCVI_VMM.get_importance_weights

    def watched(self: SCVI_VMM, *args: Any, **kwargs: Any) -> np.ndarray:
        asked.append(weigh(self, *args, **kwargs))
        return asked[-1]

    monkeypatch.setattr(SCVI_VMM, "get_importance_weights", watched)
    table = model.differential_expression(
        idx1=np.arange(6), idx2=np.arange(6, 12), weights="importance", silent=True,
        importance_weighting_kwargs={"n_mc_samples": 20}, n_samples_overall=30,
    )  # fmt: skip
    assert len(asked) == 2 and len(table) == 20 and np.isfinite(table["bayes_factor"]).all()
