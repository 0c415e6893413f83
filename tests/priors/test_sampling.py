"""Samples of the priors against the moments and marginals of the densities they are drawn from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from vmmscvi.priors import (
    Centers,
    GaussianMixturePrior,
    MixturePrior,
    StandardNormalPrior,
    VampPrior,
    VampPriorMixture,
)

K, P, N = 3, 2, 50_000


def build(prior_class: type[MixturePrior], draw_mixture: Callable, spread: str) -> tuple:
    """A prior, its centres, and the mean and covariance that each of its components should have."""
    mixture = draw_mixture(K, P, spread, dtype=torch.float32)
    prior = prior_class(K, P)
    covariance = mixture.predictive_covariance
    if prior_class is VampPrior:
        return prior, mixture.centers, covariance - torch.linalg.inv(mixture.precision)
    with torch.no_grad():
        prior.pi_logits.copy_(mixture.pi_logits)
        prior.precision_cholesky.assign(mixture.precision_cholesky)
        if isinstance(prior, GaussianMixturePrior):
            prior.loc.copy_(mixture.loc)
    return prior, mixture.centers, covariance


CASES = pytest.mark.parametrize(
    ("prior_class", "spread"),
    [(GaussianMixturePrior, "point"), (VampPriorMixture, "diagonal"), (VampPriorMixture, "full"),
     (VampPrior, "diagonal"), (VampPrior, "full")],
)  # fmt: skip


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def assert_moments(sample: Tensor, mean: np.ndarray, covariance: np.ndarray) -> None:
    """Within five standard errors, which are estimated from the sample."""
    sample = sample.double().numpy()
    products = np.einsum("ni,nj->nij", sample - mean, sample - mean)
    for values, expected in ((sample, mean), (products, covariance)):
        assert (np.abs(values.mean(0) - expected) < 5 * values.std(0) / len(sample) ** 0.5).all()


@CASES
def test_samples_have_the_mixtures_mean_and_covariance(
    draw_mixture: Callable, prior_class: type, spread: str
) -> None:
    prior, centers, covariance = build(prior_class, draw_mixture, spread)
    weights, loc = prior.weights.detach().double().numpy(), centers.loc.double().numpy()
    mean = weights @ loc
    between = np.einsum("k,ki,kj->ij", weights, loc - mean, loc - mean)
    within = np.einsum("k,kij->ij", weights, covariance.double().numpy())
    assert_moments(prior.sample(N, generator(), centers=centers), mean, within + between)


@CASES
@pytest.mark.parametrize("component", range(K))
def test_samples_of_a_component_have_its_mean_and_covariance(
    draw_mixture: Callable, prior_class: type, spread: str, component: int
) -> None:
    prior, centers, covariance = build(prior_class, draw_mixture, spread)
    sample = prior.sample(N, generator(), component, centers)
    assert_moments(sample, centers.loc[component].numpy(), covariance[component].numpy())


@CASES
def test_component_distribution_has_the_predictive_density(
    draw_mixture: Callable, prior_class: type, spread: str
) -> None:
    prior, centers, _ = build(prior_class, draw_mixture, spread)
    z = draw_mixture(K, P, batch_shape=(20,), dtype=torch.float32, seed=5).z
    expected = prior.component_distribution(centers).log_prob(z.unsqueeze(-2))
    torch.testing.assert_close(prior.component_log_prob(z, centers), expected, atol=1e-4, rtol=1e-5)


def test_projected_samples_follow_the_mixtures_marginal_distribution(draw_mixture: Callable) -> None:
    prior, centers, covariance = build(VampPriorMixture, draw_mixture, "full")
    direction = np.array([0.8, -0.6])
    sample = prior.sample(5000, generator(), centers=centers).double().numpy() @ direction
    spread = np.sqrt(np.einsum("i,kij,j->k", direction, covariance.double().numpy(), direction))
    components = stats.norm(centers.loc.double().numpy() @ direction, spread)
    weights = prior.weights.detach().double().numpy()
    assert stats.kstest(sample, lambda x: components.cdf(x[:, None]) @ weights).pvalue > 1e-3


def test_standard_normal_samples_have_its_moments() -> None:
    assert_moments(StandardNormalPrior(P).sample(N, generator()), np.zeros(P), np.eye(P))


def test_the_same_generator_gives_the_same_samples_which_carry_no_gradient() -> None:
    prior = GaussianMixturePrior(K, P)
    sample = prior.sample(10, generator())
    assert torch.equal(sample, prior.sample(10, generator()))
    assert sample.shape == (10, P) and not sample.requires_grad


def test_components_without_weight_are_not_drawn() -> None:
    prior = GaussianMixturePrior(2, P)
    with torch.no_grad():
        prior.pi_logits[1] = -200.0
        prior.loc[1] = 1e4
    assert prior.sample(1000, generator()).abs().max() < 1e3


def test_cached_centres_are_the_default(draw_mixture: Callable) -> None:
    prior, centers, _ = build(VampPriorMixture, draw_mixture, "diagonal")
    prior.cache_centers(Centers(*centers))
    assert torch.equal(prior.sample(10, generator()), prior.sample(10, generator(), centers=centers))
