"""The conjugate model behind :mod:`vmmscvi.priors.coarsened`, in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from vmmscvi.priors._labelled_cells import LabelledCells
from vmmscvi.priors.functional import log_diagonal_sum

CENTER_CONFIDENCE = 0.05
r""":math:`\kappa_0`, weight of the prior on a centre, in cells: default value, and minimum if learned."""
TOTAL_CONCENTRATION = 1.0
"""The paper's alpha, not inferred here."""
CONCENTRATION = TOTAL_CONCENTRATION / 100
""":math:`a_0`: Dirichlet parameter of one component; the paper's alpha / K at K = 100."""
SMALLEST_COUNT = 0.5
"""Components with a smaller weighted number of cells are dropped."""
ROWS_AT_A_TIME = 1024
"""Number of cells per block, few enough to stay in the processor's cache."""
MOST_REMEMBERED = 50_000
"""Largest number of cells whose features are kept in memory; a search has fewer."""


class Wishart(NamedTuple):
    """A Wishart prior on precisions with scale matrix ``c I``: ``c``, and its degrees of freedom."""

    scale_factor: float
    df: float

    @classmethod
    def of_paper(cls, scale_factor: float, p: int) -> Wishart:
        """Return the prior with ``p + 2`` degrees of freedom, as in the paper; it weighs one cell."""
        return cls(scale_factor, p + 2.0)

    @property
    def expected_precision(self) -> float:
        """Diagonal of the mean."""
        return self.df * self.scale_factor


class Statistics(NamedTuple):
    """Weighted sufficient statistics of components.

    Counts ``(K,)``, sums ``(K, p)`` and sums of products ``(K, p, p)``.
    """

    counts: Tensor
    first: Tensor
    second: Tensor

    def merged(self, i: Tensor, j: Tensor) -> Statistics:
        """Statistics of the unions of components ``i`` and ``j``."""
        return Statistics(*(s[i] + s[j] for s in self))

    def mapped(self, matrix: Tensor) -> Statistics:
        """Statistics of the cells after a linear map, a matrix ``(p, p)`` multiplied from the right."""
        return Statistics(self.counts, self.first @ matrix, matrix.mT @ self.second @ matrix)

    def alive(self) -> Tensor:
        """Whether each component has enough cells to be kept, shape ``(K,)``; at least one has."""
        return self.counts > min(SMALLEST_COUNT, 0.5 * float(self.counts.mean()))


