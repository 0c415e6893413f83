"""How many components a mixture uses: the metric ``n_utilized_clusters``."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from vmmscvi.train._distributed import union


class UtilizedComponents:
    """Components that are the most probable one of some training cell.

    Only empirical-Bayes steps assign cells. If they follow every n-th minibatch, the last n epochs are used:
    together they see about as many cells as one epoch has.
    """

    def __init__(self) -> None:
        self._epochs: deque[Tensor | None] = deque(maxlen=1)

    def start_epoch(self, n_epochs: int) -> None:
        """Begin an epoch, and forget all but the last ones.

        Parameters
        ----------
        n_epochs
            Number of epochs to look at, this one included.
        """
        self._epochs = deque([*self._epochs, None], maxlen=n_epochs)

    def add(self, assigned: Tensor, n_components: int) -> None:
        """Add the cells of an empirical-Bayes step.

        Parameters
        ----------
        assigned
            Index of each cell's component, shape ``(n_obs,)``.
        n_components
            Number of components.
        """
        used = self._epochs[-1]
        if used is None:
            used = self._epochs[-1] = torch.zeros(n_components, dtype=torch.bool, device=assigned.device)
        used.index_fill_(0, assigned, True)

    def count(self) -> int:
        """Return the number of components in use, of all processes together."""
        found: set[int] = set()
        for used in self._epochs:
            found |= set() if used is None else set(used.nonzero().ravel().tolist())
        return len(union(found))
