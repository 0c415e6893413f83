r"""Embeddings in which depth moves cells towards the centre: coordinates that undo it.

A cell of chromatin accessibility with few open peaks is embedded close to the centre, one with many far from
it. Clusters are cones, and a mixture of Gaussians takes rings of equal depth for clusters. Let :math:`d` be
the logarithm of a cell's depth, and :math:`b` the slope of the regression of the log-distance from the centre
on it. Clusters are looked for in :math:`x = z\, e^{-b (d - \bar d)}`. The logarithm of this map's volume
element is 0 on average, so that likelihoods can be compared.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SMALLEST_DISTANCE = 1e-3
"""Distances below this share of the mean one count as if they had it."""


class Coordinates(NamedTuple):
    """An embedding, centred, in the coordinates that clusters are looked for in.

    Attributes
    ----------
    z
        The coordinates, shape ``(n, p)``.
    mean_square
        Mean over cells of the square of what a unit of ``z`` is in the embedding.
    """

    z: Tensor
    mean_square: float = 1.0


def undo_depth(centered: Tensor, log_depth: Tensor) -> Coordinates:
    """Scale cells so that their distance from the centre does not follow their depth.

    Parameters
    ----------
    centered
        Embedding with a mean of zero, shape ``(n, p)``.
    log_depth
        Logarithm of each cell's depth, shape ``(n,)``.

    Raises
    ------
    ValueError
        If there is not a finite depth for each cell.
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
