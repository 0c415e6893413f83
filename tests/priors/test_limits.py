"""Where one prior turns into another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from vmmscvi.priors import GaussianMixturePrior, StandardNormalPrior, VampPrior, VampPriorMixture

K, P = 5, 3


def same_parameters(draw_mixture: Callable) -> tuple:
    mixture = draw_mixture(K, P, "diagonal", (11,))
    gmm, vmm = GaussianMixturePrior(K, P).double(), VampPriorMixture(K, P).double()
    with torch.no_grad():
        for prior in (gmm, vmm):
            prior.pi_logits.copy_(mixture.pi_logits)
            prior.precision_cholesky.assign(mixture.precision_cholesky)
        gmm.loc.copy_(mixture.loc)
    return gmm, vmm, mixture


@pytest.mark.parametrize("full_covariance", [False, True])
def test_one_component_pinned_to_the_standard_normal_gives_the_closed_form_kl_in_expectation(
    draw_mixture: Callable, sigma_points: Callable, full_covariance: bool
) -> None:
    posterior = draw_mixture(6, P, "full" if full_covariance else "diagonal")
    prior = GaussianMixturePrior(1, P).double()
    with torch.no_grad():
        prior.loc.zero_()
    standard: MultivariateNormal | Normal
    if full_covariance:
        qz = MultivariateNormal(posterior.loc, scale_tril=posterior.scale)
        standard = MultivariateNormal(posterior.loc.new_zeros(P), torch.eye(P, dtype=torch.float64))
        closed_form = kl_divergence(qz, standard)
    else:
        qz = Normal(posterior.loc, posterior.scale)
        standard = Normal(torch.zeros_like(posterior.loc), torch.ones_like(posterior.loc))
        closed_form = kl_divergence(qz, standard).sum(-1)
    z = sigma_points(posterior.loc, posterior.center_sqrt)
    for one in (prior, StandardNormalPrior(P)):
        estimate = one.kl_divergence(qz, z)
        expectation = estimate.mean(0) if estimate.dim() == 2 else estimate
        torch.testing.assert_close(expectation, closed_form, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("prior_class", [GaussianMixturePrior, StandardNormalPrior])
def test_one_pinned_component_has_the_standard_normals_density(
    draw_mixture: Callable, prior_class: type
) -> None:
    prior = prior_class(P) if prior_class is StandardNormalPrior else prior_class(1, P)
    if isinstance(prior, GaussianMixturePrior):
        torch.nn.init.zeros_(prior.loc)
    z = draw_mixture(batch_shape=(2, 5), dtype=torch.float32).z
    torch.testing.assert_close(prior.log_prob(z), Normal(0, 1).log_prob(z).sum(-1))


@pytest.mark.parametrize("spread", ["diagonal", "full"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
def test_vmm_with_uniform_weights_and_infinite_precision_is_the_vampprior(
    draw_mixture: Callable, spread: str, dtype: torch.dtype, tolerance: float
) -> None:
    mixture = draw_mixture(K, P, spread, dtype=dtype)
    vmm, vampprior = VampPriorMixture(K, P).to(dtype), VampPrior(K, P).to(dtype)
    vmm.precision_cholesky.assign((1e4 * torch.eye(P, dtype=dtype)).expand(K, P, P))
    torch.testing.assert_close(
        vmm.component_log_prob(mixture.z, mixture.centers),
        vampprior.component_log_prob(mixture.z, mixture.centers),
        atol=tolerance, rtol=tolerance,
    )  # fmt: skip
    torch.testing.assert_close(
        vmm.log_prob(mixture.z, mixture.centers),
        vampprior.log_prob(mixture.z, mixture.centers),
        atol=tolerance, rtol=tolerance,
    )  # fmt: skip


def test_gmm_is_the_vmm_whose_centres_are_points(draw_mixture: Callable) -> None:
    gmm, vmm, mixture = same_parameters(draw_mixture)
    points = mixture.centers._replace(scale=None)
    for method in ("log_prob", "responsibilities", "empirical_bayes_loss"):
        expected = getattr(gmm, method)(mixture.z)
        torch.testing.assert_close(getattr(vmm, method)(mixture.z, points), expected, atol=0.0, rtol=0.0)
    assert torch.equal(gmm.log_hyperprior(), vmm.log_hyperprior(points))


def test_vmm_whose_centres_are_certain_approaches_the_gmm(draw_mixture: Callable) -> None:
    gmm, vmm, mixture = same_parameters(draw_mixture)
    certain = mixture.centers._replace(scale=torch.full_like(mixture.loc, 1e-6))
    for density in ("predictive", "expected"):
        torch.testing.assert_close(
            vmm.component_log_prob(mixture.z, certain, density),
            gmm.component_log_prob(mixture.z, density=density),
            atol=1e-9, rtol=1e-9,
        )  # fmt: skip


def test_expected_density_never_exceeds_the_predictive_one(draw_mixture: Callable, spread: str) -> None:
    """Jensen's inequality, with equality for points."""
    mixture = draw_mixture(K, P, spread, (50,))
    vmm = VampPriorMixture(K, P).double()
    vmm.precision_cholesky.assign(mixture.precision_cholesky)
    gap = vmm.component_log_prob(mixture.z, mixture.centers) - vmm.component_log_prob(
        mixture.z, mixture.centers, "expected"
    )
    assert (gap == 0).all() if spread == "point" else (gap > 0).all()
