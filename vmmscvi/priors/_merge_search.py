"""One search for the clusters of an embedding: coordinate ascent, merges, and the Wishart prior they imply.

:mod:`vmmscvi.priors.coarsened` has the model.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from vmmscvi.priors._depth import Coordinates
from vmmscvi.priors._evidence import Evidence, Wishart, merge_gain
from vmmscvi.priors._found_mixture import CoarsenedMixture
from vmmscvi.priors._labelled_cells import LabelledCells
from vmmscvi.priors._learned_wishart import (
    LearnedWishart,
    most_likely_matrix,
    smallest_variance_of,
    whitening_of_clusters,
)

LEARNED_AGAIN = 0.95
"""The Wishart prior is learned again when the number of components has shrunk to this share."""
FEWEST_CELLS = 2
"""Smallest average number of cells per component, in units of p + 2, for learning the Wishart prior."""
SWEEPS_AT_START, SWEEPS_AFTER_MERGE = 30, 3


class SearchTask(NamedTuple):
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


class SearchResult(NamedTuple):
    """Result of one search, in its own coordinates."""

    task: SearchTask
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


def search(task: SearchTask, prior: LearnedWishart, seed: int) -> SearchResult:
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
    return SearchResult(task, evidence, prior, r)


def likelihood_of(answer: SearchResult) -> float:
    return answer.classification_likelihood()


def one_cluster(task: SearchTask) -> SearchResult:
    """Return the one-cluster model, the baseline that every clustering must beat.

    Without it, small data sets would be over-split.
    """
    r = task.z.new_ones(len(task.z), 1)
    whitening = whitening_of_clusters(task.z, r)
    prior = task.most_likely_prior(r, whitening) if task.learns_wishart else task.first_prior(0)
    return SearchResult(task, task.evidence(prior, r), prior, r)


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
