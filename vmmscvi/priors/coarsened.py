r"""How many clusters an embedding has: a variational Gaussian mixture with a coarsened likelihood and merges.

Clusters of cells are not Gaussian. With enough cells every mixture therefore finds ever more components, each
right about a smaller detail. A *coarsened* posterior (Miller & Dunson, JASA 2019) asks instead which mixtures
agree with the data up to a departure that ``n_effective`` cells could not tell from chance: the likelihood is
raised to the power ``n_effective / n_obs``. The number of components then depends on ``n_effective``, one
number with a meaning, and hardly on the number of cells, on step sizes or on where the search started.

The model is that of the paper with a conjugate prior on the centres,

.. math::
    \pi \sim Dirichlet(a_0, \ldots), \quad \Lambda_j \sim Wishart(p + 2, c I), \quad
    \mu_j | \Lambda_j \sim N(0, (\kappa_0 \Lambda_j)^{-1}),

so that the free energy of responsibilities :math:`r` is known in closed form,
:math:`F(r) = \sum_j \log Z_j(r) + \log DM(r) + \omega H(r)`, with :math:`Z_j` the marginal likelihood of a
component, :math:`DM` the Dirichlet-multinomial and :math:`\omega` the power. Responsibilities maximise
:math:`F`; components that no cell needs contribute nothing to it.

Components are merged while that raises the integrated classification likelihood (Biernacki, Celeux & Govaert,
IEEE TPAMI 2000), :math:`F(r) - \omega H(r)`: a mixture that describes a density may take several overlapping
components for one cluster, a mixture of clusters may not. The paper's empirical-Bayes step penalises the
entropy of the assignments too, as it keeps the responsibilities in the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from vmmscvi.priors.functional import log_diagonal_sum

CENTER_CONFIDENCE = 0.05
r""":math:`\kappa_0`: how many cells the prior on a centre counts as."""
TOTAL_CONCENTRATION = 1.0
"""The paper's alpha, where it is not inferred."""
CONCENTRATION = TOTAL_CONCENTRATION / 100
""":math:`a_0`: Dirichlet parameter of one component; the paper's alpha / K at K = 100."""
SMALLEST_COUNT = 0.5
"""Components that hold fewer cells, counted by their weight, are dropped."""
ROWS_AT_A_TIME = 2048
SWEEPS_AT_START, SWEEPS_AFTER_MERGE = 30, 3


