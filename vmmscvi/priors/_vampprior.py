"""The VampPrior of Tomczak & Welling (2018): a uniform mixture of encoded pseudo-inputs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from vmmscvi.priors import functional as F
from vmmscvi.priors._base import Centers, in_full_precision
from vmmscvi.priors._mixture import ComponentDensity, MixturePrior


class VampPrior(MixturePrior):
    r"""The VampPrior :math:`p(z) = \frac1K \sum_j q(z ; u_j)`: each component is a posterior.

    The only parameters are the pseudo-inputs :math:`u_j`, which are fitted with the ELBO. Components have no
    variance beyond that of the posterior, so their predictive and expected densities are the same.

    Parameters
    ----------
    n_components
        Number ``K`` of pseudo-inputs.
    n_latent
        Dimension ``p`` of the latent space.
    """

    uses_pseudo_inputs = True

    def __init__(self, n_components: int, n_latent: int) -> None:
        super().__init__(n_components, n_latent)
        self.register_buffer("pi_logits", torch.zeros(n_components))
        self._register_center_cache()

    @in_full_precision
    def component_log_prob(
        self, z: Tensor, centers: Centers | None = None, density: ComponentDensity = "predictive"
    ) -> Tensor:
        """Log-density of every component at ``z``; see :meth:`MixturePrior.component_log_prob`."""
        loc, scale = self._posteriors(centers)
        return F.center_component_log_prob(z, loc, scale)

    @in_full_precision
    def component_distribution(self, centers: Centers | None = None) -> MultivariateNormal:
        """Return the components, a batch of ``K`` Gaussians."""
        loc, scale = self._posteriors(centers)
        return MultivariateNormal(
            loc, scale_tril=torch.diag_embed(scale) if scale.dim() == loc.dim() else scale
        )

    def _posteriors(self, centers: Centers | None) -> tuple[Tensor, Tensor]:
        loc, scale = self._cached_centers() if centers is None else centers
        if scale is None:
            raise ValueError(
                "`centers.scale` is None; expected the spread of the posteriors at the pseudo-inputs."
            )
        return loc, scale
