"""The prior of a plain VAE."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, Normal
from torch.distributions import kl_divergence as analytic_kl_divergence

from vmmscvi.priors._base import Centers, Prior, entropy, in_full_precision
from vmmscvi.priors.functional import LOG_TWO_PI


class StandardNormalPrior(Prior):
    """:math:`p(z) = N(0, I)`, without parameters.

    Parameters
    ----------
    n_latent
        Dimension ``p`` of the latent space.
    """

    @in_full_precision
    def log_prob(self, z: Tensor, centers: Centers | None = None) -> Tensor:
        """Log-density at ``z`` of shape ``(..., p)``; ``centers`` is ignored."""
        return -0.5 * (z.square().sum(-1) + self.n_latent * LOG_TWO_PI)

    @in_full_precision
    def kl_divergence(self, qz: Distribution, z: Tensor, centers: Centers | None = None) -> Tensor:
        """Compute the divergence, in closed form for Gaussian posteriors; else as :class:`Prior`."""
        if isinstance(qz, Normal):
            standard = Normal(torch.zeros_like(qz.loc), torch.ones_like(qz.scale))
            return analytic_kl_divergence(qz, standard).sum(-1)
        if isinstance(qz, MultivariateNormal):
            cross_entropy = 0.5 * (qz.mean.square() + qz.variance + LOG_TWO_PI).sum(-1)
            return cross_entropy - entropy(qz)
        return super().kl_divergence(qz, z, centers)

    def sample(self, n_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw from N(0, I), shape ``(n_samples, p)``, on the CPU."""
        return torch.randn(n_samples, self.n_latent, generator=generator)
