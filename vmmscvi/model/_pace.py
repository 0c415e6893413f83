"""How fast training goes by default: learning rate and length of the warm-up, by the size of minibatches."""

from __future__ import annotations

import math

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


def default_warmup_for_cells(
    n_obs: int | None, train_size: float | None, n_together: int, max_epochs: int, pace: float = 1.0
) -> int:
    """Epochs of warm-up; see :func:`vmmscvi.train._start.default_n_warmup_epochs`.

    Minibatches smaller than by default count as if they were not: batches mix as the same cells are seen
    again, which smaller minibatches do not make sooner.

    Parameters
    ----------
    n_obs
        Number of cells, ``None`` if unknown.
    train_size
        Share of them that is trained on; 0.9 by default.
    n_together
        Cells in a minibatch, of all processes together.
    max_epochs
        Largest number of epochs.
    pace
        Factor on the default learning rate: the warm-up takes so many times fewer minibatches.
    """
    n_train = int((0.9 if train_size is None else train_size) * (n_obs or 0))
    return default_n_warmup_epochs(
        n_train, max(n_together, DEFAULT_BATCH_SIZE), max_epochs, WARMUP_STEPS / pace
    )
