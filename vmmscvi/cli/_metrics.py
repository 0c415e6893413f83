"""Score for the mixing of batches in the demo; needs only scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import silhouette_samples


def batch_mixing(embedding: NDArray[np.float32], types: ArrayLike, batches: ArrayLike) -> float:
    r"""Return how well batches are mixed within types: 1 is perfect, 0 is not at all.

    The score is the mean of :math:`1 - |s|` over the cells of a type, then over types, where :math:`s` is the
    silhouette of a cell with respect to the batches of its type, as in scIB [Luecken2022]_.

    Parameters
    ----------
    embedding
        Latent positions, shape ``(n, p)``.
    types, batches
        Labels, shape ``(n,)`` each.

    Returns
    -------
    float
        The score; NaN if no type has cells of two batches.

    References
    ----------
    .. [Luecken2022] Luecken et al., Benchmarking atlas-level data integration in single-cell genomics, Nature
       Methods 19 (2022).
    """
    types, batches = np.asarray(types), np.asarray(batches)
    scores = []
    for name in np.unique(types):
        cells = types == name
        n_batches = len(np.unique(batches[cells]))
        if 1 < n_batches < cells.sum():
            silhouettes = silhouette_samples(embedding[cells], batches[cells])
            scores.append(float(np.mean(1 - np.abs(silhouettes))))
    return float(np.mean(scores)) if scores else float("nan")
