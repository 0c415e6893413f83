"""State of the fit of a prior, the only record that models, plans and checkpoints use."""

from __future__ import annotations

from enum import IntEnum


class PriorState(IntEnum):
    """State of the fit of a prior; saved with its parameters.

    Attributes
    ----------
    UNFITTED
        As constructed; training will initialise it.
    WARMING_UP
        Not in use; networks train under N(0, I).
    FITTED
        In use and trained; further training continues from this prior.
    FROZEN
        In use and not trained, for example in query mapping.
    """

    UNFITTED = 0
    WARMING_UP = 1
    FITTED = 2
    FROZEN = 3
