"""The conjugate model behind :mod:`vmmscvi.priors.coarsened`, in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vmmscvi.priors.functional import log_diagonal_sum

CENTER_CONFIDENCE = 0.05
r""":math:`\kappa_0`: how many cells the prior on a centre counts as."""
TOTAL_CONCENTRATION = 1.0
"""The paper's alpha, where it is not inferred."""
CONCENTRATION = TOTAL_CONCENTRATION / 100
""":math:`a_0`: Dirichlet parameter of one component; the paper's alpha / K at K = 100."""
PRECISIONS = 2.0 ** (torch.arange(-8, 25, dtype=torch.float64) / 4)
"""Expected precisions, 1/4 to 64, that the scale of the Wishart prior is chosen from."""
EXCESS_DEGREES = tuple(2.0 ** (np.arange(0, 23) / 2))
"""Degrees of freedom beyond p + 1, 1 to 2048: how many cells the prior on a covariance may count as."""
SMALLEST_VARIANCE = 1e-4
"""Share of the mean variance that clusters have in every direction, be it one in which nothing varies."""
SMALLEST_COUNT = 0.5
"""Components that hold fewer cells, counted by their weight, are dropped."""
ROWS_AT_A_TIME = 2048


class Wishart(NamedTuple):
    """A Wishart prior on precisions with scale matrix ``c I``: ``c``, and its degrees of freedom."""

    scale_factor: float
    df: float

    @classmethod
    def of_paper(cls, scale_factor: float, p: int) -> Wishart:
        """With ``p + 2`` degrees of freedom, as in the paper: it counts as one cell."""
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

    def alive(self) -> Tensor:
        """Which components hold enough cells to be kept, shape ``(K,)``; at least one does."""
        return self.counts > min(SMALLEST_COUNT, 0.5 * float(self.counts.mean()))


class Evidence:
    """Closed forms of the conjugate model for one data set: everything that does not change during a fit."""

    def __init__(self, z: Tensor, n_effective: float, wishart: Wishart) -> None:
        self.z = z
        self.n_obs, self.p = z.shape
        self.power = min(1.0, n_effective / self.n_obs)
        self.wishart = wishart
        self.scatter = torch.eye(self.p, dtype=z.dtype) / wishart.scale_factor

    def statistics(self, r: Tensor) -> Statistics:
        """Sufficient statistics of the components, every cell counted by the power of its likelihood."""
        second = self.z.new_zeros(r.shape[1], self.p, self.p)
        for rows in self.blocks():
            second += torch.einsum("nk,np,nq->kpq", r[rows], self.z[rows], self.z[rows])
        return Statistics(*(self.power * s for s in (r.sum(0), r.mT @ self.z, second)))

    def blocks(self) -> Iterator[slice]:
        """Rows, so many at a time that temporaries stay small."""
        for start in range(0, self.n_obs, ROWS_AT_A_TIME):
            yield slice(start, start + ROWS_AT_A_TIME)

    def posterior(self, s: Statistics) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normal-Wishart posteriors: confidence, centre, degrees of freedom, Cholesky factor of scatter."""
        confidence = CENTER_CONFIDENCE + s.counts
        center = s.first / confidence.unsqueeze(-1)
        scatter = self.scatter + s.second - torch.einsum("k,kp,kq->kpq", confidence, center, center)
        return confidence, center, self.wishart.df + s.counts, torch.linalg.cholesky(scatter)

    def log_marginal(self, s: Statistics) -> Tensor:
        """Log marginal likelihood of each component's cells, shape ``(K,)``."""
        confidence, _, df, cholesky = self.posterior(s)
        prior_log_det = self.p * self.scatter[0, 0].log()
        return (
            torch.mvlgamma(df / 2, self.p)
            - torch.mvlgamma(torch.tensor(self.wishart.df / 2, dtype=df.dtype), self.p)
            + 0.5 * self.wishart.df * prior_log_det
            - df * log_diagonal_sum(cholesky)
            + 0.5 * self.p * (math.log(CENTER_CONFIDENCE) - confidence.log() - s.counts * math.log(math.pi))
        )

    def log_assignment(self, counts: Tensor) -> Tensor:
        """Log Dirichlet-multinomial probability of the counts."""
        total = torch.tensor(TOTAL_CONCENTRATION, dtype=counts.dtype)
        empty = torch.lgamma(torch.tensor(CONCENTRATION, dtype=counts.dtype))
        of_components = (torch.lgamma(CONCENTRATION + counts) - empty).sum()
        return torch.lgamma(total) - torch.lgamma(total + counts.sum()) + of_components

    def entropy(self, r: Tensor) -> Tensor:
        """Coarsened entropy of the assignments to each component, shape ``(K,)``."""
        return -self.power * torch.xlogy(r, r).sum(0)

    def assign(self, s: Statistics) -> Tensor:
        """Responsibilities that maximise the free energy given posteriors of the components."""
        confidence, center, df, cholesky = self.posterior(s)
        identity = torch.eye(self.p, dtype=self.z.dtype).expand_as(cholesky)
        whitening = torch.linalg.solve_triangular(cholesky, identity, upper=False)
        offset = torch.linalg.vecdot(whitening, center.unsqueeze(-2))
        order = torch.arange(self.p, dtype=df.dtype)
        log_det = torch.digamma((df.unsqueeze(-1) - order) / 2).sum(-1) - 2 * log_diagonal_sum(cholesky)
        constant = torch.digamma(CONCENTRATION + s.counts) + 0.5 * (log_det - self.p / confidence)
        r = self.z.new_empty(self.n_obs, len(df))
        for rows in self.blocks():
            whitened = (self.z[rows] @ whitening.reshape(-1, self.p).mT).reshape(-1, len(df), self.p)
            distance = (whitened - offset).square().sum(-1)
            r[rows] = torch.softmax(constant - 0.5 * df * distance, dim=-1)
        return r

    def sweep(self, r: Tensor, n_sweeps: int) -> Tensor:
        """Coordinate ascent on the free energy; components that hold less than half a cell are dropped."""
        s = self.statistics(r)
        alive = s.alive()
        while n_sweeps > 0 or not alive.all():
            r = self.assign(Statistics(*(statistic[alive] for statistic in s)))
            s = self.statistics(r)
            alive = s.alive()
            n_sweeps -= 1
        return r

    def classification_likelihood(self, r: Tensor) -> float:
        """Log joint probability of cells and assignments, parameters integrated out."""
        s = self.statistics(r)
        return float(self.log_marginal(s).sum() + self.log_assignment(s.counts))

    def free_energy(self, r: Tensor) -> float:
        """Lower bound of the coarsened log marginal likelihood that these assignments reach."""
        return self.classification_likelihood(r) + float(self.entropy(r).sum())


