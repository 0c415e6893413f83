"""Embedding of rows in the latent space."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from vmmscvi.module._evaluation_mode import evaluation_mode
from vmmscvi.vae._data import in_chunks

if TYPE_CHECKING:
    from vmmscvi.vae._module import ArrayVAE


class EmbeddedRows(NamedTuple):
    """Rows ``(n, n_features)``, and means and variances of their posteriors ``(n, p)``, on the CPU."""

    x: Tensor
    z: Tensor
    variance: Tensor


@torch.no_grad()
def embed_rows(module: ArrayVAE, x: Tensor) -> EmbeddedRows:
    """Embed rows in evaluation mode, in chunks.

    Parameters
    ----------
    module
        The module, on any device.
    x
        Rows, shape ``(n, n_features)``, on any device.

    Returns
    -------
    EmbeddedRows
        Rows, means and variances.
    """
    device = next(module.parameters()).device
    with evaluation_mode(module):
        posteriors = [module.encode(rows.to(device)) for rows in in_chunks(x)]
    return EmbeddedRows(
        x.cpu(),
        torch.cat([qz.mean.cpu() for qz in posteriors]),
        torch.cat([qz.variance.cpu() for qz in posteriors]),
    )
