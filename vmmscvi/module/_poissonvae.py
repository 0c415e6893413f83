"""PoissonVI's module with an interchangeable prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vmmscvi.module._vmmvae import VMMVAE

MEAN_INPUT = 0.05
"""Mean over peaks of the encoder's inputs, about that of scATAC log-counts."""
SMALLEST_MEAN = 1e-8
"""Lower bound of a cell's mean, for cells without fragments."""


class POISSONVMMVAE(VMMVAE):
    """:class:`vmmscvi.module.VMMVAE` for fragment counts, with an encoder that does not see the depth.

    Log-counts of scATAC are nearly binary, so a cell with many fragments has larger inputs in every
    direction, and depth would become the strongest direction of the embedding. The decoder does not need it,
    because it receives the cell's total.

    Parameters
    ----------
    n_input
        Number of peaks.
    encode_shares
        Whether to divide the encoder's inputs by their mean over peaks. ``False`` keeps the inputs of
        :class:`scvi.module.VAE`.
    **kwargs
        Further arguments of :class:`vmmscvi.module.VMMVAE`, except ``gene_likelihood``.
    """

    def __init__(self, n_input: int, *, encode_shares: bool = True, **kwargs: Any) -> None:
        super().__init__(n_input, gene_likelihood="poisson", **kwargs)
        if encode_shares:
            self.z_encoder.register_forward_pre_hook(_shares_of(n_input))


def _shares_of(n_features: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    """Make a hook that scales the first columns of an encoder's input, but not the covariates."""

    def scale(encoder: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        values: Tensor = arguments[0]
        features, others = values[..., :n_features], values[..., n_features:]
        means = features.mean(-1, keepdim=True).clamp(min=SMALLEST_MEAN)
        return torch.cat((features / means * MEAN_INPUT, others), dim=-1), *arguments[1:]

    return scale
