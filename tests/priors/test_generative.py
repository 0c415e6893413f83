r"""The objective against Pyro's log-joint of the generative story, and the story's own samples.

With :math:`\theta = (\alpha, \pi, \mu, \Lambda)` and assignments enumerated, the identity is

.. math::
    -M \cdot loss = \log p(z, \theta) - \sum_i H(r_i) + 2 \log \alpha

because :math:`\sum_j r_j \log p(z, c=j) = \log p(z) - H(r)`, and because the objective takes the density of
:math:`\tau = 1/\alpha`, which is that of :math:`\alpha` times :math:`|d\alpha / d\tau| = \alpha^2`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from scipy import stats
from torch import Tensor

from vmmscvi.priors import GaussianMixturePrior, VampPriorMixture, generative_model, wishart_scale_factor

N_OBS, K, P = 9, 4, 3
TIGHT = {"atol": 1e-9, "rtol": 1e-9}


def fitted(prior_class: type, draw_mixture: Callable, spread: str, **options: object) -> tuple:
    mixture = draw_mixture(K, P, spread, (N_OBS,))
    prior = prior_class(K, P, **options).double()
    with torch.no_grad():
        prior.pi_logits.copy_(mixture.pi_logits)
        prior.precision_cholesky.assign(mixture.precision_cholesky)
        if prior.inference == "MAP-DP":
            prior.inverse_alpha.unconstrained.fill_(-0.7)
        if spread == "point":
            prior.loc.copy_(mixture.loc)
    return prior, mixture


def latent_values(prior: GaussianMixturePrior, mu: Tensor) -> dict[str, Tensor]:
    factors = prior.precision_cholesky()
    return {"alpha": prior.alpha, "pi": prior.weights, "mu": mu, "Lambda": factors @ factors.mT}


def conditioned(prior: GaussianMixturePrior, values: dict[str, Tensor], z: Tensor) -> Callable[[], Tensor]:
    arguments = (N_OBS, K, P, float(prior.wishart_scatter_root[0, 0]) ** -2, z)
    return lambda: poutine.condition(generative_model, data=values)(*arguments)


def enumerated_log_joint(prior: GaussianMixturePrior, z: Tensor) -> Tensor:
    model = conditioned(prior, latent_values(prior, prior.loc), z)
    return -TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, lambda: None)


def assignment_entropy(prior: GaussianMixturePrior, z: Tensor) -> Tensor:
    return torch.distributions.Categorical(probs=prior.responsibilities(z)).entropy().sum()


def gradients(objective: Tensor, prior: GaussianMixturePrior) -> list[Tensor]:
    parameters = [p for p in prior.parameters() if p.requires_grad]
    return list(torch.autograd.grad(objective, parameters))


@pytest.mark.parametrize("wishart_scale", ["paper", "reference", 0.4])
def test_objective_is_pyros_enumerated_log_joint_up_to_entropy_and_jacobian(
    draw_mixture: Callable, wishart_scale: str | float
) -> None:
    prior, mixture = fitted(GaussianMixturePrior, draw_mixture, "point", wishart_scale=wishart_scale)
    expected = (
        enumerated_log_joint(prior, mixture.z) - assignment_entropy(prior, mixture.z) + 2 * prior.alpha.log()
    )
    torch.testing.assert_close(-N_OBS * prior.empirical_bayes_loss(mixture.z).loss, expected, **TIGHT)


def test_gradient_of_the_objective_is_that_of_pyros_log_joint(draw_mixture: Callable) -> None:
    prior, mixture = fitted(GaussianMixturePrior, draw_mixture, "point")
    expected = (
        enumerated_log_joint(prior, mixture.z) - assignment_entropy(prior, mixture.z) + 2 * prior.alpha.log()
    )
    actual = -N_OBS * prior.empirical_bayes_loss(mixture.z).loss
    torch.testing.assert_close(gradients(actual, prior), gradients(expected, prior), **TIGHT)


def test_constant_responsibilities_give_the_gradient_of_the_log_joint_without_the_entropy(
    draw_mixture: Callable,
) -> None:
    prior, mixture = fitted(GaussianMixturePrior, draw_mixture, "point", responsibilities_in_gradient=False)
    expected = enumerated_log_joint(prior, mixture.z) + 2 * prior.alpha.log()
    actual = -N_OBS * prior.empirical_bayes_loss(mixture.z).loss
    torch.testing.assert_close(gradients(actual, prior), gradients(expected, prior), **TIGHT)


HYPERPRIOR_SITES = {"MAP-DP": ("alpha", "pi", "mu", "Lambda"), "MAP": ("pi", "mu", "Lambda"), "MLE": ()}


@pytest.mark.parametrize("inference", HYPERPRIOR_SITES)
@pytest.mark.parametrize("spread", ["diagonal", "full"])
def test_vmm_objective_is_pyros_log_joint_in_expectation_over_centres_and_assignments(
    draw_mixture: Callable, sigma_points: Callable, spread: str, inference: str
) -> None:
    prior, mixture = fitted(VampPriorMixture, draw_mixture, spread, inference=inference)
    assignment = prior.responsibilities(mixture.z, mixture.centers)
    draws = []
    for mu in sigma_points(mixture.loc, mixture.center_sqrt):
        log_joint = torch.zeros((), dtype=torch.float64)
        for j in range(K):
            values = latent_values(prior, mu) | {"c": torch.full((N_OBS,), j)}
            trace = poutine.trace(conditioned(prior, values, mixture.z)).get_trace()
            trace.compute_log_prob()
            cells = trace.nodes["z"]["log_prob"] + trace.nodes["c"]["log_prob"]
            log_joint = log_joint + assignment[:, j] @ cells
        draws.append(
            log_joint + sum(trace.nodes[site]["log_prob_sum"] for site in HYPERPRIOR_SITES[inference])
        )
    jacobian = 2 * prior.alpha.log()  # zero where alpha is fixed at one
    actual = -N_OBS * prior.empirical_bayes_loss(mixture.z, mixture.centers).loss
    torch.testing.assert_close(actual, torch.stack(draws).mean() + jacobian, **TIGHT)


def prior_predictive(n_obs: int, n_components: int, n_latent: int, seed: int = 0) -> dict[str, Tensor]:
    pyro.set_rng_seed(seed)
    factor = wishart_scale_factor("paper", n_components, n_latent)
    trace = poutine.trace(generative_model).get_trace(n_obs, n_components, n_latent, factor)
    return {name: trace.nodes[name]["value"] for name in ("alpha", "pi", "mu", "Lambda", "c", "z")}


def test_prior_predictive_precisions_have_the_papers_mean() -> None:
    n_components, p = 8000, 3
    precision = prior_predictive(1, n_components, p)["Lambda"]
    standard_error = precision.std(0) / n_components**0.5
    deviation = precision.mean(0) - n_components ** (1 / p) * torch.eye(p)
    assert (deviation.abs() < 5 * standard_error).all()
    assert (standard_error < 0.02 * n_components ** (1 / p)).all()


def test_prior_predictive_positions_scatter_around_their_centres_with_the_stated_precision() -> None:
    draw = prior_predictive(4000, 10, 3)
    offset = draw["z"] - draw["mu"][draw["c"]]
    distance = torch.einsum("ni,nij,nj->n", offset, draw["Lambda"][draw["c"]], offset)
    assert stats.kstest(distance.numpy(), stats.chi2(3).cdf).pvalue > 1e-3


def test_prior_predictive_assignments_follow_the_weights() -> None:
    draw = prior_predictive(4000, 5, 2)
    expected = 4000 * draw["pi"].double().numpy()
    counts = np.bincount(draw["c"].numpy(), minlength=5)
    held = expected > 5
    assert np.abs((counts - expected)[held] / np.sqrt(expected[held])).max() < 5
    assert counts[~held].sum() < 30


@pytest.mark.parametrize("seed", range(3))
def test_prior_predictive_is_finite_at_the_size_of_an_atlas(seed: int) -> None:
    draw = prior_predictive(200, 100, 30, seed)
    assert draw["z"].shape == (200, 30)
    assert all(value.isfinite().all() for value in draw.values())


def test_prior_predictive_concentration_is_inverse_gamma() -> None:
    draws = [prior_predictive(1, 2, 1, seed)["alpha"].item() for seed in range(300)]
    assert stats.kstest(draws, stats.invgamma(1).cdf).pvalue > 1e-3