class Evidence:
    """Closed forms of the conjugate model for one data set, with all quantities that stay fixed in a fit."""

    def __init__(
        self,
        z: Tensor,
        n_effective: float,
        wishart: Wishart,
        center_confidence: float = CENTER_CONFIDENCE,
        labels: LabelledCells | None = None,
    ) -> None:
        self.z = z
        self.n_obs, self.p = z.shape
        self.power = min(1.0, n_effective / self.n_obs)
        self.wishart = wishart
        self.center_confidence = center_confidence
        self.labels = labels
        self.scatter = torch.eye(self.p, dtype=z.dtype) / wishart.scale_factor
        self.pairs = torch.triu_indices(self.p, self.p)

    def statistics(self, r: Tensor) -> Statistics:
        """Sufficient statistics of the components, each cell weighted by the power of its likelihood."""
        sums = self.z.new_zeros(r.shape[1], 1 + self.p + len(self.pairs[0]))
        for rows in self.blocks():
            sums.addmm_(r[rows].mT, self.features(rows))
        counts, first, products = torch.split(self.power * sums, [1, self.p, len(self.pairs[0])], dim=1)
        i, j = self.pairs
        second = products.new_empty(len(sums), self.p, self.p)
        second[:, i, j] = second[:, j, i] = products
        return Statistics(counts.squeeze(1), first, second)

    def blocks(self) -> Iterator[slice]:
        """Blocks of rows, small enough for small temporaries."""
        for start in range(0, self.n_obs, ROWS_AT_A_TIME):
            yield slice(start, start + ROWS_AT_A_TIME)

    def features(self, rows: slice) -> Tensor:
        """Return the features in which Gaussian log-densities are linear: one, positions, products of two."""
        if self.n_obs > MOST_REMEMBERED:
            return self._features_of(self.z[rows])
        return self._features[rows]

    @cached_property
    def _features(self) -> Tensor:
        return self._features_of(self.z)

    def _features_of(self, z: Tensor) -> Tensor:
        i, j = self.pairs
        return torch.cat((z.new_ones(len(z), 1), z, z[:, i] * z[:, j]), dim=1)

    def posterior(self, s: Statistics) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normal-Wishart posteriors: confidence, centre, degrees of freedom, Cholesky factor of scatter."""
        confidence = self.center_confidence + s.counts
        center = s.first / confidence.unsqueeze(-1)
        scatter = self.scatter + s.second - torch.einsum("k,kp,kq->kpq", confidence, center, center)
        return confidence, center, self.wishart.df + s.counts, torch.linalg.cholesky(scatter)

    def log_marginal(self, s: Statistics) -> Tensor:
        """Log marginal likelihood of each component's cells, shape ``(K,)``."""
        _, _, _, cholesky = self.posterior(s)
        log_det = 2.0 * log_diagonal_sum(cholesky)
        return log_marginal(*self.wishart, s.counts, log_det, self.p, self.center_confidence)

    def log_assignment(self, counts: Tensor) -> Tensor:
        """Log Dirichlet-multinomial probability of the counts."""
        total = torch.tensor(TOTAL_CONCENTRATION, dtype=counts.dtype)
        empty = torch.lgamma(torch.tensor(CONCENTRATION, dtype=counts.dtype))
        of_components = (torch.lgamma(CONCENTRATION + counts) - empty).sum()
        return torch.lgamma(total) - torch.lgamma(total + counts.sum()) + of_components

    def entropy(self, r: Tensor) -> Tensor:
        """Coarsened entropy of the assignments to each component, shape ``(K,)``."""
        return -self.power * torch.xlogy(r, r).sum(0)

    def assign(self, s: Statistics, log_likelihood_of_labels: Tensor | None = None) -> Tensor:
        """Responsibilities that maximise the free energy given posteriors of the components.

        Parameters
        ----------
        s
            Statistics of the components.
        log_likelihood_of_labels
            Log-probability of every cell's label given each component, shape ``(n, K)``.
        """
        confidence, center, df, cholesky = self.posterior(s)
        precision = df[:, None, None] * torch.cholesky_inverse(cholesky)
        pull = (precision @ center.unsqueeze(-1)).squeeze(-1)
        order = torch.arange(self.p, dtype=df.dtype)
        log_det = torch.digamma((df.unsqueeze(-1) - order) / 2).sum(-1) - 2 * log_diagonal_sum(cholesky)
        constant = torch.digamma(CONCENTRATION + s.counts) + 0.5 * (log_det - self.p / confidence)
        constant = constant - 0.5 * torch.linalg.vecdot(pull, center)
        i, j = self.pairs
        curvature = precision[:, i, j] * torch.where(i == j, -0.5, -1.0)
        parameters = torch.cat((constant.unsqueeze(1), pull, curvature), dim=1).mT.contiguous()
        r = self.z.new_empty(self.n_obs, len(df))
        for rows in self.blocks():
            scores = self.features(rows) @ parameters
            if log_likelihood_of_labels is not None:
                scores += log_likelihood_of_labels[rows]
            torch.softmax(scores, dim=-1, out=r[rows])
        return r

    def sweep(self, r: Tensor, n_sweeps: int) -> Tensor:
        """Coordinate ascent on the free energy; components with less than half a cell are dropped."""
        s = self.statistics(r)
        alive = s.alive()
        while n_sweeps > 0 or not alive.all():
            of_labels = None if self.labels is None else self.labels.log_likelihood_of_cells(r[:, alive])
            r = self.assign(Statistics(*(statistic[alive] for statistic in s)), of_labels)
            s = self.statistics(r)
            alive = s.alive()
            n_sweeps -= 1
        return r

    def classification_likelihood(self, r: Tensor) -> float:
        """Log joint probability of cells, labels and assignments, with the parameters integrated out."""
        s = self.statistics(r)
        of_labels = 0.0 if self.labels is None else self.power * self.labels.log_likelihood(r)
        return float(self.log_marginal(s).sum() + self.log_assignment(s.counts)) + of_labels

    def free_energy(self, r: Tensor) -> float:
        """Lower bound of the coarsened log marginal likelihood at these assignments."""
        return self.classification_likelihood(r) + float(self.entropy(r).sum())


def merge_gain(s: Statistics, i: Tensor, j: Tensor, evidence: Evidence) -> Tensor:
    """Return the gain in classification likelihood from merging components ``i`` and ``j``."""
    empty = torch.lgamma(torch.tensor(CONCENTRATION, dtype=s.counts.dtype))
    alone = evidence.log_marginal(s) + torch.lgamma(CONCENTRATION + s.counts) - empty
    union = s.merged(i, j)
    together = evidence.log_marginal(union) + torch.lgamma(CONCENTRATION + union.counts) - empty
    return together - alone[i] - alone[j]


def log_marginal(
    scale_factor: Tensor | float,
    df: float,
    counts: Tensor,
    log_det: Tensor,
    p: int,
    center_confidence: float = CENTER_CONFIDENCE,
) -> Tensor:
    r"""Log marginal likelihood of components' cells.

    Parameters
    ----------
    scale_factor, df
        The Wishart prior; ``scale_factor`` must be broadcastable to ``counts``.
    counts
        Numbers of cells, shape ``(K,)``.
    log_det
        Log-determinants of the posteriors' scatter matrices, shape ``(..., K)``.
    p
        Dimension.
    center_confidence
        :math:`\kappa_0` of the prior on centres.

    Returns
    -------
    Tensor
        Log marginal likelihoods of shape ``(..., K)``.
    """
    scale_factor, prior_df = (torch.as_tensor(value, dtype=counts.dtype) for value in (scale_factor, df))
    posterior_df = prior_df + counts
    return (
        torch.mvlgamma(posterior_df / 2, p)
        - torch.mvlgamma(prior_df / 2, p)
        - 0.5 * prior_df * p * scale_factor.log()
        - 0.5 * posterior_df * log_det
        + 0.5
        * p
        * (math.log(center_confidence) - (center_confidence + counts).log() - counts * math.log(math.pi))
    )
