r"""How many clusters an embedding has: a variational Gaussian mixture with a coarsened likelihood, and merge moves.

Clusters of cells are not Gaussian. With enough cells every mixture therefore finds ever more components, each right about
a smaller detail. A *coarsened* posterior (Miller & Dunson, JASA 2019) asks instead which mixtures agree with the data up to
a departure that ``n_effective`` cells could not tell from chance: the likelihood is raised to the power
``n_effective / n_obs``. The number of components then depends on ``n_effective``, one number with a meaning, and hardly
on the number of cells, on step sizes or on where the search started.

The model is that of the paper with a conjugate prior on the centres,

.. math::
    \pi \sim Dirichlet(a_0, \ldots), \quad \Lambda_j \sim Wishart(p + 2, c I), \quad
    \mu_j | \Lambda_j \sim N(0, (\kappa_0 \Lambda_j)^{-1}),

so that the free energy of responsibilities :math:`r` is known in closed form,
:math:`F(r) = \sum_j \log Z_j(r) + \log DM(r) + \omega H(r)`, with :math:`Z_j` the marginal likelihood of a component,
:math:`DM` the Dirichlet-multinomial and :math:`\omega` the power. Components are merged while that raises :math:`F`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from vmmscvi.priors.functional import log_diagonal_sum

CENTER_CONFIDENCE = 0.05
r""":math:`\kappa_0`: how many cells the prior on a centre counts as."""
CONCENTRATION = 0.01
""":math:`a_0`: Dirichlet parameter of one component; the paper's alpha / K at alpha = 1 and K = 100."""
N_CANDIDATES = 25
"""Pairs, best by their marginal likelihoods, for which the entropy of the assignments is computed as well."""
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
    """Weighted sufficient statistics of components: counts ``(K,)``, sums ``(K, p)``, sums of products ``(K, p, p)``."""

    counts: Tensor
    first: Tensor
    second: Tensor

    def merged(self, i: Tensor, j: Tensor) -> Statistics:
        """Statistics of the unions of components ``i`` and ``j``."""
        return Statistics(*(s[i] + s[j] for s in self))


class _Evidence:
    """Closed forms of the conjugate model for one data set: everything that does not change during a fit."""

    def __init__(self, z: Tensor, n_effective: float, wishart_scale_factor: float) -> None:
        self.z = z
        self.n_obs, self.p = z.shape
        self.power = min(1.0, n_effective / self.n_obs)
        self.df = self.p + 2.0
        self.scatter = torch.eye(self.p, dtype=z.dtype) / wishart_scale_factor

    def statistics(self, r: Tensor) -> Statistics:
        second = sum(
            torch.einsum("nk,np,nq->kpq", r_rows, z_rows, z_rows)
            for r_rows, z_rows in zip(r.split(2048), self.z.split(2048), strict=True)
        )
        return Statistics(*(self.power * s for s in (r.sum(0), r.mT @ self.z, second)))

    def posterior(self, s: Statistics) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normal-Wishart posteriors: confidence, centre, degrees of freedom, Cholesky factor of the scatter."""
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
        """Log Dirichlet-multinomial probability of the counts, up to a constant for a fixed ``K``."""
        n_components = len(counts)
        total = torch.tensor(n_components * CONCENTRATION, dtype=counts.dtype)
        prior = torch.full_like(counts, CONCENTRATION)
        log_ratio = torch.lgamma(prior + counts) - torch.lgamma(prior)
        return torch.lgamma(total) - torch.lgamma(total + counts.sum()) + log_ratio.sum()

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
        rows = []
        for z_rows in self.z.split(2048):
            whitened = (z_rows @ whitening.reshape(-1, self.p).mT).unflatten(-1, (len(df), self.p))
            distance = (whitened - offset).square().sum(-1)
            rows.append(torch.softmax(constant - 0.5 * df * distance, dim=-1))
        return torch.cat(rows)

    def sweep(self, r: Tensor, n_sweeps: int) -> Tensor:
        """Coordinate ascent on the free energy; components that hold less than half a cell's weight are dropped."""
        for _ in range(n_sweeps):
            r = self.assign(self.statistics(r))
            alive = self.power * r.sum(0) > 0.5
            if not alive.all() and alive.any():
                r = r[:, alive] / r[:, alive].sum(1, keepdim=True).clamp_min(1e-300)
        return r

    def free_energy(self, r: Tensor) -> float:
        s = self.statistics(r)
        return float(self.log_marginal(s).sum() + self.log_assignment(s.counts) + self.entropy(r).sum())


