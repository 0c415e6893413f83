r"""Embeddings whose cells lie on rays: coordinates in which their distance from the centre counts less.

In an embedding of chromatin accessibility, cells with few fragments lie close to the centre and cells with
many far from it: clusters are cones, and a mixture of Gaussians takes rings of equal depth for clusters. With
:math:`r` the Mahalanobis distance from the mean of all cells, :math:`x = z\, r^{-a}` makes cones rounder.
Its volume element is known,

.. math:: \log \left| \frac{\partial x}{\partial z} \right| = \log(1 - a) - a\, p \log r,

so that the likelihoods of clusters in the coordinates of different :math:`a` can be compared, and the data
choose; :math:`a = 0` is the embedding as it is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

EXPONENTS = (0.0, 0.25, 0.5)
""":math:`a`: how much less the distance from the centre counts."""
FEWEST_DIMENSIONS = 3
"""In fewer there is no room for cones beside each other."""
SMALLEST_RADIUS = 1e-3
"""Distances below this share of the mean one count as if they had it."""


class RadialCoordinates(NamedTuple):
    """An embedding, centred, in the coordinates of an exponent.

    Attributes
    ----------
    z
        The coordinates, shape ``(n, p)``.
    log_volume
        Logarithm of the map's volume element, the mean over cells.
    mean_square
        Mean over cells of the square of what a unit of ``z`` is in the embedding.
    """

    z: Tensor
    log_volume: float = 0.0
    mean_square: float = 1.0


def radial_coordinates(centered: Tensor) -> list[RadialCoordinates]:
    """Return the coordinates that clusters are looked for in, the embedding as it is first.

    Parameters
    ----------
    centered
        Embedding with a mean of zero, shape ``(n, p)``.
    """
    n, p = centered.shape
    as_it_is = RadialCoordinates(centered)
    if p < FEWEST_DIMENSIONS or n <= p:
        return [as_it_is]
    precision = torch.linalg.pinv(centered.mT @ centered / n, hermitian=True)
    radius = (((centered @ precision) * centered).sum(1) / p).clamp(min=0.0).sqrt()
    log_radius = radius.clamp(min=SMALLEST_RADIUS).log()
    others = [
        RadialCoordinates(
            centered * torch.exp(-a * log_radius).unsqueeze(1),
            math.log1p(-a) - a * p * float(log_radius.mean()),
            float(torch.exp(2 * a * log_radius).mean()),
        )
        for a in EXPONENTS
        if a
    ]
    return [as_it_is, *others]
