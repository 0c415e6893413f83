r"""The Normal-Wishart prior that maximises the likelihood: size, shape, similarity and distance of clusters.

A Wishart prior on precisions with any scale matrix has the scale matrix :math:`c I` in suitable coordinates.
Learning the prior therefore means learning a linear map of the embedding, its *whitening*, and the prior in
the new coordinates. The prior on centres has a single parameter, its confidence :math:`\kappa_0`: in every
direction, centres are typically :math:`\kappa_0^{-1/2}` cluster widths from the origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vmmscvi.priors._evidence import CENTER_CONFIDENCE, Evidence, Statistics, Wishart, log_marginal
from vmmscvi.priors._labelled_cells import LabelledCells

PRECISIONS = 2.0 ** (torch.arange(-8, 25, dtype=torch.float64) / 4)
"""Candidates of the expected precision, 1/4 to 64, which sets the size of the scale matrix."""
EXCESS_DEGREES = tuple(2.0 ** (half / 2) for half in range(23))
"""Candidates of the degrees of freedom beyond p + 1, 1 to 2048: weight of the covariance prior, in cells."""
CENTER_CONFIDENCES = tuple(CENTER_CONFIDENCE * 2.0**doubling for doubling in range(8))
"""Candidates of the confidence of the prior on centres, 0.05 to 6.4: from 4.5 down to 0.4 cluster widths."""
SMALLEST_VARIANCE = 1e-4
"""Lower bound of a cluster's variance in every direction, as a share of the mean variance."""
N_ITERATIONS = 4
"""Iterations of EM for the scale matrix per call; the next call continues from the result."""


class LearnedWishart(NamedTuple):
    """Coordinates, as a matrix ``(p, p)`` that multiplies rows from the right, and the prior in them."""

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

    This is expectation maximisation with the precisions as latent variables: with :math:`\nu` degrees of
    freedom the scale matrix becomes :math:`\frac{1}{\nu K} \sum_j E[\Lambda_j]`. In this mean of precisions
    every component has equal weight, and a component that is too wide, such as two unseparated clusters, has
    little influence. It would dominate a mean of covariances.

    Parameters
    ----------
    s
        Statistics of the components in the coordinates of the embedding, cells weighted by the power of
        their likelihood.
    whitening
        Initial coordinates of the iterations, shape ``(p, p)``.
    smallest_variance
        Lower bound of a cluster's variance in every direction, see :func:`smallest_variance_of`.

    Returns
    -------
    LearnedWishart
        Coordinates and prior.
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

    A large value expects crowded clusters. A further cluster then costs less, because its centre is expected
    near the others.

    Parameters
    ----------
    s
        Statistics of the components, cells weighted by the power of their likelihood.
    wishart
        The prior on precisions, in the same coordinates.

    Returns
    -------
    float
        One of ``CENTER_CONFIDENCES``; the smallest for a single component, whose centre is the origin.
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
        Statistics of the components, cells weighted by the power of their likelihood.
    excess_degrees
        Candidates of the degrees of freedom beyond ``p + 1``.
    center_confidence
        :math:`\kappa_0` of the prior on centres.

    Returns
    -------
    Wishart
        The most likely prior among the candidates.
    """
    p = s.first.shape[1]
    confidence = center_confidence + s.counts
    scatter = s.second - torch.einsum("kp,kq->kpq", s.first, s.first) / confidence[:, None, None]
    # these give the determinant after adding any multiple of the identity
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
    """Linear map that gives clusters, on average, unit variance in every direction and no correlation.

    Parameters
    ----------
    z
        Embedding, shape ``(n, p)``.
    r
        Assignments, shape ``(n, K)``.

    Returns
    -------
    Tensor
        Matrix of shape ``(p, p)`` that multiplies ``z`` from the right.
    """
    counts = r.sum(0).clamp_min(torch.finfo(r.dtype).tiny)
    loc = (r.mT @ z) / counts.unsqueeze(-1)
    within = (z.mT @ z - (loc * counts.unsqueeze(-1)).mT @ loc) / len(z)
    values, vectors = torch.linalg.eigh(within)
    whitening: Tensor = vectors * (values.clamp_min(0.0) + smallest_variance_of(z)).rsqrt()
    return whitening


def smallest_variance_of(z: Tensor) -> float:
    """Return the lower bound of a cluster's variance, for an embedding of shape ``(n, p)``."""
    mean_square = float(z.square().mean())
    return SMALLEST_VARIANCE * float(z.var(0, correction=0).mean()) + 1e-8 * mean_square + 1e-30


def _whitening_by(precision: Tensor, smallest_variance: float) -> Tensor:
    values, vectors = torch.linalg.eigh(precision)
    largest = 1.0 / smallest_variance if smallest_variance > 0 else None
    whitening: Tensor = vectors * values.clamp(torch.finfo(values.dtype).tiny, largest).sqrt()
    return whitening
