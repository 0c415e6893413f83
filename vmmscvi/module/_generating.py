"""New observations from latent positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vmmscvi._upstream import MODULE_KEYS

if TYPE_CHECKING:
    from torch.nn import Module
else:
    Module = object  # a mixin: the module that it comes before is one


class GeneratingMixin(Module):
    """For a module of scvi-tools with the method ``encode_for_prior``: decode and sample."""

    def sample_observations(
        self, inference_outputs: dict[str, Any], generative_outputs: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Draw observations from what has been decoded, by name.

        Raises
        ------
        ValueError
            If the module's likelihood is not known here.
        """
        raise ValueError(f"{type(self).__name__} cannot sample observations from its prior.")

    @torch.inference_mode()
    def generate(
        self, tensors: dict[str, Tensor], z: Tensor, library_size: float | None = None
    ) -> dict[str, Tensor]:
        """Decode latent positions into observations; what else the decoder needs is that of given cells.

        Parameters
        ----------
        tensors
            A minibatch of ``n`` cells.
        z
            Latent positions, shape ``(n, p)``.
        library_size
            Total count that a cell is expected to have, if the module can be told.

        Returns
        -------
        Observations by name, see :meth:`sample_observations`.

        Raises
        ------
        ValueError
            If the module cannot be told a library size.
        """
        if library_size is not None:
            raise ValueError(f"`library_size` cannot be chosen for {type(self).__name__}: leave it out.")
        module: Any = self
        outputs = {**module.encode_for_prior(tensors), MODULE_KEYS.Z_KEY: z}
        decoded = module.generative(**module._get_generative_input(tensors, outputs))
        return self.sample_observations(outputs, decoded)
