"""Bayesian Gaussian mixtures: the GMM prior and the VampPrior Mixture Model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vmmscvi.priors._base import Centers
from vmmscvi.priors._bayesian_mixture import BayesianMixturePrior
from vmmscvi.priors.coarsened import CoarsenedMixture


class GaussianMixturePrior(BayesianMixturePrior):
    """The Bayesian Gaussian mixture: centres are free parameters, points in the latent space.

    Parameters
    ----------
    n_components, n_latent, inference, responsibilities_in_gradient, wishart_scale
        See :class:`BayesianMixturePrior`.
    """

    def _make_room_for_centers(self) -> None:
        self.loc = nn.Parameter(torch.randn(self.n_components, self.n_latent))

    @torch.no_grad()
    def start_from(self, mixture: CoarsenedMixture, n_effective: float, latent_variance: Tensor) -> None:
        """Take over components; see :meth:`BayesianMixturePrior.start_from`."""
        super().start_from(mixture, n_effective, latent_variance)
        self.loc.copy_(mixture.loc)

    @torch.no_grad()
    def resize(self, n_components: int) -> None:
        """Change the number of components; what they were is forgotten."""
        super().resize(n_components)
        self.loc.data = self.loc.new_zeros(n_components, self.n_latent)

    def _centers(self, centers: Centers | None) -> Centers:
        return Centers(self.loc, None) if centers is None else centers


class VampPriorMixture(BayesianMixturePrior):
    """The VampPrior Mixture Model: the centre of a cluster is the encoder's posterior at a pseudo-input.

    Parameters
    ----------
    n_components, n_latent, inference, responsibilities_in_gradient, wishart_scale
        See :class:`BayesianMixturePrior`.
    """

    uses_pseudo_inputs = True

    def _make_room_for_centers(self) -> None:
        self._register_center_cache()

    @torch.no_grad()
    def resize(self, n_components: int) -> None:
        """Change the number of components; what they were is forgotten."""
        super().resize(n_components)
        self._register_center_cache()
