"""Log-densities of the hyper-priors against SciPy and Pyro."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

from vmmscvi.priors import hyperpriors as H
from vmmscvi.priors import wishart_scale_factor

TIGHT = {"atol": 1e-9, "rtol": 1e-9}


def double(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("n_latent", [1, 3, 10, 30])
@pytest.mark.parametrize("scale_factor", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("precision", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("is_round", [True, False])
def test_precision_prior_is_scipys_wishart(
    draw_mixture: Callable,
    n_latent: int,
    scale_factor: float,
    precision: float,
    is_round: bool,
) -> None:
    mixture = draw_mixture(3, n_latent, precision=precision)
    root = torch.eye(n_latent, dtype=torch.float64)
    if not is_round:
        root = draw_mixture(1, n_latent).precision_cholesky[0]
    root = root / scale_factor**0.5
    wishart = stats.wishart(n_latent + 2, np.linalg.inv(root @ root.mT))
    expected = [wishart.logpdf(matrix) for matrix in mixture.precision.numpy()]
    actual = H.log_prior_precision(mixture.precision_cholesky, root)
    np.testing.assert_allclose(actual, expected, **TIGHT)


@pytest.mark.parametrize("inverse_alpha", [0.01, 0.37, 1.0, 25.0])
@pytest.mark.parametrize("n_components", [2, 100])
def test_mixing_prior_is_pyros_and_scipys_dirichlet(inverse_alpha: float, n_components: int) -> None:
    pi_logits = torch.randn(n_components, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = pi_logits.softmax(-1)
    concentration = torch.full_like(weights, 1 / (inverse_alpha * n_components))
    actual = H.log_prior_mixing(pi_logits, double(inverse_alpha))
    torch.testing.assert_close(actual, dist.Dirichlet(concentration).log_prob(weights), **TIGHT)
    np.testing.assert_allclose(actual, stats.dirichlet(concentration).logpdf(weights), **TIGHT)


def test_mixing_prior_ignores_a_shift_of_the_logits() -> None:
    pi_logits = torch.linspace(-2, 2, 5, dtype=torch.float64)
    shifted = H.log_prior_mixing(pi_logits + 30.0, double(0.5))
    torch.testing.assert_close(shifted, H.log_prior_mixing(pi_logits, double(0.5)), **TIGHT)


def test_a_vanishing_weight_is_rewarded_linearly_in_its_logit() -> None:
    def log_prior(logit: float) -> Tensor:
        return H.log_prior_mixing(torch.tensor([0.0, 0.0, logit], dtype=torch.float64), double(1.0))

    torch.testing.assert_close(log_prior(-300.0) - log_prior(-200.0), double(100 * (1 - 1 / 3)), **TIGHT)


def test_concentration_prior_is_the_inverse_gamma_after_the_change_of_variables() -> None:
    tau = torch.tensor([0.01, 0.37, 1.0, 25.0], dtype=torch.float64)
    actual = H.log_prior_inverse_alpha(tau)
    np.testing.assert_allclose(actual, stats.gamma(1).logpdf(tau), **TIGHT)
    jacobian = -2 * tau.log()  # d alpha / d tau = -1 / tau^2
    np.testing.assert_allclose(actual, stats.invgamma(1).logpdf(1 / tau) + jacobian.numpy(), **TIGHT)


def test_center_prior_is_the_mean_of_the_standard_normal_over_the_centre(
    draw_mixture: Callable, sigma_points: Callable, spread: str
) -> None:
    mixture = draw_mixture(spread=spread)
    points = sigma_points(mixture.loc, mixture.center_sqrt)
    expected = stats.norm.logpdf(points).sum(-1).mean(0)
    np.testing.assert_allclose(H.log_prior_centers(mixture.loc, mixture.scale), expected, **TIGHT)


@pytest.mark.parametrize(("n_components", "n_latent"), [(100, 10), (7, 2), (1, 3)])
def test_wishart_scale_gives_the_stated_mean_precision(n_components: int, n_latent: int) -> None:
    for name, power in (("paper", 1), ("reference", 2)):
        factor = wishart_scale_factor(name, n_components, n_latent)
        mean = stats.wishart(n_latent + 2, factor * np.eye(n_latent)).mean()
        mean_precision = n_components ** (power / n_latent)
        np.testing.assert_allclose(np.atleast_2d(mean), mean_precision * np.eye(n_latent), rtol=1e-12)
    assert wishart_scale_factor(0.3, n_components, n_latent) == 0.3
