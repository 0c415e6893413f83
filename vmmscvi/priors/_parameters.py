"""Constrained parameters: unconstrained tensors, transformed to positive numbers or Cholesky factors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


def inverse_softplus(value: Tensor) -> Tensor:
    r"""Inverse of :math:`\log(1 + e^x)` for positive ``value``, accurate for small and large values."""
    return value + torch.log(-torch.expm1(-value))


class _WithPositiveDiagonal(torch.autograd.Function):
    """Lower triangles with the softplus of the diagonal, in a third of the operations of autograd."""

    @staticmethod
    def forward(ctx: Any, unconstrained: Tensor) -> Tensor:
        ctx.save_for_backward(unconstrained)
        factors = unconstrained.tril()
        factors.diagonal(dim1=-2, dim2=-1).copy_(softplus(unconstrained.diagonal(dim1=-2, dim2=-1)))
        return factors

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (unconstrained,) = ctx.saved_tensors
        by_unconstrained = grad.tril()
        slope = torch.sigmoid(unconstrained.diagonal(dim1=-2, dim2=-1))
        by_unconstrained.diagonal(dim1=-2, dim2=-1).mul_(slope)
        return by_unconstrained


class PositiveScalar(nn.Module):
    """A positive number, parametrised by a softplus.

    Parameters
    ----------
    initial
        Initial value.
    """

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.unconstrained = nn.Parameter(inverse_softplus(torch.tensor(float(initial))))

    def forward(self) -> Tensor:
        """Return the positive value, a scalar."""
        return softplus(self.unconstrained)


class PrecisionCholesky(nn.Module):
    """``K`` lower Cholesky factors with a positive (softplus) diagonal, initialised as the identity.

    Parameters
    ----------
    n_components
        Number ``K`` of matrices.
    n_latent
        Their dimension ``p``.
    """

    def __init__(self, n_components: int, n_latent: int) -> None:
        super().__init__()
        identity = torch.eye(n_latent).expand(n_components, -1, -1)
        self.unconstrained = nn.Parameter(torch.empty(n_components, n_latent, n_latent))
        self.assign(identity)

    def forward(self) -> Tensor:
        """Return the factors, shape ``(K, p, p)``."""
        factors: Tensor = _WithPositiveDiagonal.apply(self.unconstrained)  # type: ignore[no-untyped-call]
        return factors

    @torch.no_grad()
    def assign(self, cholesky: Tensor) -> None:
        """Set the parameter so that :meth:`forward` returns ``cholesky``, shape ``(K, p, p)``."""
        diagonal = inverse_softplus(cholesky.diagonal(dim1=-2, dim2=-1))
        self.unconstrained.copy_(cholesky.tril(diagonal=-1) + torch.diag_embed(diagonal))
