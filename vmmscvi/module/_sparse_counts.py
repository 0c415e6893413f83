"""The counts of a minibatch that are not zero: found once, used by encoder and likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

ATTRIBUTE = "_sparse_counts"
"""Where a tensor keeps what was found in it."""


@dataclass(frozen=True, eq=False)
class SparseCounts:
    """A matrix of counts as the ``m`` of its entries that are not zero, cell by cell.

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
        """Find the entries that are not zero, NaN included.

        Parameters
        ----------
        x
            Counts, shape ``(n, n_genes)``, contiguous.
        """
        n_obs, n_genes = x.shape
        index = nonzero(x.view(-1))
        return cls((n_obs, n_genes), index, index % max(n_genes, 1), x.view(-1).index_select(0, index))

    @cached_property
    def cell_start(self) -> Tensor:
        """Where each cell's entries start, and the last one's end, shape ``(n + 1,)``."""
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
        """Share of the entries that are not zero."""
        return len(self.index) / max(self.shape[0] * self.shape[1], 1)


class _Found(NamedTuple):
    """What was found in a tensor, and how to tell whether the tensor has changed since."""

    counts: SparseCounts
    version: int | None
    totals: Tensor


def counts_of(x: Tensor, totals: Tensor | None = None) -> SparseCounts:
    """Find the entries that are not zero, NaN included, once for all uses of a minibatch.

    They are kept with the tensor that they were found in, and go where it goes: from the encoder to the
    likelihood, and from the networks' step to the prior's.

    Parameters
    ----------
    x
        Counts, shape ``(n, n_genes)``, contiguous.
    totals
        Their sums over genes, shape ``(n,)``, if these are known. They tell a matrix that has changed without
        a new version, in memory that it shares with NumPy.
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
    """Positions of the entries that are not zero, NaN included, ascending.

    Parameters
    ----------
    values
        Shape ``(n,)``.

    Returns
    -------
    Integer tensor of shape ``(m,)``.
    """
    if values.device.type == "cpu" and torch.get_num_threads() <= 2:  # NumPy's one thread is as good as two
        return torch.from_numpy(np.flatnonzero(values.detach().numpy() != 0))
    return values.nonzero().squeeze(1)
