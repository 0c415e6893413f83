"""A module with a continuous latent space and an interchangeable prior."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from vmmscvi.module._encoder_inputs import InputValues
from vmmscvi.module._evaluation_mode import captured_arguments, evaluation_mode
from vmmscvi.module._generating import GeneratingMixin
from vmmscvi.module._labels import LabelsMixin
from vmmscvi.module._prior_owner import PriorOwnerMixin
from vmmscvi.priors import (
    BayesianMixturePrior,
    Centers,
    EmpiricalBayesLoss,
    MixturePrior,
    PriorState,
)


class PriorModuleMixin(PriorOwnerMixin, LabelsMixin, GeneratingMixin):
    """Add a prior to any module with a continuous ``z``; list it before the module's own class.

    The module keeps its networks, likelihood and loss. The prior replaces N(0, I) by a correction of the loss
    (:func:`vmmscvi.module.with_prior`), and its centres are pseudo-inputs encoded by the module's own
    encoder. :class:`~vmmscvi.module._hooks.ModuleHooks` has the methods that other modules may have to
    override.
    """

    # -- encoding --------------------------------------------------------------------------------------------

    def encode_for_prior(self, tensors: dict[str, Tensor]) -> dict[str, Any]:
        """Return the outputs of ``inference`` for a minibatch, in evaluation mode.

        Parameters
        ----------
        tensors
            The minibatch from the data loader.
        """
        network: Any = self
        with evaluation_mode(self):
            outputs: dict[str, Any] = network.inference(**network._get_inference_input(tensors))
        return outputs

    @torch.no_grad()
    def capture_inputs(self, tensors: dict[str, Tensor]) -> tuple[Distribution, dict[str, InputValues]]:
        """Encode a minibatch in evaluation mode, and capture the inputs of the encoders.

        Parameters
        ----------
        tensors
            The minibatch from the data loader.

        Returns
        -------
        tuple[Distribution, dict[str, InputValues]]
            The posteriors, and the inputs of each encoder by name.
        """
        with captured_arguments(self.latent_encoders()) as calls:
            posterior = self.posterior(self.encode_for_prior(tensors))
        layouts = self.encoder_layouts()
        return posterior, {name: InputValues.of_call(calls[name], layouts[name]) for name in layouts}

    def encode_pseudo_inputs(self) -> Distribution:
        """Encode the pseudo-inputs; the posteriors are the distribution of the centres.

        The encoders are in evaluation mode: without dropout, and with batch-norm statistics that are neither
        computed from the pseudo-inputs nor updated by them.

        Returns
        -------
        Distribution
            ``K`` posteriors.

        Raises
        ------
        ValueError
            If the prior has no pseudo-inputs.
        """
        if self.pseudo_inputs is None:
            raise ValueError(f"A {type(self.latent_prior).__name__} has no pseudo-inputs to encode.")
        outputs = {}
        for name, encoder in self.latent_encoders().items():
            with evaluation_mode(encoder):
                inputs: Any = self.pseudo_inputs[name]
                outputs[name] = encoder(*inputs())
        return self.posterior_of_encoders(outputs)

    def centers(self) -> Centers | None:
        """Return the centres under the current weights; ``None`` if the prior stores them.

        A frozen prior keeps the centres of its training when the encoder changes, so query mapping does not
        move the reference clusters.
        """
        state = self.latent_prior.state
        if self.pseudo_inputs is None or state in (PriorState.FROZEN, PriorState.WARMING_UP):
            return None
        return self.latent_prior.centers_from(self.encode_pseudo_inputs())

    @torch.no_grad()
    def cache_centers(self) -> None:
        """Store the encoded pseudo-inputs in the prior, so that it can be evaluated without the encoder."""
        centers = self.centers()
        if centers is not None:
            self.latent_prior.cache_centers(centers)

    # -- the empirical-Bayes step ----------------------------------------------------------------------------

    def empirical_bayes_loss(
        self,
        tensors: dict[str, Tensor],
        hyperprior_n_obs: float | None = None,
        inference_outputs: dict[str, Any] | None = None,
    ) -> tuple[EmpiricalBayesLoss, Tensor]:
        """Evaluate the objective of the empirical-Bayes step on a minibatch, and assign its cells.

        Cells are encoded in evaluation mode without a gradient. The gradient reaches the prior's parameters
        and, through the encoder, the pseudo-inputs.

        Parameters
        ----------
        tensors
            The minibatch from the data loader.
        hyperprior_n_obs
            See :meth:`vmmscvi.priors.BayesianMixturePrior.empirical_bayes_loss`.
        inference_outputs
            Outputs of ``inference`` for the minibatch; by default it is encoded again.

        Returns
        -------
        tuple[EmpiricalBayesLoss, Tensor]
            The loss, and the most probable component at each posterior mean, shape ``(n,)``.

        Raises
        ------
        ValueError
            If the prior is not fitted by empirical Bayes.
        """
        if not isinstance(self.latent_prior, BayesianMixturePrior):
            raise ValueError(f"A {type(self.latent_prior).__name__} is not fitted by empirical Bayes.")
        if inference_outputs is None:
            with torch.no_grad():
                inference_outputs = self.encode_for_prior(tensors)
        centers = self.centers()
        z = self.latent_sample(inference_outputs).detach()
        labels = self.label_log_likelihood(tensors)
        mean = self.posterior(inference_outputs).mean
        loss = self.latent_prior.empirical_bayes_loss(z, centers, hyperprior_n_obs, labels, assign_at=mean)
        assert loss.assigned is not None  # positions to assign were given
        return loss, loss.assigned

    def assign(self, z: Tensor, centers: Centers | None = None) -> Tensor:
        """Return the most probable component at each position.

        Parameters
        ----------
        z
            Latent positions, shape ``(n, p)``.
        centers
            Distribution of the centres; the cached one by default.

        Returns
        -------
        Tensor
            Indices of components, shape ``(n,)``.

        Raises
        ------
        ValueError
            If the prior has no components.
        """
        prior = self.latent_prior
        if not isinstance(prior, MixturePrior):
            raise ValueError(f"A {type(prior).__name__} has no components to assign.")
        log_joint = prior.component_log_prob(z, centers, density="expected") + prior.pi_logits
        return log_joint.argmax(dim=-1)
