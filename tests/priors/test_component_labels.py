"""Labels of components: the joint density of positions and labels, and the objective that is fitted to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from vmmscvi.priors import FREE, Centers, ComponentLabels, VampPriorMixture
from vmmscvi.priors import functional as F

Draw = Callable[..., Any]
UNLABELLED = 3  # a code that no component has


@pytest.fixture
def prior(draw_mixture: Draw) -> tuple[VampPriorMixture, Any]:
    mixture = draw_mixture()
    prior = VampPriorMixture(4, 3).double()
    with torch.no_grad():
        prior.precision_cholesky.assign(mixture.precision_cholesky)
        prior.pi_logits.copy_(mixture.pi_logits)
    return prior, mixture


def labelled(prior: VampPriorMixture, labels: list[int], noise: float) -> VampPriorMixture:
    prior.labels = ComponentLabels(torch.tensor(labels), noise).double()
    return prior


def component_log_joint(mixture: Any) -> np.ndarray:
    """By SciPy: log pi_k + log N(z_i; m_k, Lambda_k^-1 + S_k)."""
    weights = np.log(np.exp(mixture.pi_logits) / np.exp(mixture.pi_logits).sum()).numpy()
    covariances = mixture.predictive_covariance.numpy()
    densities = [
        multivariate_normal(m, c).logpdf(mixture.z.numpy())
        for m, c in zip(mixture.loc.numpy(), covariances, strict=True)
    ]
    return np.stack(densities, axis=1) + weights


def test_with_all_labels_and_one_component_each_the_density_is_that_of_the_labels_component(
    prior: tuple[VampPriorMixture, Any],
) -> None:
    model, mixture = prior
    codes = torch.tensor([0, 1, 2, 3, 2, 1, 0])
    term = labelled(model, [2, 0, 3, 1], 0.0).label_log_likelihood(codes)
    found = model.log_prob(mixture.z, mixture.centers, term)
    of_codes = np.array([1, 3, 0, 2])[codes]  # the component of each label
    expected = component_log_joint(mixture)[np.arange(7), of_codes]
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-10)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_the_density_of_a_label_is_the_sum_over_components_weighed_by_its_probability(
    prior: tuple[VampPriorMixture, Any], noise: float
) -> None:
    model, mixture = prior
    of_components, codes = np.array([0, 0, 2, FREE]), np.array([0, 2, UNLABELLED, 0, 1, 2, 9])
    term = labelled(model, of_components.tolist(), noise).label_log_likelihood(torch.tensor(codes))
    found = model.log_prob(mixture.z, mixture.centers, term).detach().numpy()
    log_joint = component_log_joint(mixture)
    for i, code in enumerate(codes):
        # two labels: a wrong one is the other one. A label that no component has tells nothing
        probability = np.where(of_components == code, 1 - noise, noise) if code in (0, 2) else np.ones(4)
        with np.errstate(divide="ignore"):
            assert found[i] == pytest.approx(logsumexp(log_joint[i] + np.log(probability)), rel=1e-7)


def test_codes_of_a_minibatch_may_be_a_column(prior: tuple[VampPriorMixture, Any]) -> None:
    model, codes = labelled(prior[0], [0, 1, 1, FREE], 0.1), torch.tensor([0, 1, 5, 1])
    assert model.labels is not None
    torch.testing.assert_close(model.labels(codes.view(-1, 1).float()), model.labels(codes))


def test_a_divergence_without_labels_is_the_same_to_the_last_bit(prior: tuple[VampPriorMixture, Any]) -> None:
    model, mixture = prior
    qz = torch.distributions.Normal(mixture.z, torch.ones_like(mixture.z))
    before = model.kl_divergence(qz, mixture.z, mixture.centers)
    assert model.label_log_likelihood(torch.zeros(7)) is None
    labelled(model, [0, 1, 1, FREE], 0.1)
    assert torch.equal(model.kl_divergence(qz, mixture.z, mixture.centers), before)
    unlabelled = model.label_log_likelihood(torch.full((7,), UNLABELLED))
    torch.testing.assert_close(model.kl_divergence(qz, mixture.z, mixture.centers, unlabelled), before)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_the_gradient_of_the_objective_is_the_one_that_is_recorded(
    prior: tuple[VampPriorMixture, Any], noise: float
) -> None:
    model, mixture = prior
    model.responsibilities_in_gradient = True
    term = labelled(model, [0, 0, 1, FREE], noise).label_log_likelihood(torch.tensor([0, 1, 2, 0, 1, 1, 0]))
    assert term is not None
    centers = Centers(*(t.clone().requires_grad_() for t in mixture.centers))
    log_prob = F.expected_component_log_prob(mixture.z, *centers, model.precision_cholesky()) + term
    log_joint = F.component_log_joint(log_prob, model.pi_logits)
    r = torch.softmax(log_joint, dim=-1)
    expected = -(r * log_joint.masked_fill(r == 0, 0.0)).sum(-1).mean() - model.log_hyperprior(centers) / 5
    found = model.empirical_bayes_loss(mixture.z, centers, 5.0, term).loss
    torch.testing.assert_close(found, expected)
    leaves: list[Tensor] = [*(p for p in model.parameters() if p.requires_grad), *centers]
    pairs = zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True)
    for gradient, recorded in pairs:
        torch.testing.assert_close(gradient, recorded, rtol=1e-9, atol=1e-12)


def test_positions_are_assigned_along_the_way_without_their_labels(
    prior: tuple[VampPriorMixture, Any],
) -> None:
    model, mixture = prior
    term = labelled(model, [0, 1, 2, 3], 0.0).label_log_likelihood(torch.arange(7) % 4)
    positions = mixture.z.flip(0) * 1.5
    expected = model.component_log_prob(positions, mixture.centers, "expected") + model.pi_logits
    loss = model.empirical_bayes_loss(mixture.z, mixture.centers, 5.0, term, assign_at=positions)
    assert loss.assigned is not None and torch.equal(loss.assigned, expected.argmax(-1))
    alone = model.empirical_bayes_loss(mixture.z, mixture.centers, 5.0, term)
    assert alone.assigned is None and torch.equal(alone.loss, loss.loss)


def test_labels_are_saved_with_the_prior_and_older_states_have_none(
    prior: tuple[VampPriorMixture, Any],
) -> None:
    model = prior[0]
    model.n_effective = 400.0
    without = model.state_dict()
    labelled(model, [2, FREE, 0, 0], 0.03)
    other = VampPriorMixture(4, 3).double()
    other.load_state_dict(model.state_dict())
    assert other.labels is not None and other.n_effective == 400.0
    assert other.labels.of_components.tolist() == [2, FREE, 0, 0] and other.labels.noise == 0.03
    other.load_state_dict(without)
    assert other.labels is None
    labelled(other, [2, FREE, 0, 0], 0.03)
    other.load_state_dict(
        {**without, "_extra_state": without["_extra_state"][:2]}
    )  # before there were labels
    assert other.labels is None and other.n_effective == 400.0


@pytest.mark.parametrize(
    ("labels", "noise", "message"),
    [([FREE, FREE], 0.1, "must have a label for at least one component"), ([0, 1], 1.0, "found 1.0")],
)
def test_uninformative_labels_are_refused(labels: list[int], noise: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ComponentLabels(torch.tensor(labels), noise)
