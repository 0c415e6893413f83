"""The interface of every initialisation of a prior."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import nn

from vmmscvi.priors import Prior


class InitialPrior(NamedTuple):
    """An initialised prior, ready for training.

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
    """An initialisation of a prior from training data."""

    needs_warm_up: bool
    """Whether the networks train under N(0, I) first."""

    def check(self, datamodule: Any) -> None:
        """Raise a ``ValueError`` before training if the data do not suit the initialisation.

        Parameters
        ----------
        datamodule
            The trainer's data module.
        """

    def initialise(self, module: Any, datamodule: Any) -> InitialPrior:
        """Make the prior of a module, after the warm-up if one is needed.

        Parameters
        ----------
        module
            The module.
        datamodule
            The trainer's data module.

        Returns
        -------
        InitialPrior
            The prior and its pseudo-inputs.
        """
