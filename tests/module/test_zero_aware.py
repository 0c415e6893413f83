"""The zero-aware likelihoods are scVI's and SciPy's, in value and gradient, wherever the parameters are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit, log_expit
from scvi.distributions import NegativeBinomial, ZeroInflatedNegativeBinomial
from torch import Tensor

from vmmscvi.module._positive_counts import LARGEST_TABULATED_COUNT
from vmmscvi.module._zero_aware import (
    ZeroAwareNegativeBinomial,
    ZeroAwareZeroInflatedNegativeBinomial,
    zero_aware,
)
from vmmscvi.module._zero_aware_log_prob import LARGEST_TEMPORARY

PAIRS = {
    "nb": (ZeroAwareNegativeBinomial, NegativeBinomial),
    "zinb": (ZeroAwareZeroInflatedNegativeBinomial, ZeroInflatedNegativeBinomial),
}
THETA_SHAPES = {"gene": (7,), "one row": (1, 7), "gene-cell": (12, 7), "all alike": (1,), "scalar": ()}


@pytest.fixture(params=["nb", "zinb"])
def likelihood(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def counts(*shape: int, seed: int = 0) -> Tensor:
    """Mostly zeros, many small counts, a few beyond the table."""
    rng = np.random.default_rng(seed)
    values = rng.poisson(rng.choice([0.0, 0.5, 3.0, 4.0 * LARGEST_TABULATED_COUNT], size=shape))
    return torch.from_numpy(values).double()


def parameters(likelihood: str, *shape: int, theta_shape: tuple[int, ...]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    drawn = {"mu": (2.0 * normal(*shape)).exp(), "theta": normal(*theta_shape).exp()}
    return drawn if likelihood == "nb" else {**drawn, "zi_logits": normal(*shape)}


def with_gradient(
    distribution: Callable[..., Any], given: dict[str, Tensor], x: Tensor, weight: Tensor
) -> tuple[Tensor, list[Tensor]]:
    leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
    log_prob = distribution(**leaves).log_prob(x)
    return log_prob.detach(), list(torch.autograd.grad((weight * log_prob).sum(), list(leaves.values())))


@pytest.mark.parametrize("theta_shape", THETA_SHAPES.values(), ids=THETA_SHAPES.keys())
def test_value_and_gradient_are_those_of_scvi(likelihood: str, theta_shape: tuple[int, ...]) -> None:
    ours, theirs = PAIRS[likelihood]
    x, weight = counts(12, 7), torch.rand(12, 7, dtype=torch.float64)
    given = parameters(likelihood, 12, 7, theta_shape=theta_shape)
    log_prob, gradients = with_gradient(ours, given, x, weight)
    expected, expected_gradients = with_gradient(theirs, given, x, weight)
    torch.testing.assert_close(log_prob, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("theta_shape", [(7,), (12, 7), (3, 1, 7), (3, 12, 7)])
def test_several_samples_of_the_latent_space(likelihood: str, theta_shape: tuple[int, ...]) -> None:
    ours, theirs = PAIRS[likelihood]
    x, weight = counts(12, 7), torch.rand(3, 12, 7, dtype=torch.float64)
    given = parameters(likelihood, 3, 12, 7, theta_shape=theta_shape)
    log_prob, gradients = with_gradient(ours, given, x, weight)
    expected, expected_gradients = with_gradient(theirs, given, x, weight)
    assert log_prob.shape == (3, 12, 7)
    torch.testing.assert_close(log_prob, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("theta_shape", [(7,), (12, 7)])
def test_a_gradient_that_is_the_same_for_all_genes(likelihood: str, theta_shape: tuple[int, ...]) -> None:
    ours, theirs = PAIRS[likelihood]
    x, of_cells = counts(12, 7), torch.rand(12, 1, dtype=torch.float64).expand(12, 7)
    given = parameters(likelihood, 12, 7, theta_shape=theta_shape)
    _, gradients = with_gradient(ours, given, x, of_cells)
    _, expected = with_gradient(theirs, given, x, of_cells)
    torch.testing.assert_close(gradients, expected, rtol=1e-8, atol=1e-10)
    # a sum hands back one number, expanded without a copy
    leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
    (of_cells[:, 0] * ours(**leaves).log_prob(x).sum(-1)).sum().backward()
    torch.testing.assert_close([p.grad for p in leaves.values()], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("theta_shape", [(7,), (5, 7)])
def test_gradient_is_that_of_finite_differences(likelihood: str, theta_shape: tuple[int, ...]) -> None:
    ours, _ = PAIRS[likelihood]
    x = counts(5, 7)
    given = parameters(likelihood, 5, 7, theta_shape=theta_shape)
    leaves = tuple(value.requires_grad_() for value in given.values())
    torch.autograd.gradcheck(lambda *p: ours(**dict(zip(given, p, strict=True))).log_prob(x), leaves)


def test_values_are_those_of_scipy() -> None:
    mu, theta, x = np.meshgrid([0.1, 0.7, 12.0, 4e3], [0.1, 0.8, 30.0, 1e4], [0, 1, 2, 16, 17, 900])
    expected = stats.nbinom.logpmf(x, theta, theta / (theta + mu))
    given = {"mu": torch.from_numpy(mu), "theta": torch.from_numpy(theta)}
    log_prob = ZeroAwareNegativeBinomial(**given).log_prob(torch.from_numpy(x))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-6, atol=1e-5)  # 1e-8 are added to 0.1
    for logit in (-5.0, 0.0, 3.0):
        inflated = np.where(
            x == 0,
            np.log(expit(logit) + expit(-logit) * np.exp(expected)),
            log_expit(-logit) + expected,
        )
        distribution = ZeroAwareZeroInflatedNegativeBinomial(**given, zi_logits=torch.tensor(logit))
        np.testing.assert_allclose(distribution.log_prob(torch.from_numpy(x)), inflated, rtol=1e-6, atol=1e-5)


EXTREMES = {
    "x": [0.0, 1.0, 3.0, 16.0, 17.0, 1e3, 1e6],
    "mu": [1e-12, 1e-6, 1e-2, 1.0, 1e3, 1e6],
    "theta": [1e-4, 1e-2, 1.0, 1e2, 1e4, 1e6],
    "zi_logits": [-50.0, -8.0, 0.0, 8.0, 50.0],
}


def extremes(
    likelihood: str, dtype: torch.dtype, shared_theta: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Every combination; a matrix with one column for every theta."""
    axes = [torch.tensor(EXTREMES[name], dtype=dtype) for name in ("x", "mu", "zi_logits", "theta")]
    x, mu, zi_logits, theta = (a.reshape(-1, len(axes[-1])) for a in torch.meshgrid(*axes, indexing="ij"))
    given = {"mu": mu, "theta": axes[-1] if shared_theta else theta}
    return x, given if likelihood == "nb" else {**given, "zi_logits": zi_logits}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shared_theta", [True, False])
