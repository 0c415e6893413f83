"""What a prior asks of a module, as most modules of scvi-tools answer; others override it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution

from vmmscvi._upstream import MODULE_KEYS
from vmmscvi.module._encoder_inputs import Scale
from vmmscvi.module._posteriors import as_posterior


class ModuleHooks:
    """Where a module has its encoders, posteriors and samples, and how its loss weighs the divergence."""

    input_scale: Scale = "linear"
    """How pseudo-inputs that are positive are moved; see :class:`EncoderInputs`."""
    keeps_inputs_positive: bool = True
    """Whether values that are never negative in the data are kept positive in pseudo-inputs."""
    remedy: str = (
        "Try a smaller learning rate (`lr`), `plan_kwargs={'gradient_clip_val': 10.0}`, or a check of the "
        "data for extreme values."
    )
    """What to try when training stops at a value that is not finite; part of the error message."""

    def latent_encoders(self) -> dict[str, nn.Module]:
        """Return the encoders that lead to ``z``, by name."""
        for name in ("z_encoder", "encoder"):
            if hasattr(self, name):
                return {name: getattr(self, name)}
        raise ValueError(f"{type(self).__name__} has neither `z_encoder` nor `encoder`.")

    def posterior(self, outputs: Any) -> Distribution:
        """Posterior of ``z`` in what ``inference`` returns."""
        return as_posterior(outputs)

    def posterior_of_encoders(self, outputs: dict[str, Any]) -> Distribution:
        """Posterior of ``z`` in what the encoders return, by name; the rows are those of the inputs."""
        (only,) = outputs.values()
        return as_posterior(only)

    def latent_sample(self, outputs: Mapping[str, Any]) -> Tensor:
        """Sample of ``z`` in what ``inference`` returns, shape ``([n_samples,] n, p)``."""
        z: Tensor = outputs[MODULE_KEYS.Z_KEY]
        return z

    def kl_weights(
        self, tensors: dict[str, Tensor], kl_weight: Tensor | float, loss_kwargs: Mapping[str, Any]
    ) -> Tensor | float:
        """Weight of each cell's Kullback-Leibler term in the module's loss, a mean over cells.

        Parameters
        ----------
        tensors
            The minibatch.
        kl_weight
            The argument of the loss.
        loss_kwargs
            Its other arguments.
        """
        return kl_weight

    def log_depth(self, tensors: dict[str, Tensor]) -> Tensor | None:
        """Logarithm of the depth of cells, if cells of little depth lie closer to the embedding's centre."""
        return None
