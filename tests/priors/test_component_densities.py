"""Component densities and responsibilities against SciPy, scikit-learn and ``torch.distributions``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from vmmscvi.priors import functional as F

DENSITIES = (F.expected_component_log_prob, F.predictive_component_log_prob)
TIGHT = {"atol": 1e-9, "rtol": 1e-9}


@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (20, 10)], ids=str)
def test_expected_density_is_the_mean_of_scipys_density_over_the_centre(
    draw_mixture: Callable, sigma_points: Callable, spread: str, shape: tuple[int, int]
) -> None:
    mixture = draw_mixture(*shape, spread)
    covariance = np.linalg.inv(mixture.precision.numpy())
    centers = sigma_points(mixture.loc, mixture.center_sqrt).numpy()
    expected = [
        np.mean([stats.multivariate_normal(mu, covariance[j]).logpdf(mixture.z) for mu in centers[:, j]], 0)
        for j in range(shape[0])
    ]
    actual = F.expected_component_log_prob(*mixture.component_arguments)
    np.testing.assert_allclose(actual, np.stack(expected, axis=-1), **TIGHT)


@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (20, 10)], ids=str)
def test_predictive_density_is_scipys_normal_with_both_covariances(
    draw_mixture: Callable, spread: str, shape: tuple[int, int]
) -> None:
    mixture = draw_mixture(*shape, spread)
    expected = [
        stats.multivariate_normal(loc, covariance).logpdf(mixture.z)
        for loc, covariance in zip(mixture.loc.numpy(), mixture.predictive_covariance.numpy(), strict=True)
    ]
    actual = F.predictive_component_log_prob(*mixture.component_arguments)
    np.testing.assert_allclose(actual, np.stack(expected, axis=-1), **TIGHT)


@pytest.mark.parametrize("spread", ["diagonal", "full"])
def test_center_density_is_scipys_normal(draw_mixture: Callable, spread: str) -> None:
    mixture = draw_mixture(spread=spread)
    expected = [
        stats.multivariate_normal(loc, sqrt @ sqrt.T).logpdf(mixture.z)
        for loc, sqrt in zip(mixture.loc.numpy(), mixture.center_sqrt.numpy(), strict=True)
    ]
    actual = F.center_component_log_prob(mixture.z, mixture.loc, mixture.scale)
    np.testing.assert_allclose(actual, np.stack(expected, axis=-1), **TIGHT)


@pytest.mark.parametrize("n_components", [4, 2000])
def test_mixture_density_is_torchs_mixture(draw_mixture: Callable, spread: str, n_components: int) -> None:
    mixture = draw_mixture(n_components, 3, spread)
    components = MultivariateNormal(mixture.loc, mixture.predictive_covariance)
    expected = MixtureSameFamily(Categorical(logits=mixture.pi_logits), components).log_prob(mixture.z)
    component_log_prob = F.predictive_component_log_prob(*mixture.component_arguments)
    torch.testing.assert_close(F.mixture_log_prob(component_log_prob, mixture.pi_logits), expected, **TIGHT)


def test_responsibilities_are_scikit_learns(draw_mixture: Callable) -> None:
    mixture = draw_mixture(5, 3, "point", (50,))
    reference = GaussianMixture(5)
    reference.weights_ = mixture.pi_logits.softmax(-1).numpy()
    reference.means_ = mixture.loc.numpy()
    reference.precisions_cholesky_ = mixture.precision_cholesky.numpy()
    component_log_prob = F.expected_component_log_prob(*mixture.component_arguments)
    actual = F.responsibilities(component_log_prob, mixture.pi_logits)
    np.testing.assert_allclose(actual, reference.predict_proba(mixture.z.numpy()), **TIGHT)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("batch_shape", [(), (1,), (2, 3), (2, 1, 4)], ids=str)
def test_densities_broadcast_over_leading_dimensions(
    draw_mixture: Callable, spread: str, density: Callable[..., Tensor], batch_shape: tuple[int, ...]
) -> None:
    mixture = draw_mixture(spread=spread, batch_shape=batch_shape)
    flat = density(mixture.z.reshape(-1, 3), *mixture.component_arguments[1:])
    result = density(*mixture.component_arguments)
    torch.testing.assert_close(result, flat.reshape(*batch_shape, 4), **TIGHT)
    for reduced in (
        F.mixture_log_prob(result, mixture.pi_logits),
        F.responsibilities(result, mixture.pi_logits)[..., 0],
    ):
        assert reduced.shape == batch_shape


@pytest.mark.parametrize("precision", [1e-6, 1e-3, 1e3, 1e6])
def test_extreme_precisions_keep_nine_digits_in_float64(
    draw_mixture: Callable, spread: str, precision: float
) -> None:
    mixture = draw_mixture(spread=spread, precision=precision)
    predictive = MultivariateNormal(mixture.loc, mixture.predictive_covariance)
    point = MultivariateNormal(mixture.loc, precision_matrix=mixture.precision)
    trace = torch.einsum("kij,kjl,kil->k", mixture.precision, mixture.center_sqrt, mixture.center_sqrt)
    z = mixture.z.unsqueeze(-2)
    for density, expected in zip(
        DENSITIES, (point.log_prob(z) - trace / 2, predictive.log_prob(z)), strict=True
    ):
        torch.testing.assert_close(density(*mixture.component_arguments), expected, atol=0.0, rtol=1e-9)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("precision", [1e-6, 1.0, 1e6])
def test_extreme_precisions_stay_accurate_in_float32(
    draw_mixture: Callable, spread: str, density: Callable[..., Tensor], precision: float
) -> None:
    mixture = draw_mixture(20, 10, spread, precision=precision, dtype=torch.float32)
    single = density(*mixture.component_arguments)
    double = density(*(None if t is None else t.double() for t in mixture.component_arguments))
    torch.testing.assert_close(single.double(), double, atol=1e-4, rtol=1e-4)
