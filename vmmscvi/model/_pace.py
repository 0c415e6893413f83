"""Defaults of learning rate and length of the warm-up, by the size of minibatches."""

from __future__ import annotations

import math
from typing import NamedTuple

from vmmscvi._upstream import get_max_epochs_heuristic
from vmmscvi.train._arguments import whole_number

LEARNING_RATE = 1e-3
"""Learning rate of the networks for minibatches of at most the default size, as in scvi-tools."""
DEFAULT_BATCH_SIZE = 256
LARGEST_PACE = 4.0
"""Largest factor of the learning rate, reached with 4096 cells in a minibatch."""
WARMUP_STEPS = 1000
"""Minibatches after which an embedding shows its clusters; a shorter warm-up finds fewer clusters."""
FEWEST_WARMUP_EPOCHS = 5


def default_pace(n_together: int) -> float:
    """Return the factor of the learning rate: the square root of the relative size of minibatches.

    This is Adam's square-root scaling rule (Malladi et al., NeurIPS 2022). Without it, small data sets with
    large minibatches have too few steps to mix their batches. Minibatches below the default size have the
    factor one.

    Parameters
    ----------
    n_together
        Cells in the minibatches of all processes together.

    Returns
    -------
    float
        The factor, from 1 to 4.
    """
    return min(math.sqrt(max(n_together / DEFAULT_BATCH_SIZE, 1.0)), LARGEST_PACE)


def number_of_epochs(max_epochs: int | None, n_obs: int | None) -> int:
    """Return the largest number of epochs, by scvi-tools' rule unless given.

    Parameters
    ----------
    max_epochs
        The requested number; ``None`` for the rule.
    n_obs
        Number of cells, ``None`` if unknown.

    Returns
    -------
    int
        Number of epochs.

    Raises
    ------
    ValueError
        If ``max_epochs`` is not a positive whole number, or both are ``None``.
    """
    if max_epochs is not None:
        return whole_number("max_epochs", max_epochs)
    if n_obs is None:
        raise ValueError(
            "`max_epochs` is missing, and `datamodule` has no attribute `n_obs`: pass `max_epochs`."
        )
    return int(get_max_epochs_heuristic(n_obs))


class Warmup(NamedTuple):
    """The warm-up: epochs under N(0, I) before the prior is initialised.

    Attributes
    ----------
    n_epochs
        Number of epochs.
    n_steps, n_wanted
        Actual and recommended number of minibatches.
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

        Minibatches below the default size are counted as if they had it, because the mixing of batches needs
        repeated visits of the same cells, which smaller minibatches do not speed up.

        Parameters
        ----------
        n_train
            Number of training cells, 0 if unknown.
        n_together
            Cells in the minibatches of all processes together.
        max_epochs
            Largest number of epochs.
        pace
            Factor of the default learning rate, by which the number of minibatches is divided.
        smallest_batch
            Size as which smaller minibatches are counted; by default 256.

        Returns
        -------
        Warmup
            The warm-up.
        """
        smallest = DEFAULT_BATCH_SIZE if smallest_batch is None else smallest_batch
        steps_per_epoch = max(1, math.ceil(n_train / max(n_together, smallest)))
        wanted = WARMUP_STEPS / pace
        epochs = max(math.ceil(wanted / steps_per_epoch), FEWEST_WARMUP_EPOCHS)
        epochs = min(epochs, max_epochs // 2)
        return cls(epochs, epochs * steps_per_epoch, math.ceil(wanted))

    def notes(self, usual: Warmup) -> tuple[str, ...]:
        """Return a warning if ``max_epochs`` makes the warm-up shorter than usual for the data."""
        if self.n_epochs >= usual.n_epochs:
            return ()
        return (
            f"The warm-up has only {self.n_steps} minibatches, but an embedding needs about {self.n_wanted} "
            "to show its clusters. Fewer clusters may be found: train for more epochs (`max_epochs`).",
        )
