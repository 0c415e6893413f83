"""The closed-form gradient of the predictive mixture is the one that autograd finds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vmmscvi.priors import FREE, Centers, ComponentLabels, VampPriorMixture
from vmmscvi.priors import functional as F

P, K, N = 3, 4, 7


def build(kind: str) -> tuple[VampPriorMixture, Tensor, Centers]:
    """A prior that is held, as in a variational step, in float64."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    prior = VampPriorMixture(K, P).double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.7 * draw(*parameter.shape))
    prior.requires_grad_(False)
    scale = {
        "none": None,
        "diagonal": draw(K, P).exp().requires_grad_(),
        "full": (0.3 * draw(K, P, P).tril(-1) + torch.diag_embed(draw(K, P).exp())).requires_grad_(),
    }[kind]
    return prior, draw(2, N, P).requires_grad_(), Centers(draw(K, P).requires_grad_(), scale)


def recorded(prior: VampPriorMixture, z: Tensor, centers: Centers, labels: Tensor | None = None) -> Tensor:
    components = F.predictive_component_log_prob(z, *centers, prior.precision_cholesky())
    return F.mixture_log_prob(components if labels is None else components + labels, prior.pi_logits)


def log_likelihood_of_labels(noise: float | None) -> Tensor | None:
    """Log-likelihood of the labels of ``N`` cells, shape ``(N, K)``; minus infinity without noise."""
    if noise is None:
        return None
    labels = ComponentLabels(torch.tensor([0, 0, 1, FREE]), noise).double()
    return labels(torch.tensor([0, 1, 2, 0, 1, 1, 0]))


def leaves(z: Tensor, centers: Centers) -> list[Tensor]:
    return [tensor for tensor in (z, *centers) if tensor is not None]


@pytest.mark.parametrize("noise", [None, 0.0, 0.2])
@pytest.mark.parametrize("kind", ["none", "diagonal", "full"])
def test_value_and_gradient_are_those_that_are_recorded(kind: str, noise: float | None) -> None:
    prior, z, centers = build(kind)
    weights, labels = torch.rand(2, N, dtype=torch.float64), log_likelihood_of_labels(noise)
    found, expected = prior.log_prob(z, centers, labels), recorded(prior, z, centers, labels)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradients: list[Any] = [
        torch.autograd.grad((weights * value).sum(), leaves(z, centers)) for value in (found, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("noise", [None, 0.0, 0.2])
@pytest.mark.parametrize("kind", ["none", "diagonal", "full"])
def test_the_gradient_can_be_differentiated_again(kind: str, noise: float | None) -> None:
    prior, z, centers = build(kind)
    second, labels = [], log_likelihood_of_labels(noise)
    for value in (prior.log_prob(z, centers, labels), recorded(prior, z, centers, labels)):
        (first,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        second.append(torch.autograd.grad(first.square().sum(), leaves(z, centers)))
    torch.testing.assert_close(*second, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("noise", [None, 0.2])
def test_a_prior_that_is_trained_with_the_networks_has_its_gradient(noise: float | None) -> None:
    prior, z, centers = build("diagonal")
    prior.requires_grad_(True)
    prior.log_prob(z, centers, log_likelihood_of_labels(noise)).sum().backward()
    assert prior.pi_logits.grad is not None and prior.precision_cholesky.unconstrained.grad is not None


@pytest.mark.parametrize("kind", ["none", "diagonal"])
def test_float32_keeps_its_digits_far_from_the_origin(kind: str) -> None:
    prior, z, centers = build(kind)
    with torch.no_grad():
        far = Centers(centers.loc + 100.0, centers.scale)
        expected = prior.log_prob(z + 100.0, far)
        single = Centers(far.loc.float(), None if far.scale is None else far.scale.float())
        found = prior.float().log_prob((z + 100.0).float(), single)
    assert (found - expected).abs().max() < 1e-3
