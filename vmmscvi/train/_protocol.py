"""The interface of a module that the training plan requires."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from vmmscvi.priors import EmpiricalBayesLoss, Prior

NEEDED = ("latent_prior", "prior_parameters", "latent_sample", "cache_centers", "empirical_bayes_loss")
"""Names of the members of :class:`PriorModule`."""


class PriorModule(Protocol):
    """A module with a prior. :class:`vmmscvi.module.PriorModuleMixin` adds it to modules of scvi-tools."""

    latent_prior: Prior

    def prior_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that empirical-Bayes steps fit."""

    def latent_sample(self, outputs: Any) -> Tensor:
        """Return the sample of ``z`` in the outputs of ``inference``.

        Parameters
        ----------
        outputs
            Outputs of ``inference``.
        """

    def cache_centers(self) -> None:
        """Store the centres, so that the prior can be evaluated without the encoder."""

    def empirical_bayes_loss(
        self,
        tensors: dict[str, Tensor],
        hyperprior_n_obs: float | None = None,
        inference_outputs: dict[str, Any] | None = None,
    ) -> tuple[EmpiricalBayesLoss, Tensor]:
        """Return the objective of the prior on a minibatch, and the component of every cell.

        Parameters
        ----------
        tensors
            The minibatch.
        hyperprior_n_obs
            Number of cells that oppose the hyper-priors; by default that of the prior.
        inference_outputs
            Outputs of ``inference`` for the minibatch; by default it is encoded again.
        """


def require_prior_module(module: Any) -> None:
    """Check that a module has the members of :class:`PriorModule`.

    Raises
    ------
    ValueError
        If members are missing; the message lists them.
    """
    # not isinstance: since Python 3.12 it overlooks submodules, which torch finds by __getattr__
    missing = [name for name in NEEDED if not hasattr(module, name)]
    if missing:
        raise ValueError(
            f"`module` must be a PriorModule, found {type(module).__name__} without {missing}: put "
            "`vmmscvi.module.PriorModuleMixin` before its class."
        )
