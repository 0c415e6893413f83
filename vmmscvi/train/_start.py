"""The prior starts from what the networks have learned: clusters found in the embedding, after a warm-up."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from vmmscvi.priors import CoarsenedMixture, fit_coarsened_mixture
from vmmscvi.priors.coarsened import N_EFFECTIVE
from vmmscvi.train._distributed import share, shared

if TYPE_CHECKING:
    import lightning.pytorch as pl

logger = logging.getLogger(__name__)

Start = Literal["embedding", "cells", "labels"]

LARGEST_SAMPLE = 20_000
"""Observations that the start is fitted to at most."""
WARMUP_STEPS = 1000
"""Minibatches after which an embedding shows its clusters; fewer find fewer clusters."""


def check_start(
    start: Start, n_effective: float | None, n_warmup_epochs: int | None, max_epochs: int
) -> None:
    """Check the arguments that say how a prior starts.

    Parameters
    ----------
    start, n_effective, n_warmup_epochs, max_epochs
        As in :meth:`vmmscvi.SCVI_VMM.train`.

    Raises
    ------
    ValueError
        If ``start`` is unknown or has no use for the other arguments, ``n_effective`` is not positive, or the
        warm-up is not shorter than training.
    """
    if start not in get_args(Start):
        raise ValueError(f"`start` must be one of {get_args(Start)}, found {start!r}.")
    given = {"n_effective": n_effective, "n_warmup_epochs": n_warmup_epochs}
    if start == "cells" and (ignored := [name for name, value in given.items() if value is not None]):
        raise ValueError(f"`start='cells'` has no use for {ignored}: leave them out, or start otherwise.")
    if n_effective is not None and not n_effective > 0:
        raise ValueError(f"`n_effective` must be positive, found {n_effective}.")
    if n_warmup_epochs is not None and not 0 <= n_warmup_epochs < max_epochs:
        raise ValueError(
            f"`n_warmup_epochs` must be at least 0 and less than `max_epochs` ({max_epochs}), "
            f"found {n_warmup_epochs}."
        )


def default_n_warmup_epochs(
    n_train: int, batch_size: int, max_epochs: int, n_steps: float = WARMUP_STEPS
) -> int:
    """Epochs of warm-up: 1000 minibatches, at least five epochs, at most half of the training.

    Parameters
    ----------
    n_train
        Number of training cells.
    batch_size
        Cells in a minibatch.
    max_epochs
        Largest number of epochs.
    n_steps
        Minibatches, where 1000 are not what it takes.
    """
    epochs = math.ceil(n_steps / max(1, math.ceil(n_train / batch_size)))
    return min(max(epochs, 5), max_epochs // 2)


class EmbeddedSample(Protocol):
    """Observations that a prior starts from: means and variances of their posteriors, ``(n, p)``."""

    @property
    def z(self) -> Tensor:
        """Posterior means."""

    @property
    def variance(self) -> Tensor:
        """Posterior variances."""


class StartFromClusters(Callback, ABC):
    """Train under N(0, I) first; then find clusters in the embedding and let the prior start from them.

    Components get the weights and covariances of the clusters; their pseudo-inputs are the clusters' mean
    profiles. The number of components becomes the number of clusters. A training that ends in its warm-up, by
    a limit of time for instance, starts the prior then.

    Subclasses say how observations are embedded and averaged.

    Parameters
    ----------
    n_warmup_epochs
        Epochs before the start.
    n_effective
        Number of observations that the data count as, ``None`` for the default; see
        :func:`vmmscvi.priors.fit_coarsened_mixture`.
    """

    def __init__(self, n_warmup_epochs: int, n_effective: float | None) -> None:
        super().__init__()
        self.n_warmup_epochs = n_warmup_epochs
        self.n_effective = n_effective
        self._resumed = False

    @property
    @abstractmethod
    def seed(self) -> int:
        """Seed of the fit."""

    @abstractmethod
    def embed(self, trainer: pl.Trainer, module: Any) -> EmbeddedSample:
        """Embed training observations, in evaluation mode."""

    @abstractmethod
    def fill_pseudo_inputs(self, module: Any, sample: Any, shares: Tensor) -> None:
        """Set the pseudo-inputs to weighted means of the sample; ``shares`` is ``(K, n)``, rows sum to 1."""

    def find_components(self, module: Any, sample: Any) -> CoarsenedMixture:
        """Find the clusters that the prior starts from."""
        return fit_coarsened_mixture(
            sample.z,
            n_components=min(module.prior.n_components, max(1, len(sample.z) // 10)),
            n_effective=self.n_effective,
            seed=self.seed,
        )

    def note_start(self, trainer: pl.Trainer, n_components: int) -> None:
        """Tell whoever describes the module that its prior has started, and with how many components."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Switch to N(0, I)."""
        prior = _module(pl_module).prior
        if self._resumed and prior.is_started:
            self.note_start(trainer, prior.n_components)
        else:
            prior.is_started = False

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to remember; whether the prior has started is saved with the prior."""
        return {"n_warmup_epochs": self.n_warmup_epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint stopped: in the warm-up or after it."""
        self.n_warmup_epochs, self._resumed = state_dict["n_warmup_epochs"], True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the prior when the warm-up is over."""
        module = _module(pl_module)
        if trainer.current_epoch >= self.n_warmup_epochs and not module.prior.is_started:
            self._start(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the prior if training ends before it has: a trained model has clusters."""
        module = _module(pl_module)
        if not module.prior.is_started:
            self._start(trainer, module)

    def _start(self, trainer: pl.Trainer, module: Any) -> None:
        if trainer.is_global_zero:
            self._start_here(trainer, module)
        n_components = shared(module.prior.n_components)
        if not trainer.is_global_zero:
            for owner in _owners(module):
                owner.resize(n_components)
        module.prior.set_extra_state(shared(module.prior.get_extra_state()))
        for owner in _owners(module):
            share(owner)
        logger.info(
            "The prior starts from %s clusters of the embedding; the data count as %.0f cells.",
            n_components,
            module.prior.n_effective,
        )
        self.note_start(trainer, n_components)

    def _start_here(self, trainer: pl.Trainer, module: Any) -> None:
        """Find the clusters; of several processes, one does, with training observations of all of them."""
        with torch.random.fork_rng(devices=[]):  # the sample must not change the order of the minibatches
            sample = self.embed(trainer, module)
        mixture = self.find_components(module, sample)
        n_effective = mixture.n_effective or min(self.n_effective or N_EFFECTIVE, len(sample.z))
        shares = (mixture.responsibilities / mixture.responsibilities.sum(0)).float().mT
        if module.pseudo_inputs is not None:
            self.fill_pseudo_inputs(module, sample, shares)
        module.prior.start_from(mixture, n_effective, shares @ sample.variance)


def _owners(module: Any) -> list[Any]:
    return [owner for owner in (module.prior, module.pseudo_inputs) if owner is not None]


def _module(pl_module: pl.LightningModule) -> Any:
    return pl_module.module
