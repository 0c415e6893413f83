"""Access of the prior to a module, for most modules of scvi-tools; others override these methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution

from vmmscvi._upstream import MODULE_KEYS
from vmmscvi.module._encoder_inputs import Scale
from vmmscvi.module._posteriors import as_posterior


class ModuleHooks:
    """Encoders, posteriors and samples of a module, and the weight of the divergence in its loss."""

    input_scale: Scale = "linear"
    """Scale of positive pseudo-inputs; see :class:`EncoderInputs`."""
    keeps_inputs_positive: bool = True
    """Whether pseudo-inputs are kept positive where the data are never negative."""
    remedy: str = (
        "Try a smaller learning rate (`lr`), `plan_kwargs={'gradient_clip_val': 10.0}`, or a check of the "
        "data for extreme values."
    )
    """Advice in the error message if a loss is not finite."""

    def latent_encoders(self) -> dict[str, nn.Module]:
        """Return the encoders of ``z``, by name."""
        for name in ("z_encoder", "encoder"):
            if hasattr(self, name):
                return {name: getattr(self, name)}
        raise ValueError(
            f"{type(self).__name__} has neither `z_encoder` nor `encoder`: override `latent_encoders`."
        )

    def posterior(self, outputs: Any) -> Distribution:
        """Return the posterior of ``z`` in the outputs of ``inference``.

        Parameters
        ----------
        outputs
            Outputs of ``inference``.
        """
        return as_posterior(outputs)

    def posterior_of_encoders(self, outputs: dict[str, Any]) -> Distribution:
        """Return the posterior of ``z`` from the outputs of the encoders.

        Parameters
        ----------
        outputs
            Outputs of the encoders, by name; one row per input.
        """
        (only,) = outputs.values()
        return as_posterior(only)

    def latent_sample(self, outputs: Mapping[str, Any]) -> Tensor:
        """Return the sample of ``z`` in the outputs of ``inference``, shape ``([n_samples,] n, p)``.

        Parameters
        ----------
        outputs
            Outputs of ``inference``.
        """
        z: Tensor = outputs[MODULE_KEYS.Z_KEY]
        return z

    def kl_weights(
        self, tensors: dict[str, Tensor], kl_weight: Tensor | float, loss_kwargs: Mapping[str, Any]
    ) -> Tensor | float:
        """Return the weight of each cell's Kullback-Leibler term in the module's loss, a mean over cells.

        Parameters
        ----------
        tensors
            The minibatch.
        kl_weight
            Argument ``kl_weight`` of the loss.
        loss_kwargs
            Other arguments of the loss.

        Returns
        -------
        Tensor | float
            The weight, or weights of shape ``(n,)``.
        """
        return kl_weight

    def log_depth(self, tensors: dict[str, Tensor]) -> Tensor | None:
        """Return the logarithm of the cells' depth, if shallow cells lie closer to the embedding's centre.

        Parameters
        ----------
        tensors
            The minibatch.

        Returns
        -------
        Tensor | None
            Log-depths of shape ``(n,)``; ``None`` here.
        """
        return None
