"""The result of the search for the components of an embedding."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


class CoarsenedMixture(NamedTuple):
    """A fitted mixture; components are sorted by weight, the heaviest first.

    If the components were given and not searched for, all fields after ``covariance`` are NaN or ``None``.

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
        :math:`F(r)` in the coordinates of the embedding, for comparing fits to the same data.
    expected_covariance
        Covariance of a cluster that the (given or learned) Wishart prior expects, the inverse of its mean,
        shape ``(p, p)``.
    wishart_df
        Degrees of freedom of the Wishart prior; large values make covariances similar.
    n_effective
        Effective sample size of the fit.
    component_labels
        Label of each component, -1 for none, shape ``(K,)``; ``None`` if no cell was labelled.
    label_noise
        Share of wrong labels, given or learned.
    """

    responsibilities: Tensor
    weights: Tensor
    loc: Tensor
    covariance: Tensor
    free_energy: float = math.nan
    expected_covariance: Tensor | None = None
    wishart_df: float | None = None
    n_effective: float | None = None
    component_labels: Tensor | None = None
    label_noise: float | None = None

    def most_probable_covariance(self, root: Tensor, n_effective: float, variance: Tensor) -> Tensor:
        """Compute the covariances that maximise the empirical-Bayes objective for these assignments.

        Parameters
        ----------
        root
            Root of the inverse of the Wishart prior's scale matrix, shape ``(p, p)``.
        n_effective
            Effective sample size.
        variance
            Covariances of the posteriors, averaged over each component's cells, shape ``(K, p, p)``.

        Returns
        -------
        Tensor
            Covariances of shape ``(K, p, p)``.
        """
        counts = n_effective * self.weights[:, None, None]
        return (root @ root.mT + counts * (self.covariance + variance)) / (counts + 1.0)

    @property
    def covariance_within(self) -> Tensor:
        """Expected covariance of a cluster: that of the Wishart prior, or else the mean over clusters."""
        if self.expected_covariance is not None:
            return self.expected_covariance
        return (self.weights[:, None, None] * self.covariance).sum(0)