def test_no_extreme_of_counts_and_parameters_gives_nan(
    likelihood: str, dtype: torch.dtype, shared_theta: bool
) -> None:
    x, given = extremes(likelihood, dtype, shared_theta)
    log_prob, gradients = with_gradient(PAIRS[likelihood][0], given, x, torch.ones_like(x))
    assert log_prob.dtype == dtype
    assert torch.isfinite(log_prob).all()
    assert all(torch.isfinite(g).all() for g in gradients)
    assert (log_prob <= 1e-6).all()


@pytest.mark.parametrize("shared_theta", [True, False])
def test_float32_is_close_to_the_exact_value_and_closer_than_scvi(
    likelihood: str, shared_theta: bool
) -> None:
    ours, theirs = PAIRS[likelihood]
    x, given = extremes(likelihood, torch.float32, shared_theta)
    exact = theirs(**{name: value.double() for name, value in given.items()}).log_prob(x.double())
    scale = exact.abs().clamp_min(1.0)
    error = (ours(**given).log_prob(x).double() - exact).abs() / scale
    error_of_scvi = (theirs(**given).log_prob(x).double() - exact).abs() / scale
    assert error.max() < 1e-6
    assert error_of_scvi.max() > 0.1  # what cancellation leaves of the textbook expression


def test_zeros_keep_value_and_gradient_where_the_probability_underflows() -> None:
    given = {
        "mu": torch.tensor([[1e4, 1e4, 1e4]]),
        "theta": torch.tensor([40.0, 40.0, 1e-3]),
        "zi_logits": torch.tensor([[-200.0, -95.0, -200.0]]),
    }
    x = torch.zeros(1, 3)
    log_prob, gradients = with_gradient(ZeroAwareZeroInflatedNegativeBinomial, given, x, torch.ones(1, 3))
    in_float64 = {name: value.double() for name, value in given.items()}
    expected, expected_gradients = with_gradient(
        ZeroInflatedNegativeBinomial, in_float64, x.double(), torch.ones(1, 3)
    )
    torch.testing.assert_close(log_prob.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close([g.double() for g in gradients], expected_gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The value argument must be within the support")
def test_fractional_and_missing_values_are_treated_as_scvi_does(likelihood: str) -> None:
    ours, theirs = PAIRS[likelihood]
    x = torch.tensor([[0.0, 0.5, 2.5, torch.nan, 40.25, 3.0, 0.0]], dtype=torch.float64)
    given = parameters(likelihood, 1, 7, theta_shape=(7,))
    torch.testing.assert_close(
        ours(**given).log_prob(x), theirs(**given, validate_args=False).log_prob(x), equal_nan=True
    )


def test_integer_counts_and_strided_arguments(likelihood: str) -> None:
    ours, theirs = PAIRS[likelihood]
    x = counts(7, 12).T.long()
    given = parameters(likelihood, 7, 12, theta_shape=(7,))
    given = {name: value if name == "theta" else value.T for name, value in given.items()}
    torch.testing.assert_close(ours(**given).log_prob(x), theirs(**given).log_prob(x.double()))


def test_half_precision_is_computed_in_float32(likelihood: str) -> None:
    ours, _ = PAIRS[likelihood]
    given = {n: v.bfloat16() for n, v in parameters(likelihood, 12, 7, theta_shape=(7,)).items()}
    x = counts(12, 7).float()
    log_prob, gradients = with_gradient(ours, given, x, torch.ones_like(x))
    assert log_prob.dtype == torch.float32
    assert [g.dtype for g in gradients] == [torch.bfloat16] * len(given)
    expected = ours(**{name: value.float() for name, value in given.items()}).log_prob(x)
    torch.testing.assert_close(log_prob, expected)


def test_gradients_only_where_they_are_asked_for(likelihood: str) -> None:
    ours, theirs = PAIRS[likelihood]
    given = parameters(likelihood, 12, 7, theta_shape=(7,))
    given["theta"].requires_grad_()
    theta_gradient = torch.autograd.grad(ours(**given).log_prob(counts(12, 7)).sum(), given["theta"])
    expected = torch.autograd.grad(theirs(**given).log_prob(counts(12, 7)).sum(), given["theta"])
    torch.testing.assert_close(theta_gradient, expected)
    with torch.no_grad():
        assert not ours(**given).log_prob(counts(12, 7)).requires_grad


def test_second_derivatives_are_refused(likelihood: str) -> None:
    ours, _ = PAIRS[likelihood]
    given = parameters(likelihood, 12, 7, theta_shape=(7,))
    mu = given["mu"].requires_grad_()
    with pytest.raises(RuntimeError, match="fast_likelihood=False"):
        torch.autograd.grad(ours(**given).log_prob(counts(12, 7)).sum(), mu, create_graph=True)


def test_backward_twice_gives_the_same(likelihood: str) -> None:
    ours, _ = PAIRS[likelihood]
    leaves = {n: v.requires_grad_() for n, v in parameters(likelihood, 12, 7, theta_shape=(7,)).items()}
    loss = ours(**leaves).log_prob(counts(12, 7)).sum()
    first = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, list(leaves.values())), first, rtol=0, atol=0)


