"""Embeddings as input of the fits of :mod:`vmmscvi.priors`."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def as_finite_matrix(z: Tensor | NDArray[Any]) -> Tensor:
    """Return an embedding detached, in float64 on the CPU.

    Parameters
    ----------
    z
        Embedding, shape ``(n_obs, p)``.

    Raises
    ------
    ValueError
        If ``z`` is not a matrix, is empty, or has values that are not finite.
    """
    z = torch.as_tensor(z).detach().cpu().double()
    if z.dim() != 2 or not z.numel() or not torch.isfinite(z).all():
        raise ValueError(
            f"`z` must be a finite matrix of shape (n_obs, p), found shape {tuple(z.shape)} with "
            f"{int((~torch.isfinite(z)).sum())} values that are not finite."
        )
    return z
