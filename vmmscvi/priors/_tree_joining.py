r"""Join parts and clusters to a tree: the pair that needs the most cells to be separated is joined first.

The scatter matrix of a group at the effective sample size :math:`n` is, up to a rank-one term, linear in
:math:`n`. One eigendecomposition for each pair of groups therefore gives the gain of a merge at every
:math:`n`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vmmscvi.priors._evidence import CENTER_CONFIDENCE, CONCENTRATION, Statistics, Wishart, log_marginal

SMALLEST_SCALE, LARGEST_SCALE, STEPS_PER_DECADE = 1.0, 1e7, 8
GROUPS_PER_CHUNK = 4096


def scales() -> NDArray[np.float64]:
    """Effective sample sizes at which gains are evaluated, ascending."""
    n_steps = round(math.log10(LARGEST_SCALE / SMALLEST_SCALE) * STEPS_PER_DECADE) + 1
    return np.geomspace(SMALLEST_SCALE, LARGEST_SCALE, n_steps)


def join(
    shares: Statistics, parents: Sequence[str], wishart: Wishart
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Join groups until one is left; parts of the same parent first.

    Parameters
    ----------
    shares
        Sufficient statistics of the leaves as shares of one cell.
    parents
        Name of the cluster that each leaf is a part of.
    wishart
        Prior on precisions.

    Returns
    -------
    tuple of numpy.ndarray
        Merges, shape ``(n_leaves - 1, 2)``, and the largest effective sample size at which each raises the
        likelihood, never increasing.
    """
    groups = _Groups(shares, wishart)
    merges: list[tuple[int, int]] = []
    thresholds: list[float] = []
    codes = {name: code for code, name in enumerate(dict.fromkeys(parents))}
    owner_of_leaf = np.array([codes[parent] for parent in parents])
    owners = np.concatenate((owner_of_leaf, np.zeros(len(parents) - 1, dtype=int)))
    for restricted in (True, False):
        owners = owners if restricted else np.zeros_like(owners)
        groups.compare(owners)
        while (best := groups.best_pair()) is not None:
            i, j, threshold = best
            merges.append((i, j))
            thresholds.append(threshold)
            new = groups.merge(i, j)
            owners[new] = owners[i]
            groups.compare_one(new, owners)
    never_increasing = np.minimum.accumulate(np.array(thresholds, dtype=float))
    return np.array(merges, dtype=np.int64).reshape(-1, 2), never_increasing


