"""Where the fit of a prior stands. The one record of it: models, plans and checkpoints read it here."""

from __future__ import annotations

from enum import IntEnum


class PriorState(IntEnum):
    """Where the fit of a prior stands; saved with its parameters.

    Attributes
    ----------
    UNFITTED
        As constructed. Training decides how it is initialised.
    WARMING_UP
        Networks train under N(0, I); the prior is not in use.
    FITTED
        In use and trained. The next training continues from here.
    FROZEN
        In use and kept as it is, as when a query is mapped.
    """

    UNFITTED = 0
    WARMING_UP = 1
    FITTED = 2
    FROZEN = 3
