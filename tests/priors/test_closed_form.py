"""The closed-form gradient of the empirical-Bayes objective is the one that autograd finds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vmmscvi.priors import Centers, VampPriorMixture
from vmmscvi.priors import functional as F

SCALES = ("none", "diagonal", "full")
P, K, M = 3, 4, 11


def recorded(prior: VampPriorMixture, z: Tensor, centers: Centers, n_obs: float) -> Tensor:
    """Objective made of functions that autograd records."""
    factor = prior.precision_cholesky()
    log_joint = F.component_log_joint(F.expected_component_log_prob(z, *centers, factor), prior.pi_logits)
    weights = torch.softmax(log_joint, dim=-1)
    if not prior._differentiates_responsibilities:
        weights = weights.detach()
    nll = -(weights * log_joint.masked_fill(weights == 0, 0.0)).sum(-1).mean()
    return nll - prior.log_hyperprior(centers) / n_obs


def build(kind: str, far: float = 1.0, **settings: Any) -> tuple[VampPriorMixture, Tensor, Centers]:
    """A prior away from its start, in float64, with positions and centres."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    prior = VampPriorMixture(K, P, **settings).double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.7 * draw(*parameter.shape))
        prior.wishart_scatter_root.copy_(draw(P, P).tril(-1) + draw(P).exp().diag())
    scale = {
        "none": None,
        "diagonal": draw(K, P).exp().requires_grad_(),
        "full": (0.3 * draw(K, P, P).tril(-1) + torch.diag_embed(draw(K, P).exp())).requires_grad_(),
    }[kind]
    return prior, draw(M, P), Centers((far * draw(K, P)).requires_grad_(), scale)


def gradients(loss: Tensor, prior: VampPriorMixture, centers: Centers) -> list[Tensor | None]:
    leaves = [*[p for p in prior.parameters() if p.requires_grad], centers.loc]
    leaves += [] if centers.scale is None else [centers.scale]
    return list(torch.autograd.grad(3.0 * loss, leaves, allow_unused=True))


@pytest.mark.parametrize("through_responsibilities", [True, False])
@pytest.mark.parametrize("inference", ["MAP-DP", "MAP", "MLE"])
@pytest.mark.parametrize("kind", SCALES)
def test_values_and_gradients_are_those_that_are_recorded(
    kind: str, inference: str, through_responsibilities: bool
) -> None:
    prior, z, centers = build(
        kind, inference=inference, responsibilities_in_gradient=through_responsibilities
    )
    expected = recorded(prior, z, centers, 7.0)
    found = prior.empirical_bayes_loss(z, centers, 7.0)
    torch.testing.assert_close(found.loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.expected_nll + found.hyperprior_nll, expected, rtol=1e-12, atol=1e-12)
    assert not found.expected_nll.requires_grad and not found.hyperprior_nll.requires_grad
    pairs = zip(gradients(found.loss, prior, centers), gradients(expected, prior, centers), strict=True)
    for gradient, expected_gradient in pairs:
        if expected_gradient is None:  # not part of the objective
            assert gradient is None
        else:
            torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", SCALES)
def test_components_that_are_negligible_everywhere_have_the_gradient_of_the_hyperpriors_alone(
    kind: str,
) -> None:
    prior, z, centers = build(kind, far=1e3)
    with torch.no_grad():
        centers.loc[0] = 0.0
    found, expected = prior.empirical_bayes_loss(z, centers).loss, recorded(prior, z, centers, M)
    pairs = zip(gradients(found, prior, centers), gradients(expected, prior, centers), strict=True)
    for gradient, expected_gradient in pairs:
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-12)


def test_float32_keeps_its_digits_where_clusters_are_narrow_and_far_from_the_origin() -> None:
    prior, _, centers = build("diagonal")
    with torch.no_grad():
        centers.loc.add_(20.0)
        prior.precision_cholesky.assign(50.0 * torch.eye(P, dtype=torch.float64).expand(K, P, P))
        z = centers.loc[torch.arange(M) % K] + 0.02
    expected = gradients(recorded(prior, z, centers, M), prior, centers)
    single = Centers(*(t.detach().float().requires_grad_() for t in centers if t is not None))
    found = gradients(prior.float().empirical_bayes_loss(z.float(), single).loss, prior, single)
    for gradient, expected_gradient in zip(found, expected, strict=True):
        assert gradient is not None and expected_gradient is not None
        error = (gradient - expected_gradient).abs().max() / expected_gradient.abs().max()
        assert error < 1e-3


def test_positions_need_no_gradient_and_get_none() -> None:
    prior, z, centers = build("diagonal")
    z.requires_grad_()
    prior.empirical_bayes_loss(z, centers).loss.backward()
    assert z.grad is None


@pytest.mark.parametrize("upstream", [False, True])
def test_a_gradient_of_the_gradient_is_refused(upstream: bool) -> None:
    prior, z, centers = build("diagonal")
    loss = prior.empirical_bayes_loss(z, centers, 7.0).loss
    with pytest.raises(RuntimeError, match=r"differentiated only once.*create_graph=True"):
        torch.autograd.grad(loss.square() if upstream else loss, centers.loc, create_graph=True)
