"""The prior as a ``torch.distributions.Distribution``, as scvi-tools expects for ``pz``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vmmscvi.priors import Centers, MixturePrior, Prior


class PriorDistribution(Distribution):
    """Density of the latent space, with centres encoded by the module.

    Centres are encoded once, when first needed, because ``generative`` is also called without use of the
    prior.

    Parameters
    ----------
    prior
        The prior.
    encode_centers
        Function that returns the distribution of the centres, or ``None`` if the prior stores them.
    """

    arg_constraints = {}  # noqa: RUF012
    support = torch.distributions.constraints.real_vector
    has_rsample = False

    def __init__(self, prior: Prior, encode_centers: Callable[[], Centers | None]) -> None:
        super().__init__(event_shape=torch.Size([prior.n_latent]), validate_args=False)
        self._prior = prior
        self._encode_centers = encode_centers
        self._encoded: tuple[Centers | None] | None = None

    @property
    def centers(self) -> Centers | None:
        """Distribution of the centres."""
        if self._encoded is None:
            self._encoded = (self._encode_centers(),)
        return self._encoded[0]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density at ``value`` of shape ``(..., p)``; the result has shape ``(...)``."""
        return self._prior.log_prob(value, self.centers)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:  # noqa: B008
        """Draw latent positions, shape ``(*sample_shape, p)``."""
        n_samples = int(torch.Size(sample_shape).numel())
        if isinstance(self._prior, MixturePrior):
            z = self._prior.sample(n_samples, centers=self.centers)
        else:
            z = self._prior.sample(n_samples)
        return z.reshape(*sample_shape, self._prior.n_latent)