def fit_coarsened_mixture(
    z: Tensor | np.ndarray,
    n_components: int = 60,
    n_effective: float = 2000.0,
    wishart_scale_factor: float | None = None,
    seed: int = 0,
) -> CoarsenedMixture:
    """Fit a mixture of Gaussians to an embedding, and find how many components it takes.

    The search starts from k-means with many components and alternates coordinate ascent with the best merge,
    while merging raises the free energy.

    Parameters
    ----------
    z
        Embedding, shape ``(n_obs, p)``; for instance posterior means.
    n_components
        Number of components at the start, the upper bound of their number.
    n_effective
        Number of cells that the data count as: what so many cells could not resolve is not split. Rare groups need a
        share of a few cells in so many. More than ``n_obs`` means ``n_obs``.
    wishart_scale_factor
        ``c`` of the Wishart prior on precisions; that of the paper for 100 components by default.
    seed
        Seed of k-means.

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
    if z.dim() != 2 or not torch.isfinite(z).all():
        raise ValueError(f"`z` must be a finite matrix of shape (n_obs, p), found shape {tuple(z.shape)} "
                         f"with {int((~torch.isfinite(z)).sum())} values that are not finite.")  # fmt: skip
    if n_components < 1 or not n_effective > 0:
        raise ValueError(
            "`n_components` and `n_effective` must be positive, "
            f"found n_components={n_components}, n_effective={n_effective}."
        )
    p = z.shape[1]
    c = 100 ** (1 / p) / (p + 2) if wishart_scale_factor is None else wishart_scale_factor
    evidence = _Evidence(z, n_effective, c)
    r = evidence.sweep(_k_means_assignments(z, n_components, seed), SWEEPS_AT_START)
    while (merged := _best_merge(evidence, r)) is not None:
        r = evidence.sweep(merged, SWEEPS_AFTER_MERGE)
    r = evidence.sweep(r, SWEEPS_AT_START)
    return _summary(evidence, r[:, r.sum(0).argsort(descending=True)])


def _k_means_assignments(z: Tensor, n_components: int, seed: int) -> Tensor:
    n_distinct = len(torch.unique(z, dim=0))
    k_means = KMeans(min(n_components, n_distinct), n_init=1, random_state=seed).fit_predict(z.numpy())
    return torch.nn.functional.one_hot(torch.as_tensor(k_means).long()).double()


def _best_merge(evidence: _Evidence, r: Tensor) -> Tensor | None:
    """Responsibilities after the merge that raises the free energy most; ``None`` if none does."""
    n_components = r.shape[1]
    if n_components < 2:
        return None
    s = evidence.statistics(r)
    i, j = torch.triu_indices(n_components, n_components, offset=1)
    log_marginal, entropy = evidence.log_marginal(s), evidence.entropy(r)
    prior = torch.full_like(s.counts, CONCENTRATION)
    log_weight = torch.lgamma(prior + s.counts) - torch.lgamma(prior)
    union = s.merged(i, j)
    union_log_weight = torch.lgamma(CONCENTRATION + union.counts) - torch.lgamma(prior[0])
    gain = evidence.log_marginal(union) + union_log_weight - (log_marginal + log_weight)[torch.stack((i, j))].sum(0)
    candidates = gain.topk(min(N_CANDIDATES, len(gain))).indices
    i, j, gain = i[candidates], j[candidates], gain[candidates]
    # assignments between the two no longer cost entropy: the sum over both parts is replaced by the union's
    gain = gain + evidence.entropy(r[:, i] + r[:, j]) - entropy[i] - entropy[j]
    best = int(gain.argmax())
    if gain[best] <= 0:
        return None
    keep = torch.arange(n_components) != j[best]
    merged = r.clone()
    merged[:, i[best]] += merged[:, j[best]]
    return merged[:, keep]


def _summary(evidence: _Evidence, r: Tensor) -> CoarsenedMixture:
    counts = r.sum(0)
    loc = (r.mT @ evidence.z) / counts.unsqueeze(-1)
    second = evidence.statistics(r).second / (evidence.power * counts[:, None, None])
    covariance = second - loc.unsqueeze(-1) * loc.unsqueeze(-2)
    return CoarsenedMixture(r, counts / counts.sum(), loc, covariance, evidence.free_energy(r))
