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

How wide clusters are, in which directions, how much they differ in that, and how far apart they are, depends
on the data: more genes and deeper counts make clusters narrower, and some directions of an embedding may
hardly be used. Scale matrix and degrees of freedom of the Wishart prior and the confidence :math:`\kappa_0`
of the prior on centres are therefore learned too: the values that maximise the likelihood of the clusters,
updated while components are merged. Where clusters are alike, a further one costs little more than its
centre, and many small ones can be told apart; where they are not, the prior is as vague as the paper's.
Where they are crowded, as in embeddings of chromatin accessibility, a further centre costs less. Learned only
at the end, the prior comes too late: with a vague one alike neighbours are merged, and their union makes it
expect wide clusters. A linear map of the embedding changes next to nothing. What depth does to the distance
of cells from the centre may be undone first (:mod:`vmmscvi.priors._depth`).
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
"""Number of cells that the data count as by default."""
LEARNED_AGAIN = 0.95
"""The Wishart prior is learned again when this share of the components is left since it was."""
FEWEST_CELLS = 2
"""How many times p + 2 cells components hold on average, at least, before it is learned how wide they are."""
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
    """Fit a mixture of Gaussians to an embedding, and find how many components it takes.

    The search starts from k-means with many components and alternates coordinate ascent with the best merge,
    while merging raises the integrated classification likelihood; the Wishart prior is learned on the way.
    Labels of cells are part of the data: see :mod:`vmmscvi.priors._labelled_cells`.

    Parameters
    ----------
    z
        Embedding, shape ``(n_obs, p)``; for instance posterior means.
    n_components
        Number of components at the start, the upper bound of their number.
    n_effective
        Number of cells that the data count as: what so many could not resolve is not split. Rare groups
        need a share of about two cells in so many. More than ``n_obs`` means ``n_obs``. ``None``: 500.
    wishart_scale_factor
        ``c`` of a Wishart prior on precisions with scale matrix ``c I``. By default matrix and degrees of
        freedom are learned.
    seed
        Seed of k-means.
    n_starts
        How often the search is run, from another k-means each time; the answer with the best classification
        likelihood is returned. One search may end in a merge too few or too many.
    wishart_df
        With ``wishart_scale_factor``: degrees of freedom, more than ``p - 1``; ``p + 2`` by default.
    labels
        Labels of some cells. Every label gets a component or more; others stay free.
    log_depth
        Logarithm of each cell's depth, shape ``(n_obs,)``, if cells lie closer to the centre for want of it.

    Returns
    -------
    In float64, on the CPU.

    Raises
    ------
    ValueError
        If ``z`` or ``log_depth`` is not finite or has another shape, or an argument is not positive.
    """
    z = as_finite_matrix(z)
    p = z.shape[1]
    learns_wishart = wishart_scale_factor is None
    centered = z - z.mean(0) if learns_wishart else z  # a given prior is about the origin
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
    """What is fitted to; see :func:`fit_coarsened_mixture`."""

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
        """Return what a search begins with: the given prior, or coordinates that k-means suggests."""
        if self.learns_wishart:
            first = _k_means_assignments(self.z, self.n_components, seed)
            return LearnedWishart(whitening_of_clusters(self.z, first), self.wishart)
        return LearnedWishart(torch.eye(self.z.shape[1], dtype=self.z.dtype), self.wishart)

    def evidence(self, prior: LearnedWishart, r: Tensor | None = None) -> Evidence:
        """Return closed forms; the share of wrong labels is learned from assignments, if there are any."""
        labels = self.labels
        if labels is not None and r is not None:
            labels = labels.with_noise_of(r)
        return prior.evidence(self.z, self.n_effective, labels)

    def first_assignments(self, z: Tensor, seed: int) -> Tensor:
        """Assign cells to the components that a search begins with, in any coordinates."""
        r = _k_means_assignments(z, self.n_components, seed)
        return r if self.labels is None else _one_hot(self.labels.split(r.argmax(1)))

    def most_likely_prior(self, r: Tensor, whitening: Tensor) -> LearnedWishart:
        """Learn the prior from assignments, in iterations that start from these coordinates."""
        any_prior = Wishart.of_paper(1.0, self.z.shape[1])  # statistics do not depend on it
        own = Evidence(self.z, self.n_effective, any_prior).statistics(r)
        return most_likely_matrix(own, whitening, smallest_variance_of(self.z))

    @property
    def most_to_learn_from(self) -> int:
        """Number of components up to which their cells are enough to learn how wide they are."""
        return max(1, len(self.z) // (FEWEST_CELLS * (self.z.shape[1] + 2)))


class _Answer(NamedTuple):
    """What one search has found, in coordinates of its own."""

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
        """Describe it in the coordinates of the embedding, the heaviest component first."""
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
    """Merge components, best pair first, until no merge pays; the Wishart prior is learned on the way."""
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
    """Return what any clusters have to be more likely than; of few cells too much would else be learned."""
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
    """Responsibilities after the merge that raises the classification likelihood most, if any does."""
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
