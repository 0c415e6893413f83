"""Bayesian Gaussian mixtures: the GMM prior and the VampPrior Mixture Model."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vmmscvi.priors._base import Centers, in_full_precision
from vmmscvi.priors._bayesian_mixture import BayesianMixturePrior
from vmmscvi.priors._found_mixture import CoarsenedMixture


class GaussianMixturePrior(BayesianMixturePrior):
    """The Bayesian Gaussian mixture, whose centres are free parameters (points in the latent space).

    Parameters
    ----------
    n_components, n_latent, inference, responsibilities_in_gradient, wishart_scale
        See :class:`BayesianMixturePrior`.
    """

    def _make_room_for_centers(self) -> None:
        self.loc = nn.Parameter(torch.randn(self.n_components, self.n_latent))

    @torch.no_grad()
    def initialised_from(
        self, mixture: CoarsenedMixture, n_effective: float, latent_variance: Tensor
    ) -> Self:
        """Make a fitted prior; see :meth:`BayesianMixturePrior.initialised_from`."""
        prior = super().initialised_from(mixture, n_effective, latent_variance)
        prior.loc.copy_(mixture.loc)
        return prior

    def _centers(self, centers: Centers | None) -> Centers:
        return Centers(self.loc, None) if centers is None else centers


class VampPriorMixture(BayesianMixturePrior):
    r"""The VampPrior Mixture Model, whose cluster centres are the encoder's posteriors at pseudo-inputs.

    In the paper a pseudo-input is one observation, and its centre is as uncertain as that observation: the
    component is wider than its cluster by the covariance :math:`S_j`. After :meth:`initialised_from`, a
    pseudo-input is the mean of a cluster's observations, and the mean of :math:`n_j` positions has the
    covariance :math:`S_j / n_j`. With the full :math:`S_j`, the networks would adapt to the wide components,
    and posteriors would grow in every epoch until they mask small differences between clusters.

    Parameters
    ----------
    n_components, n_latent, inference, responsibilities_in_gradient, wishart_scale
        See :class:`BayesianMixturePrior`.
    """

    uses_pseudo_inputs = True

    def _make_room_for_centers(self) -> None:
        self._register_center_cache()

    @in_full_precision
    def centers_from(self, q_centers: Distribution) -> Centers:
        r"""Read the centres from the encoder's posteriors at the pseudo-inputs.

        Parameters
        ----------
        q_centers
            See :meth:`vmmscvi.priors.Centers.from_distribution`.

        Returns
        -------
        Centers
            Centres with the encoder's covariances :math:`S_j`; after :meth:`initialised_from` with
            :math:`S_j / n_j`, where :math:`n_j = \max(1, n_{effective}\, \pi_j)`.
        """
        loc, scale = super().centers_from(q_centers)
        if self.n_effective is None or scale is None:
            return Centers(loc, scale)
        counts = (self.n_effective * self.weights.detach()).clamp_min(1.0)
        return Centers(loc, scale * counts.rsqrt().view(-1, *[1] * (scale.dim() - 1)))
