"""How scVI's VAE encodes pseudo-cells, and minibatches, for a prior that it owns."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from scvi import REGISTRY_KEYS
from torch import Tensor, nn
from torch.distributions import Normal

from vmmscvi.module._prior_owner import PriorOwner, evaluation_mode

if TYPE_CHECKING:
    from vmmscvi.module._pseudo_inputs import PseudoInputs


class PriorMixin(PriorOwner):
    """For a :class:`scvi.module.VAE` with the attributes ``prior`` and ``pseudo_inputs``."""

    pseudo_inputs: PseudoInputs | None
    z_encoder: nn.Module
    l_encoder: nn.Module
    use_observed_lib_size: bool
    log_variational: bool
    encode_covariates: bool
    batch_representation: str

    if TYPE_CHECKING:  # inherited from scvi's modules

        def get_embedding(self, key: str) -> nn.Embedding: ...
        def inference(self, **kwargs: Any) -> dict[str, Any]: ...
        def _get_inference_input(self, tensors: dict[str, Tensor]) -> dict[str, Any]: ...

    def encode_pseudo_inputs(self) -> Normal:
        """Encode the pseudo-inputs: the posteriors that are the distribution of the centres.

        The encoder is in evaluation mode meanwhile: no dropout, and batch-norm statistics neither computed
        from the pseudo-inputs nor updated by them.

        Returns
        -------
        Normal with batch shape ``(K, p)``.

        Raises
        ------
        ValueError
            If the prior has no pseudo-inputs.
        """
        if self.pseudo_inputs is None:
            raise ValueError(f"A {type(self.prior).__name__} has no pseudo-inputs.")
        cells = self.pseudo_inputs(log1p=self.log_variational)
        encoder_input = cells.counts
        covariates: tuple[Tensor, ...] = ()
        if self.encode_covariates:
            if cells.continuous is not None:
                encoder_input = torch.cat((encoder_input, cells.continuous), dim=-1)
            if self.batch_representation == "embedding":
                table = self.get_embedding(REGISTRY_KEYS.BATCH_KEY).weight
                encoder_input = torch.cat((encoder_input, cells.batch @ table), dim=-1)
                covariates = cells.categorical
            else:
                covariates = (cells.batch, *cells.categorical)
        with evaluation_mode(self.z_encoder):
            q_centers: Normal = self.z_encoder(encoder_input, *covariates)[0]
        return q_centers

    def encode_for_prior(self, tensors: dict[str, Tensor]) -> dict[str, Any]:
        """Encode a minibatch in evaluation mode; see :class:`PriorOwner`."""
        # inference runs the encoder of the library size as well, unless the library size is observed
        encoder_of_size = nullcontext() if self.use_observed_lib_size else evaluation_mode(self.l_encoder)
        with evaluation_mode(self.z_encoder), encoder_of_size:
            return self.inference(**self._get_inference_input(tensors))
