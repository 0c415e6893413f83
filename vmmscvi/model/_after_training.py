"""What a training leaves, however it ends: a model that can be used, and a history whose epochs are right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from vmmscvi.priors import PriorState
from vmmscvi.train import NonFiniteTrainingError

if TYPE_CHECKING:
    from vmmscvi.model._training_mixin import TrainingMixin

PRIOR_METRICS = {"prior_loss", "n_utilized_clusters", "alpha"}
"""What is logged from the start of a mixture prior on."""


def settle(model: TrainingMixin, error: BaseException, restored: bool, before: dict[str, Any] | None) -> None:
    """Make usable what a failed training leaves.

    Parameters
    ----------
    model
        The model whose training failed or was interrupted.
    error
        What ended it.
    restored
        Whether the weights are those of its best epoch.
    before
        Weights of an earlier training, to go back to if losses are not finite, or the prior was waiting to be
        initialised anew, and there is no best epoch.
    """
    module = model.module
    module.eval()
    is_lost = isinstance(error, NonFiniteTrainingError) or module.latent_prior.state is PriorState.WARMING_UP
    if before is not None and not restored and is_lost:
        module.load_state_dict(before)
    model.is_trained_ = model.is_trained_ or restored
    if model.is_trained_:
        module.cache_centers()
    if restored:
        model._remember_reference()


def number_epochs_of_prior(history: dict[str, pd.DataFrame], n_logged: dict[str, int]) -> None:
    """Correct the epochs of a second training, which scvi-tools numbers by what was logged in the first.

    Nothing is logged of a prior in its warm-up.

    Parameters
    ----------
    history
        Tables of both trainings; changed.
    n_logged
        Rows of each table before the second.
    """
    n_epochs = n_logged.get("elbo_train", n_logged.get("elbo_train_epoch", 0))
    for name in PRIOR_METRICS & n_logged.keys():
        table, n_before = history[name], n_logged[name]
        epochs = [*table.index[:n_before], *range(n_epochs, n_epochs + len(table) - n_before)]
        table.index = pd.Index(epochs, name=table.index.name)
