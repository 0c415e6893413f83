r"""Terms of the negative binomial that only non-zero counts need.

The log-probability of a count is :math:`\log B + x \log\frac{\mu}{\mu + \theta} + \theta
\log\frac{\theta}{\mu + \theta}` with :math:`B = \Gamma(x + \theta) / (\Gamma(\theta) x!)`. The first two
terms vanish if ``x`` is zero. This module computes them and their derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vmmscvi.module._sparse_counts import SparseCounts, nonzero

EPS = 1e-8
"""Constant added to means and inverse dispersions in logarithms, as in scvi-tools."""
LARGEST_TABULATED_COUNT = 16
"""Largest count that needs no gamma function; nineteen in twenty non-zero counts are not larger."""


class CoefficientTable(NamedTuple):
    r"""Table of terms by small count and gene, for inverse dispersions that all cells share.

    Uses :math:`\Gamma(x + \theta) / \Gamma(\theta) = \prod_{k<x} (\theta + k)`. Rows are the counts from 1 to
    :data:`LARGEST_TABULATED_COUNT`, columns are genes.

    Attributes
    ----------
    log_coefficient
        :math:`\log B(x, \theta)`.
    digamma_difference
        Its derivative by :math:`\theta`.
    """

    log_coefficient: Tensor
    digamma_difference: Tensor

    @classmethod
    def of(cls, theta: Tensor) -> CoefficientTable:
        """Make the table for inverse dispersions of shape ``(n_genes,)``."""
        steps = torch.arange(LARGEST_TABULATED_COUNT, dtype=theta.dtype, device=theta.device).unsqueeze(1)
        factors = theta + steps  # one row for each count, from 1
        log_coefficient = factors.log().cumsum(0).sub_(torch.lgamma(steps + 2.0))
        return cls(log_coefficient, factors.reciprocal_().cumsum(0))

    def look_up(self, count: Tensor, gene: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look up counts and their genes, each of shape ``(m,)``.

        Returns
        -------
        tuple of Tensor
            Both terms, shape ``(m,)``, and the positions of counts that are not tabulated, whose terms are
            meaningless.
        """
        n_counts, n_genes = self.log_coefficient.shape
        row = count.to(torch.int64).sub_(1).clamp_(0, n_counts - 1)
        untabulated = nonzero(row + 1 != count)
        entry = row.mul_(n_genes).add_(gene)
        return (
            self.log_coefficient.view(-1).index_select(0, entry),
            self.digamma_difference.view(-1).index_select(0, entry),
            untabulated,
        )


@dataclass(frozen=True)
class PositiveCounts:
    r"""The ``m`` non-zero counts of a minibatch, and the parameters at their positions.

    Attributes
    ----------
    index
        Positions in the flattened matrix, shape ``(m,)``, ascending.
    count, mu, theta
        Count, mean and inverse dispersion, shape ``(m,)``.
    total
        :math:`\mu + \theta`, with :data:`EPS`, shape ``(m,)``.
    log_coefficient, digamma_difference
        :math:`\log B(x, \theta)` and its derivative :math:`\psi(x + \theta) - \psi(\theta)`, shape ``(m,)``;
        meaningless at ``untabulated``.
    untabulated
        Indices of large (or fractional) counts among the ``m``, shape ``(l,)``. Their terms nearly cancel and
        are computed in float64.
    """

    index: Tensor
    count: Tensor
    mu: Tensor
    theta: Tensor
    total: Tensor
    log_coefficient: Tensor
    digamma_difference: Tensor
    untabulated: Tensor

    @classmethod
    def of(cls, x: SparseCounts, mu: Tensor, theta: Tensor, table: CoefficientTable | None) -> PositiveCounts:
        """Gather the parameters from matrices, all contiguous.

        Parameters
        ----------
        x
            The counts.
        mu
            Means, shape ``(n, n_genes)``.
        theta
            Inverse dispersions, shape ``(n, n_genes)`` or ``(n_genes,)``.
        table
            Table for inverse dispersions of shape ``(n_genes,)``; else ``None``.

        Returns
        -------
        PositiveCounts
            Counts and parameters.
        """
        index, count = x.index, x.value.to(mu.dtype)
        mu_there = mu.view(-1).index_select(0, index)
        if table is not None:
            theta_there = theta.index_select(0, x.gene)
            looked_up = table.look_up(count, x.gene)
        else:
            theta_there = theta.view(-1).index_select(0, index)
            every = torch.arange(len(index), device=index.device)
            looked_up = torch.zeros_like(count), torch.zeros_like(count), every
        total = mu_there + (theta_there + EPS)
        return cls(index, count, mu_there, theta_there, total, *looked_up)

    def pick(self, matrix: Tensor) -> Tensor:
        """Return the entries of a contiguous matrix at these positions, shape ``(m,)``."""
        return matrix.view(-1).index_select(0, self.index)

    def log_prob(self, log1p_ratio: Tensor) -> Tensor:
        r"""Log-probability under the negative binomial, shape ``(m,)``.

        Parameters
        ----------
        log1p_ratio
            :math:`\log(1 + \mu / \theta)`, shape ``(m,)``.

        Returns
        -------
        Tensor
            Log-probabilities of shape ``(m,)``.
        """
        result = ((self.mu + EPS) / self.total).log_().mul_(self.count)
        result.add_(self.log_coefficient).addcmul_(self.theta, log1p_ratio, value=-1.0)
        if len(self.untabulated):
            x, mu, theta = self._untabulated_in_float64()
            total = mu + theta + EPS
            exact = theta * ((theta + EPS) / total).log() + x * ((mu + EPS) / total).log()
            exact += torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1.0)
            result[self.untabulated] = exact.to(result.dtype)
        return result

    def derivative_by_mu(self) -> Tensor:
        """Differentiate the terms that vanish at zero by the mean, shape ``(m,)``."""
        return self.count / (self.mu + EPS) * (self.theta / self.total)

    def derivative_by_theta(self) -> Tensor:
        """Differentiate the terms that vanish at zero by the inverse dispersion, shape ``(m,)``."""
        result = self.digamma_difference - self.count / self.total
        if len(self.untabulated):
            x, mu, theta = self._untabulated_in_float64()
            exact = torch.digamma(x + theta) - torch.digamma(theta) - x / (mu + theta + EPS)
            result[self.untabulated] = exact.to(result.dtype)
        return result

    def _untabulated_in_float64(self) -> tuple[Tensor, Tensor, Tensor]:
        count, mu, theta = (t[self.untabulated].double() for t in (self.count, self.mu, self.theta))
        return count, mu, theta
