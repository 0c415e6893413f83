"""An encoder that reads only non-zero counts if that is faster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import module as global_hooks

from vmmscvi.module._sparse_counts import counts_of
from vmmscvi.module._sparse_input import SparseInput
from vmmscvi.module._sparse_linear import SparseLinear

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
"""Attributes of a module with hooks that receive its inputs or their gradients."""


class SparseEncoderMixin:
    """Inference of a :class:`scvi.module.VAE` with a sparse product in the encoder's first layer.

    This product dominates the cost of encoding, and nine in ten of its factors are zero.
    """

    z_encoder: Any
    sparse_encoder: bool
    log_variational: bool
    use_observed_lib_size: bool

    def _read_sparsely(self, sparse_encoder: bool) -> None:
        """Make the encoder's first layer read sparse counts; call this once, after the constructor."""
        self.sparse_encoder = sparse_encoder
        first_block = self.z_encoder.encoder.fc_layers[0]
        first_block[0] = SparseLinear.sharing(first_block[0])

    def _regular_inference(self, x: Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Encode cells; arguments as in :meth:`scvi.module.VAE.inference`."""
        encode = super()._regular_inference  # type: ignore[misc]
        cells: Tensor | SparseInput = x
        if self._may_read_sparsely(x):
            totals = x.sum(1)
            counts = counts_of(x, totals)
            if self.z_encoder.encoder.fc_layers[0][0].can_read(counts):
                cells = SparseInput(x, counts, totals)
        outputs: dict[str, Any] = encode(cells, *args, **kwargs)
        return outputs

    def _may_read_sparsely(self, x: Tensor) -> bool:
        return (
            self.sparse_encoder
            and self.use_observed_lib_size  # else a second encoder reads the counts as well
            and not x.requires_grad  # the sparse product is differentiable by the weights only
            and x.device.type == "cpu"
            and x.dim() == 2
            and x.is_contiguous()
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and not self._is_watched()
        )

    def _is_watched(self) -> bool:
        """Whether hooks see the encoder's input, which must then be dense."""
        layers = self.z_encoder.encoder.fc_layers
        first_layer = layers[0][0]
        if not isinstance(first_layer, SparseLinear):  # replaced by the user
            return True
        watched = (self.z_encoder, self.z_encoder.encoder, first_layer)
        return any(hooks for module in watched for hooks in map(module.__dict__.get, HOOKS)) or any(
            getattr(global_hooks, f"_global{name}", None) for name in HOOKS
        )
