"""Minibatches of a single cell, which batch normalisation cannot be trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

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
        self._applies = any(isinstance(layer, BatchNorm) for layer in module.modules())
        self._has_warned = False
        self._n_trained = 0

    def skips(self, batch: Mapping[str, Any]) -> bool:
        """Return whether a minibatch has a single cell and the module cannot be trained on it.

        Parameters
        ----------
        batch
            The minibatch; its tensors have one row for each cell.
        """
        if self._applies and _n_cells(batch) == 1:
            if not self._has_warned:
                logger.warning(
                    "A minibatch has a single cell, on which batch normalisation cannot be trained: it is "
                    "skipped in every epoch. Choose a `batch_size` of the data module that leaves no single "
                    "cell."
                )
                self._has_warned = True
            return True
        self._n_trained += 1
        return False

    def end_epoch(self) -> None:
        """Check that the epoch had a minibatch to train on, and count afresh.

        Raises
        ------
        ValueError
            If every minibatch was skipped.
        """
        if self._applies and self._n_trained == 0:
            raise ValueError(
                "Every minibatch has a single cell, on which batch normalisation cannot be trained: nothing "
                "was trained. Choose a larger `batch_size`, of the data module if there is one."
            )
        self._n_trained = 0


def _n_cells(batch: Mapping[str, Any]) -> int:
    return next((len(value) for value in batch.values() if isinstance(value, Tensor) and value.ndim), 0)
