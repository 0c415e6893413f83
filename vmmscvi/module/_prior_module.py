"""A module with a continuous latent space and a prior of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vmmscvi.module._encoder_inputs import EncoderInputs, EncoderLayout, InputValues
from vmmscvi.module._evaluation_mode import captured_arguments, evaluation_mode
from vmmscvi.module._generating import GeneratingMixin
from vmmscvi.module._hooks import ModuleHooks
from vmmscvi.module._labels import LabelsMixin
from vmmscvi.module._legacy import convert_state_dict
from vmmscvi.priors import (
    BayesianMixturePrior,
    Centers,
    EmpiricalBayesLoss,
    MixturePrior,
    Prior,
    PriorConfig,
    PriorState,
    StandardNormalPrior,
)


class PriorModuleMixin(ModuleHooks, LabelsMixin, GeneratingMixin):
    """For any module with a continuous ``z``; comes before the module's own class.

    The module keeps its networks, likelihood and loss. The prior replaces N(0, I) as a correction of the loss
    (:func:`vmmscvi.module.with_prior`), and its centres are what the module's own encoder makes of
    pseudo-inputs. :class:`ModuleHooks` has what another module may have to override.
    """

    latent_prior: Prior
    pseudo_inputs: nn.ModuleDict | None
    n_latent: int

    # -- the prior -------------------------------------------------------------------------------------------

    def init_prior(self, config: PriorConfig) -> None:
        """Give the module its prior; the last step of a constructor.

        Networks come first: they start from the same weights whatever the prior, given the same seed.

        Raises
        ------
        ValueError
            If the module transforms its latent space.
        """
        distribution = getattr(self, "latent_distribution", "normal")
        if distribution != "normal":
            raise ValueError(
                f"`latent_distribution` must be 'normal', found {distribution!r}: the prior is a density on "
                "untransformed latent positions."
            )
        self.own_prior(config.build(self.n_latent))

    def own_prior(self, prior: Prior) -> None:
        """Own an unfitted prior from now on, and make room for its pseudo-inputs."""
        self.install_prior(prior, self.empty_pseudo_inputs(prior))
        self.register_load_state_dict_pre_hook(_make_room)  # type: ignore[no-untyped-call]

    def empty_pseudo_inputs(self, prior: Prior) -> nn.ModuleDict | None:
        """Make room for a prior's pseudo-inputs, ``None`` if it has none."""
        if not (prior.uses_pseudo_inputs and isinstance(prior, MixturePrior)):
            return None
        return nn.ModuleDict(
            {
                name: EncoderInputs(prior.n_components, layout, self.input_scale)
                for name, layout in self.encoder_layouts().items()
            }
        )

    def encoder_layouts(self) -> dict[str, EncoderLayout]:
        """Tell what each encoder is called with."""
        return {name: EncoderLayout.of(encoder) for name, encoder in self.latent_encoders().items()}

    def install_prior(self, prior: Prior, pseudo_inputs: nn.ModuleDict | None) -> None:
        """Replace prior and pseudo-inputs by new ones. Whoever optimises the old ones must be told."""
        device = next(self.parameters()).device
        self.latent_prior = prior.to(device)
        self.pseudo_inputs = None if pseudo_inputs is None else pseudo_inputs.to(device)

    def install_empty_prior(self, n_components: int) -> None:
        """Make room for a prior with another number of components, whose values are about to be loaded."""
        if isinstance(self.latent_prior, MixturePrior) and self.latent_prior.n_components != n_components:
            prior = self.latent_prior.with_components(n_components)
            self.install_prior(prior, self.empty_pseudo_inputs(prior))

    def prior_owners(self) -> list[nn.Module]:
        """Modules that hold what belongs to the prior."""
        return [owner for owner in (self.latent_prior, self.pseudo_inputs) if owner is not None]

    def prior_parameters(self) -> list[nn.Parameter]:
        """Trainable parameters that empirical-Bayes steps fit.

        Empty where the prior is fitted with the ELBO, has no parameters, or is frozen.
        """
        if not self.latent_prior.fitted_by_empirical_bayes or self.latent_prior.is_frozen:
            return []
        return [p for owner in self.prior_owners() for p in owner.parameters() if p.requires_grad]

    @property
    def prior_in_use(self) -> Prior:
        """The prior, or N(0, I) while the networks warm up for it."""
        if self.latent_prior.state is PriorState.WARMING_UP:
            return StandardNormalPrior(self.latent_prior.n_latent)
        return self.latent_prior

    def freeze_prior(self) -> None:
        """Keep prior and centres as they were last stored, whatever is trained.

        They are not encoded anew: an encoder that was extended for new batches has other ones.
        """
        self.latent_prior.freeze()
        if self.pseudo_inputs is not None:
            self.pseudo_inputs.requires_grad_(False)

    def unfreeze_prior(self) -> None:
        """Let prior and pseudo-inputs be trained again."""
        self.latent_prior.unfreeze()
        if self.pseudo_inputs is not None:
            self.pseudo_inputs.requires_grad_(True)

    def doubt_new_categories(self) -> None:
        """See :meth:`EncoderInputs.doubt_new_categories`."""
        if self.pseudo_inputs is not None:
            inputs: Any
            for inputs in self.pseudo_inputs.values():
                inputs.doubt_new_categories()

    # -- encoding --------------------------------------------------------------------------------------------

    def encode_for_prior(self, tensors: dict[str, Tensor]) -> dict[str, Any]:
        """Run ``inference`` on a minibatch in evaluation mode."""
        network: Any = self
        with evaluation_mode(self):
            outputs: dict[str, Any] = network.inference(**network._get_inference_input(tensors))
        return outputs

    @torch.no_grad()
    def capture_inputs(self, tensors: dict[str, Tensor]) -> tuple[Distribution, dict[str, InputValues]]:
        """Encode a minibatch in evaluation mode, and catch what the encoders are called with.

        Parameters
        ----------
        tensors
            The minibatch, as the data loader gives it.

        Returns
        -------
        The posteriors, and the inputs of each encoder, by name.
        """
        with captured_arguments(self.latent_encoders()) as calls:
            posterior = self.posterior(self.encode_for_prior(tensors))
        layouts = self.encoder_layouts()
        return posterior, {name: InputValues.of_call(calls[name], layouts[name]) for name in layouts}

    def encode_pseudo_inputs(self) -> Distribution:
        """Encode the pseudo-inputs: the posteriors that are the distribution of the centres.

        The encoders are in evaluation mode meanwhile: no dropout, and batch-norm statistics neither computed
        from the pseudo-inputs nor updated by them.

        Raises
        ------
        ValueError
            If the prior has no pseudo-inputs.
        """
        if self.pseudo_inputs is None:
            raise ValueError(f"A {type(self.latent_prior).__name__} has no pseudo-inputs.")
        outputs = {}
        for name, encoder in self.latent_encoders().items():
            with evaluation_mode(encoder):
                inputs: Any = self.pseudo_inputs[name]
                outputs[name] = encoder(*inputs())
        return self.posterior_of_encoders(outputs)

    def centers(self) -> Centers | None:
        """Distribution of the centres under the current weights, ``None`` where the prior knows them.

        A frozen prior keeps the centres of its training, however the encoder changes: reference clusters stay
        where they are when a query is mapped.
        """
        state = self.latent_prior.state
        if self.pseudo_inputs is None or state in (PriorState.FROZEN, PriorState.WARMING_UP):
            return None
        return self.latent_prior.centers_from(self.encode_pseudo_inputs())

    @torch.no_grad()
    def cache_centers(self) -> None:
        """Store the encoded pseudo-inputs in the prior, which can then be evaluated without the encoder."""
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
        """Most probable component at ``z`` of shape ``(n, p)``; shape ``(n,)``.

        Raises
        ------
        ValueError
            If the prior has no components.
        """
        prior = self.latent_prior
        if not isinstance(prior, MixturePrior):
            raise ValueError(f"A {type(prior).__name__} has no components.")
        log_joint = prior.component_log_prob(z, centers, density="expected") + prior.pi_logits
        return log_joint.argmax(dim=-1)


def _make_room(module: PriorModuleMixin, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Read older checkpoints, and make the prior as large as the one that is loaded."""
    convert_state_dict(module, state_dict, prefix)
    saved = state_dict.get(f"{prefix}latent_prior.pi_logits")
    if saved is not None:
        module.install_empty_prior(len(saved))
