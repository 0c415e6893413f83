r"""Log-density of the predictive mixture with its gradient in closed form.

With :math:`P_j = (\Lambda_j^{-1} + S_j)^{-1} = W_j^T W_j`, :math:`d_{ij} = z_i - m_j` and responsibilities
:math:`r_{ij}`,

.. math::

    \partial \log p(z_i) / \partial z_i &= -\textstyle\sum_j r_{ij} P_j d_{ij}, \\
    \partial \log p(z_i) / \partial m_j &= r_{ij} P_j d_{ij}, \\
    \partial \log p(z_i) / \partial S_j &= \tfrac12 r_{ij} (P_j d_{ij} d_{ij}^T P_j - P_j).

With labels, responsibilities are those given position and label. The closed form needs half of the operations
of autograd. A variational step holds precisions and weights fixed; for their derivatives, and for second
derivatives, use :mod:`vmmscvi.priors.functional`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vmmscvi.priors import functional as F


def predictive_log_prob(
    z: Tensor,
    loc: Tensor,
    scale: Tensor | None,
    precision_cholesky: Tensor,
    pi_logits: Tensor,
    label_log_likelihood: Tensor | None = None,
) -> Tensor:
    r"""Log-density of the mixture of predictive components, differentiable by positions and centres only.

    Parameters
    ----------
    z, loc, scale, precision_cholesky, pi_logits
        As in :mod:`vmmscvi.priors.functional`.
    label_log_likelihood
        :math:`\log p(y | k)`, shape ``(n, K)``, for positions of shape ``(..., n, p)``. If given, the density
        is that of positions and labels.

    Returns
    -------
    Tensor
        Log-densities of shape ``(...)``.
    """
    labels = label_log_likelihood
    if labels is not None:
        n_components = labels.shape[-1]
        labels = labels.detach().expand(*z.shape[:-1], n_components).reshape(-1, n_components)
    held = (precision_cholesky.detach(), pi_logits.detach(), labels)
    log_prob: Tensor = _PredictiveLogProb.apply(  # type: ignore[no-untyped-call]
        z.reshape(-1, z.shape[-1]), loc, scale, *held
    )
    return log_prob.view(z.shape[:-1])


class _PredictiveLogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        loc: Tensor,
        scale: Tensor | None,
        factor: Tensor,
        pi_logits: Tensor,
        labels: Tensor | None,
    ) -> Tensor:
        whitening, log_det = _predictive_whitening(scale, factor)
        # subtract first: products of large positions would lose precision, especially in TF32
        whitened = torch.bmm(whitening, z.T - loc.unsqueeze(-1))
        constant = torch.log_softmax(pi_logits, dim=-1) + log_det - 0.5 * loc.shape[-1] * F.LOG_TWO_PI
        log_joint = torch.sub(constant.unsqueeze(-1), whitened.square().sum(1), alpha=0.5)
        if labels is not None:
            log_joint = log_joint + labels.T
        ctx.save_for_backward(z, loc, scale, factor, pi_logits, labels, whitening, whitened, log_joint)
        return torch.logsumexp(log_joint, dim=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        z, loc, scale, factor, pi_logits, labels, whitening, whitened, log_joint = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _recorded_gradient(z, loc, scale, factor, pi_logits, labels, grad, ctx.needs_input_grad)
        # negligible responsibilities would produce subnormal numbers, which slow a CPU down
        smallest = math.sqrt(torch.finfo(log_joint.dtype).tiny)
        weights = torch.threshold_(torch.softmax(log_joint, dim=0), smallest, 0.0) * grad
        pull = torch.bmm(whitening.mT, whitened)
        weighted = weights.unsqueeze(1) * pull
        by_z = -weighted.sum(0).T if ctx.needs_input_grad[0] else None
        by_loc = weighted.sum(-1) if ctx.needs_input_grad[1] else None
        by_scale = None
        if scale is not None and ctx.needs_input_grad[2]:
            share = weights.sum(-1)
            if scale.dim() == loc.dim():
                precision = torch.linalg.vecdot(whitening, whitening, dim=1)
                outer = torch.linalg.vecdot(weighted, pull)
                by_scale = scale * torch.addcmul(outer, share.unsqueeze(-1), precision, value=-1.0)
            else:
                precision = whitening.mT @ whitening
                outer = torch.bmm(weighted, pull.mT)
                by_scale = torch.addcmul(outer, share.view(-1, 1, 1), precision, value=-1.0) @ scale
        return by_z, by_loc, by_scale, None, None, None


def _predictive_whitening(scale: Tensor | None, factor: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return :math:`W_j` and :math:`\log|W_j|`; see :func:`predictive_component_log_prob`."""
    if scale is None:
        return factor.mT, F.log_diagonal_sum(factor)
    is_full = scale.dim() == factor.dim()
    spread = factor.mT @ scale if is_full else factor.mT * scale.unsqueeze(-2)
    inflation = spread @ spread.mT
    inflation.diagonal(dim1=-2, dim2=-1).add_(1.0)
    # unchecked, because a check waits for the device; failures give NaN, which training detects
    cholesky = torch.linalg.cholesky_ex(inflation, check_errors=False).L
    whitening = torch.linalg.solve_triangular(cholesky, factor.mT, upper=False)
    shrinkage = factor.diagonal(dim1=-2, dim2=-1) / cholesky.diagonal(dim1=-2, dim2=-1)
    return whitening, shrinkage.log().sum(-1)


def _recorded_gradient(
    z: Tensor,
    loc: Tensor,
    scale: Tensor | None,
    factor: Tensor,
    pi_logits: Tensor,
    labels: Tensor | None,
    grad: Tensor,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Gradient that can be differentiated again."""
    components = F.predictive_component_log_prob(z, loc, scale, factor)
    if labels is not None:
        components = components + labels
    log_prob = F.mixture_log_prob(components, pi_logits)
    given = zip((z, loc, scale), needed, strict=False)
    inputs = [value for value, needs in given if needs and value is not None]
    found = iter(torch.autograd.grad(log_prob, inputs, grad, create_graph=True))
    return (*(next(found) if needs else None for needs in needed[:3]), None, None, None)
