"""The non-zero counts of a minibatch, found once and used by encoder and likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

ATTRIBUTE = "_sparse_counts"
"""Attribute of a tensor that stores its non-zero counts."""


@dataclass(frozen=True, eq=False)
class SparseCounts:
    """A matrix of counts as its ``m`` non-zero entries, sorted by cell.

    Attributes
    ----------
    shape
        Numbers of cells and genes.
    index
        Positions in the flattened matrix, shape ``(m,)``, ascending.
    gene
        Columns, shape ``(m,)``.
    value
        Counts, or a function of them, shape ``(m,)``.
    """

    shape: tuple[int, int]
    index: Tensor
    gene: Tensor
    value: Tensor

    @classmethod
    def of(cls, x: Tensor) -> SparseCounts:
        """Find the non-zero entries, including NaN.

        Parameters
        ----------
        x
            Counts, shape ``(n, n_genes)``, contiguous.

        Returns
        -------
        SparseCounts
            The entries.
        """
        n_obs, n_genes = x.shape
        index = nonzero(x.view(-1))
        return cls((n_obs, n_genes), index, index % max(n_genes, 1), x.view(-1).index_select(0, index))

    @cached_property
    def cell_start(self) -> Tensor:
        """First entry of each cell, and the end of the last, shape ``(n + 1,)``."""
        n_obs, n_genes = self.shape
        return torch.searchsorted(self.index, torch.arange(n_obs + 1, device=self.index.device) * n_genes)

    def cells(self, start: int, stop: int) -> SparseCounts:
        """Return the cells from ``start`` to ``stop``."""
        n_obs, n_genes = self.shape
        if (start, stop) == (0, n_obs):
            return self
        entries = slice(int(self.cell_start[start]), int(self.cell_start[stop]))
        return SparseCounts(
            (stop - start, n_genes),
            self.index[entries] - start * n_genes,
            self.gene[entries],
            self.value[entries],
        )

    @property
    def density(self) -> float:
        """Share of non-zero entries."""
        return len(self.index) / max(self.shape[0] * self.shape[1], 1)


class _Found(NamedTuple):
    """The non-zero counts of a tensor, with version and totals to detect changes of the tensor."""

    counts: SparseCounts
    version: int | None
    totals: Tensor


def counts_of(x: Tensor, totals: Tensor | None = None) -> SparseCounts:
    """Find the non-zero entries, including NaN, once for all uses of a minibatch.

    The result is stored in the tensor, so the likelihood and the prior's step can reuse the result of the
    encoder.

    Parameters
    ----------
    x
        Counts, shape ``(n, n_genes)``, contiguous.
    totals
        Sums over genes, shape ``(n,)``, if known. They detect changes in memory shared with NumPy, which do
        not change the version of the tensor.

    Returns
    -------
    SparseCounts
        The entries.
    """
    # tensors made in inference mode have no version
    version = None if x.is_inference() else x._version
    if totals is None and version is None:
        totals = x.sum(1)
    found: _Found | None = getattr(x, ATTRIBUTE, None)
    if found is None or found.version != version or not (totals is None or torch.equal(found.totals, totals)):
        found = _Found(SparseCounts.of(x), version, x.sum(1) if totals is None else totals)
        setattr(x, ATTRIBUTE, found)
    return found.counts


def nonzero(values: Tensor) -> Tensor:
    """Return the positions of non-zero entries, including NaN, in ascending order.

    Parameters
    ----------
    values
        Entries, shape ``(n,)``.

    Returns
    -------
    Tensor
        Integers of shape ``(m,)``.
    """
    if values.device.type == "cpu" and torch.get_num_threads() <= 2:  # NumPy's single thread is as fast
        return torch.from_numpy(np.flatnonzero(values.detach().numpy() != 0))
    return values.nonzero().squeeze(1)
