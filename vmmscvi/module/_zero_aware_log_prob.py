r"""Log-probabilities of mostly zero counts and their derivatives, computed together in few passes.

This is the mathematics of :mod:`vmmscvi.module._zero_aware`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from vmmscvi.module._positive_counts import EPS, CoefficientTable, PositiveCounts
from vmmscvi.module._sparse_counts import SparseCounts, counts_of

LARGEST_TEMPORARY = 2**19
"""Number of entries of a temporary matrix, small enough for the cache and to avoid page faults."""


def log_prob(value: Tensor, mu: Tensor, theta: Tensor, zi_logits: Tensor | None) -> Tensor:
    r"""Log-probability under the negative binomial, zero-inflated or not; differentiable once.

    Parameters
    ----------
    value
        Counts.
    mu, theta
        Mean and inverse dispersion.
    zi_logits
        Logits of the probability of an additional zero, or ``None``.

    Returns
    -------
    Tensor
        Log-probabilities of the broadcast shape.
    """
    # the code below handles matrices, and a single row for all cells
    given = [mu, theta] if zi_logits is None else [mu, theta, zi_logits]
    shape = torch.broadcast_shapes(value.shape, *(p.shape for p in given))  # type: ignore[no-untyped-call]
    dtype = torch.float64 if any(p.dtype == torch.float64 for p in given) else torch.float32
    n_genes = shape[-1] if shape else 1

    def as_matrix(argument: Tensor) -> Tensor:
        return argument.to(dtype).expand(shape).reshape(-1, n_genes).contiguous()

    is_shared = theta.numel() == theta.shape[-1:].numel() == n_genes
    is_matrix = value.shape == shape and value.dim() == 2 and value.is_contiguous()
    counts = counts_of(value) if is_matrix else SparseCounts.of(as_matrix(value.detach()))
    parameters = (
        as_matrix(mu),
        theta.to(dtype).reshape(n_genes) if is_shared else as_matrix(theta),
        None if zi_logits is None else as_matrix(zi_logits),
    )
    result: Tensor
    if torch.is_grad_enabled() and any(p.requires_grad for p in given):
        result = _LogProb.apply(counts, *parameters)  # type: ignore[no-untyped-call]
    else:
        result, _ = _evaluate(counts, *parameters, with_derivatives=False)
    return result.reshape(shape)


class _LogProb(torch.autograd.Function):
    """Log-probabilities of a matrix of counts, with stored derivatives."""

    @staticmethod
    def forward(ctx: Any, x: SparseCounts, mu: Tensor, theta: Tensor, zi_logits: Tensor | None) -> Tensor:
        log_prob, derivatives = _evaluate(x, mu, theta, zi_logits, with_derivatives=True)
        ctx.save_for_backward(*derivatives)
        ctx.theta_is_shared = theta.dim() == 1
        return log_prob

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # with a constant `grad`, `once_differentiable` would silently give a wrong result
        if torch.is_grad_enabled():
            raise RuntimeError(
                "Zero-aware likelihoods can be differentiated only once, but a second derivative was "
                "requested (`create_graph=True`): use a model with `fast_likelihood=False`."
            )
        by_mu, by_theta, by_zi_logits = ctx.saved_tensors
        _, needs_mu, needs_theta, needs_zi_logits = ctx.needs_input_grad
        return (
            None,
            grad * by_mu if needs_mu else None,
            _theta_gradient(grad, by_theta, ctx.theta_is_shared) if needs_theta else None,
            grad * by_zi_logits if needs_zi_logits else None,
        )


def _theta_gradient(grad: Tensor, by_theta: Tensor, is_shared: bool) -> Tensor:
    if not is_shared:
        return grad * by_theta
    if grad.stride(-1) == 0 and grad.numel():  # gradient of a sum over genes: one number per cell
        return grad[:, 0] @ by_theta
    return (grad * by_theta).sum(0)


@torch.no_grad()
def _evaluate(
    x: SparseCounts, mu: Tensor, theta: Tensor, zi_logits: Tensor | None, with_derivatives: bool
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Evaluate log-probabilities of counts and, if requested, their derivatives, in blocks of cells.

    Parameters
    ----------
    x
        Counts.
    mu, zi_logits
        Parameters of shape ``(n, n_genes)``.
    theta
        Inverse dispersions of shape ``(n, n_genes)`` or ``(n_genes,)``.
    with_derivatives
        Whether to compute derivatives.

    Returns
    -------
    tuple
        The log-probabilities, and their derivatives by ``mu``, ``theta`` and ``zi_logits``, all of shape
        ``(n, n_genes)``.
    """
    result = torch.empty_like(mu)
    derivatives: tuple[Tensor | None, ...] = ()
    if with_derivatives:
        by_mu, by_theta = torch.empty_like(mu), torch.empty_like(mu)
        derivatives = (by_mu, by_theta, None if zi_logits is None else torch.empty_like(mu))
    n_obs, n_genes = mu.shape
    table = CoefficientTable.of(theta) if theta.dim() == 1 else None
    n_together = max(LARGEST_TEMPORARY // max(n_genes, 1), 1)
    for start in range(0, n_obs, n_together):
        cells = slice(start, min(start + n_together, n_obs))
        _evaluate_cells(
            x.cells(cells.start, cells.stop),
            mu[cells],
            theta if theta.dim() == 1 else theta[cells],
            None if zi_logits is None else zi_logits[cells],
            table,
            result[cells],
            tuple(None if d is None else d[cells] for d in derivatives),
        )
    return result, derivatives


def _evaluate_cells(
    x: SparseCounts,
    mu: Tensor,
    theta: Tensor,
    zi_logits: Tensor | None,
    table: CoefficientTable | None,
    result: Tensor,
    derivatives: tuple[Tensor | None, ...],
) -> None:
    r"""Write log-probabilities and, if buffers are given, their derivatives.

    All counts are first treated as zero, with the log-probability :math:`-\theta \log(1 + \mu / \theta)`
    under the negative binomial; non-zero counts are then corrected. Arguments are those of :func:`_evaluate`
    and its results, which are written in place; ``table`` is as in :meth:`PositiveCounts.of`.
    """
    theta_eps = theta + EPS
    log1p_ratio = (mu * theta_eps.reciprocal()).log1p_()
    positive = PositiveCounts.of(x, mu, theta, table)
    at_positive = positive.log_prob(positive.pick(log1p_ratio))
    zeros = None
    if zi_logits is None:
        torch.mul(log1p_ratio, -theta, out=result)
    else:
        zeros = _inflated_zeros(log1p_ratio, theta, zi_logits, result)
        at_positive += logsigmoid(-positive.pick(zi_logits))
    result.view(-1).index_copy_(0, positive.index, at_positive)
    if not derivatives:
        return

    by_mu, by_theta, by_zi_logits = derivatives
    total = torch.add(mu, theta_eps, out=by_theta)
    by_mu = torch.div(-theta, total, out=by_mu)
    by_theta = torch.div(mu, total, out=total).mul_(theta / theta_eps).sub_(log1p_ratio)
    if zeros is not None:
        # only zeros that were not dropped carry information on mean and dispersion
        dropped = zeros.dropped
        dropped.view(-1).index_fill_(0, positive.index, 0.0)
        torch.sub(dropped, zeros.inflation, out=by_zi_logits)
        counted = torch.sub(dropped.new_ones(()), dropped, out=dropped)
        by_mu.mul_(counted)
        by_theta.mul_(counted)
    by_mu.view(-1).index_add_(0, positive.index, positive.derivative_by_mu())
    by_theta.view(-1).index_add_(0, positive.index, positive.derivative_by_theta())


class _InflatedZeros(NamedTuple):
    """Zeros under the zero-inflated negative binomial, shapes ``(n, n_genes)``.

    Attributes
    ----------
    inflation
        Prior probability that a count is dropped.
    dropped
        Posterior probability that a zero was dropped.
    """

    inflation: Tensor
    dropped: Tensor


def _inflated_zeros(
    log1p_ratio: Tensor, theta: Tensor, zi_logits: Tensor, log_prob: Tensor
) -> _InflatedZeros:
    r"""Write the log-probability of zeros, and return prior and posterior probabilities of a dropped count.

    The probability :math:`s + (1 - s) (1 + \mu/\theta)^{-\theta}` is a sum of positive terms, so precision is
    kept; underflow is handled below.

    Parameters
    ----------
    log1p_ratio
        :math:`\log(1 + \mu/\theta)`, shape ``(n, n_genes)``.
    theta
        Inverse dispersions, shape ``(n, n_genes)`` or ``(n_genes,)``.
    zi_logits
        Logits of :math:`s`, shape ``(n, n_genes)``.
    log_prob
        Result, shape ``(n, n_genes)``; written in place.
    """
    inflation = torch.sigmoid(zi_logits)
    # powers of two, because they take a third of the time of `exp`
    probability = torch.mul(log1p_ratio, theta * (-1.0 / math.log(2.0)), out=log_prob).exp2_()
    probability = torch.lerp(probability, probability.new_ones(()), inflation, out=probability)
    dropped = inflation / probability
    smallest = torch.finfo(probability.dtype).tiny * 1e6
    underflow = (probability < smallest).nonzero(as_tuple=True) if _any_below(probability, smallest) else None
    probability.log_()
    if underflow is not None:
        logits = zi_logits[underflow]
        log_counted_zero = (log1p_ratio * -theta)[underflow]
        log_prob[underflow] = torch.logaddexp(logits, log_counted_zero) - softplus(logits)
        dropped[underflow] = torch.sigmoid(logits - log_counted_zero)
    return _InflatedZeros(inflation, dropped)


def _any_below(values: Tensor, bound: float) -> bool:
    return values.numel() > 0 and bool(values.amin() < bound)
