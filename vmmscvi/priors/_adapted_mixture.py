r"""Adaptation of a frozen mixture to the cells of a new batch.

Weights, means and covariances of the reference components are fitted to the new cells by expectation
maximisation with priors at the reference's values, as speech recognition adapts to a new speaker (MAP
adaptation of Gaussian mixtures). Components form groups, the clusters, and share the displacement and width
of their group. Displacements and widths far above those of most components are limited, and a broad
background absorbs cells that fit no component, so new types do not displace known ones.
:mod:`vmmscvi.priors._latent_map` moves cells from the adapted components to those of the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vmmscvi.priors._latent_map import (
    GaussianMoments,
    LatentMap,
    MixtureDensity,
    optimal_transport,
    power_of,
)

N_STEPS = 40
"""Number of steps of expectation maximisation."""
MEAN_COUNTS = 16.0
"""Weight, in cells, of the prior on a displacement of a group or a component."""
COVARIANCE_COUNTS = 50.0
"""Weight, in cells, of the prior on a covariance."""
WEIGHT_COUNTS = 2.0
"""Pseudo-count of each component, so that none loses all weight."""
FARTHEST = 1.0
"""Largest displacement of a component relative to its group, in standard deviations per dimension."""
FARTHEST_GROUP = 2.0
"""Largest displacement of a group, in the same unit."""
N_TIMES_MEDIAN = 1.5
"""Displacements above this multiple of the median are limited, because the cells may be of a new type."""
SMALLEST_LIMIT = 0.25
"""Displacement, in standard deviations per dimension, that is never limited."""
WIDEST = 1.5
"""Largest variance in a direction, relative to the reference and to the median of the components."""
FEWEST_CELLS = 20.0
"""Smallest number of cells of a group or component that contributes to the median."""
BACKGROUND_SCALE = 1.5
"""Standard deviation of the background as a multiple of that of the mixture."""
BACKGROUND_WEIGHT = 0.02


class AdaptedMixture(NamedTuple):
    """A reference mixture and its adaptation to new cells.

    Attributes
    ----------
    reference
        Components of the reference.
    adapted
        Components fitted to the new cells.
    background
        Weight, mean and covariance of the background, for cells that fit no component.
    """

    reference: GaussianMoments
    adapted: GaussianMoments
    background: GaussianMoments

    def to_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return arrays that can be saved to a file."""
        return {
            f"{part}_{name}": value.cpu().numpy()
            for part, moments in self._asdict().items()
            for name, value in moments._asdict().items()
        }

    @classmethod
    def from_dict(cls, arrays: Mapping[str, NDArray[np.float64]]) -> AdaptedMixture:
        """Restore a mixture from the result of :meth:`to_dict`.

        Parameters
        ----------
        arrays
            Result of :meth:`to_dict`.

        Returns
        -------
        AdaptedMixture
            The mixture.
        """
        return cls(
            *(
                GaussianMoments(
                    *(torch.as_tensor(arrays[f"{part}_{name}"]) for name in GaussianMoments._fields)
                )
                for part in cls._fields
            )
        )

    def latent_map(self) -> LatentMap:
        """Return the map from the adapted components to those of the reference."""
        return LatentMap(
            density=MixtureDensity.of(self.adapted, self.background),
            transport=optimal_transport(self.adapted.covariance, self.reference.covariance),
            source=self.adapted.loc,
            target=self.reference.loc,
            shift=self.adapted.weights @ (self.reference.loc - self.adapted.loc),
        )


def adapt_mixture(z: Tensor, reference: GaussianMoments, groups: Tensor | None = None) -> AdaptedMixture:
    """Adapt a mixture to new cells.

    Parameters
    ----------
    z
        Positions of the new cells, shape ``(n, p)``.
    reference
        Components of the reference.
    groups
        Code of the group of each component, shape ``(K,)``. Components of a group move together unless their
        own cells indicate otherwise. By default each component is a group.

    Returns
    -------
    AdaptedMixture
        Reference, adapted components and background, in float64.
    """
    z, reference = z.double(), reference.to(torch.float64)
    groups = torch.arange(len(reference.weights)) if groups is None else groups
    member = torch.nn.functional.one_hot(groups.long()).double()
    background = _background(reference)
    adapted = reference
    for _ in range(N_STEPS):
        r = torch.softmax(MixtureDensity.of(adapted, background).log_joint(z), dim=1)[:, :-1]
        adapted = _maximised(z, r, reference, member)
    return AdaptedMixture(reference, adapted, background)


