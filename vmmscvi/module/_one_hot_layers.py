"""Layers that make one-hot vectors without asking the device for the range of their codes."""

from __future__ import annotations

from typing import Any

import torch
from scvi.nn import FCLayers
from torch import Tensor, nn


class OneHotLayers(FCLayers):
    """:class:`scvi.nn.FCLayers` with the same results.

    :func:`torch.nn.functional.one_hot` copies the smallest and the largest code to the host each time it is
    called on a CPU; codes have been checked when the data were set up.
    """

    @classmethod
    def replace_in(cls, network: nn.Module) -> None:
        """Let the layers of an encoder or decoder be of this class; names and parameters stay."""
        for layers in network.modules():
            if type(layers) is FCLayers:
                layers.__class__ = cls

    def forward(self, x: Any, *cat_list: Any, cont: Tensor | None = None) -> Tensor:
        """Apply the layers; arguments as in :class:`scvi.nn.FCLayers`."""
        wide = [
            codes if n < 2 or codes is None or codes.shape[1] == n else _one_hot(codes, n)
            for n, codes in zip(self.n_cat_list, cat_list, strict=False)
        ]
        applied: Tensor = super().forward(x, *wide, *cat_list[len(wide) :], cont=cont)
        return applied


def _one_hot(codes: Tensor, n: int) -> Tensor:
    """Compare codes ``(n_obs, 1)`` with ``n`` categories; shape ``(n_obs, n)``."""
    return (codes == torch.arange(n, device=codes.device)).to(torch.get_default_dtype())
