"""How fast training goes by default: learning rate and length of the warm-up, by the size of minibatches."""

from __future__ import annotations

import math
from typing import NamedTuple

from vmmscvi._upstream import get_max_epochs_heuristic
from vmmscvi.train._arguments import whole_number

LEARNING_RATE = 1e-3
"""Of the networks, with minibatches of at most the default size; that of scvi-tools."""
DEFAULT_BATCH_SIZE = 256
LARGEST_PACE = 4.0
"""Of the learning rate, reached with 4096 cells in a minibatch."""
WARMUP_STEPS = 1000
"""Minibatches after which an embedding shows its clusters; fewer find fewer clusters."""
FEWEST_WARMUP_EPOCHS = 5


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
        If it is not a positive whole number, or neither is known.
    """
    if max_epochs is not None:
        return whole_number("max_epochs", max_epochs)
    if n_obs is None:
        raise ValueError("`max_epochs` must be given where `datamodule` has no attribute `n_obs`.")
    return int(get_max_epochs_heuristic(n_obs))


class Warmup(NamedTuple):
    """The epochs under N(0, I) before a prior is initialised.

    Attributes
    ----------
    n_epochs
        Their number.
    n_steps, n_wanted
        Minibatches that they have, and that it takes.
    """

    n_epochs: int
    n_steps: int
    n_wanted: int

    @classmethod
    def default(
        cls,
        n_train: int,
        n_together: int,
        max_epochs: int,
        pace: float = 1.0,
        smallest_batch: int | None = None,
    ) -> Warmup:
        """Return the default: 1000 minibatches, at least five epochs, at most half of the training.

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
        smallest_batch
            Size below which minibatches count as if they had it; by default 256.
        """
        smallest = DEFAULT_BATCH_SIZE if smallest_batch is None else smallest_batch
        steps_per_epoch = max(1, math.ceil(n_train / max(n_together, smallest)))
        wanted = WARMUP_STEPS / pace
        epochs = max(math.ceil(wanted / steps_per_epoch), FEWEST_WARMUP_EPOCHS)
        epochs = min(epochs, max_epochs // 2)
        return cls(epochs, epochs * steps_per_epoch, math.ceil(wanted))

    def notes(self, usual: Warmup) -> tuple[str, ...]:
        """Say it if ``max_epochs`` cuts the warm-up short of what is usual for the data."""
        if self.n_epochs >= usual.n_epochs:
            return ()
        return (
            f"The warm-up has {self.n_steps} minibatches; an embedding takes about {self.n_wanted} to show "
            "its clusters. Fewer clusters may be found: train for more epochs (`max_epochs`).",
        )
