r"""The mathematics of the mixture priors, as pure functions on tensors.

Nothing here holds state or draws samples, or depends on encoders, cells or genes. Every function computes in
the float dtype of its arguments, is differentiable with respect to all of them, and broadcasts over the
leading dimensions of ``z``.

Shapes used throughout: ``K`` components, ``p`` latent dimensions.

* ``z``: ``(..., p)``, latent positions.
* ``loc``: ``(K, p)``, means :math:`m_j` of the centres' distributions.
* ``scale``: the centres' spread :math:`S_j`, either a standard deviation ``(K, p)``, or a lower Cholesky
  factor ``(K, p, p)``, or ``None`` for centres that are points.
* ``precision_cholesky``: ``(K, p, p)``, lower triangular :math:`L_j` with a positive diagonal,
  :math:`\Lambda_j = L_j L_j^T`.
* ``pi_logits``: ``(K,)``, unnormalised log-weights.

The model is that of Stirn & Knowles, "The VampPrior Mixture Model" (arXiv 2402.04412).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_TWO_PI = math.log(2.0 * math.pi)


def expected_component_log_prob(
    z: Tensor, loc: Tensor, scale: Tensor | None, precision_cholesky: Tensor
) -> Tensor:
    r"""Log-density of ``z`` under each component, in expectation over the component's uncertain centre.

    :math:`l_j(z) = E_{q(\mu_j)} \log N(z; \mu_j, \Lambda_j^{-1})
    = \log N(z; m_j, \Lambda_j^{-1}) - \tfrac12 \mathrm{tr}(\Lambda_j S_j)`.

    Parameters
    ----------
    z
        Latent positions, shape ``(..., p)``.
    loc
        Means of the centres, shape ``(K, p)``.
    scale
        Spread of the centres: standard deviations ``(K, p)``, Cholesky factors ``(K, p, p)``, or ``None``.
    precision_cholesky
        Cholesky factors of the precisions, shape ``(K, p, p)``.

    Returns
    -------
    Tensor
        Log-densities of shape ``(..., K)``.
    """
    log_prob = _whitened_gaussian_log_prob(
        z, loc, precision_cholesky.mT, log_diagonal_sum(precision_cholesky)
    )
    if scale is None:
        return log_prob
    spread = _precision_whitened_scale(scale, precision_cholesky)
    return log_prob - 0.5 * spread.square().sum((-2, -1))


def predictive_component_log_prob(
    z: Tensor, loc: Tensor, scale: Tensor | None, precision_cholesky: Tensor
) -> Tensor:
    r"""Log-density of ``z`` under each component with the uncertain centre integrated out.

    :math:`\log N(z; m_j, \Lambda_j^{-1} + S_j)`. The covariance is never formed: with
    :math:`B_j = I + L_j^T S_j L_j = C_j C_j^T` it equals :math:`L_j^{-T} B_j L_j^{-1}`. All eigenvalues of
    :math:`B_j` are at least one, so its Cholesky factorisation needs no jitter while the largest is below
    the reciprocal of the dtype's precision (:math:`10^7` in float32).

    Parameters
    ----------
    z, loc, scale, precision_cholesky
        As in :func:`expected_component_log_prob`.

    Returns
    -------
    Tensor
        Log-densities of shape ``(..., K)``.
    """
    if scale is None:
        return expected_component_log_prob(z, loc, None, precision_cholesky)
    spread = _precision_whitened_scale(scale, precision_cholesky)
    identity = torch.eye(loc.shape[-1], dtype=spread.dtype, device=spread.device)
    cholesky = torch.linalg.cholesky(identity + spread @ spread.mT)
    whitening = torch.linalg.solve_triangular(cholesky, precision_cholesky.mT, upper=False)
    log_det = log_diagonal_sum(precision_cholesky) - log_diagonal_sum(cholesky)
    return _whitened_gaussian_log_prob(z, loc, whitening, log_det)


def center_component_log_prob(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    r"""Log-density of ``z`` under each centre's own distribution, a VampPrior's component.

    :math:`\log N(z; m_j, S_j)`.

    Parameters
    ----------
    z, loc, scale
        As in :func:`expected_component_log_prob`; ``scale`` must not be ``None``.

    Returns
    -------
    Tensor
        Log-densities of shape ``(..., K)``.
    """
    if scale.dim() == loc.dim():
        return _whitened_gaussian_log_prob(z, loc, torch.diag_embed(scale.reciprocal()), -scale.log().sum(-1))
    identity = torch.eye(loc.shape[-1], dtype=scale.dtype, device=scale.device).expand_as(scale)
    whitening = torch.linalg.solve_triangular(scale, identity, upper=False)
    return _whitened_gaussian_log_prob(z, loc, whitening, -log_diagonal_sum(scale))


def mixture_log_prob(component_log_prob: Tensor, pi_logits: Tensor) -> Tensor:
    r"""Log-density of the mixture, :math:`\log \sum_j \pi_j \exp(l_j)`.

    Parameters
    ----------
    component_log_prob
        Log-densities of the components, shape ``(..., K)``.
    pi_logits
        Unnormalised log-weights, shape ``(K,)``.

    Returns
    -------
    Tensor
        Log-densities of shape ``(...)``.
    """
    return torch.logsumexp(component_log_joint(component_log_prob, pi_logits), dim=-1)


def responsibilities(component_log_prob: Tensor, pi_logits: Tensor) -> Tensor:
    r"""Posterior probability of each component, :math:`r_j \propto \pi_j \exp(l_j)`.

    Negligible probabilities are exactly zero; see :func:`without_negligible`.

    Parameters
    ----------
    component_log_prob
        Log-densities of the components, shape ``(..., K)``.
    pi_logits
        Unnormalised log-weights, shape ``(K,)``.

    Returns
    -------
    Tensor
        Responsibilities of shape ``(..., K)``, with rows that sum to one.
    """
    return torch.softmax(component_log_joint(component_log_prob, pi_logits), dim=-1)


def component_log_joint(component_log_prob: Tensor, pi_logits: Tensor) -> Tensor:
    r"""Joint log-density of position and component, :math:`\log \pi_j + l_j`; see :func:`without_negligible`.

    Parameters
    ----------
    component_log_prob
        Log-densities of the components, shape ``(..., K)``.
    pi_logits
        Unnormalised log-weights, shape ``(K,)``.

    Returns
    -------
    Tensor
        Log-densities of shape ``(..., K)``.
    """
    return without_negligible(component_log_prob + torch.log_softmax(pi_logits, dim=-1))


def without_negligible(log_joint: Tensor) -> Tensor:
    """Return minus infinity for components whose share at a position is negligible.

    A share is negligible below the square root of the smallest normal number (1e-19 in float32). It changes
    no sum, but would produce subnormal numbers in the backward pass, which slow a CPU down many times.

    Parameters
    ----------
    log_joint
        Joint log-densities of position and component, shape ``(..., K)``.

    Returns
    -------
    Tensor
        Log-densities of shape ``(..., K)``.
    """
    with torch.no_grad():
        negligible = log_joint.amax(-1, keepdim=True) + 0.5 * math.log(torch.finfo(log_joint.dtype).tiny)
    return log_joint.masked_fill(log_joint < negligible, -math.inf)


def log_diagonal_sum(triangular: Tensor) -> Tensor:
    r"""Logarithm of the determinant of triangular matrices with a positive diagonal.

    Parameters
    ----------
    triangular
        Triangular matrices, shape ``(..., p, p)``.

    Returns
    -------
    Tensor
        Log-determinants of shape ``(...)``.
    """
    return triangular.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _whitened_gaussian_log_prob(z: Tensor, loc: Tensor, whitening: Tensor, log_det: Tensor) -> Tensor:
    r"""Log-density of Gaussians of precision :math:`W_j^T W_j`, where ``log_det`` is :math:`\log|W_j|`.

    One matrix product whitens all positions for all components, so no temporary is larger than
    ``(..., p, K)``. Components come last, because sums over a last dimension as short as ``p`` take five
    times as long.
    """
    n_components, p = loc.shape
    offset = torch.linalg.vecdot(whitening, loc.unsqueeze(-2))
    whitened = z @ whitening.permute(2, 1, 0).reshape(p, p * n_components)
    whitened = whitened.reshape(*z.shape[:-1], p, n_components)
    distance: Tensor = (whitened - offset.mT).square().sum(-2)
    return log_det - 0.5 * (distance + p * LOG_TWO_PI)


def _precision_whitened_scale(scale: Tensor, precision_cholesky: Tensor) -> Tensor:
    r"""Return :math:`L_j^T A_j` for :math:`S_j = A_j A_j^T`: a square root of :math:`L_j^T S_j L_j`."""
    if scale.dim() == precision_cholesky.dim():
        return precision_cholesky.mT @ scale
    return precision_cholesky.mT * scale.unsqueeze(-2)