@pytest.mark.parametrize("x", [torch.zeros(4, 7), torch.full((4, 7), 2.0), torch.zeros(0, 7)])
def test_minibatches_of_zeros_of_positive_counts_and_of_nothing(likelihood: str, x: Tensor) -> None:
    ours, theirs = PAIRS[likelihood]
    given = {n: v.float() for n, v in parameters(likelihood, len(x), 7, theta_shape=(7,)).items()}
    log_prob, gradients = with_gradient(ours, given, x, torch.ones_like(x))
    expected, expected_gradients = with_gradient(theirs, given, x, torch.ones_like(x))
    torch.testing.assert_close(log_prob, expected)
    torch.testing.assert_close(gradients, expected_gradients)


def test_everything_else_is_inherited(likelihood: str) -> None:
    ours, theirs = PAIRS[likelihood]
    given = parameters(likelihood, 12, 7, theta_shape=(7,))
    scale = given["mu"] / given["mu"].sum(-1, keepdim=True)
    distribution, expected = ours(**given, scale=scale), theirs(**given, scale=scale)
    assert isinstance(distribution, theirs)
    for name in ("mean", "variance", "mu", "theta", "scale"):
        torch.testing.assert_close(getattr(distribution, name), getattr(expected, name))
    torch.testing.assert_close(distribution.get_normalized("scale"), scale)
    assert distribution.sample((2,)).shape == (2, 12, 7)


