r"""Number of clusters of an embedding: a variational Gaussian mixture with a coarsened likelihood and merges.

Clusters of cells are not Gaussian. With more cells, any mixture therefore finds more components, which
describe ever smaller details. A *coarsened* posterior (Miller & Dunson, JASA 2019) asks instead which
mixtures agree with the data up to a departure that ``n_effective`` cells could not distinguish from chance:
the likelihood is raised to the power ``n_effective / n_obs``. The number of components then depends on one
interpretable number, ``n_effective``, and hardly on the number of cells, on step sizes or on the
initialisation.

The model is that of the paper with a conjugate prior on the centres,

.. math::
    \pi \sim Dirichlet(a_0, \ldots), \quad \Lambda_j \sim Wishart(p + 2, c I), \quad
    \mu_j | \Lambda_j \sim N(0, (\kappa_0 \Lambda_j)^{-1}),

so the free energy of responsibilities :math:`r` has a closed form,
:math:`F(r) = \sum_j \log Z_j(r) + \log DM(r) + \omega H(r)`, with :math:`Z_j` the marginal likelihood of a
component, :math:`DM` the Dirichlet-multinomial and :math:`\omega` the power. Responsibilities maximise
:math:`F`; empty components contribute nothing to it.

Components are merged while this raises the integrated classification likelihood (Biernacki, Celeux & Govaert,
IEEE TPAMI 2000), :math:`F(r) - \omega H(r)`. A mixture that describes a density may use several overlapping
components for one cluster; a mixture of clusters must not. The paper's empirical-Bayes step also penalises
the entropy of the assignments, because it keeps the responsibilities in the gradient.

The width and shape of clusters, their similarity and their distances depend on the data: more genes and
deeper counts make clusters narrower, and some directions of an embedding may hardly be used. The scale matrix
and degrees of freedom of the Wishart prior and the confidence :math:`\kappa_0` of the prior on centres are
therefore learned as well. They maximise the likelihood of the clusters and are updated while components are
merged. If clusters have similar covariances, a further cluster costs little more than its centre, and many
small ones can be resolved. If covariances differ, the prior is as vague as in the paper. If clusters are
crowded, as in embeddings of chromatin accessibility, a further centre costs less. Learning the prior only at
the end would be too late: a vague prior merges similar neighbours, and their union then makes the learned
prior expect wide clusters. The result is nearly invariant to linear maps of the embedding. The effect of
depth on the distance of cells from the centre can be removed first (:mod:`vmmscvi.priors._depth`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from vmmscvi.priors._depth import Coordinates, undo_depth
from vmmscvi.priors._embeddings import as_finite_matrix
from vmmscvi.priors._evidence import Evidence, Wishart, merge_gain
from vmmscvi.priors._found_mixture import CoarsenedMixture
from vmmscvi.priors._labelled_cells import LabelledCells
from vmmscvi.priors._learned_wishart import (
    LearnedWishart,
    most_likely_matrix,
    smallest_variance_of,
    whitening_of_clusters,
)

N_EFFECTIVE = 500.0
"""Default effective sample size."""
LEARNED_AGAIN = 0.95
"""The Wishart prior is learned again when the number of components has shrunk to this share."""
FEWEST_CELLS = 2
"""Smallest average number of cells per component, in units of p + 2, for learning the Wishart prior."""
SWEEPS_AT_START, SWEEPS_AFTER_MERGE = 30, 3


def fit_coarsened_mixture(
    z: Tensor | np.ndarray,
    n_components: int = 60,
    n_effective: float | None = None,
    wishart_scale_factor: float | None = None,
    seed: int = 0,
    n_starts: int = 4,
    wishart_df: float | None = None,
    labels: LabelledCells | None = None,
    log_depth: Tensor | None = None,
) -> CoarsenedMixture:
    """Fit a mixture of Gaussians to an embedding, and find its number of components.

    The search is initialised by k-means with many components. It alternates coordinate ascent with the best
    merge while merging raises the integrated classification likelihood, and learns the Wishart prior at the
    same time. Labels of cells are part of the data, see :mod:`vmmscvi.priors._labelled_cells`.

    Parameters
    ----------
    z
        Embedding, shape ``(n_obs, p)``, for example posterior means.
    n_components
        Initial and largest number of components.
    n_effective
        Effective sample size: the weight of the data against the prior, in cells. Smaller values give fewer
        components; a rare group needs a share of about two cells in ``n_effective``. Values above ``n_obs``
        are replaced by ``n_obs``; ``None`` stands for 500.
    wishart_scale_factor
        ``c`` of a Wishart prior on precisions with scale matrix ``c I``. By default, scale matrix and degrees
        of freedom are learned.
    seed
        Seed of k-means.
    n_starts
        Number of searches, each from another k-means; a single search may end with a merge too few or too
        many. The result with the best classification likelihood is returned.
    wishart_df
        With ``wishart_scale_factor``: degrees of freedom, more than ``p - 1``; ``p + 2`` by default.
    labels
        Labels of some cells. Every label receives at least one component; other components stay free.
    log_depth
        Logarithm of each cell's depth, shape ``(n_obs,)``, for embeddings that place shallow cells closer to
        the centre.

    Returns
    -------
    CoarsenedMixture
        The mixture, in float64 on the CPU.

    Raises
    ------
    ValueError
        If ``z`` or ``log_depth`` is not finite or has another shape, or an argument is not positive.
    """
    z = as_finite_matrix(z)
    p = z.shape[1]
    learns_wishart = wishart_scale_factor is None
    centered = z - z.mean(0) if learns_wishart else z  # a given prior is centred at the origin
    c = 1.0 / (p + 2) if wishart_scale_factor is None else wishart_scale_factor
    if (
        n_components < 1
        or n_starts < 1
        or not 0 < c < math.inf
        or not (n_effective is None or n_effective > 0)
    ):
        raise ValueError(
            "`n_components`, `n_effective`, `wishart_scale_factor` and `n_starts` must be positive, found "
            f"n_components={n_components}, n_effective={n_effective}, wishart_scale_factor={c}, "
            f"n_starts={n_starts}."
        )
    if wishart_df is not None and (learns_wishart or not p - 1 < wishart_df < math.inf):
        raise ValueError(
            f"`wishart_df` needs `wishart_scale_factor` and must be more than {p - 1}, found {wishart_df}."
        )
    wishart = Wishart.of_paper(c, p) if wishart_df is None else Wishart(c, wishart_df)
    seeds = np.random.default_rng(seed).integers(2**31, size=n_starts).tolist()
    n_effective = min(N_EFFECTIVE if n_effective is None else n_effective, len(z))
    coordinates = Coordinates(centered) if log_depth is None else undo_depth(centered, log_depth)
    task = _Task(coordinates, n_effective, n_components, wishart, learns_wishart, labels)
    best = _search(task, task.first_prior(seeds[0]), seeds[0])
    for start in seeds[1:]:
        best = max(best, _search(task, best.prior, start), key=_likelihood)
    return max(best, _one_cluster(task), key=_likelihood).mixture(z)


class _Task(NamedTuple):
    """Data and options of a search; see :func:`fit_coarsened_mixture`."""

    coordinates: Coordinates
    n_effective: float
    n_components: int
    wishart: Wishart
    learns_wishart: bool
    labels: LabelledCells | None

    @property
    def z(self) -> Tensor:
        """Cells in these coordinates, shape ``(n, p)``."""
        return self.coordinates.z

    def first_prior(self, seed: int) -> LearnedWishart:
        """Return the initial prior of a search: the given one, or one in coordinates found by k-means."""
        if self.learns_wishart:
            first = _k_means_assignments(self.z, self.n_components, seed)
            return LearnedWishart(whitening_of_clusters(self.z, first), self.wishart)
        return LearnedWishart(torch.eye(self.z.shape[1], dtype=self.z.dtype), self.wishart)

    def evidence(self, prior: LearnedWishart, r: Tensor | None = None) -> Evidence:
        """Return closed forms; the share of wrong labels is learned from assignments if they are given."""
        labels = self.labels
        if labels is not None and r is not None:
            labels = labels.with_noise_of(r)
        return prior.evidence(self.z, self.n_effective, labels)

    def first_assignments(self, z: Tensor, seed: int) -> Tensor:
        """Assign cells to the initial components of a search, in any coordinates."""
        r = _k_means_assignments(z, self.n_components, seed)
        return r if self.labels is None else _one_hot(self.labels.split(r.argmax(1)))

    def most_likely_prior(self, r: Tensor, whitening: Tensor) -> LearnedWishart:
        """Learn the prior from assignments, by iterations initialised with these coordinates."""
        any_prior = Wishart.of_paper(1.0, self.z.shape[1])  # statistics do not depend on it
        own = Evidence(self.z, self.n_effective, any_prior).statistics(r)
        return most_likely_matrix(own, whitening, smallest_variance_of(self.z))

    @property
    def most_to_learn_from(self) -> int:
        """Largest number of components whose cells suffice to learn their width."""
        return max(1, len(self.z) // (FEWEST_CELLS * (self.z.shape[1] + 2)))


class _Answer(NamedTuple):
    """Result of one search, in its own coordinates."""

    task: _Task
    evidence: Evidence
    prior: LearnedWishart
    r: Tensor

    @property
    def n_found(self) -> int:
        """Number of clusters."""
        return self.r.shape[1]

    def log_volume(self) -> float:
        """Logarithm of the volume element of the whitening, for all cells."""
        return float(self.evidence.power * self.evidence.n_obs * self.prior.log_volume())

    def classification_likelihood(self) -> float:
        """Classification likelihood in the coordinates of the embedding."""
        return self.evidence.classification_likelihood(self.r) + self.log_volume()

    def mixture(self, z: Tensor) -> CoarsenedMixture:
        """Return the mixture in the coordinates of the embedding, the heaviest component first."""
        labels = self.evidence.labels
        r = self.r if labels is None else labels.completed(self.r)
        r = r[:, r.sum(0).argsort(descending=True)]
        counts = r.sum(0)
        loc = (r.mT @ z) / counts.unsqueeze(-1)
        s = Evidence(z, self.evidence.n_obs, self.prior.wishart).statistics(r)
        return CoarsenedMixture(
            responsibilities=r,
            weights=counts / counts.sum(),
            loc=loc,
            covariance=s.second / counts[:, None, None] - loc.unsqueeze(-1) * loc.unsqueeze(-2),
            free_energy=self.evidence.free_energy(self.r) + self.log_volume(),
            expected_covariance=self.prior.expected_covariance() * self.task.coordinates.mean_square,
            wishart_df=self.prior.wishart.df,
            n_effective=self.task.n_effective,
            component_labels=None if labels is None else labels.of_components(r),
            label_noise=None if labels is None else labels.noise,
        )


def _search(task: _Task, prior: LearnedWishart, seed: int) -> _Answer:
    """Merge the best pair until no merge raises the likelihood; learn the Wishart prior at the same time."""
    evidence = task.evidence(prior)
    r = evidence.sweep(task.first_assignments(evidence.z, seed), SWEEPS_AT_START)
    learned_again_at = float(task.most_to_learn_from)
    while True:
        if task.learns_wishart and r.shape[1] <= learned_again_at:
            prior = task.most_likely_prior(r, prior.whitening)
            evidence = task.evidence(prior, r)
            learned_again_at = LEARNED_AGAIN * r.shape[1]
        merged = _best_merge(evidence, r)
        if merged is not None:
            r = evidence.sweep(merged, SWEEPS_AFTER_MERGE)
            continue
        r = evidence.sweep(r, SWEEPS_AT_START)
        if not task.learns_wishart:
            break
        prior = task.most_likely_prior(r, prior.whitening)
        evidence = task.evidence(prior, r)
        r = evidence.sweep(r, SWEEPS_AT_START)
        learned_again_at = LEARNED_AGAIN * r.shape[1]
        if _best_merge(evidence, r) is None:
            break
    return _Answer(task, evidence, prior, r)


def _likelihood(answer: _Answer) -> float:
    return answer.classification_likelihood()


def _one_cluster(task: _Task) -> _Answer:
    """Return the one-cluster model, the baseline that every clustering must beat.

    Without it, small data sets would be over-split.
    """
    r = task.z.new_ones(len(task.z), 1)
    whitening = whitening_of_clusters(task.z, r)
    prior = task.most_likely_prior(r, whitening) if task.learns_wishart else task.first_prior(0)
    return _Answer(task, task.evidence(prior, r), prior, r)


def _k_means_assignments(z: Tensor, n_components: int, seed: int) -> Tensor:
    n_distinct = len(torch.unique(z, dim=0))
    k_means = KMeans(min(n_components, n_distinct), n_init=1, random_state=seed).fit_predict(z.numpy())
    return _one_hot(torch.as_tensor(k_means).long())


def _one_hot(clusters: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(clusters).double()


def _best_merge(evidence: Evidence, r: Tensor) -> Tensor | None:
    """Responsibilities after the merge that raises the classification likelihood most; ``None`` if none."""
    n_components = r.shape[1]
    if n_components < 2:
        return None
    i, j = torch.triu_indices(n_components, n_components, offset=1)
    gains = merge_gain(evidence.statistics(r), i, j, evidence)
    if evidence.labels is not None:
        gains += evidence.power * evidence.labels.merge_gain(r, i, j)
    gain, at = gains.max(0)
    if gain <= 0:
        return None
    merged = r.clone()
    merged[:, i[at]] += merged[:, j[at]]
    return merged[:, torch.arange(n_components) != j[at]]
