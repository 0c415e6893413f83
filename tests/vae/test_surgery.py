"""Terms of the ELBO against closed forms of a linear-Gaussian model, and quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from vmmscvi.priors import StandardNormalPrior
from vmmscvi.vae import VAE, ElboSurgery, elbo_surgery
from vmmscvi.vae._likelihoods import GaussianLikelihood
from vmmscvi.vae._module import ArrayVAE
from vmmscvi.vae._surgery import ROWS_AT_A_TIME, VALUES_AT_A_TIME, aggregate_log_prob, surgery_of_module

N_FEATURES, NOISE = 4, 0.5


class LinearGaussianEncoder(nn.Module):
    """``N(A x, V)``: takes the place of an encoder and its head."""

    def __init__(self, weight: Tensor, cholesky: Tensor) -> None:
        super().__init__()
        self.weight, self.cholesky = nn.Parameter(weight), nn.Parameter(cholesky)

    def forward(self, x: Tensor) -> MultivariateNormal:
        scale = self.cholesky.expand(len(x), -1, -1)
        return MultivariateNormal(x @ self.weight.mT, scale_tril=scale)


def linear_gaussian(
    n_latent: int, exact_posterior: bool, weight: Tensor | None = None
) -> tuple[ArrayVAE, Tensor, Tensor]:
    """``z ~ N(0, I)``, ``x | z ~ N(W z, s^2 I)``; returns the module, W and the posterior's covariance."""
    generator = torch.Generator().manual_seed(3)
    decoder = nn.Linear(n_latent, N_FEATURES, bias=False)
    with torch.no_grad():
        decoder.weight.copy_(torch.randn(N_FEATURES, n_latent, generator=generator))
    module = ArrayVAE(
        nn.Identity(), decoder, StandardNormalPrior(n_latent), GaussianLikelihood(NOISE), N_FEATURES
    )
    w = decoder.weight.detach()
    covariance = torch.linalg.inv(torch.eye(n_latent) + w.mT @ w / NOISE**2)
    if not exact_posterior:
        covariance = 1.5 * covariance
    to_mean = covariance @ w.mT / NOISE**2 if weight is None else weight
    module.z_encoder = LinearGaussianEncoder(to_mean, torch.linalg.cholesky(covariance))
    return module.eval(), w, covariance


def observations(w: Tensor, n: int = 60) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(n, w.shape[1], generator=generator)
    return z @ w.mT + NOISE * torch.randn(n, N_FEATURES, generator=generator)


def surgery(module: ArrayVAE, x: Tensor, n_samples: int = 3000, n_rate_samples: int = 400) -> ElboSurgery:
    return surgery_of_module(module, x, n_samples, n_rate_samples, seed=0)


@pytest.mark.parametrize("exact_posterior", [True, False])
def test_likelihoods_and_rate_are_those_of_the_linear_gaussian_model(exact_posterior: bool) -> None:
    module, w, covariance = linear_gaussian(2, exact_posterior)
    x = observations(w)
    found = surgery(module, x)
    marginal = multivariate_normal(
        np.zeros(N_FEATURES), (w @ w.mT + NOISE**2 * torch.eye(N_FEATURES)).numpy()
    )
    qz = module.encode(x)
    fitted = (qz.mean @ w.mT).detach().numpy()
    residual = x.numpy() - fitted
    predictive = (w @ covariance @ w.mT + NOISE**2 * torch.eye(N_FEATURES)).numpy()
    lost = 0.5 * float(torch.trace(w @ covariance @ w.mT)) / NOISE**2
    prior = MultivariateNormal(torch.zeros(2), torch.eye(2))

    assert found.log_p_x == pytest.approx(marginal.logpdf(x.numpy()).mean(), abs=0.02)
    assert found.log_p_x_given_x == pytest.approx(
        multivariate_normal(np.zeros(N_FEATURES), predictive).logpdf(residual).mean(), abs=0.02
    )
    assert found.reconstruction == pytest.approx(
        norm(scale=NOISE).logpdf(residual).sum(1).mean() - lost, abs=0.02
    )
    assert found.rate == pytest.approx(float(kl_divergence(qz, prior).mean().detach()), abs=0.02)


