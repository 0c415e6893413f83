r"""Size, shape, likeness and distance of clusters: the Normal-Wishart prior that maximises the likelihood.

A Wishart prior on precisions with any scale matrix has the scale matrix :math:`c I` in other coordinates.
What is learned is therefore a linear map of the embedding, its *whitening*, and the prior there. The prior on
centres has a single parameter, its confidence :math:`\kappa_0`: in every direction centres are
:math:`\kappa_0^{-1/2}` widths of a cluster from the origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vmmscvi.priors._evidence import CENTER_CONFIDENCE, Evidence, Statistics, Wishart, log_marginal
from vmmscvi.priors._labelled_cells import LabelledCells

PRECISIONS = 2.0 ** (torch.arange(-8, 25, dtype=torch.float64) / 4)
"""Expected precisions, 1/4 to 64, that the size of the scale matrix is chosen from."""
EXCESS_DEGREES = tuple(2.0 ** (half / 2) for half in range(23))
"""Degrees of freedom beyond p + 1, 1 to 2048: how many cells the prior on a covariance may count as."""
CENTER_CONFIDENCES = tuple(CENTER_CONFIDENCE * 2.0**doubling for doubling in range(8))
"""Confidences of the prior on centres, 0.05 to 6.4: from 4.5 down to 0.4 widths of a cluster."""
SMALLEST_VARIANCE = 1e-4
"""Share of the mean variance that clusters have in every direction, be it one in which nothing varies."""
N_ITERATIONS = 4
"""Iterations of EM for the scale matrix at a time; the next ones go on from where these have stopped."""


class LearnedWishart(NamedTuple):
    """Coordinates, as the matrix ``(p, p)`` that rows are multiplied with, and the prior in them."""

    whitening: Tensor
    wishart: Wishart
    center_confidence: float = CENTER_CONFIDENCE

    def evidence(self, z: Tensor, n_effective: float, labels: LabelledCells | None = None) -> Evidence:
        """Return the closed forms for these cells and labels, in these coordinates."""
        return Evidence(z @ self.whitening, n_effective, self.wishart, self.center_confidence, labels)

    def log_volume(self) -> Tensor:
        """Log-determinant of the map to these coordinates."""
        log_volume: Tensor = torch.linalg.slogdet(self.whitening).logabsdet
        return log_volume

    def expected_covariance(self) -> Tensor:
        """Inverse of the prior's mean, in the coordinates of the embedding, shape ``(p, p)``."""
        back = torch.linalg.inv(self.whitening)
        covariance: Tensor = back.mT @ back / self.wishart.expected_precision
        return covariance


def most_likely_matrix(s: Statistics, whitening: Tensor, smallest_variance: float) -> LearnedWishart:
    r"""Choose scale matrix, degrees of freedom and confidence in centres, given the components' cells.

    Expectation maximisation, the precisions being what is not observed: with :math:`\nu` degrees of freedom
    the scale matrix becomes :math:`\frac{1}{\nu K} \sum_j E[\Lambda_j]`. It is a mean of precisions, every
    component counted once: one that is too wide, as two clusters that are still together, has little say in
    it, where it would decide the mean of the covariances.

    Parameters
    ----------
    s
        Statistics of the components in the coordinates of the embedding, cells counted by the power of their
        likelihood.
    whitening
        Coordinates that the iterations start from, shape ``(p, p)``.
    smallest_variance
        What the whitening takes for the variance of a cluster in every direction at least:
        :func:`smallest_variance_of`.
    """
    confidence = CENTER_CONFIDENCE
    for _ in range(N_ITERATIONS):
        inner = s.mapped(whitening)
        wishart = most_likely_wishart(inner, center_confidence=confidence)
        confidence = most_likely_confidence(inner, wishart)
        _, _, df, cholesky = Evidence(inner.first, 1.0, wishart, confidence).posterior(inner)
        precision = (df[:, None, None] * torch.cholesky_inverse(cholesky)).mean(0)
        whitening = _whitening_by(whitening @ precision @ whitening.mT, smallest_variance)
    wishart = most_likely_wishart(s.mapped(whitening), center_confidence=confidence)
    return LearnedWishart(whitening, wishart, confidence)


