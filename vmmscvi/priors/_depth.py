r"""Coordinates that remove the effect of depth on the distance of cells from the centre.

In embeddings of chromatin accessibility, cells with few open peaks lie close to the centre and cells with
many lie far from it. Clusters are then cones, and a mixture of Gaussians mistakes rings of equal depth for
clusters. Let :math:`d` be the logarithm of a cell's depth, and :math:`b` the slope of the regression of the
log-distance from the centre on :math:`d`. Clusters are searched for in :math:`x = z\, e^{-b (d - \bar d)}`.
The logarithm of this map's volume element is 0 on average, so likelihoods remain comparable.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SMALLEST_DISTANCE = 1e-3
"""Lower bound of distances, as a share of the mean distance."""


class Coordinates(NamedTuple):
    """A centred embedding, in the coordinates of the search for clusters.

    Attributes
    ----------
    z
        The coordinates, shape ``(n, p)``.
    mean_square
        Mean over cells of the squared length, in the embedding, of one unit of ``z``.
    """

    z: Tensor
    mean_square: float = 1.0


def undo_depth(centered: Tensor, log_depth: Tensor) -> Coordinates:
    """Scale cells so that their distance from the centre does not depend on their depth.

    Parameters
    ----------
    centered
        Embedding with a mean of zero, shape ``(n, p)``.
    log_depth
        Logarithm of each cell's depth, shape ``(n,)``.

    Raises
    ------
    ValueError
        If a cell has no finite depth, or the shape differs.
    """
    n_wrong = int((~torch.isfinite(log_depth)).sum())
    if log_depth.shape != (len(centered),) or n_wrong:
        raise ValueError(
            f"`log_depth` must be a finite number for each of {len(centered)} cells, found shape "
            f"{tuple(log_depth.shape)} with {n_wrong} values that are not finite."
        )
    distance = centered.norm(dim=1)
    log_distance = distance.clamp(min=SMALLEST_DISTANCE * float(distance.mean()) + 1e-30).log()
    deviation = log_depth.to(centered) - log_depth.to(centered).mean()
    slope = (deviation * log_distance).sum() / deviation.square().sum().clamp(min=1e-30)
    log_scale = -slope.clamp(min=0.0) * deviation
    return Coordinates(centered * torch.exp(log_scale).unsqueeze(1), float(torch.exp(-2 * log_scale).mean()))
