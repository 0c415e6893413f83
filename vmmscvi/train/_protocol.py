"""What the training plan needs of a module."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from vmmscvi.priors import EmpiricalBayesLoss, Prior

NEEDED = ("latent_prior", "prior_parameters", "latent_sample", "cache_centers", "empirical_bayes_loss")
"""Names of what :class:`PriorModule` has."""


class PriorModule(Protocol):
    """A module with a prior; :class:`vmmscvi.module.PriorModuleMixin` makes one of scvi-tools' modules."""

    latent_prior: Prior

    def prior_parameters(self) -> list[nn.Parameter]:
        """Parameters that empirical-Bayes steps fit."""

    def latent_sample(self, outputs: Any) -> Tensor:
        """Sample of ``z`` in what ``inference`` returns."""

    def cache_centers(self) -> None:
        """Store what the prior needs to be evaluated without the encoder."""

    def empirical_bayes_loss(
        self,
        tensors: dict[str, Tensor],
        hyperprior_n_obs: float | None = None,
        inference_outputs: dict[str, Any] | None = None,
    ) -> tuple[EmpiricalBayesLoss, Tensor]:
        """Objective of the prior on a minibatch, and the component of every cell."""


def require_prior_module(module: Any) -> None:
    """Check that a module offers what the plan needs.

    Raises
    ------
    ValueError
        Names what is missing.
    """
    # not by isinstance: since Python 3.12 it overlooks submodules, which a torch module finds by __getattr__
    missing = [name for name in NEEDED if not hasattr(module, name)]
    if missing:
        raise ValueError(
            f"`module` must be a PriorModule, found {type(module).__name__} without {missing}: put "
            "`vmmscvi.module.PriorModuleMixin` before its class."
        )