class CoarsenedMixture(NamedTuple):
    """A fitted mixture; components are sorted by weight, the heaviest first.

    Attributes
    ----------
    responsibilities
        Soft assignments, shape ``(n_obs, K)``.
    weights
        Shares of the components, shape ``(K,)``.
    loc
        Means of the components' cells, shape ``(K, p)``.
    covariance
        Covariances of the components' cells, shape ``(K, p, p)``.
    free_energy
        :math:`F(r)`, to compare fits to the same data.
    """

    responsibilities: Tensor
    weights: Tensor
    loc: Tensor
    covariance: Tensor
    free_energy: float


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

    def __init__(self, z: Tensor, n_effective: float, wishart_scale_factor: float) -> None:
        self.z = z
        self.n_obs, self.p = z.shape
        self.power = min(1.0, n_effective / self.n_obs)
        self.df = self.p + 2.0
        self.scatter = torch.eye(self.p, dtype=z.dtype) / wishart_scale_factor

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
        return confidence, center, self.df + s.counts, torch.linalg.cholesky(scatter)

    def log_marginal(self, s: Statistics) -> Tensor:
        """Log marginal likelihood of each component's cells, shape ``(K,)``."""
        confidence, _, df, cholesky = self.posterior(s)
        prior_log_det = self.p * self.scatter[0, 0].log()
        return (
            torch.mvlgamma(df / 2, self.p)
            - torch.mvlgamma(torch.tensor(self.df / 2, dtype=df.dtype), self.p)
            + 0.5 * self.df * prior_log_det
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


def fit_coarsened_mixture(
    z: Tensor | np.ndarray,
    n_components: int = 60,
    n_effective: float = 1000.0,
    wishart_scale_factor: float | None = None,
    seed: int = 0,
    n_starts: int = 4,
) -> CoarsenedMixture:
    """Fit a mixture of Gaussians to an embedding, and find how many components it takes.

    The search starts from k-means with many components and alternates coordinate ascent with the best merge,
    while merging raises the integrated classification likelihood.

    Parameters
    ----------
    z
        Embedding, shape ``(n_obs, p)``; for instance posterior means.
    n_components
        Number of components at the start, the upper bound of their number.
    n_effective
        Number of cells that the data count as: what so many cells could not resolve is not split. Rare groups
        need a share of a few cells in so many. More than ``n_obs`` means ``n_obs``.
    wishart_scale_factor
        ``c`` of the Wishart prior on precisions. By default ``4 / (p + 2)``, clusters half as wide as
        N(0, I): a wider prior hides groups of few cells, a narrower one splits large ones.
    seed
        Seed of k-means.
    n_starts
        How often the search is run, from another k-means each time; the answer with the best classification
        likelihood is returned. One search may end in a merge too few or too many.

    Returns
    -------
    CoarsenedMixture
        In float64, on the CPU.

    Raises
    ------
    ValueError
        If ``z`` is not a finite matrix, or an argument is not positive.
    """
    z = torch.as_tensor(z).detach().cpu().double()
    if z.dim() != 2 or not z.numel() or not torch.isfinite(z).all():
        raise ValueError(
            f"`z` must be a finite matrix of shape (n_obs, p), found shape {tuple(z.shape)} with "
            f"{int((~torch.isfinite(z)).sum())} values that are not finite."
        )
    p = z.shape[1]
    c = 4.0 / (p + 2) if wishart_scale_factor is None else wishart_scale_factor
    if n_components < 1 or n_starts < 1 or not n_effective > 0 or not 0 < c < math.inf:
        raise ValueError(
            "`n_components`, `n_effective`, `wishart_scale_factor` and `n_starts` must be positive, found "
            f"n_components={n_components}, n_effective={n_effective}, wishart_scale_factor={c}, "
            f"n_starts={n_starts}."
        )
    evidence = Evidence(z, n_effective, c)
    seeds = np.random.default_rng(seed).integers(2**31, size=n_starts)
    found = [_search(evidence, n_components, int(start)) for start in seeds]
    r = max(found, key=evidence.classification_likelihood)
    return _summary(evidence, r[:, r.sum(0).argsort(descending=True)])


def _search(evidence: Evidence, n_components: int, seed: int) -> Tensor:
    """Responsibilities after one search."""
    r = evidence.sweep(_k_means_assignments(evidence.z, n_components, seed), SWEEPS_AT_START)
    while (merged := _best_merge(evidence, r)) is not None:
        r = evidence.sweep(merged, SWEEPS_AFTER_MERGE)
    return evidence.sweep(r, SWEEPS_AT_START)


def _k_means_assignments(z: Tensor, n_components: int, seed: int) -> Tensor:
    n_distinct = len(torch.unique(z, dim=0))
    k_means = KMeans(min(n_components, n_distinct), n_init=1, random_state=seed).fit_predict(z.numpy())
    return torch.nn.functional.one_hot(torch.as_tensor(k_means).long()).double()


def _best_merge(evidence: Evidence, r: Tensor) -> Tensor | None:
    """Responsibilities after the merge that raises the classification likelihood most, if any does."""
    n_components = r.shape[1]
    if n_components < 2:
        return None
    i, j = torch.triu_indices(n_components, n_components, offset=1)
    gain, at = merge_gain(evidence.statistics(r), i, j, evidence).max(0)
    if gain <= 0:
        return None
    merged = r.clone()
    merged[:, i[at]] += merged[:, j[at]]
    return merged[:, torch.arange(n_components) != j[at]]


def merge_gain(s: Statistics, i: Tensor, j: Tensor, evidence: Evidence) -> Tensor:
    """Return what the classification likelihood gains by merging components ``i`` and ``j``."""
    empty = torch.lgamma(torch.tensor(CONCENTRATION, dtype=s.counts.dtype))
    alone = evidence.log_marginal(s) + torch.lgamma(CONCENTRATION + s.counts) - empty
    union = s.merged(i, j)
    together = evidence.log_marginal(union) + torch.lgamma(CONCENTRATION + union.counts) - empty
    return together - alone[i] - alone[j]


def _summary(evidence: Evidence, r: Tensor) -> CoarsenedMixture:
    counts = r.sum(0)
    loc = (r.mT @ evidence.z) / counts.unsqueeze(-1)
    second = evidence.statistics(r).second / (evidence.power * counts[:, None, None])
    covariance = second - loc.unsqueeze(-1) * loc.unsqueeze(-2)
    return CoarsenedMixture(r, counts / counts.sum(), loc, covariance, evidence.free_energy(r))
