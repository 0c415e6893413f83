"""Minibatches of the training cells from which a prior is initialised."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from scvi import settings
from scvi.dataloaders import AnnDataLoader
from torch import Tensor

from vmmscvi.train._single_cells import n_cells_of

logger = logging.getLogger(__name__)

Minibatches = Iterable[dict[str, Any]]
"""Tensors by name; ``None`` for entries that a data module lacks."""

BATCH_SIZE = 1024
LARGEST_SAMPLE = 20_000
"""Largest number of cells that an initialisation is fitted to."""
LARGEST_MATRIX = 100_000_000
"""Largest number of values held in memory (400 MB) if cells can be read only once."""
SMALLEST_SAMPLE = 2000
"""Number of cells that are used at least, whatever their number of values."""


def training_sample(
    datamodule: Any, n_cells: int = LARGEST_SAMPLE, indices: np.ndarray | None = None
) -> Minibatches:
    """Return minibatches of training cells, never of validation cells, for repeated iteration.

    With scvi-tools' own splitter, cells are drawn uniformly without replacement, by a separate generator that
    leaves NumPy's global random state unchanged. A data module with the method
    ``sample_dataloader(n_cells)`` draws the cells itself. Of other data modules, the first cells of the
    training loader are used and kept in memory; fewer if each cell has many values.

    Parameters
    ----------
    datamodule
        The trainer's data module.
    n_cells
        Number of cells; all cells if there are fewer. Data modules may return more, to complete a minibatch.
    indices
        Positions of the cells to use instead, from any part of the data. Only for scvi-tools' own splitter.

    Returns
    -------
    Iterable of dict
        Tensors by name.
    """
    if getattr(datamodule, "train_idx", None) is not None and hasattr(datamodule, "adata_manager"):
        if indices is None:
            indices = np.asarray(datamodule.train_idx)
            if len(indices) > n_cells:
                generator = np.random.default_rng(settings.seed or 0)
                indices = generator.choice(indices, n_cells, replace=False)
        # in order of position, so counts on disk and in memory give the same initialisation
        return cells_at(datamodule.adata_manager, np.sort(indices))
    if hasattr(datamodule, "sample_dataloader"):
        sample: Minibatches = datamodule.sample_dataloader(n_cells)
        return sample
    return _first_cells(_converted(datamodule), n_cells)


def cells_at(adata_manager: Any, indices: np.ndarray) -> Minibatches:
    """Return minibatches of the cells at ``indices``, in that order."""
    loader: Minibatches = AnnDataLoader(adata_manager, indices=indices, batch_size=BATCH_SIZE, num_workers=0)
    return loader


def dense(tensors: dict[str, Any]) -> dict[str, Tensor]:
    """Return a minibatch in the strided layout, without entries that are ``None``."""
    return {
        name: tensor.to_dense() if str(tensor.layout) != "torch.strided" else tensor
        for name, tensor in tensors.items()
        if tensor is not None
    }


def _converted(datamodule: Any) -> Minibatches:
    """Minibatches of the training loader, as inputs of a module.

    Some data modules (scvi-tools' for annbatch, TileDB-SOMA and LaminDB) make tensors only in the hooks that
    Lightning calls when it moves a minibatch to the device.
    """
    for minibatch in datamodule.train_dataloader():
        yield datamodule.on_after_batch_transfer(datamodule.on_before_batch_transfer(minibatch, 0), 0)


def _first_cells(loader: Minibatches, n_cells: int) -> Minibatches:
    """Keep the first cells of a loader, which may shuffle differently in each iteration."""
    minibatches: Iterator[dict[str, Any]] = iter(loader)
    first = next(minibatches)
    n_values = sum(tensor.numel() for tensor in first.values() if tensor is not None) // n_cells_of(first)
    n_cells = min(n_cells, max(SMALLEST_SAMPLE, LARGEST_MATRIX // max(n_values, 1)))
    kept, found = [], 0
    for tensors in chain([first], minibatches):
        kept.append(tensors)
        found += n_cells_of(tensors)
        if found >= n_cells:
            logger.warning(
                "The prior is initialised from the training loader's first cells only: shuffle the data."
            )
            break
    return kept
