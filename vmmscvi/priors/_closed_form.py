r"""The empirical-Bayes objective with its gradient in closed form.

The objective consists of tensors of a few hundred numbers; for these, autograd's bookkeeping takes longer
than the computation. The gradient is that of a Gaussian mixture. With
:math:`y_{ij} = L_j^T (z_i - m_j)`, and for centres that are points,

.. math::

    \partial J / \partial m_j &= -\tfrac1M \textstyle\sum_i a_{ij} L_j y_{ij} + \tfrac1n m_j, \\
    \partial J / \partial L_j &= \tfrac1M \textstyle\sum_i a_{ij} [(z_i - m_j) y_{ij}^T - D_j]
        + \tfrac1n [V^{-1} L_j - D_j]

where :math:`D_j` is the inverse of the diagonal of :math:`L_j` and only lower triangles are used. The weight
:math:`a_{ij}` is the derivative by :math:`l_{ij} + \log \pi_j`: the responsibility, or, if the gradient
includes the responsibilities, :math:`r_{ij} (1 + l_{ij} + \log\pi_j - E_i)` with the mean :math:`E_i` of the
row. With labels, :math:`l_{ij}` includes :math:`\log p(y_i | j)`, which has no parameters.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vmmscvi.priors import functional as F
from vmmscvi.priors.hyperpriors import log_wishart_constant


class EmpiricalBayesLoss(NamedTuple):
    r"""Value of the empirical-Bayes objective, to be minimised, and its two parts.

    Attributes
    ----------
    loss
        ``expected_nll + hyperprior_nll``, a scalar.
    expected_nll
        Minus the mean over cells of :math:`\sum_j r_{ij} (l_{ij} + \log \pi_j)`.
    hyperprior_nll
        Minus the log-density of the hyper-priors, divided by the number of cells that oppose them.
    assigned
        Most probable components at the positions ``assign_at``, shape ``(n,)``; ``None`` without them.
    """

    loss: Tensor
    expected_nll: Tensor
    hyperprior_nll: Tensor
    assigned: Tensor | None = None


class Hyperpriors(NamedTuple):
    """The hyper-priors and their weight.

    Attributes
    ----------
    n_obs
        Number of cells that oppose the hyper-priors.
    scatter_root
        See :func:`vmmscvi.priors.hyperpriors.log_prior_precision`.
    learns_concentration
        Whether to include the hyper-prior of the concentration.
    """

    n_obs: float
    scatter_root: Tensor
    learns_concentration: bool


class EmpiricalBayesObjective(torch.autograd.Function):
    """The two parts of :meth:`vmmscvi.priors.BayesianMixturePrior.empirical_bayes_loss`, and their sum.

    Only the sum has a gradient, and only with respect to the prior's parameters and the centres.
    """

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        loc: Tensor,
        scale: Tensor | None,
        factor: Tensor,
        pi_logits: Tensor,
        inverse_alpha: Tensor,
        hyperpriors: Hyperpriors | None,
        through_responsibilities: bool,
        label_log_likelihood: Tensor | None,
        assign_at: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Evaluate objective and gradient; arguments as in :mod:`vmmscvi.priors.functional`.

        Returns
        -------
        tuple of Tensor
            The sum, its two parts, and the most probable component at each of ``assign_at`` (ignoring
            labels).
        """
        log_weights = torch.log_softmax(pi_logits, dim=-1)
        log_det = F.log_diagonal_sum(factor)
        spread = None if scale is None else _spread(scale, factor)
        joint = _log_joint(z, assign_at, loc, factor, log_weights + log_det, spread)
        log_joint = joint.log_joint
        if label_log_likelihood is not None:
            log_joint = log_joint + label_log_likelihood.T
        nll, weights = _expected_nll(log_joint, through_responsibilities)
        share = weights.sum(-1)
        weighted = weights.unsqueeze(1) * joint.whitened
        weighted_sum = weighted.sum(-1, keepdim=True)
        by_factor = torch.bmm(joint.offset, weighted.mT)
        by_scale: Tensor | None = None
        if spread is not None:
            by_factor = torch.addcmul(by_factor, share.view(-1, 1, 1), spread.by_factor)
            by_scale = share.view(-1, *[1] * (spread.by_scale.dim() - 1)) * spread.by_scale
        if hyperpriors is None:
            value, tilt, weight = None, None, 0.0
            by_loc = -torch.bmm(factor, weighted_sum)
            by_log_weights, by_inverse_alpha = -share, None
        else:
            weight = 1.0 / hyperpriors.n_obs
            root = hyperpriors.scatter_root
            rooted = root.mT @ factor
            by_factor = torch.baddbmm(by_factor, root.expand_as(factor), rooted, alpha=weight)
            by_loc = torch.baddbmm(loc.unsqueeze(-1), factor, weighted_sum, beta=weight, alpha=-1.0)
            if scale is not None and by_scale is not None:
                by_scale = torch.add(by_scale, scale, alpha=weight)
            value, tilt, by_inverse_alpha = _log_hyperprior(
                loc, scale, rooted, log_det, log_weights, inverse_alpha, hyperpriors
            )
            by_log_weights = tilt - share
        by_factor = by_factor.tril_()
        diagonal = factor.diagonal(dim1=-2, dim2=-1)
        by_factor.diagonal(dim1=-2, dim2=-1).sub_((share + weight).unsqueeze(-1) / diagonal)
        by_logits = torch.addcmul(by_log_weights, log_weights.exp(), by_log_weights.sum(), value=-1.0)
        ctx.gradients = (by_loc.squeeze(-1), by_scale, by_factor, by_logits, by_inverse_alpha)
        hyperprior_nll = nll.new_zeros(()) if value is None else value * -weight
        outputs = (nll, hyperprior_nll) if joint.assigned is None else (nll, hyperprior_nll, joint.assigned)
        ctx.mark_non_differentiable(*outputs)
        return nll + hyperprior_nll, nll, hyperprior_nll, joint.assigned

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradient.

        Raises
        ------
        RuntimeError
            If a second derivative is requested.
        """
        # with a constant `grad`, `once_differentiable` would silently give a second derivative of zero
        if torch.is_grad_enabled():
            raise RuntimeError(
                "The empirical-Bayes objective can be differentiated only once, but a second derivative was "
                "requested (`create_graph=True`): compute the objective from `component_log_prob` and "
                "`log_hyperprior` instead."
            )
        scaled = (None if gradient is None else grad * gradient for gradient in ctx.gradients)
        return (None, *scaled, None, None, None, None)


class _Spread(NamedTuple):
    r""":math:`\mathrm{tr}(\Lambda_j S_j)`, shape ``(K,)``, and half of its derivatives."""

    trace: Tensor
    by_scale: Tensor
    by_factor: Tensor


def _spread(scale: Tensor, factor: Tensor) -> _Spread:
    if scale.dim() == factor.dim():
        spread = factor.mT @ scale
        return _Spread(spread.square().sum((-2, -1)), factor @ spread, scale @ spread.mT)
    by_scale = factor.square().sum(-1) * scale
    return _Spread(torch.linalg.vecdot(by_scale, scale), by_scale, scale.square().unsqueeze(-1) * factor)


class _Joint(NamedTuple):
    r"""Joint log-densities :math:`l_{ij} + \log \pi_j` of a minibatch, and intermediate results.

    Attributes
    ----------
    log_joint
        Shape ``(K, n)``.
    offset
        :math:`z_i - m_j`, shape ``(K, p, n)``. Cells come last, because sums over a last dimension as short
        as ``p`` take five times as long.
    whitened
        :math:`L_j^T (z_i - m_j)`, shape ``(K, p, n)``.
    assigned
        Most probable components at ``assign_at``, if given.
    """

    log_joint: Tensor
    offset: Tensor
    whitened: Tensor
    assigned: Tensor | None


def _log_joint(
    z: Tensor,
    assign_at: Tensor | None,
    loc: Tensor,
    factor: Tensor,
    log_volume: Tensor,
    spread: _Spread | None,
) -> _Joint:
    n_cells, p = z.shape
    positions = z if assign_at is None else torch.cat((z, assign_at))
    # subtract first: products of large positions would lose precision, especially in TF32
    offset = positions.T - loc.unsqueeze(-1)
    whitened = torch.bmm(factor.mT, offset)
    constant = log_volume - 0.5 * p * F.LOG_TWO_PI
    if spread is not None:  # the centres are uncertain
        constant = torch.sub(constant, spread.trace, alpha=0.5)
    log_joint = torch.sub(constant.unsqueeze(-1), whitened.square().sum(1), alpha=0.5)
    assigned = None if assign_at is None else log_joint[:, n_cells:].argmax(0)
    return _Joint(log_joint[:, :n_cells], offset[..., :n_cells], whitened[..., :n_cells], assigned)


def _expected_nll(log_joint: Tensor, through_responsibilities: bool) -> tuple[Tensor, Tensor]:
    r"""Minus the mean of :math:`\sum_j r_{ij} (l_{ij} + \log \pi_j)`, and the weights :math:`a_{ij} / M`.

    Negligible responsibilities are zero, as in :func:`vmmscvi.priors.functional.without_negligible`.
    """
    limits = torch.finfo(log_joint.dtype)
    n_cells = log_joint.shape[1]
    responsibilities = torch.threshold_(torch.softmax(log_joint, dim=0), math.sqrt(limits.tiny), 0.0)
    terms = responsibilities * log_joint.clamp_min(limits.min)
    nll = terms.sum() / -n_cells
    if not through_responsibilities:
        return nll, responsibilities / n_cells
    return nll, torch.addcmul(terms, responsibilities, 1.0 - terms.sum(0)) / n_cells


def _log_hyperprior(
    loc: Tensor,
    scale: Tensor | None,
    rooted: Tensor,
    log_det: Tensor,
    log_weights: Tensor,
    inverse_alpha: Tensor,
    hyperpriors: Hyperpriors,
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""Log-density of the hyper-priors, equal to :func:`vmmscvi.priors.hyperpriors.log_hyperprior`.

    Parameters
    ----------
    loc, scale, log_weights, inverse_alpha, hyperpriors
        As in :class:`EmpiricalBayesObjective`.
    rooted
        :math:`R^T L_j` with the root :math:`R` of :math:`V^{-1}`, shape ``(K, p, p)``.
    log_det
        :math:`\log |L_j|`, shape ``(K,)``.

    Returns
    -------
    tuple of Tensor
        The log-density; minus its derivative by every log-weight and by the inverse concentration, both
        divided by ``n_obs``.
    """
    n_components, p = loc.shape
    n_obs, root, learns_concentration = hyperpriors
    alpha = inverse_alpha.reciprocal()
    concentration = alpha / n_components
    excess = 1.0 - concentration
    both = torch.stack((concentration, alpha))
    log_gamma = torch.lgamma(both)
    sum_of_log_weights = log_weights.sum()
    squares = _sum_of_squares(loc) + _sum_of_squares(rooted)
    if scale is not None:
        squares = squares + _sum_of_squares(scale)
    value = torch.sub(log_gamma[1], log_gamma[0], alpha=n_components)
    value = torch.addcmul(value, excess, sum_of_log_weights, value=-1.0)
    value = torch.sub(value + log_det.sum(), squares, alpha=0.5)
    value = torch.add(value, F.log_diagonal_sum(root), alpha=n_components * (p + 2.0))
    value = value - n_components * (0.5 * p * F.LOG_TWO_PI + log_wishart_constant(p))
    if not learns_concentration:
        return value, excess / n_obs, None
    digamma = torch.digamma(both)
    by_alpha = digamma[1] - digamma[0] + sum_of_log_weights / n_components
    by_inverse_alpha = torch.addcmul(torch.ones_like(alpha), alpha.square(), by_alpha) / n_obs
    return value - inverse_alpha, excess / n_obs, by_inverse_alpha


def _sum_of_squares(tensor: Tensor) -> Tensor:
    flat = tensor.reshape(-1)
    return torch.dot(flat, flat)
