"""Training for the commands."""

from __future__ import annotations

from typing import Any

import scvi
from anndata import AnnData
from lightning.fabric.utilities.exceptions import MisconfigurationException

from vmmscvi.cli._errors import TRAINING_FAILED, CommandError, as_command_error
from vmmscvi.cli._words import in_options
from vmmscvi.model import SCVI_VMM
from vmmscvi.train import NonFiniteTrainingError

DEFAULT_COMPONENTS = 100
CELLS_PER_COMPONENT = 10


def default_n_components(n_obs: int) -> int:
    """Return the default of the largest number of clusters: 100, or a tenth of the cells if that is fewer."""
    return min(DEFAULT_COMPONENTS, max(1, n_obs // CELLS_PER_COMPONENT))


def progress(show: bool) -> dict[str, Any]:
    """Return the arguments of ``train`` that show or hide progress."""
    return {} if show else {"enable_progress_bar": False}


def train_model(
    adata: AnnData,
    *,
    batch_key: str | None,
    layer: str | None = None,
    prior: str,
    n_latent: int = 10,
    n_components: int | None = None,
    seed: int,
    max_epochs: int | None,
    n_effective: float | None = None,
    n_warmup_epochs: int | None = None,
    accelerator: str,
    show_progress: bool,
) -> SCVI_VMM:
    """Build and train a model.

    For every prior, the same seed gives the same split into training and validation cells and the same
    initial weights of the networks.

    Parameters
    ----------
    adata
        Raw counts; registered with scvi-tools in place.
    batch_key, layer, prior, n_latent
        As in :class:`vmmscvi.SCVI_VMM`.
    n_components
        Largest number of clusters; see :func:`default_n_components` for the default.
    seed
        Seed of all random numbers.
    max_epochs, n_effective, n_warmup_epochs, accelerator
        As in :meth:`vmmscvi.SCVI_VMM.train`.
    show_progress
        Whether to show the progress bar.

    Returns
    -------
    SCVI_VMM
        The trained model.

    Raises
    ------
    CommandError
        If data or settings are invalid, or training fails.
    """
    if n_components is None:
        n_components = default_n_components(adata.n_obs)
    scvi.settings.seed = seed
    with as_command_error(ValueError, MisconfigurationException):
        SCVI_VMM.setup_anndata(adata, batch_key=batch_key, layer=layer)
        arguments: dict[str, Any] = {"prior": prior, "n_latent": n_latent, "n_components": n_components}
        model = SCVI_VMM(adata, **arguments)
        try:
            model.train(
                max_epochs=max_epochs,
                n_effective=n_effective,
                n_warmup_epochs=n_warmup_epochs,
                accelerator=accelerator,
                **progress(show_progress),
            )
        except NonFiniteTrainingError as error:
            raise CommandError(in_options(str(error)), exit_code=TRAINING_FAILED) from error
    return model
