"""A module that owns a prior and its pseudo-inputs: they are built, installed, frozen and loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from vmmscvi.module._encoder_inputs import EncoderInputs, EncoderLayout
from vmmscvi.module._hooks import ModuleHooks
from vmmscvi.module._legacy import convert_state_dict
from vmmscvi.priors import MixturePrior, Prior, PriorConfig, PriorState, StandardNormalPrior

if TYPE_CHECKING:
    from torch.nn import Module
else:
    Module = object  # a mixin for modules


class PriorOwnerMixin(ModuleHooks, Module):
    """Own a prior: parameters, pseudo-inputs, and their state."""

    latent_prior: Prior
    pseudo_inputs: nn.ModuleDict | None
    n_latent: int

    def init_prior(self, config: PriorConfig) -> None:
        """Build the prior; the last step of a constructor.

        Networks are built before, so the same seed gives the same initial weights for every prior.

        Parameters
        ----------
        config
            Configuration of the prior.

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
        """Install an unfitted prior with empty pseudo-inputs, and enable loading of checkpoints.

        Parameters
        ----------
        prior
            The prior.
        """
        self.install_prior(prior, self.empty_pseudo_inputs(prior))
        self.register_load_state_dict_pre_hook(_make_room)  # type: ignore[no-untyped-call]

    def empty_pseudo_inputs(self, prior: Prior) -> nn.ModuleDict | None:
        """Return pseudo-inputs of the right shape for a prior; ``None`` if it has none.

        Parameters
        ----------
        prior
            The prior.
        """
        if not (prior.uses_pseudo_inputs and isinstance(prior, MixturePrior)):
            return None
        return nn.ModuleDict(
            {
                name: EncoderInputs(prior.n_components, layout, self.input_scale)
                for name, layout in self.encoder_layouts().items()
            }
        )

    def encoder_layouts(self) -> dict[str, EncoderLayout]:
        """Return the layout of each encoder's arguments, by name."""
        return {name: EncoderLayout.of(encoder) for name, encoder in self.latent_encoders().items()}

    def install_prior(self, prior: Prior, pseudo_inputs: nn.ModuleDict | None) -> None:
        """Replace prior and pseudo-inputs; optimizers of the old ones must be replaced as well.

        Parameters
        ----------
        prior
            The new prior.
        pseudo_inputs
            Its pseudo-inputs by encoder, ``None`` if it has none.
        """
        device = next(self.parameters()).device
        self.latent_prior = prior.to(device)
        self.pseudo_inputs = None if pseudo_inputs is None else pseudo_inputs.to(device)

    def install_empty_prior(self, n_components: int) -> None:
        """Install an empty prior with another number of components, whose values will be loaded.

        Parameters
        ----------
        n_components
            Number of components.
        """
        if isinstance(self.latent_prior, MixturePrior) and self.latent_prior.n_components != n_components:
            prior = self.latent_prior.with_components(n_components)
            self.install_prior(prior, self.empty_pseudo_inputs(prior))

    def prior_owners(self) -> list[nn.Module]:
        """Return the modules that hold the prior and its pseudo-inputs."""
        return [owner for owner in (self.latent_prior, self.pseudo_inputs) if owner is not None]

    def prior_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters that empirical-Bayes steps fit.

        Empty if the prior is fitted with the ELBO, has no parameters, or is frozen.
        """
        if not self.latent_prior.fitted_by_empirical_bayes or self.latent_prior.is_frozen:
            return []
        return [p for owner in self.prior_owners() for p in owner.parameters() if p.requires_grad]

    @property
    def prior_in_use(self) -> Prior:
        """The prior, or N(0, I) during the warm-up."""
        if self.latent_prior.state is PriorState.WARMING_UP:
            return StandardNormalPrior(self.latent_prior.n_latent)
        return self.latent_prior

    def freeze_prior(self) -> None:
        """Freeze the prior and its stored centres.

        Centres are not encoded again, because an encoder that was extended for new batches would change them.
        """
        self.latent_prior.freeze()
        if self.pseudo_inputs is not None:
            self.pseudo_inputs.requires_grad_(False)

    def unfreeze_prior(self) -> None:
        """Make prior and pseudo-inputs trainable again."""
        self.latent_prior.unfreeze()
        if self.pseudo_inputs is not None:
            self.pseudo_inputs.requires_grad_(True)

    def doubt_new_categories(self) -> None:
        """Give new categories little weight; see :meth:`EncoderInputs.doubt_new_categories`."""
        if self.pseudo_inputs is not None:
            inputs: Any
            for inputs in self.pseudo_inputs.values():
                inputs.doubt_new_categories()


def _make_room(module: PriorOwnerMixin, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Convert older checkpoints, and resize the prior to that of the checkpoint."""
    convert_state_dict(module, state_dict, prefix)
    saved = state_dict.get(f"{prefix}latent_prior.pi_logits")
    if saved is not None:
        module.install_empty_prior(len(saved))
