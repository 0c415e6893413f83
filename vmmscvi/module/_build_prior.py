"""Priors by their names."""

from __future__ import annotations

from typing import Literal

from vmmscvi.priors import (
    GaussianMixturePrior,
    Inference,
    Prior,
    StandardNormalPrior,
    VampPrior,
    VampPriorMixture,
    WishartScale,
)

PriorName = Literal["vmm", "gmm", "vampprior", "standard_normal"]


def build_prior(
    prior: PriorName,
    n_components: int,
    n_latent: int,
    inference: Inference = "MAP-DP",
    responsibilities_in_gradient: bool | None = None,
    wishart_scale: WishartScale = "paper",
) -> Prior:
    """Build a prior by its name; the arguments that it has no use for are ignored.

    Parameters
    ----------
    prior
        ``"vmm"``, ``"gmm"``, ``"vampprior"`` or ``"standard_normal"``.
    n_components, n_latent, inference, responsibilities_in_gradient, wishart_scale
        See :class:`vmmscvi.priors.BayesianMixturePrior`.

    Raises
    ------
    ValueError
        If there is no prior of this name, or an argument is out of range.
    """
    if prior == "standard_normal":
        return StandardNormalPrior(n_latent)
    if prior == "vampprior":
        return VampPrior(n_components, n_latent)
    mixtures = {"vmm": VampPriorMixture, "gmm": GaussianMixturePrior}
    if prior not in mixtures:
        raise ValueError(
            f"`prior` must be one of {('vmm', 'gmm', 'vampprior', 'standard_normal')}, found {prior!r}."
        )
    return mixtures[prior](n_components, n_latent, inference, responsibilities_in_gradient, wishart_scale)