class _Groups:
    """Leaves and their unions, with the level of every pair that may be joined."""

    def __init__(self, shares: Statistics, wishart: Wishart) -> None:
        n_leaves, p = shares.first.shape
        n_nodes = 2 * n_leaves - 1
        self.n_leaves, self.n_nodes, self.wishart = n_leaves, n_leaves, wishart
        self.shares = Statistics(
            shares.counts.new_zeros(n_nodes),
            shares.first.new_zeros(n_nodes, p),
            shares.second.new_zeros(n_nodes, p, p),
        )
        for kept, given in zip(self.shares, shares, strict=True):
            kept[:n_leaves] = given
        self.is_alive = np.zeros(n_nodes, dtype=bool)
        self.is_alive[:n_leaves] = True
        self.alone = torch.zeros(n_nodes, len(scales()), dtype=shares.counts.dtype)
        self.alone[:n_leaves] = log_evidence(shares, wishart)
        self.table = np.full((n_nodes, n_nodes), -math.inf)

    def compare(self, owners: NDArray[np.int64]) -> None:
        """Evaluate all pairs of groups with the same owner."""
        alive = np.flatnonzero(self.is_alive)
        i, j = np.triu_indices(len(alive), 1)
        first, second = alive[i], alive[j]
        same = owners[first] == owners[second]
        self._evaluate(first[same], second[same])

    def compare_one(self, new: int, owners: NDArray[np.int64]) -> None:
        """Evaluate the pairs of a new group."""
        others = np.flatnonzero(self.is_alive & (owners == owners[new]))
        others = others[others != new]
        self._evaluate(others, np.full_like(others, new))

    def best_pair(self) -> tuple[int, int, float] | None:
        """Return the pair that needs the most cells to be separated, and that number; ``None`` if no pair."""
        i, j = np.unravel_index(int(self.table.argmax()), self.table.shape)
        level = float(self.table[i, j])
        return None if level == -math.inf else (int(i), int(j), level)

    def merge(self, i: int, j: int) -> int:
        """Replace two groups by their union and return its number."""
        new = self.n_nodes
        self.n_nodes += 1
        union = self.shares.merged(torch.tensor([i]), torch.tensor([j]))
        for kept, values in zip(self.shares, union, strict=True):
            kept[new] = values[0]
        self.alone[new] = log_evidence(union, self.wishart)[0]
        self.is_alive[[i, j]] = False
        self.is_alive[new] = True
        self.table[[i, j], :] = self.table[:, [i, j]] = -math.inf
        return new

    def _evaluate(self, i: NDArray[np.int64], j: NDArray[np.int64]) -> None:
        for start in range(0, len(i), GROUPS_PER_CHUNK):
            rows = slice(start, start + GROUPS_PER_CHUNK)
            first, second = torch.as_tensor(i[rows]), torch.as_tensor(j[rows])
            together = log_evidence(self.shares.merged(first, second), self.wishart)
            gains = (together - self.alone[first] - self.alone[second]).numpy()
            self.table[i[rows], j[rows]] = largest_scale_that_pays(gains)


def log_evidence(shares: Statistics, wishart: Wishart) -> Tensor:
    r"""Log marginal likelihood of groups and their assignments at every scale, shape ``(K, n_scales)``.

    With shares :math:`s` of the counts, :math:`f` of the sums and :math:`W` of the scatter about the mean,
    the posterior's scatter matrix at :math:`n` cells is :math:`I / c + n W + \gamma_n f f^T`, where
    :math:`\gamma_n = n \kappa_0 / (s (\kappa_0 + n s))`.
    """
    n = torch.as_tensor(scales(), dtype=shares.counts.dtype)
    counts = shares.counts[:, None] * n
    scatter = shares.second - torch.einsum("kp,kq,k->kpq", shares.first, shares.first, 1 / shares.counts)
    variances, axes = torch.linalg.eigh(scatter)
    along = torch.einsum("kpq,kp->kq", axes, shares.first).square()
    gamma = n * CENTER_CONFIDENCE / (shares.counts[:, None] * (CENTER_CONFIDENCE + counts))
    spread = 1 / wishart.scale_factor + n[:, None] * variances.clamp_min(0)[:, None, :]  # (K, n_scales, p)
    log_det = spread.log().sum(-1) + torch.log1p(gamma * (along[:, None, :] / spread).sum(-1))
    empty = torch.lgamma(torch.tensor(CONCENTRATION, dtype=n.dtype))
    likelihood = log_marginal(*wishart, counts, log_det, shares.first.shape[1])
    return likelihood + torch.lgamma(CONCENTRATION + counts) - empty


def largest_scale_that_pays(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest effective sample size at which merging has a gain, interpolated; ``gains``: (pairs, scales)."""
    at_scale = scales()
    pays = gains > 0
    n_steps, pairs = gains.shape[1], np.arange(len(gains))
    last = np.where(pays.any(1), n_steps - 1 - pays[:, ::-1].argmax(1), 0)
    following = np.minimum(last + 1, n_steps - 1)
    at, after = gains[pairs, last], gains[pairs, following]
    share = np.where((at > 0) & (after < at), at / np.where(after < at, at - after, 1.0), 0.0)
    ratio = at_scale[following] / at_scale[last]
    return np.asarray(at_scale[last] * ratio ** np.clip(share, 0, 1), dtype=float)
