"""Minibatches of cells on disk, through a buffer of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS
from torch import Tensor

from vmmscvi.dataloaders._count_files import CountFiles, Rows

if TYPE_CHECKING:
    import lightning.pytorch as pl


class MinibatchLoader:
    """Minibatches for scvi-tools' modules; iterate once per epoch.

    Reading a cell without counts raises a ``ValueError``.

    Parameters
    ----------
    files
        The counts.
    annotations
        Further inputs of a module for every cell, by name in scvi-tools' registry: arrays of shape
        ``(n_cells, n_columns)``.
    rows
        Positions of the cells to load, ascending.
    batch_size
        Cells in a minibatch. A single remaining cell joins the previous minibatch.
    buffer_size
        Number of cells in memory, rounded down to whole minibatches.
    block_size
        Number of consecutive ``rows`` that stay together when the order is shuffled.
    seed
        Seed of the order, which differs between epochs; ``None`` keeps the order of ``rows``.
    part, n_parts
        Index and number of equal parts of an epoch, one for each process. A few cells occur twice if their
        number is not divisible.
    """

    def __init__(
        self,
        files: CountFiles,
        annotations: Mapping[str, NDArray[Any]],
        rows: Rows,
        batch_size: int,
        buffer_size: int,
        block_size: int = 1,
        seed: int | None = None,
        part: int = 0,
        n_parts: int = 1,
    ) -> None:
        self.files, self.annotations, self.rows = files, annotations, rows
        self.batch_size, self.buffer_size = batch_size, buffer_size
        self.block_size, self.seed = block_size, seed
        self.part, self.n_parts = part, n_parts
        self.epoch = 0
        """Index of the next epoch; overridden by the trainer, which may resume a training."""
        self.trainer: pl.Trainer | None = None

    def __len__(self) -> int:
        return len(self._edges()) - 1

    @property
    def obs_names(self) -> pd.Index:
        """Names of the cells, in the order of the files."""
        names = self.files.obs_names()
        return names if len(self.rows) == len(names) else names[self.rows]

    @property
    def var_names(self) -> pd.Index:
        """Names of the genes."""
        return self.files.var_names

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        edges = self._edges()
        n_together = max(self.buffer_size // self.batch_size, 1)
        epoch = self.epoch if self.trainer is None else self.trainer.current_epoch
        rng = None if self.seed is None else np.random.default_rng([self.seed, epoch])
        self.epoch += 1
        order = self._part_of(self.rows if rng is None else self._shuffled(rng))
        with self.files.open() as counts:
            for first in range(0, len(edges) - 1, n_together):
                cuts = edges[first : first + n_together + 1]
                rows = np.sort(order[cuts[0] : cuts[-1]])
                buffer = counts.read(rows)
                # stored counts may all be zero, which row pointers do not reveal
                self.files.require_counts(rows, np.asarray(buffer.sum(axis=1)).ravel())
                places = np.arange(len(rows)) if rng is None else rng.permutation(len(rows))
                for start, stop in zip(cuts[:-1] - cuts[0], cuts[1:] - cuts[0], strict=True):
                    chosen = places[start:stop]
                    yield self._minibatch(buffer[chosen].toarray(), rows[chosen])
                del buffer  # before the next one is read

    def _edges(self) -> Rows:
        """First cell of each minibatch in the order of an epoch, and the end of the last."""
        n_cells = -(-len(self.rows) // self.n_parts)
        edges = np.append(np.arange(0, n_cells, self.batch_size), n_cells)
        if len(edges) > 2 and edges[-1] - edges[-2] == 1:  # batch normalisation needs two cells
            edges = np.delete(edges, -2)
        return edges

    def _part_of(self, order: Rows) -> Rows:
        n_cells = -(-len(order) // self.n_parts)
        return np.resize(order, n_cells * self.n_parts)[self.part * n_cells : (self.part + 1) * n_cells]

    def _shuffled(self, rng: np.random.Generator) -> Rows:
        """Blocks of consecutive cells in random order."""
        starts = rng.permutation(np.arange(0, len(self.rows), self.block_size))
        places = (starts[:, None] + np.arange(self.block_size)).ravel()
        return self.rows[places[places < len(self.rows)]]

    def _minibatch(self, counts: NDArray[np.float32], rows: Rows) -> dict[str, Tensor]:
        others = {name: torch.from_numpy(values[rows]) for name, values in self.annotations.items()}
        return {REGISTRY_KEYS.X_KEY: torch.from_numpy(counts), **others}
