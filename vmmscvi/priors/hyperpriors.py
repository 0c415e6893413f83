r"""Log-densities of the hyper-priors, as pure functions; shapes as in :mod:`vmmscvi.priors.functional`.

:math:`\alpha \sim InverseGamma(1, 1)`, :math:`\pi|\alpha \sim Dirichlet(\alpha/K, \ldots)`,
:math:`\mu_j \sim N(0, I)`, :math:`\Lambda_j \sim Wishart(p + 2, V)` (Stirn & Knowles, arXiv 2402.04412).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from vmmscvi.priors.functional import LOG_TWO_PI, log_diagonal_sum


def log_hyperprior(
    loc: Tensor,
    scale: Tensor | None,
    precision_cholesky: Tensor,
    pi_logits: Tensor,
    inverse_alpha: Tensor,
    scatter_root: Tensor,
    learns_concentration: bool,
) -> Tensor:
    """Log-density of all hyper-priors, in expectation over uncertain centres.

    Parameters
    ----------
    loc, scale
        See :func:`log_prior_centers`.
    precision_cholesky, scatter_root
        See :func:`log_prior_precision`.
    pi_logits, inverse_alpha
        See :func:`log_prior_mixing`.
    learns_concentration
        Whether to include the hyper-prior of the concentration.

    Returns
    -------
    Tensor
        A scalar.
    """
    log_prob = (
        log_prior_mixing(pi_logits, inverse_alpha)
        + log_prior_centers(loc, scale).sum()
        + log_prior_precision(precision_cholesky, scatter_root).sum()
    )
    return log_prob + log_prior_inverse_alpha(inverse_alpha) if learns_concentration else log_prob


def log_prior_inverse_alpha(inverse_alpha: Tensor) -> Tensor:
    r"""Log-prior of :math:`\tau = 1/\alpha \sim \mathrm{Gamma}(1, 1)`, that is :math:`-\tau`.

    The concentration is :math:`\alpha \sim \mathrm{InverseGamma}(1, 1)`. This is its density in the
    parametrisation by :math:`\tau`, the optimised parameter.

    Parameters
    ----------
    inverse_alpha
        :math:`\tau > 0`, any shape.

    Returns
    -------
    Tensor
        Log-densities of the shape of ``inverse_alpha``.
    """
    return -inverse_alpha


def log_prior_mixing(pi_logits: Tensor, inverse_alpha: Tensor) -> Tensor:
    r"""Log-density of the weights, :math:`\pi \mid \alpha \sim \mathrm{Dirichlet}(\alpha/K, \ldots)`.

    The density is on the simplex (no Jacobian of the softmax). For :math:`\alpha/K < 1` it therefore grows
    without bound as a weight vanishes.

    Parameters
    ----------
    pi_logits
        Unnormalised log-weights, shape ``(K,)``.
    inverse_alpha
        :math:`1/\alpha`, a scalar.

    Returns
    -------
    Tensor
        A scalar.
    """
    n_components = pi_logits.shape[-1]
    alpha = inverse_alpha.reciprocal()
    concentration = alpha / n_components
    log_normaliser = n_components * torch.lgamma(concentration) - torch.lgamma(alpha)
    return (concentration - 1.0) * torch.log_softmax(pi_logits, dim=-1).sum(-1) - log_normaliser


def log_prior_centers(loc: Tensor, scale: Tensor | None) -> Tensor:
    r"""Log-prior of the centres in expectation, :math:`E_{q(\mu_j)} \log N(\mu_j; 0, I)`.

    Parameters
    ----------
    loc
        Means of the centres, shape ``(K, p)``.
    scale
        Spread of the centres: ``(K, p)``, ``(K, p, p)``, or ``None``.

    Returns
    -------
    Tensor
        Log-densities of shape ``(K,)``.
    """
    log_prob = -0.5 * (loc.square().sum(-1) + loc.shape[-1] * LOG_TWO_PI)
    if scale is None:
        return log_prob
    return log_prob - 0.5 * scale.flatten(start_dim=1).square().sum(-1)


def log_prior_precision(precision_cholesky: Tensor, scatter_root: Tensor) -> Tensor:
    r"""Log-density of the precisions, :math:`\Lambda_j \sim \mathrm{Wishart}(p + 2, V)`.

    The density is of :math:`\Lambda_j` itself (no Jacobian of the Cholesky factor). Its mean is
    :math:`(p + 2) V`, its mode :math:`V`.

    Parameters
    ----------
    precision_cholesky
        Cholesky factors of the precisions, shape ``(K, p, p)``.
    scatter_root
        Lower Cholesky factor of :math:`V^{-1}`, shape ``(p, p)``; :math:`c^{-1/2} I` for the paper's
        :math:`V = c I`.

    Returns
    -------
    Tensor
        Log-densities of shape ``(K,)``.
    """
    p = precision_cholesky.shape[-1]
    df = p + 2.0
    log_normaliser = log_wishart_constant(p) - df * log_diagonal_sum(scatter_root)
    trace = (scatter_root.mT @ precision_cholesky).square().sum((-2, -1))
    # the exponent of |Lambda| is (df - p - 1) / 2 = 1/2, and log|Lambda| = 2 sum log diag(L)
    return log_diagonal_sum(precision_cholesky) - 0.5 * trace - log_normaliser


@lru_cache
def log_wishart_constant(p: int) -> float:
    """Log-normaliser of the Wishart with ``p + 2`` degrees of freedom and ``V = I``.

    Parameters
    ----------
    p
        Dimension.

    Returns
    -------
    float
        The log-normaliser.
    """
    df = p + 2.0
    # the multivariate gamma function at df / 2, as a number: a tensor would be copied to the device each step
    log_gamma = 0.25 * p * (p - 1) * math.log(math.pi) + sum(math.lgamma(0.5 * (df - j)) for j in range(p))
    return 0.5 * df * p * math.log(2.0) + log_gamma
