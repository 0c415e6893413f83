"""Configuration of a model's prior by its users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vmmscvi.priors._base import Prior
from vmmscvi.priors._empirical_bayes import Inference
from vmmscvi.priors._gaussian_mixture import GaussianMixturePrior, VampPriorMixture
from vmmscvi.priors._standard_normal import StandardNormalPrior
from vmmscvi.priors._vampprior import VampPrior
from vmmscvi.priors._wishart import WishartScale

PriorName = Literal["vmm", "gmm", "vampprior", "standard_normal"]


@dataclass(frozen=True)
class PriorConfig:
    """Name and hyper-priors of a prior.

    Parameters
    ----------
    prior
        ``"vmm"``, ``"gmm"`` (the same mixture without pseudo-inputs), ``"vampprior"`` or
        ``"standard_normal"``.
    n_components
        Largest number ``K`` of clusters.
    inference, responsibilities_in_gradient, wishart_scale
        See :class:`vmmscvi.priors.BayesianMixturePrior`; ignored by other priors.
    """

    prior: PriorName = "vmm"
    n_components: int = 100
    inference: Inference = "MAP-DP"
    responsibilities_in_gradient: bool | None = None
    wishart_scale: WishartScale = "learned"

    def __post_init__(self) -> None:
        names = {
            "prior": (self.prior, get_args(PriorName)),
            "inference": (self.inference, get_args(Inference)),
        }
        for argument, (found, known) in names.items():
            if found not in known:
                raise ValueError(f"`{argument}` must be one of {known}, found {found!r}.")

    def build(self, n_latent: int) -> Prior:
        """Build the prior.

        Parameters
        ----------
        n_latent
            Dimension of the latent space.

        Returns
        -------
        Prior
            An unfitted prior.
        """
        if self.prior == "standard_normal":
            return StandardNormalPrior(n_latent)
        if self.prior == "vampprior":
            return VampPrior(self.n_components, n_latent)
        mixture = {"vmm": VampPriorMixture, "gmm": GaussianMixturePrior}[self.prior]
        return mixture(
            self.n_components,
            n_latent,
            self.inference,
            self.responsibilities_in_gradient,
            self.wishart_scale,
        )