def _maximised(z: Tensor, r: Tensor, reference: GaussianMoments, member: Tensor) -> GaussianMoments:
    """Return the most probable components given the responsibilities ``(n, K)``.

    A group's displacement is the mean residual of its cells from their own components, so a change in the
    shares of components does not displace the group.
    """
    counts = r.sum(0)
    residual = r.mT @ z - counts[:, None] * reference.loc
    of_group = (member.mT @ residual) / (member.mT @ counts + MEAN_COUNTS)[:, None]
    cells = member @ (member.mT @ counts)
    displacement = _held_back(member @ of_group, reference.covariance, cells, FARTHEST_GROUP)
    own = (residual - counts[:, None] * displacement) / (counts + MEAN_COUNTS)[:, None]
    loc = reference.loc + displacement + _held_back(own, reference.covariance, counts, FARTHEST)
    root, inverse = power_of(reference.covariance, 0.5), power_of(reference.covariance, -0.5)
    white = inverse @ _scatter(z, r, loc) @ inverse
    identity = COVARIANCE_COUNTS * torch.eye(z.shape[1], dtype=z.dtype)
    of_group = torch.einsum("kg,kij->gij", member, white) + identity
    of_group = of_group / (member.mT @ counts + COVARIANCE_COUNTS)[:, None, None]
    expected = torch.einsum("kg,gij->kij", member, of_group)
    white = (white + COVARIANCE_COUNTS * expected) / (counts + COVARIANCE_COUNTS)[:, None, None]
    covariance = root @ _narrowed(white, cells) @ root
    return GaussianMoments(_normalised(counts + WEIGHT_COUNTS), loc, covariance)


def _scatter(z: Tensor, r: Tensor, loc: Tensor) -> Tensor:
    """Weighted sums of squares around ``loc``, shape ``(K, p, p)``; by component, to save memory."""
    centered = ((z - loc[k], r[:, k : k + 1]) for k in range(len(loc)))
    return torch.stack([(x * weight).mT @ x for x, weight in centered])


def moments_of(z: Tensor, responsibilities: Tensor, prior: GaussianMoments) -> GaussianMoments:
    """Compute weights, means and covariances of the cells in each component.

    A component with few cells is shrunk towards the average covariance and the centre of its prior.

    Parameters
    ----------
    z
        Positions of cells, shape ``(n, p)``.
    responsibilities
        Probabilities of the components, shape ``(n, K)``.
    prior
        The components themselves, whose covariances include the uncertainty of single cells.

    Returns
    -------
    GaussianMoments
        Moments in float64.
    """
    z, r = z.double(), responsibilities.double()
    prior = prior.to(torch.float64)
    counts = r.sum(0)
    loc = (r.mT @ z + prior.loc) / (counts + 1.0)[:, None]
    scatter = _scatter(z, r, loc)
    pooled = scatter.sum(0) / counts.sum().clamp_min(1.0)
    n_prior = 2.0 * z.shape[1]
    covariance = (scatter + n_prior * pooled) / (counts + n_prior)[:, None, None]
    return GaussianMoments(_normalised(counts + 1.0), loc, covariance)


def _background(reference: GaussianMoments) -> GaussianMoments:
    mean = reference.weights @ reference.loc
    centered = reference.loc - mean
    between = (reference.weights[:, None] * centered).mT @ centered
    within = torch.einsum("k,kij->ij", reference.weights, reference.covariance)
    return GaussianMoments(
        mean.new_tensor([BACKGROUND_WEIGHT]), mean[None], ((between + within) * BACKGROUND_SCALE**2)[None]
    )


def _held_back(displacement: Tensor, covariance: Tensor, counts: Tensor, farthest: float) -> Tensor:
    """Limit displacements ``(K, p)`` that are far longer than those of most non-empty components."""
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), displacement.unsqueeze(-1), upper=False
    ).squeeze(-1)
    length = white.square().mean(1).sqrt()
    others = length[counts >= FEWEST_CELLS]
    usual = others.median() if len(others) else length.median()
    limit = (N_TIMES_MEDIAN * usual).clamp(SMALLEST_LIMIT, farthest)
    shortened: Tensor = displacement * (limit / torch.maximum(length, limit))[:, None]
    return shortened


def _narrowed(white: Tensor, counts: Tensor) -> Tensor:
    """Limit variances relative to the reference that far exceed the median."""
    values, vectors = torch.linalg.eigh(white)
    widths = values.mean(1)
    others = widths[counts >= FEWEST_CELLS]
    usual = others.median() if len(others) else widths.median()
    bounded = torch.minimum(values, WIDEST * usual.clamp_min(1.0))
    narrowed: Tensor = (vectors * bounded.unsqueeze(-2)) @ vectors.mT
    return narrowed


def _normalised(counts: Tensor) -> Tensor:
    return counts / counts.sum()
