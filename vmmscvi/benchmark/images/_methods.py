"""The estimator of every method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray

from vmmscvi.benchmark.images._settings import HIDDEN, N_CLASSES, PRETRAIN_SHARE, TITLES, CellSettings
from vmmscvi.vae import VAE, VaDE, mlp_decoder, mlp_encoder
from vmmscvi.vae._fitting import seeded

if TYPE_CHECKING:
    import lightning.pytorch as pl
    import numpy as np

VALIDATION_NMI = "nmi_validation"


def build_estimator(
    settings: CellSettings,
    n_features: int,
    labels: NDArray[np.int64],
    accelerator: str = "auto",
    verbose: bool = False,
) -> VAE | VaDE:
    """Make the estimator of a cell, which has not been fitted.

    Parameters
    ----------
    settings
        The cell.
    n_features
        Number of pixels.
    labels
        Labels of the training images; only looked at with ``stop_on="nmi"``.
    accelerator
        Where to train.
    verbose
        Whether to show a progress bar.

    Raises
    ------
    ValueError
        If there is no method of this name, or labels shall choose the epoch of a method without clusters.
    """
    method = settings.method
    if method not in TITLES:
        raise ValueError(f"`method` must be one of {tuple(TITLES)}, found {method!r}.")
    hidden = HIDDEN[settings.dataset]
    with seeded(settings.seed):  # the same initial weights for all methods of a seed
        networks = {
            "encoder": mlp_encoder(n_features, hidden),
            "decoder": mlp_decoder(settings.n_latent, n_features, hidden[::-1]),
        }
    common: dict[str, Any] = {
        **networks,
        "n_latent": settings.n_latent,
        "max_epochs": settings.max_epochs,
        "batch_size": settings.batch_size,
        "lr": settings.lr,
        "patience": settings.patience,
        "random_state": settings.seed,
        "accelerator": accelerator,
        "devices": 1,
        "verbose": verbose,
    }
    if settings.stop_on == "nmi":
        if method == "standard_normal":
            raise ValueError("`stop_on` must be 'elbo' for 'standard_normal', which has no clusters.")
        common |= {
            "monitor": VALIDATION_NMI,
            "monitor_mode": "max",
            "callbacks": [ValidationNMI(labels)],
        }
    if method == "vade":
        n_pretrain = max(1, settings.max_epochs // PRETRAIN_SHARE)
        return VaDE(N_CLASSES, n_pretrain_epochs=min(n_pretrain, 100), **common)
    # the paper encodes a minibatch anew for the prior's step
    common |= {"n_components": settings.n_components, "reuse_encoding": False}
    if method == "vmm_embedding":
        return VAE("vmm", start="embedding", **common)
    return VAE(method, start="cells", wishart_scale="paper", prior_lr_ratio=settings.prior_lr_ratio, **common)


class ValidationNMI(Callback):
    """Log how well clusters of the validation images agree with their labels, unmerged, in every epoch.

    Parameters
    ----------
    labels
        Labels of all images that are given to ``fit``.
    """

    def __init__(self, labels: NDArray[np.int64]) -> None:
        super().__init__()
        self.labels = labels

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Assign the validation images and compare."""
        from sklearn.metrics import normalized_mutual_info_score

        from vmmscvi.vae._embedding import embed_rows

        module: Any = pl_module.module
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        rows = data.validation_indices
        value = 0.0
        if module.latent_prior.is_started and not module.trains_autoencoder:
            z = embed_rows(module, data.x[rows]).z.to(next(module.parameters()).device)
            clusters = module.assign(z, module.centers()).cpu().numpy()
            value = float(normalized_mutual_info_score(self.labels[rows], clusters))
        pl_module.log(VALIDATION_NMI, value)