def most_likely_confidence(s: Statistics, wishart: Wishart) -> float:
    """Return the confidence of the prior on centres that maximises the likelihood, given the Wishart prior.

    A large value expects crowded clusters. One more cluster then costs less: its centre is expected near the
    others.

    Parameters
    ----------
    s
        Statistics of the components, cells counted by the power of their likelihood.
    wishart
        The prior on precisions, in the same coordinates.

    Returns
    -------
    One of ``CENTER_CONFIDENCES``; the smallest for a single component, whose centre is the origin anyway.
    """
    if len(s.counts) < 2:
        return CENTER_CONFIDENCES[0]

    def likelihood(confidence: float) -> float:
        return float(Evidence(s.first, 1.0, wishart, confidence).log_marginal(s).sum())

    return max(CENTER_CONFIDENCES, key=likelihood)


def most_likely_wishart(
    s: Statistics,
    excess_degrees: Sequence[float] = EXCESS_DEGREES,
    center_confidence: float = CENTER_CONFIDENCE,
) -> Wishart:
    r"""Choose size and degrees of freedom of a Wishart prior with a multiple of the identity as scale matrix.

    Parameters
    ----------
    s
        Statistics of the components, cells counted by the power of their likelihood.
    excess_degrees
        Degrees of freedom beyond ``p + 1`` to choose from.
    center_confidence
        :math:`\kappa_0` of the prior on centres.
    """
    p = s.first.shape[1]
    confidence = center_confidence + s.counts
    scatter = s.second - torch.einsum("kp,kq->kpq", s.first, s.first) / confidence[:, None, None]
    # whatever multiple of the identity is added, the determinant follows from these
    eigenvalues = torch.linalg.eigvalsh(scatter).clamp_min(0.0)
    likelihoods = []
    for df in (p + 1.0 + excess for excess in excess_degrees):
        scale_factors = PRECISIONS / df
        log_det = (eigenvalues + scale_factors.reciprocal()[:, None, None]).log().sum(-1)
        of_components = log_marginal(scale_factors.unsqueeze(-1), df, s.counts, log_det, p, center_confidence)
        likelihoods.append(of_components.sum(-1))
    at_degrees, at_precision = divmod(int(torch.stack(likelihoods).argmax()), len(PRECISIONS))
    df = p + 1.0 + excess_degrees[at_degrees]
    return Wishart(float(PRECISIONS[at_precision]) / df, df)


def whitening_of_clusters(z: Tensor, r: Tensor) -> Tensor:
    """Linear map after which clusters have, on average, unit variance in every direction and no correlation.

    Parameters
    ----------
    z
        Embedding, shape ``(n, p)``.
    r
        Assignments, shape ``(n, K)``.

    Returns
    -------
    Matrix of shape ``(p, p)``, to multiply ``z`` with from the right.
    """
    counts = r.sum(0).clamp_min(torch.finfo(r.dtype).tiny)
    loc = (r.mT @ z) / counts.unsqueeze(-1)
    within = (z.mT @ z - (loc * counts.unsqueeze(-1)).mT @ loc) / len(z)
    values, vectors = torch.linalg.eigh(within)
    whitening: Tensor = vectors * (values.clamp_min(0.0) + smallest_variance_of(z)).rsqrt()
    return whitening


def smallest_variance_of(z: Tensor) -> float:
    """Return a variance that clusters have in every direction, for an embedding of shape ``(n, p)``."""
    mean_square = float(z.square().mean())
    return SMALLEST_VARIANCE * float(z.var(0, correction=0).mean()) + 1e-8 * mean_square + 1e-30


def _whitening_by(precision: Tensor, smallest_variance: float) -> Tensor:
    values, vectors = torch.linalg.eigh(precision)
    largest = 1.0 / smallest_variance if smallest_variance > 0 else None
    whitening: Tensor = vectors * values.clamp(torch.finfo(values.dtype).tiny, largest).sqrt()
    return whitening
