"""The objective of the empirical-Bayes step: its parts, its options, its gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical

from vmmscvi.priors import GaussianMixturePrior, VampPriorMixture

K, P = 4, 3
TIGHT = {"atol": 1e-10, "rtol": 1e-10}


def vmm(draw_mixture: Callable, spread: str, **options: object) -> tuple:
    mixture = draw_mixture(K, P, spread, (10,))
    prior = VampPriorMixture(K, P, **options).double()
    with torch.no_grad():
        prior.pi_logits.copy_(mixture.pi_logits)
        prior.precision_cholesky.assign(mixture.precision_cholesky)
    return prior, mixture


def gradient(value: Tensor, prior: VampPriorMixture) -> Tensor:
    inputs = [prior.pi_logits, prior.precision_cholesky.unconstrained]
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, inputs)])


def test_gradients_inside_and_outside_differ_by_that_of_the_assignments_entropy(
    draw_mixture: Callable, spread: str
) -> None:
    prior, mixture = vmm(draw_mixture, spread)
    inside = gradient(prior.empirical_bayes_loss(mixture.z, mixture.centers).loss, prior)
    prior.responsibilities_in_gradient = False
    outside = gradient(prior.empirical_bayes_loss(mixture.z, mixture.centers).loss, prior)
    entropy = Categorical(probs=prior.responsibilities(mixture.z, mixture.centers)).entropy().mean()
    torch.testing.assert_close(inside - outside, gradient(entropy, prior), **TIGHT)
    assert (inside - outside).abs().max() > 1e-3


def test_the_value_does_not_depend_on_the_path_of_the_gradient(draw_mixture: Callable, spread: str) -> None:
    prior, mixture = vmm(draw_mixture, spread)
    inside = prior.empirical_bayes_loss(mixture.z, mixture.centers)
    prior.responsibilities_in_gradient = False
    assert torch.equal(inside.loss, prior.empirical_bayes_loss(mixture.z, mixture.centers).loss)


def test_loss_is_the_sum_of_its_parts_and_the_hyperprior_is_shared_by_the_cells(
    draw_mixture: Callable,
) -> None:
    prior, mixture = vmm(draw_mixture, "diagonal")
    minibatch = prior.empirical_bayes_loss(mixture.z, mixture.centers)
    all_data = prior.empirical_bayes_loss(mixture.z, mixture.centers, hyperprior_n_obs=1000)
    for result, n_obs in ((minibatch, 10), (all_data, 1000)):
        torch.testing.assert_close(result.loss, result.expected_nll + result.hyperprior_nll)
        torch.testing.assert_close(result.hyperprior_nll, -prior.log_hyperprior(mixture.centers) / n_obs)
    assert torch.equal(minibatch.expected_nll, all_data.expected_nll)


def test_likelihood_part_is_a_mean_over_cells(draw_mixture: Callable) -> None:
    prior, mixture = vmm(draw_mixture, "diagonal")
    once = prior.empirical_bayes_loss(mixture.z, mixture.centers).expected_nll
    twice = prior.empirical_bayes_loss(mixture.z.repeat(2, 1), mixture.centers).expected_nll
    torch.testing.assert_close(once, twice, **TIGHT)


@pytest.mark.parametrize(
    ("inference", "trained"),
    [("MAP-DP", {"pi_logits", "loc", "precision", "alpha"}), ("MAP", {"pi_logits", "loc", "precision"}),
     ("MLE", {"pi_logits", "loc", "precision"})],
)  # fmt: skip
def test_inference_decides_which_parameters_are_trained(inference: str, trained: set[str]) -> None:
    prior = GaussianMixturePrior(K, P, inference=inference)
    prior.empirical_bayes_loss(torch.randn(6, P)).loss.backward()
    parameters = {
        "pi_logits": prior.pi_logits,
        "loc": prior.loc,
        "precision": prior.precision_cholesky.unconstrained,
        "alpha": prior.inverse_alpha.unconstrained,
    }
    assert {name for name, parameter in parameters.items() if parameter.grad is not None} == trained
    assert prior.alpha.item() == pytest.approx(1.0)


def test_maximum_likelihood_has_no_hyperprior(draw_mixture: Callable) -> None:
    prior, mixture = vmm(draw_mixture, "full", inference="MLE")
    result = prior.empirical_bayes_loss(mixture.z, mixture.centers)
    assert result.hyperprior_nll == 0 and torch.equal(result.loss, result.expected_nll)


def test_gradients_reach_the_centres_distribution(draw_mixture: Callable) -> None:
    prior, mixture = vmm(draw_mixture, "diagonal")
    leaves = mixture.centers._replace(
        loc=mixture.loc.clone().requires_grad_(), scale=mixture.scale.clone().requires_grad_()
    )
    for value in (
        prior.empirical_bayes_loss(mixture.z, leaves).loss,
        prior.log_prob(mixture.z, leaves).sum(),
    ):
        for grad in torch.autograd.grad(value, list(leaves)):
            assert (grad != 0).all()


def test_descending_the_objective_recovers_well_separated_clusters() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(300) % 3
    z = 6 * torch.eye(3)[truth] + 0.3 * torch.randn(300, 3, generator=generator)
    prior = GaussianMixturePrior(8, 3)
    with torch.no_grad():
        prior.loc.copy_(z[torch.randperm(300, generator=generator)[:8]])
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.05)
    losses = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = prior.empirical_bayes_loss(z).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assigned = prior.responsibilities(z).argmax(-1)
    assert losses[-1] < losses[0]
    assert all(len(truth[assigned == j].unique()) <= 1 for j in range(8))
