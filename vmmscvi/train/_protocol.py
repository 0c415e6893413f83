"""What the training plan needs of a module."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from vmmscvi.priors import EmpiricalBayesLoss, Prior


class PriorModule(Protocol):
    """A module with a prior; :class:`vmmscvi.module.PriorModuleMixin` makes one of scvi-tools' modules."""

    latent_prior: Prior

    def prior_parameters(self) -> list[nn.Parameter]:
        """Parameters that empirical-Bayes steps fit."""

    def cache_centers(self) -> None:
        """Store what the prior needs to be evaluated without the encoder."""

    def empirical_bayes_loss(
        self,
        tensors: dict[str, Tensor],
        hyperprior_n_obs: float | None = None,
        inference_outputs: dict[str, Any] | None = None,
    ) -> tuple[EmpiricalBayesLoss, Tensor]:
        """Objective of the prior on a minibatch, and the component of every cell."""
