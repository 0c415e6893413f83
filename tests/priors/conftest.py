from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from vmmscvi.priors import Centers

SPREADS = ("point", "diagonal", "full")


class Mixture(NamedTuple):
    """Random parameters of a mixture with uncertain centres, and positions at which to evaluate it."""

    z: Tensor
    loc: Tensor
    scale: Tensor | None
    precision_cholesky: Tensor
    pi_logits: Tensor

    @property
    def centers(self) -> Centers:
        return Centers(self.loc, self.scale)

    @property
    def component_arguments(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        return self.z, self.loc, self.scale, self.precision_cholesky

    @property
    def precision(self) -> Tensor:
        return self.precision_cholesky @ self.precision_cholesky.mT

    @property
    def center_sqrt(self) -> Tensor:
        """A matrix square root of the centres' covariances, ``(K, p, p)``; zero for points."""
        if self.scale is None:
            return torch.zeros_like(self.precision_cholesky)
        return torch.diag_embed(self.scale) if self.scale.dim() == 2 else self.scale

    @property
    def predictive_covariance(self) -> Tensor:
        return torch.linalg.inv(self.precision) + self.center_sqrt @ self.center_sqrt.mT


@pytest.fixture(params=SPREADS)
def spread(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def draw_mixture() -> Callable[..., Mixture]:
    def draw(
        n_components: int = 4,
        n_latent: int = 3,
        spread: str = "diagonal",
        batch_shape: tuple[int, ...] = (7,),
        precision: float = 1.0,
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
    ) -> Mixture:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        def cholesky(magnitude: float) -> Tensor:
            factor = normal(n_components, n_latent, 3 * n_latent)
            return torch.linalg.cholesky(factor @ factor.mT * (magnitude / (3 * n_latent)))

        scale = {
            "point": None,
            "diagonal": 0.2 + 0.5 * normal(n_components, n_latent).abs(),
            "full": cholesky(0.3),
        }[spread]
        parameters = (
            normal(*batch_shape, n_latent),
            normal(n_components, n_latent),
            scale,
            cholesky(precision),
            normal(n_components),
        )
        return Mixture(*(None if t is None else t.to(dtype) for t in parameters))

    return draw


@pytest.fixture
def sigma_points() -> Callable[[Tensor, Tensor], Tensor]:
    """Points ``(2p, ..., p)`` whose mean of any quadratic function is its expectation under N(loc, A A^T)."""

    def points(loc: Tensor, sqrt: Tensor) -> Tensor:
        steps = sqrt.mT.movedim(-2, 0) * loc.shape[-1] ** 0.5
        return torch.cat([loc + steps, loc - steps])

    return points