@pytest.mark.parametrize("theta_is_shared", [True, False])
@pytest.mark.parametrize(
    ("n_obs", "n_genes"),
    [(12, LARGEST_TEMPORARY // 5), (3, LARGEST_TEMPORARY + 1)],
    ids=["blocks of five cells and of two", "blocks of one cell"],
)
def test_cells_in_blocks_are_those_of_scvi(
    likelihood: str, theta_is_shared: bool, n_obs: int, n_genes: int
) -> None:
    ours, theirs = PAIRS[likelihood]
    theta_shape = (n_genes,) if theta_is_shared else (n_obs, n_genes)
    given = parameters(likelihood, n_obs, n_genes, theta_shape=theta_shape)
    x, weight = counts(n_obs, n_genes), torch.rand(n_obs, n_genes, dtype=torch.float64)
    log_prob, gradients = with_gradient(ours, given, x, weight)
    expected, expected_gradients = with_gradient(theirs, given, x, weight)
    torch.testing.assert_close(log_prob, expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-6, atol=1e-8)
    with torch.no_grad():
        torch.testing.assert_close(ours(**given).log_prob(x), log_prob, rtol=1e-12, atol=1e-12)


def test_distributions_of_scvi_are_replaced_and_others_kept(likelihood: str) -> None:
    ours, theirs = PAIRS[likelihood]
    given = parameters(likelihood, 12, 7, theta_shape=(7,))
    replaced, x = zero_aware(theirs(**given, scale=given["mu"])), counts(12, 7)
    assert type(replaced) is ours
    assert replaced.scale is given["mu"]
    torch.testing.assert_close(replaced.log_prob(x), ours(**given).log_prob(x))
    torch.testing.assert_close(zero_aware(theirs(**given), given["theta"]).log_prob(x), replaced.log_prob(x))
    poisson = torch.distributions.Poisson(given["mu"])
    assert zero_aware(poisson) is poisson
    assert zero_aware(replaced) is replaced


@pytest.mark.parametrize("dispersion", ["gene", "gene-batch", "gene-cell"])
@pytest.mark.parametrize("gene_likelihood", ["nb", "zinb", "poisson"])
def test_fast_likelihood_changes_no_loss_and_no_gradient(
    make_model: Callable[..., Any], minibatch: Callable[..., Any], dispersion: str, gene_likelihood: str
) -> None:
    model = make_model(prior="standard_normal", dispersion=dispersion, gene_likelihood=gene_likelihood)
    module, tensors = model.module.eval(), minibatch(model)

    def evaluate(fast: bool) -> tuple[Tensor, list[Tensor | None]]:
        module.fast_likelihood = fast
        torch.manual_seed(0)
        loss = module(tensors)[2].loss
        parameters = [p for p in module.parameters() if p.requires_grad]
        return loss.detach(), list(torch.autograd.grad(loss, parameters, allow_unused=True))

    (loss, gradients), (expected, expected_gradients) = evaluate(True), evaluate(False)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0.0)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=1e-5)


def test_dispersions_of_cells_are_not_taken_for_those_of_as_many_genes() -> None:
    x, theta = counts(7, 7), torch.linspace(0.5, 3.0, 7, dtype=torch.float64).unsqueeze(1)
    stock = NegativeBinomial(mu=torch.full((7, 7), 2.0, dtype=torch.float64), theta=theta)
    torch.testing.assert_close(zero_aware(stock, theta).log_prob(x), stock.log_prob(x))
