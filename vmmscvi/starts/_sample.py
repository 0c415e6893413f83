"""The training cells that a prior is initialised from, minibatch by minibatch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from scvi import settings
from scvi.dataloaders import AnnDataLoader
from torch import Tensor

logger = logging.getLogger(__name__)

Minibatches = Iterable[dict[str, Any]]
"""Tensors by name, or ``None`` for what a data module does not have."""

BATCH_SIZE = 1024
LARGEST_SAMPLE = 20_000
"""Observations that a start is fitted to at most."""
LARGEST_MATRIX = 100_000_000
"""Values that are held in memory at most (400 MB), where cells can be read only once."""
SMALLEST_SAMPLE = 2000
"""Cells that are used however many values each has."""


def training_sample(
    datamodule: Any, n_cells: int = LARGEST_SAMPLE, indices: np.ndarray | None = None
) -> Minibatches:
    """Minibatches of training cells, never of validation cells; they can be iterated over again.

    With scvi-tools' own splitter, cells are drawn uniformly without replacement, with a generator of their
    own, so that the global random state of NumPy is not consumed. A data module with the method
    ``sample_dataloader(n_cells)`` draws them itself. With others they are the first cells that the training
    loader yields, which are kept in memory; fewer of them if each has many values.

    Parameters
    ----------
    datamodule
        The trainer's data module.
    n_cells
        How many; all, if there are fewer. Data modules may give some more, to the end of a minibatch.
    indices
        Positions of cells to take instead, of any part of the data; for scvi-tools' own splitter only.
    """
    if getattr(datamodule, "train_idx", None) is not None and hasattr(datamodule, "adata_manager"):
        if indices is None:
            indices = np.asarray(datamodule.train_idx)
            if len(indices) > n_cells:
                generator = np.random.default_rng(settings.seed or 0)
                indices = generator.choice(indices, n_cells, replace=False)
        # in the order of files, so that counts on disk start what the same counts in memory would
        return cells_at(datamodule.adata_manager, np.sort(indices))
    if hasattr(datamodule, "sample_dataloader"):
        sample: Minibatches = datamodule.sample_dataloader(n_cells)
        return sample
    return _first_cells(_converted(datamodule), n_cells)


def cells_at(adata_manager: Any, indices: np.ndarray) -> Minibatches:
    """Minibatches of the cells at ``indices``, in that order."""
    loader: Minibatches = AnnDataLoader(adata_manager, indices=indices, batch_size=BATCH_SIZE, num_workers=0)
    return loader


def n_cells_of(tensors: dict[str, Any]) -> int:
    """Count the cells of a minibatch."""
    return int(next(tensor.shape[0] for tensor in tensors.values() if tensor is not None))


def dense(tensors: dict[str, Any]) -> dict[str, Tensor]:
    """Return a minibatch in the strided layout, without entries that are ``None``."""
    return {
        name: tensor.to_dense() if str(tensor.layout) != "torch.strided" else tensor
        for name, tensor in tensors.items()
        if tensor is not None
    }


def _converted(datamodule: Any) -> Minibatches:
    """Minibatches of the training loader as a module is given them.

    Some data modules (scvi-tools' for annbatch, TileDB-SOMA and LaminDB) make tensors only in the hooks that
    Lightning calls when a minibatch goes to the device.
    """
    for minibatch in datamodule.train_dataloader():
        yield datamodule.on_after_batch_transfer(datamodule.on_before_batch_transfer(minibatch, 0), 0)


def _first_cells(loader: Minibatches, n_cells: int) -> Minibatches:
    """Keep the first cells of a loader that may be shuffled anew every time."""
    minibatches: Iterator[dict[str, Any]] = iter(loader)
    first = next(minibatches)
    n_values = sum(tensor.numel() for tensor in first.values() if tensor is not None) // n_cells_of(first)
    n_cells = min(n_cells, max(SMALLEST_SAMPLE, LARGEST_MATRIX // max(n_values, 1)))
    kept, found = [], 0
    for tensors in chain([first], minibatches):
        kept.append(tensors)
        found += n_cells_of(tensors)
        if found >= n_cells:
            logger.warning("The prior starts from the training loader's first cells: shuffle the data.")
            break
    return kept
