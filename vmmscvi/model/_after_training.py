"""Steps after a training, even a failed one: leave a usable model and a history with correct epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from vmmscvi.priors import PriorState
from vmmscvi.train import NonFiniteTrainingError

if TYPE_CHECKING:
    from vmmscvi.model._training_mixin import TrainingMixin

PRIOR_METRICS = {"prior_loss", "n_utilized_clusters", "alpha"}
"""Quantities that are logged only once the mixture is initialised."""


def settle(model: TrainingMixin, error: BaseException, restored: bool, before: dict[str, Any] | None) -> None:
    """Make the model usable after a failed training.

    Parameters
    ----------
    model
        The model whose training failed or was interrupted.
    error
        The exception that ended the training.
    restored
        Whether the weights of the best epoch have been restored.
    before
        Weights of an earlier training. Without a best epoch, they are restored if a loss was not finite or
        the prior had not been initialised again.
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
        model._calibrate_labels()


def number_epochs_of_prior(history: dict[str, pd.DataFrame], n_logged: dict[str, int]) -> None:
    """Correct the epochs of a second training in the history.

    scvi-tools numbers them by the rows logged in the first training, but nothing is logged about a prior
    during its warm-up.

    Parameters
    ----------
    history
        Tables of both trainings; changed in place.
    n_logged
        Number of rows of each table before the second training.
    """
    n_epochs = n_logged.get("elbo_train", n_logged.get("elbo_train_epoch", 0))
    for name in PRIOR_METRICS & n_logged.keys():
        table, n_before = history[name], n_logged[name]
        epochs = [*table.index[:n_before], *range(n_epochs, n_epochs + len(table) - n_before)]
        table.index = pd.Index(epochs, name=table.index.name)
