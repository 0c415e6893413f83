from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vmmscvi.priors._parameters import PositiveScalar, PrecisionCholesky, inverse_softplus


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inverse_softplus_is_undone_by_softplus_over_twelve_decades(dtype: torch.dtype) -> None:
    value = torch.logspace(-6, 6, 49, dtype=dtype)
    result = torch.nn.functional.softplus(inverse_softplus(value))
    torch.testing.assert_close(result, value, atol=0.0, rtol=100 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("initial", [1e-4, 1.0, 50.0])
def test_positive_scalar_has_its_initial_value(initial: float) -> None:
    assert PositiveScalar(initial)().item() == pytest.approx(initial, rel=1e-5)


def test_precision_is_initialised_as_the_identity() -> None:
    torch.testing.assert_close(PrecisionCholesky(3, 4)(), torch.eye(4).expand(3, 4, 4))


@pytest.mark.parametrize("magnitude", [1e-6, 1.0, 1e6])
def test_assigned_factors_are_read_back(draw_mixture: Callable, magnitude: float) -> None:
    cholesky = draw_mixture(3, 4, precision=magnitude).precision_cholesky
    precision = PrecisionCholesky(3, 4).double()
    precision.assign(cholesky)
    torch.testing.assert_close(precision(), cholesky, atol=0.0, rtol=1e-9)


def test_factors_are_triangular_with_a_positive_diagonal_wherever_the_optimizer_goes() -> None:
    precision = PrecisionCholesky(3, 4)
    with torch.no_grad():
        precision.unconstrained.copy_(10 * torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)))
    factors = precision()
    assert torch.equal(factors, factors.tril())
    assert (factors.diagonal(dim1=-2, dim2=-1) > 0).all()
