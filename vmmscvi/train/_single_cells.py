"""Minibatches of a single cell, which batch normalisation cannot be trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from vmmscvi._upstream import BatchNorm

logger = logging.getLogger(__name__)


class SingleCellFilter:
    """Skips minibatches of one cell, and says so once.

    A model refuses such a minibatch before training where it divides the cells itself. The minibatches of a
    data module are unknown before they arrive.

    Parameters
    ----------
    module
        The module that is trained; without batch normalisation, nothing is skipped.
    """

    def __init__(self, module: nn.Module) -> None:
        self._applies = has_batch_norm(module)
        self._has_warned = False

    def skips(self, batch: Mapping[str, Any]) -> bool:
        """Return whether a minibatch has a single cell and the module cannot be trained on it.

        Parameters
        ----------
        batch
            The minibatch; its tensors have one row for each cell.
        """
        if self._applies and n_cells_of(batch) == 1:
            if not self._has_warned:
                logger.warning(
                    "A minibatch has a single cell, on which batch normalisation cannot be trained: it is "
                    "skipped in every epoch. Choose a `batch_size` of the data module that leaves no single "
                    "cell."
                )
                self._has_warned = True
            return True
        return False

    def require(self, n_trained: int) -> None:
        """Check that an epoch had a minibatch to train on.

        Parameters
        ----------
        n_trained
            Number of minibatches that were not skipped.

        Raises
        ------
        ValueError
            If all were skipped.
        """
        if self._applies and n_trained == 0:
            raise ValueError(
                "Every minibatch has a single cell, but batch normalisation needs two: nothing was trained. "
                "Choose a larger `batch_size`, of the data module if there is one."
            )


def has_batch_norm(module: nn.Module) -> bool:
    """Whether a module cannot be trained on a single cell."""
    return any(isinstance(layer, BatchNorm) for layer in module.modules())


def n_cells_of(tensors: Mapping[str, Any]) -> int:
    """Count the cells of a minibatch."""
    return int(next(tensor.shape[0] for tensor in tensors.values() if tensor is not None))
