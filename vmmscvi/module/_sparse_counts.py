"""The counts of a minibatch that are not zero: found once, used by encoder and likelihood."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


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


class LatestCounts:
    """The sparse form of the matrix that was asked for last, as long as that exists unchanged.

    A step needs it several times, for the same minibatch. Copies and pickles of it are empty.
    """

    def __init__(self) -> None:
        self._x: weakref.ref[Tensor] | None = None
        self._version = -1
        self._counts: SparseCounts | None = None

    def of(self, x: Tensor) -> SparseCounts:
        """Find the entries of ``x`` that are not zero, or remember them; see :meth:`SparseCounts.of`."""
        is_known = self._x is not None and self._x() is x and self._version == _version(x)
        if self._counts is None or not is_known:
            self._counts = SparseCounts.of(x)
            self._x, self._version = weakref.ref(x), _version(x)
        return self._counts

    def __getstate__(self) -> dict[str, object]:
        return LatestCounts().__dict__


def _version(x: Tensor) -> int:
    """Counter of changes in place, which tensors made in inference mode do not have."""
    return 0 if x.is_inference() else x._version


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
