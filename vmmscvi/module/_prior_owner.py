"""What a module does with a prior that it owns: centres from pseudo-inputs, empirical Bayes, assignments."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from scvi.module._constants import MODULE_KEYS
from torch import Tensor, nn
from torch.distributions import Distribution

from vmmscvi.priors import (
    BayesianMixturePrior,
    Centers,
    EmpiricalBayesLoss,
    MixturePrior,
    Prior,
    StandardNormalPrior,
)


class PriorOwner:
    """For any module with a continuous latent space and the attributes ``prior`` and ``pseudo_inputs``."""

    prior: Prior
    pseudo_inputs: nn.Module | None

    def prior_parameters(self) -> list[nn.Parameter]:
        """Trainable parameters that empirical-Bayes steps fit.

        Empty where the prior is fitted with the ELBO, has no parameters, or is frozen.
        """
        if not self.prior.fitted_by_empirical_bayes or self.prior.is_frozen:
            return []
        owners = [self.prior] if self.pseudo_inputs is None else [self.prior, self.pseudo_inputs]
        return [p for owner in owners for p in owner.parameters() if p.requires_grad]

    @property
    def prior_in_use(self) -> Prior:
        """The prior, or N(0, I) while the networks warm up for it."""
        return self.prior if self.prior.is_started else StandardNormalPrior(self.prior.n_latent)

    @abstractmethod
    def encode_pseudo_inputs(self) -> Distribution:
        """Encode the pseudo-inputs in evaluation mode: the distribution of the centres, one for each."""

    @abstractmethod
    def encode_for_prior(self, tensors: dict[str, Tensor]) -> dict[str, Any]:
        """Encode a minibatch in evaluation mode: posteriors under ``"qz"``, samples of them under ``"z"``."""

    def centers(self) -> Centers | None:
        """Distribution of the centres under the current weights, ``None`` where the prior knows them.

        A frozen prior keeps the centres of its training, however the encoder changes: reference clusters stay
        where they are when a query is mapped.
        """
        if self.pseudo_inputs is None or self.prior.is_frozen or not self.prior.is_started:
            return None
        return self.prior.centers_from(self.encode_pseudo_inputs())

    def freeze_prior(self) -> None:
        """Keep prior and centres as they were last stored, whatever is trained.

        They are not encoded anew: an encoder that was extended for new batches has other ones.
        """
        self.prior.freeze()
        if self.pseudo_inputs is not None:
            self.pseudo_inputs.requires_grad_(False)

    def unfreeze_prior(self) -> None:
        """Let prior and pseudo-inputs be trained again."""
        self.prior.unfreeze()
        if self.pseudo_inputs is not None:
            self.pseudo_inputs.requires_grad_(True)

    @torch.no_grad()
    def cache_centers(self) -> None:
        """Store the encoded pseudo-inputs in the prior, which can then be evaluated without the encoder."""
        centers = self.centers()
        if centers is not None:
            self.prior.cache_centers(centers)

    def empirical_bayes_loss(
        self,
        tensors: dict[str, Tensor],
        hyperprior_n_obs: float | None = None,
        inference_outputs: dict[str, Any] | None = None,
    ) -> tuple[EmpiricalBayesLoss, Tensor]:
        """Objective of the empirical-Bayes step on a minibatch, and the component of every cell.

        Cells are encoded in evaluation mode without a gradient; the gradient reaches the prior's own
        parameters and, through the encoder, the pseudo-inputs.

        Parameters
        ----------
        tensors
            The minibatch, as the data loader gives it.
        hyperprior_n_obs
            See :meth:`vmmscvi.priors.BayesianMixturePrior.empirical_bayes_loss`.
        inference_outputs
            What encoding the minibatch gave, if it need not be encoded again.

        Returns
        -------
        The loss, and the most probable component at each posterior mean, shape ``(n,)``.

        Raises
        ------
        ValueError
            If the prior is not fitted by empirical Bayes.
        """
        if not isinstance(self.prior, BayesianMixturePrior):
            raise ValueError(f"A {type(self.prior).__name__} is not fitted by empirical Bayes.")
        if inference_outputs is None:
            with torch.no_grad():
                inference_outputs = self.encode_for_prior(tensors)
        centers = self.centers()
        z = inference_outputs[MODULE_KEYS.Z_KEY].detach()
        loss = self.prior.empirical_bayes_loss(z, centers, hyperprior_n_obs)
        with torch.no_grad():
            assigned = self.assign(inference_outputs[MODULE_KEYS.QZ_KEY].loc, centers)
        return loss, assigned

    def assign(self, z: Tensor, centers: Centers | None = None) -> Tensor:
        """Most probable component at ``z`` of shape ``(n, p)``; shape ``(n,)``.

        Raises
        ------
        ValueError
            If the prior has no components.
        """
        if not isinstance(self.prior, MixturePrior):
            raise ValueError(f"A {type(self.prior).__name__} has no components.")
        log_joint = self.prior.component_log_prob(z, centers, density="expected") + self.prior.pi_logits
        return log_joint.argmax(dim=-1)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for a while, and give every layer its own mode back afterwards.

    Parameters
    ----------
    network
        The network, any of whose layers may be in either mode.
    """
    in_training = [layer for layer in network.modules() if layer.training]
    # a module's own assignment looks for parameters and buffers first, every time
    for layer in in_training:
        object.__setattr__(layer, "training", False)
    try:
        yield
    finally:
        for layer in in_training:
            object.__setattr__(layer, "training", True)
