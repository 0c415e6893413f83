"""How fast training goes by default: learning rate and length of the warm-up, by the size of minibatches."""

from __future__ import annotations

import math

from scvi.model._utils import get_max_epochs_heuristic

from vmmscvi.train._start import WARMUP_STEPS, default_n_warmup_epochs

LEARNING_RATE = 1e-3
"""Of the networks, with minibatches of at most the default size; that of scvi-tools."""
DEFAULT_BATCH_SIZE = 256
LARGEST_PACE = 4.0
"""Of the learning rate, reached with 4096 cells in a minibatch."""


def default_pace(n_together: int) -> float:
    """Factor on the learning rate: the square root of how much larger than by default minibatches are.

    The square-root scaling rule of Adam (Malladi et al., NeurIPS 2022). Without it, few cells in large
    minibatches have too few steps to mix their batches. Minibatches smaller than by default change nothing.

    Parameters
    ----------
    n_together
        Cells in a minibatch, of all processes together.
    """
    return min(math.sqrt(max(n_together / DEFAULT_BATCH_SIZE, 1.0)), LARGEST_PACE)


def number_of_epochs(max_epochs: int | None, n_obs: int | None) -> int:
    """Largest number of epochs, by scvi-tools' rule unless given.

    Parameters
    ----------
    max_epochs
        The number that was asked for.
    n_obs
        Number of cells, ``None`` if unknown.

    Raises
    ------
    ValueError
        If it is not positive, or neither is known.
    """
    if max_epochs is not None and max_epochs < 1:
        raise ValueError(f"`max_epochs` must be at least 1, found {max_epochs}.")
    if max_epochs is None and n_obs is None:
        raise ValueError("`max_epochs` must be given where `datamodule` has no attribute `n_obs`.")
    return int(get_max_epochs_heuristic(n_obs)) if max_epochs is None else max_epochs


def default_warmup_for_cells(n_train: int, n_together: int, max_epochs: int, pace: float = 1.0) -> int:
    """Epochs of warm-up; see :func:`vmmscvi.train._start.default_n_warmup_epochs`.

    Minibatches smaller than by default count as if they were not: batches mix as the same cells are seen
    again, which smaller minibatches do not make sooner.

    Parameters
    ----------
    n_train
        Number of training cells, 0 if unknown.
    n_together
        Cells in a minibatch, of all processes together.
    max_epochs
        Largest number of epochs.
    pace
        Factor on the default learning rate: the warm-up takes so many times fewer minibatches.
    """
    n_together = max(n_together, DEFAULT_BATCH_SIZE)
    return default_n_warmup_epochs(n_train, n_together, max_epochs, WARMUP_STEPS / pace)
