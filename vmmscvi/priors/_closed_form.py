r"""The empirical-Bayes objective with its gradient in closed form.

The objective is made of tensors of a few hundred numbers, for which recording and replaying an operation
takes longer than the operation. Its gradient needs no recording: it is that of a Gaussian mixture. With
:math:`y_{ij} = L_j^T (z_i - m_j)`, and for centres that are points,

.. math::

    \partial J / \partial m_j &= -\tfrac1M \textstyle\sum_i a_{ij} L_j y_{ij} + \tfrac1n m_j, \\
    \partial J / \partial L_j &= \tfrac1M \textstyle\sum_i a_{ij} [(z_i - m_j) y_{ij}^T - D_j]
        + \tfrac1n [V^{-1} L_j - D_j]

where :math:`D_j` is the inverse of the diagonal of :math:`L_j`, only lower triangles count, and
:math:`a_{ij}` is what a change of :math:`l_{ij} + \log \pi_j` weighs: the responsibility, or where the
gradient goes through responsibilities as well, :math:`r_{ij} (1 + l_{ij} + \log\pi_j - E_i)` with the mean
:math:`E_i` of the row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from vmmscvi.priors import functional as F
from vmmscvi.priors.hyperpriors import log_hyperprior


class Hyperpriors(NamedTuple):
    """What the hyper-priors are, and how much they weigh.

    Attributes
    ----------
    n_obs
        Number of cells that they are weighed against.
    scatter_root
        See :func:`vmmscvi.priors.hyperpriors.log_prior_precision`.
    learns_concentration
        Whether the hyper-prior of the concentration counts.
    """

    n_obs: float
    scatter_root: Tensor
    learns_concentration: bool


class _Gradient(NamedTuple):
    """Derivatives of a part of the objective.

    Attributes
    ----------
    loc, scale
        By the centres.
    factor
        By the Cholesky factors, without what comes from the logarithm of their diagonals, and not yet
        triangular.
    log_diagonal
        By the logarithm of each entry of a component's diagonal, shape ``(K,)`` or one for all.
    log_weights
        By the log-weights as if they were free, shape ``(K,)`` or one for all.
    inverse_alpha
        By the inverse concentration.
    """

    loc: Tensor
    scale: Tensor | None
    factor: Tensor
    log_diagonal: Tensor
    log_weights: Tensor
    inverse_alpha: Tensor | None

    def plus(self, other: _Gradient) -> _Gradient:
        """Add the derivatives of another part, with the same ``scale`` or none."""
        return _Gradient(
            loc=self.loc + other.loc,
            scale=other.scale if self.scale is None or other.scale is None else self.scale + other.scale,
            factor=self.factor + other.factor,
            log_diagonal=self.log_diagonal + other.log_diagonal,
            log_weights=self.log_weights + other.log_weights,
            inverse_alpha=other.inverse_alpha,
        )


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
        label_log_likelihood: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate objective and gradient; arguments as in :mod:`vmmscvi.priors.functional`."""
        log_weights = torch.log_softmax(pi_logits, dim=-1)
        nll, gradient = _expected_nll(
            z, loc, scale, factor, log_weights, through_responsibilities, label_log_likelihood
        )
        hyperprior_nll = nll.new_zeros(())
        if hyperpriors is not None:
            hyperprior_nll, more = _hyperprior_nll(
                loc, scale, factor, log_weights, inverse_alpha, hyperpriors
            )
            gradient = gradient.plus(more)
        by_factor = gradient.factor.tril()
        by_factor.diagonal(dim1=-2, dim2=-1).add_(
            gradient.log_diagonal.unsqueeze(-1) / factor.diagonal(dim1=-2, dim2=-1)
        )
        by_logits = gradient.log_weights - log_weights.exp() * gradient.log_weights.sum()
        ctx.gradients = (gradient.loc, gradient.scale, by_factor, by_logits, gradient.inverse_alpha)
        ctx.mark_non_differentiable(nll, hyperprior_nll)
        return nll + hyperprior_nll, nll, hyperprior_nll

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradient.

        Raises
        ------
        RuntimeError
            If the gradient is to be differentiated again.
        """
        # `once_differentiable` would stay silent, and a second gradient be zero, where `grad` is a constant
        if torch.is_grad_enabled():
            raise RuntimeError(
                "The empirical-Bayes objective can be differentiated once; a graph of the derivative was "
                "asked for (`create_graph=True`). Compute it from `component_log_prob` and `log_hyperprior`."
            )
        scaled = (None if gradient is None else grad * gradient for gradient in ctx.gradients)
        return (None, *scaled, None, None, None)


def _expected_nll(
    z: Tensor,
    loc: Tensor,
    scale: Tensor | None,
    factor: Tensor,
    log_weights: Tensor,
    through_responsibilities: bool,
    label_log_likelihood: Tensor | None = None,
) -> tuple[Tensor, _Gradient]:
    r"""Minus the mean of :math:`\sum_j r_{ij} (l_{ij} + \log \pi_j)`, and its gradient.

    With labels, :math:`\log p(y_i | j)` is a part of :math:`l_{ij}`.
    """
    (n_cells, p), n_components = z.shape, len(loc)
    # one matrix product whitens all cells for all components; cells come last, since sums over a last
    # dimension as short as p take five times as long
    whitened = (factor.mT.reshape(-1, p) @ z.T).view(n_components, p, n_cells)
    whitened -= factor.mT @ loc.unsqueeze(-1)
    constant = log_weights + F.log_diagonal_sum(factor) - 0.5 * p * F.LOG_TWO_PI
    if scale is not None:  # the centres are uncertain
        by_trace, spread = _spread(scale, factor)
        constant = constant - 0.5 * spread
    log_joint = (constant.unsqueeze(-1) - 0.5 * whitened.square().sum(1)).T
    if label_log_likelihood is not None:
        log_joint = log_joint + label_log_likelihood
    log_joint = F.without_negligible(log_joint)
    responsibilities = torch.softmax(log_joint, dim=-1)
    log_joint = log_joint.masked_fill(responsibilities == 0, 0.0)
    expected = torch.linalg.vecdot(responsibilities, log_joint)

    weights = responsibilities
    if through_responsibilities:
        weights = responsibilities * (1.0 + log_joint - expected.unsqueeze(-1))
    weights = weights.T / n_cells
    share = weights.sum(-1)
    weighted = weights.unsqueeze(1) * whitened
    weighted_sum = weighted.sum(-1, keepdim=True)
    by_factor = (weighted.view(-1, n_cells) @ z).view_as(factor).mT - loc.unsqueeze(-1) * weighted_sum.mT
    by_scale = None
    if scale is not None:
        by_scale = share.view(-1, *[1] * (scale.dim() - 1)) * by_trace[0]
        by_factor = by_factor + share.view(-1, 1, 1) * by_trace[1]
    by_loc = -(factor @ weighted_sum).squeeze(-1)
    return -expected.mean(), _Gradient(by_loc, by_scale, by_factor, -share, -share, None)


def _spread(scale: Tensor, factor: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    r""":math:`\mathrm{tr}(\Lambda_j S_j)`, and before it half of its derivatives by scale and factor."""
    if scale.dim() == factor.dim():
        spread = factor.mT @ scale
        return (factor @ spread, scale @ spread.mT), spread.square().sum((-2, -1))
    precision, variance = factor.square().sum(-1), scale.square()
    return (precision * scale, variance.unsqueeze(-1) * factor), torch.linalg.vecdot(precision, variance)


def _hyperprior_nll(
    loc: Tensor,
    scale: Tensor | None,
    factor: Tensor,
    log_weights: Tensor,
    inverse_alpha: Tensor,
    hyperpriors: Hyperpriors,
) -> tuple[Tensor, _Gradient]:
    """Minus the log-density of the hyper-priors, over ``n_obs``, and its gradient."""
    n_obs, root, learns_concentration = hyperpriors
    log_prob = log_hyperprior(loc, scale, factor, log_weights, inverse_alpha, root, learns_concentration)
    alpha = inverse_alpha.reciprocal()
    concentration = alpha / len(loc)
    by_inverse_alpha = None
    if learns_concentration:
        by_alpha = log_weights.mean() - torch.digamma(concentration) + torch.digamma(alpha)
        by_inverse_alpha = (1.0 + alpha.square() * by_alpha) / n_obs
    gradient = _Gradient(
        loc=loc / n_obs,
        scale=None if scale is None else scale / n_obs,
        factor=(root / n_obs) @ (root.mT @ factor),
        log_diagonal=log_weights.new_full((), -1.0 / n_obs),
        log_weights=(1.0 - concentration) / n_obs,
        inverse_alpha=by_inverse_alpha,
    )
    return -log_prob / n_obs, gradient
