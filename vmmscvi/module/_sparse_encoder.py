"""An encoder that reads only the counts that are not zero, where that is faster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vmmscvi.module._sparse_counts import LatestCounts
from vmmscvi.module._sparse_linear import SparseLinear


class SparseEncoderMixin:
    """For a :class:`scvi.module.VAE`: its inference, with the encoder's first product taken sparsely.

    That product is most of what encoding costs, and nine in ten of its factors are zero.
    """

    z_encoder: Any
    sparse_encoder: bool
    log_variational: bool
    use_observed_lib_size: bool

    def _read_sparsely(self, sparse_encoder: bool) -> None:
        """Let the encoder's first layer read sparse counts; to be called once, after the constructor."""
        self.sparse_encoder = sparse_encoder
        self.latest_counts = LatestCounts()
        first_block = self.z_encoder.encoder.fc_layers[0]
        first_block[0] = SparseLinear.sharing(first_block[0])

    def _regular_inference(self, x: Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Encode cells; arguments as in :meth:`scvi.module.VAE.inference`."""
        encode = super()._regular_inference  # type: ignore[misc]
        outputs: dict[str, Any]
        if self._may_read_sparsely(x):
            counts = self.latest_counts.of(x)
            first_layer: SparseLinear = self.z_encoder.encoder.fc_layers[0][0]
            if first_layer.can_read(counts):
                seen = replace(counts, value=counts.value.log1p()) if self.log_variational else counts
                with first_layer.reading(seen):
                    # encode() needs the counts' totals besides; the layer ignores the column that they become
                    outputs = encode(x.sum(1, keepdim=True), *args, **kwargs)
                    return outputs
        outputs = encode(x, *args, **kwargs)
        return outputs

    def _may_read_sparsely(self, x: Tensor) -> bool:
        return (
            self.sparse_encoder
            and not self.z_encoder._forward_pre_hooks  # which want to see what the encoder is given
            and self.use_observed_lib_size  # else there is another encoder, which reads the counts too
            and not x.requires_grad  # the sparse product has derivatives by the weights only
            and x.device.type == "cpu"
            and x.dim() == 2
            and x.is_contiguous()
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
        )
