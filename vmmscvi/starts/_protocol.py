"""What every start of a prior offers."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import nn

from vmmscvi.priors import Prior


class InitialPrior(NamedTuple):
    """A prior that training can continue from.

    Attributes
    ----------
    prior
        A new prior, in the state ``FITTED``.
    pseudo_inputs
        Its pseudo-inputs, ``None`` if it has none.
    """

    prior: Prior
    pseudo_inputs: nn.ModuleDict | None


class Start(Protocol):
    """Initialises a prior from training data."""

    needs_warm_up: bool
    """Whether the networks train under N(0, I) first."""

    def check(self, datamodule: Any) -> None:
        """Raise a ``ValueError`` before training if the data cannot be started from."""

    def initialise(self, module: Any, datamodule: Any) -> InitialPrior:
        """Make the prior of a module, whose networks have been trained if that was asked for."""
