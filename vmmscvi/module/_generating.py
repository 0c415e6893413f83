"""Generate observations from latent positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vmmscvi._upstream import MODULE_KEYS

if TYPE_CHECKING:
    from torch.nn import Module
else:
    Module = object  # a mixin for modules


class GeneratingMixin(Module):
    """Decoding and sampling, for a module of scvi-tools with the method ``encode_for_prior``."""

    def sample_observations(
        self, inference_outputs: dict[str, Any], generative_outputs: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Draw observations from the decoder's outputs.

        Parameters
        ----------
        inference_outputs, generative_outputs
            Outputs of the module.

        Returns
        -------
        dict
            Observations by name, shape ``(n, n_features)``.

        Raises
        ------
        ValueError
            If the module does not implement sampling.
        """
        raise ValueError(f"{type(self).__name__} cannot sample observations: override `sample_observations`.")

    @torch.inference_mode()
    def generate(
        self, tensors: dict[str, Tensor], z: Tensor, library_size: float | None = None
    ) -> dict[str, Tensor]:
        """Decode latent positions into observations, with the covariates of given cells.

        Parameters
        ----------
        tensors
            A minibatch of ``n`` cells that supplies all other inputs of the decoder.
        z
            Latent positions, shape ``(n, p)``.
        library_size
            Expected total count of a cell, if the module supports it.

        Returns
        -------
        dict
            Observations by name, see :meth:`sample_observations`.

        Raises
        ------
        ValueError
            If the module does not support a library size.
        """
        if library_size is not None:
            raise ValueError(f"`library_size` cannot be chosen for {type(self).__name__}: leave it out.")
        module: Any = self
        outputs = {**module.encode_for_prior(tensors), MODULE_KEYS.Z_KEY: z}
        decoded = module.generative(**module._get_generative_input(tensors, outputs))
        return self.sample_observations(outputs, decoded)
