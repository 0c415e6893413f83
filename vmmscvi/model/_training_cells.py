"""Cells to train on and to validate on: those that a prior starts from, and whether any validate."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from scvi import REGISTRY_KEYS, settings
from scvi.dataloaders import AnnDataLoader
from torch import Tensor

logger = logging.getLogger(__name__)

BATCH_SIZE = 1024


def training_cells(
    splitter: Any, n_cells: int, indices: np.ndarray | None = None
) -> Iterator[dict[str, Tensor]]:
    """Minibatches of training cells, never of validation cells.

    With scvi-tools' own splitter, cells are drawn uniformly without replacement, with a generator of their
    own, so that the global random state of NumPy is not consumed; so they are by
    :class:`vmmscvi.dataloaders.StreamedCounts`. With other data modules they are the first cells that the
    training loader yields.

    Parameters
    ----------
    splitter
        The trainer's data module.
    n_cells
        How many; all, if there are fewer. Data modules may give some more, to the end of a minibatch.
    indices
        Positions of cells to take instead, of any part of the data; for scvi-tools' own splitter only.

    Yields
    ------
    Minibatches of cells in ascending order.
    """
    loader: Iterable[dict[str, Tensor]]
    is_drawn = True
    if getattr(splitter, "train_idx", None) is not None and hasattr(splitter, "adata_manager"):
        if indices is None:
            indices = np.asarray(splitter.train_idx)
            if len(indices) > n_cells:
                generator = np.random.default_rng(settings.seed or 0)
                indices = generator.choice(indices, n_cells, replace=False)
        # in the order of files, so that counts on disk start what the same counts in memory would
        loader = AnnDataLoader(
            splitter.adata_manager, indices=np.sort(indices), batch_size=BATCH_SIZE, num_workers=0
        )
    elif hasattr(splitter, "sample_dataloader"):
        loader = splitter.sample_dataloader(n_cells)
    else:
        loader = splitter.train_dataloader()
        is_drawn = False
    found = 0
    for tensors in loader:
        yield tensors
        found += tensors[REGISTRY_KEYS.X_KEY].shape[0]
        if found >= n_cells:
            break
    else:
        is_drawn = True  # all there are
    if not is_drawn:
        logger.warning("The prior starts from the training loader's first cells: shuffle the data.")


def n_training_cells(n_obs: int | None, train_size: float | None, kwargs: Mapping[str, Any]) -> int:
    """Count the cells that will be trained on, 0 if that is unknown.

    Parameters
    ----------
    n_obs
        Number of cells, ``None`` if unknown.
    train_size
        Share of them that is trained on; 0.9 by default.
    kwargs
        Further arguments of the training: a data module, or a split of one's own, knows better.
    """
    external = (kwargs.get("datasplitter_kwargs") or {}).get("external_indexing")
    given = external[0] if external else getattr(kwargs.get("datamodule"), "train_idx", None)
    return int((0.9 if train_size is None else train_size) * (n_obs or 0)) if given is None else len(given)


def has_validation_cells(
    train_size: float | None, validation_size: float | None, kwargs: dict[str, Any]
) -> bool:
    """Whether the default, early stopping, is possible. A data module has validation cells unless it says."""
    external = (kwargs.get("datasplitter_kwargs") or {}).get("external_indexing")
    if kwargs.get("datamodule") is not None:
        return bool(getattr(kwargs["datamodule"], "n_val", None) != 0)
    if external is not None:
        return len(external) > 1 and external[1] is not None and len(external[1]) > 0
    return train_size != 1.0 and validation_size != 0.0