def test_the_elbo_is_the_likelihood_where_the_posterior_is_exact() -> None:
    module, w, _ = linear_gaussian(2, exact_posterior=True)
    found = surgery(module, observations(w))
    assert found.elbo == pytest.approx(found.log_p_x, abs=0.02)


def test_marginal_divergence_and_information_agree_with_quadrature() -> None:
    module, w, covariance = linear_gaussian(1, exact_posterior=True)
    x = observations(w, n=25)
    means = module.encode(x).mean.detach().numpy().ravel()
    scale = float(covariance.sqrt())

    def log_q(z: float) -> float:
        return float(logsumexp(norm(means, scale).logpdf(z)) - math.log(len(means)))

    def integrand(z: float) -> float:
        return math.exp(log_q(z)) * (log_q(z) - float(norm.logpdf(z)))

    marginal_kl = quad(integrand, -8, 8, limit=500, points=sorted(means))[0]
    found = surgery(module, x, n_samples=1, n_rate_samples=6000)
    assert found.marginal_kl == pytest.approx(marginal_kl, abs=0.01)
    assert found.mutual_information == pytest.approx(found.rate - marginal_kl, abs=0.01)


def test_information_is_zero_where_all_posteriors_are_the_same() -> None:
    module, w, covariance = linear_gaussian(2, exact_posterior=True, weight=torch.zeros(2, N_FEATURES))
    found = surgery(module, observations(w))
    posterior = MultivariateNormal(torch.zeros(2), covariance)
    expected = kl_divergence(posterior, MultivariateNormal(torch.zeros(2), torch.eye(2)))
    assert found.mutual_information == pytest.approx(0.0, abs=0.02)
    assert found.marginal_kl == pytest.approx(float(expected), abs=0.02)


def test_information_is_the_logarithm_of_the_number_of_rows_where_posteriors_are_far_apart() -> None:
    module, _, _ = linear_gaussian(2, exact_posterior=True, weight=1e3 * torch.ones(2, N_FEATURES))
    x = torch.arange(40.0).unsqueeze(-1).expand(-1, N_FEATURES)
    found = surgery(module, x, n_samples=1, n_rate_samples=2000)
    assert found.mutual_information == pytest.approx(math.log(40), abs=0.03)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_the_aggregate_posterior_is_the_mean_of_the_posteriors(covariance: str) -> None:
    # posteriors and positions are each more than are read at a time
    n_posteriors, n_positions = ROWS_AT_A_TIME + 44, VALUES_AT_A_TIME // (2 * ROWS_AT_A_TIME) + 10
    encoder = VAE(covariance=covariance)  # only for the name of the argument
    module = ArrayVAE(
        nn.Identity(), nn.Linear(2, 3), StandardNormalPrior(2), GaussianLikelihood(), 3, encoder.covariance
    )
    with torch.no_grad():
        qz = module.encode(torch.randn(n_posteriors, 3, generator=torch.Generator().manual_seed(0)))
    z = torch.randn(n_positions, 2, generator=torch.Generator().manual_seed(1))
    variances = qz.covariance_matrix if covariance == "full" else torch.diag_embed(qz.variance)
    density = np.zeros(n_positions)
    for m, v in zip(qz.mean, variances, strict=True):
        density += multivariate_normal(m, v).pdf(z) / n_posteriors
    torch.testing.assert_close(
        aggregate_log_prob(z, qz), torch.tensor(np.log(density)).float(), rtol=1e-4, atol=1e-4
    )


def test_surgery_wants_a_fitted_model_and_positive_numbers(make_vae, blobs) -> None:
    model = make_vae()
    with pytest.raises(Exception, match="not fitted"):
        elbo_surgery(model, blobs.x)
    model.fit(blobs.x)
    with pytest.raises(ValueError, match="`n_samples` must be a positive integer, found 0"):
        elbo_surgery(model, blobs.x, n_samples=0)
    first, again = (elbo_surgery(model, blobs.x[:40], 5, random_state=2) for _ in range(2))
    assert first == again
    assert first.rate == pytest.approx(first.marginal_kl + first.mutual_information)