def merge_gain(s: Statistics, i: Tensor, j: Tensor, evidence: Evidence) -> Tensor:
    """Return what the classification likelihood gains by merging components ``i`` and ``j``."""
    empty = torch.lgamma(torch.tensor(CONCENTRATION, dtype=s.counts.dtype))
    alone = evidence.log_marginal(s) + torch.lgamma(CONCENTRATION + s.counts) - empty
    union = s.merged(i, j)
    together = evidence.log_marginal(union) + torch.lgamma(CONCENTRATION + union.counts) - empty
    return together - alone[i] - alone[j]


def most_likely_wishart(s: Statistics, excess_degrees: Sequence[float] = EXCESS_DEGREES) -> Wishart:
    """Choose the Wishart prior, given what cells the components have.

    Parameters
    ----------
    s
        Statistics of the components, cells counted by the power of their likelihood.
    excess_degrees
        Degrees of freedom beyond ``p + 1`` to choose from.
    """
    p = s.first.shape[1]
    nothing = s.first.new_zeros(1, p)
    degrees = [p + 1.0 + excess for excess in excess_degrees]
    choices = [Wishart(precision / df, df) for df in degrees for precision in PRECISIONS.tolist()]
    likelihoods = [float(Evidence(nothing, 1.0, choice).log_marginal(s).sum()) for choice in choices]
    return choices[int(np.argmax(likelihoods))]


def whitening_of_clusters(z: Tensor, r: Tensor) -> Tensor:
    """Linear map after which clusters have, on average, unit variance in every direction and no correlation.

    Parameters
    ----------
    z
        Embedding, shape ``(n, p)``.
    r
        Assignments, shape ``(n, K)``.

    Returns
    -------
    Matrix of shape ``(p, p)``, to multiply ``z`` with from the right.
    """
    counts = r.sum(0).clamp_min(torch.finfo(r.dtype).tiny)
    loc = (r.mT @ z) / counts.unsqueeze(-1)
    within = (z.mT @ z - (loc * counts.unsqueeze(-1)).mT @ loc) / len(z)
    mean_square = float(z.square().mean())
    floor = SMALLEST_VARIANCE * float(z.var(0, correction=0).mean()) + 1e-8 * mean_square + 1e-30
    values, vectors = torch.linalg.eigh(within)
    whitening: Tensor = vectors * (values.clamp_min(0.0) + floor).rsqrt()
    return whitening
