"""The base class of mixture priors: VampPrior, Gaussian mixture and VampPrior Mixture Model."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, Self

import torch
from torch import Tensor

from vmmscvi.priors import functional as F
from vmmscvi.priors._base import Centers, Prior, in_full_precision

ComponentDensity = Literal["predictive", "expected"]


class MixturePrior(Prior):
    """A mixture of ``K`` components; subclasses define the components.

    Parameters
    ----------
    n_components
        Number ``K`` of components.
    n_latent
        Dimension ``p`` of the latent space.
    """

    pi_logits: Tensor
    center_loc: Tensor
    center_scale: Tensor

    def __init__(self, n_components: int, n_latent: int) -> None:
        super().__init__(n_latent)
        if n_components < 1:
            raise ValueError(f"`n_components` must be a positive integer, found {n_components}.")
        self.n_components = n_components

    def with_components(self, n_components: int) -> Self:
        """Make an unfitted prior of the same class with another number of components.

        Override this method if the constructor takes more than ``n_components`` and ``n_latent``.

        Parameters
        ----------
        n_components
            Number ``K`` of components.

        Returns
        -------
        Self
            The unfitted prior.
        """
        return type(self)(n_components, self.n_latent)

    @abstractmethod
    def component_log_prob(
        self, z: Tensor, centers: Centers | None = None, density: ComponentDensity = "predictive"
    ) -> Tensor:
        """Log-density of every component at ``z``.

        Parameters
        ----------
        z
            Latent positions, shape ``(..., p)``.
        centers
            Distribution of the centres; the cached one by default.
        density
            ``"predictive"`` integrates the uncertain centre out and is a proper density. ``"expected"`` is
            the expectation of the log-density, used by responsibilities and empirical-Bayes objective.

        Returns
        -------
        Tensor
            Log-densities of shape ``(..., K)``.
        """

    @in_full_precision
    def log_prob(self, z: Tensor, centers: Centers | None = None) -> Tensor:
        """Log-density of the predictive mixture at ``z``.

        Parameters
        ----------
        z
            Latent positions, shape ``(..., p)``.
        centers
            Distribution of the centres; the cached one by default.

        Returns
        -------
        Tensor
            Log-densities of shape ``(...)``.
        """
        return F.mixture_log_prob(self.component_log_prob(z, centers), self.pi_logits)

    @in_full_precision
    def responsibilities(self, z: Tensor, centers: Centers | None = None) -> Tensor:
        """Posterior probability of every component at ``z``: the soft cluster assignments.

        Parameters
        ----------
        z
            Latent positions, shape ``(..., p)``.
        centers
            Distribution of the centres; the cached one by default.

        Returns
        -------
        Tensor
            Responsibilities of shape ``(..., K)``, with rows that sum to one.
        """
        return F.responsibilities(self.component_log_prob(z, centers, density="expected"), self.pi_logits)

    @property
    def weights(self) -> Tensor:
        """Mixing weights, shape ``(K,)``, summing to one."""
        return torch.softmax(self.pi_logits, dim=-1)

    @abstractmethod
    def component_distribution(
        self, centers: Centers | None = None
    ) -> torch.distributions.MultivariateNormal:
        """Return the predictive components as one batch of ``K`` Gaussians.

        Parameters
        ----------
        centers
            Distribution of the centres; the cached one by default.

        Returns
        -------
        MultivariateNormal
            Gaussians with batch shape ``(K,)``.
        """

    @torch.no_grad()
    @in_full_precision
    def sample(
        self,
        n_samples: int,
        generator: torch.Generator | None = None,
        component: int | None = None,
        centers: Centers | None = None,
    ) -> Tensor:
        """Draw latent positions from the predictive mixture, or from one of its components.

        Parameters
        ----------
        n_samples
            Number of draws.
        generator
            Source of randomness on the prior's device; torch's global one by default.
        component
            Index of the component to draw from; by default all components, with their weights.
        centers
            Distribution of the centres; the cached one by default.

        Returns
        -------
        Tensor
            Latent positions of shape ``(n_samples, p)``.
        """
        if component is not None and not 0 <= component < self.n_components:
            raise ValueError(f"`component` must be between 0 and {self.n_components - 1}, found {component}.")
        gaussians = self.component_distribution(centers)
        if component is None:
            chosen = torch.multinomial(self.weights, n_samples, replacement=True, generator=generator)
        else:
            chosen = torch.full((n_samples,), component, device=gaussians.loc.device)
        noise = torch.randn(
            n_samples, self.n_latent, 1, generator=generator, device=gaussians.loc.device,
            dtype=gaussians.loc.dtype,
        )  # fmt: skip
        return gaussians.loc[chosen] + (gaussians.scale_tril[chosen] @ noise).squeeze(-1)

    def _register_center_cache(self) -> None:
        """Add buffers for the encoded pseudo-inputs, which are saved with the model; NaN until cached."""
        shape = (self.n_components, self.n_latent)
        for name in ("center_loc", "center_scale"):
            self.register_buffer(name, torch.full(shape, torch.nan, device=self.pi_logits.device))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Resize the buffer to the saved spread, standard deviations or Cholesky factors."""
        saved = state_dict.get(f"{prefix}center_scale")
        shape = (self.n_components, self.n_latent)
        if self.uses_pseudo_inputs and saved is not None and saved.shape in (shape, (*shape, self.n_latent)):
            self.center_scale = self.center_scale.new_full(saved.shape, torch.nan)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @in_full_precision
    def cache_centers(self, centers: Centers) -> None:
        """Store the centres, so that the prior can be evaluated without the encoder.

        Parameters
        ----------
        centers
            Distribution of the centres.
        """
        if not self.uses_pseudo_inputs:
            return
        if centers.scale is None:
            raise ValueError("`centers.scale` is None; expected the spread of encoded pseudo-inputs.")
        self.center_loc = centers.loc.detach().clone()
        self.center_scale = centers.scale.detach().clone()

    def _cached_centers(self) -> Centers:
        if self.center_loc.isnan().any():
            raise ValueError(
                "`centers` is None and no centres are cached: pass encoded pseudo-inputs, or call "
                "`cache_centers` first."
            )
        return Centers(self.center_loc, self.center_scale)
