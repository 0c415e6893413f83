"""Gradients and edge cases: gradcheck, distant and dead components, subnormal numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from vmmscvi.priors import GaussianMixturePrior
from vmmscvi.priors import functional as F
from vmmscvi.priors import hyperpriors as H


def leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def triangular(scale: Tensor | None = None) -> Tensor | None:
    """Without the upper triangle of Cholesky factors, which numerical differentiation would perturb."""
    return scale.tril() if scale is not None and scale.dim() == 3 else scale


@pytest.mark.parametrize("density", [F.expected_component_log_prob, F.predictive_component_log_prob])
def test_component_densities_pass_gradcheck(
    draw_mixture: Callable, spread: str, density: Callable[..., Tensor]
) -> None:
    z, loc, scale, precision_cholesky = draw_mixture(3, 2, spread, (2,)).component_arguments

    def evaluate(z: Tensor, loc: Tensor, precision_cholesky: Tensor, *scale: Tensor) -> Tensor:
        return density(z, loc, triangular(*scale), precision_cholesky.tril())

    inputs = [z, loc, precision_cholesky, *([] if scale is None else [scale])]
    assert gradcheck(evaluate, tuple(map(leaf, inputs)))


@pytest.mark.parametrize("spread", ["diagonal", "full"])
def test_center_densities_pass_gradcheck(draw_mixture: Callable, spread: str) -> None:
    mixture = draw_mixture(3, 2, spread, (2,))
    assert gradcheck(
        lambda z, loc, scale: F.center_component_log_prob(z, loc, triangular(scale)),
        (leaf(mixture.z), leaf(mixture.loc), leaf(mixture.scale)),
    )


def test_mixture_functions_pass_gradcheck(draw_mixture: Callable) -> None:
    mixture = draw_mixture(3, 2)
    inputs = leaf(F.expected_component_log_prob(*mixture.component_arguments)), leaf(mixture.pi_logits)
    assert gradcheck(F.mixture_log_prob, inputs)
    assert gradcheck(F.responsibilities, inputs)


def test_hyperpriors_pass_gradcheck(draw_mixture: Callable, spread: str) -> None:
    mixture = draw_mixture(3, 2, spread)
    tau = leaf(torch.tensor(0.4, dtype=torch.float64))
    root = leaf(torch.tensor([[0.7, 0.0], [0.4, 1.2]], dtype=torch.float64))
    assert gradcheck(H.log_prior_inverse_alpha, (tau,))
    assert gradcheck(H.log_prior_mixing, (leaf(mixture.pi_logits), tau))
    assert gradcheck(
        lambda cholesky, root: H.log_prior_precision(cholesky.tril(), root.tril()),
        (leaf(mixture.precision_cholesky), root),
    )
    if mixture.scale is None:
        assert gradcheck(lambda loc: H.log_prior_centers(loc, None), (leaf(mixture.loc),))
    else:
        assert gradcheck(H.log_prior_centers, (leaf(mixture.loc), leaf(mixture.scale)))


@pytest.mark.parametrize(("dtype", "deepest"), [(torch.float32, 110.0), (torch.float64, 760.0)])
def test_responsibilities_are_normal_numbers_or_exact_zeros(dtype: torch.dtype, deepest: float) -> None:
    gap = torch.linspace(0.0, -deepest, 200_001, dtype=dtype)
    result = F.responsibilities(torch.stack([torch.zeros_like(gap), gap], -1), torch.zeros(2, dtype=dtype))
    assert result[result > 0].min() >= torch.finfo(dtype).tiny
    assert (result[..., 1] == 0).any()
    torch.testing.assert_close(result[..., 0], torch.sigmoid(-gap))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_threshold_itself_is_not_subnormal(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).tiny
    logit = torch.tensor(math.log(tiny), dtype=dtype) * (1 + 4 * torch.finfo(dtype).eps)
    for _ in range(8):
        result = F.responsibilities(
            torch.zeros(2, dtype=dtype), torch.stack([torch.zeros_like(logit), logit])
        )
        assert result[1] == 0 or result[1] >= tiny
        logit = torch.nextafter(logit, torch.zeros_like(logit))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_sum_to_one_when_components_are_500_nats_apart(dtype: torch.dtype) -> None:
    component_log_prob = -500.0 * torch.arange(6, dtype=dtype).repeat(3, 1)
    component_log_prob[1] = component_log_prob[1].flip(0)
    component_log_prob[2] = -1e6
    result = F.responsibilities(component_log_prob, torch.zeros(6, dtype=dtype))
    torch.testing.assert_close(result.sum(-1), torch.ones(3, dtype=dtype))
    assert result.argmax(-1)[:2].tolist() == [0, 5]
    torch.testing.assert_close(result[2], torch.full((6,), 1 / 6, dtype=dtype))


@pytest.mark.parametrize("in_gradient", [True, False])
def test_dead_and_distant_components_leave_loss_and_gradients_finite(in_gradient: bool) -> None:
    prior = GaussianMixturePrior(4, 2, responsibilities_in_gradient=in_gradient)
    with torch.no_grad():
        prior.pi_logits[1] = -200.0
        prior.loc[2] = 1e4
    z = torch.randn(16, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (prior.empirical_bayes_loss(z).loss + prior.log_prob(z).mean()).backward()
    for name, gradient in [("z", z.grad), *((n, p.grad) for n, p in prior.named_parameters())]:
        assert gradient is not None and gradient.isfinite().all(), name
    assert prior.responsibilities(z)[:, [1, 2]].count_nonzero() == 0


@pytest.mark.parametrize("in_gradient", [True, False])
def test_a_component_whose_distance_overflows_is_ignored(in_gradient: bool) -> None:
    prior = GaussianMixturePrior(2, 2, inference="MLE", responsibilities_in_gradient=in_gradient)
    with torch.no_grad():
        prior.loc.copy_(torch.tensor([[0.0, 0.0], [1e25, 0.0]]))
    result = prior.empirical_bayes_loss(torch.ones(3, 2))
    result.loss.backward()
    assert result.loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in prior.parameters())
