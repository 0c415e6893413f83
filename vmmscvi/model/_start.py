"""The prior starts from what the networks have learned: clusters found in the embedding, after a warm-up."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from scvi import REGISTRY_KEYS, settings
from scvi.dataloaders import AnnDataLoader
from scvi.module._constants import MODULE_KEYS
from torch import Tensor
from torch.nn.functional import one_hot

from vmmscvi.model._initialization import dense
from vmmscvi.module import PseudoCells
from vmmscvi.module._prior_mixin import evaluation_mode
from vmmscvi.priors import BayesianMixturePrior, CoarsenedMixture, fit_coarsened_mixture

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from vmmscvi.module import VMMVAE, PseudoInputs

logger = logging.getLogger(__name__)

Start = Literal["embedding", "cells"]

WARMUP_STEPS = 1000
"""Minibatches after which an embedding shows its clusters; fewer find fewer clusters."""
LARGEST_SAMPLE = 20_000
"""Cells that the start is fitted to at most: twenty times the default number of effective cells."""
LARGEST_MATRIX = 100_000_000
"""Values of the expression matrix of these cells that are held in memory at most (400 MB)."""
SMALLEST_SAMPLE = 2000
"""Cells that are used however many genes there are."""


def check_start(start: Start, n_effective: float, n_warmup_epochs: int | None, max_epochs: int) -> None:
    """Check the arguments that say how a prior starts.

    Parameters
    ----------
    start, n_effective, n_warmup_epochs, max_epochs
        As in :meth:`vmmscvi.SCVI_VMM.train`.

    Raises
    ------
    ValueError
        If ``start`` is unknown, ``n_effective`` is not positive, or the warm-up is not shorter than training.
    """
    if start not in get_args(Start):
        raise ValueError(f"`start` must be one of {get_args(Start)}, found {start!r}.")
    if not n_effective > 0:
        raise ValueError(f"`n_effective` must be positive, found {n_effective}.")
    if n_warmup_epochs is not None and not 0 <= n_warmup_epochs < max_epochs:
        raise ValueError(
            f"`n_warmup_epochs` must be at least 0 and less than `max_epochs` ({max_epochs}), "
            f"found {n_warmup_epochs}."
        )


def default_n_warmup_epochs(n_train: int, batch_size: int, max_epochs: int) -> int:
    """Epochs of warm-up: 1000 minibatches, at least five epochs, at most half of the training.

    Parameters
    ----------
    n_train
        Number of training cells.
    batch_size
        Cells in a minibatch.
    max_epochs
        Largest number of epochs.
    """
    epochs = math.ceil(WARMUP_STEPS / max(1, math.ceil(n_train / batch_size)))
    return min(max(epochs, 5), max_epochs // 2)


class StartFromEmbedding(Callback):
    """Train under N(0, I) first; then find clusters in the embedding and let the prior start from them.

    Components get the weights and covariances of the clusters; their pseudo-inputs are the clusters' mean
    profiles. The number of components becomes the number of clusters. A training that ends in its warm-up, by
    a limit of time for instance, starts the prior then.

    Parameters
    ----------
    n_warmup_epochs
        Epochs before the start.
    n_effective
        Number of cells that the data count as; see :func:`vmmscvi.priors.fit_coarsened_mixture`.
    """

    def __init__(self, n_warmup_epochs: int, n_effective: float) -> None:
        super().__init__()
        self.n_warmup_epochs = n_warmup_epochs
        self.n_effective = n_effective

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Switch to N(0, I)."""
        if trainer.world_size > 1:
            raise ValueError(
                f"`start='embedding'` needs a single process, found {trainer.world_size}: "
                "pass `start='cells'`."
            )
        module = cast("VMMVAE", pl_module.module)
        module.prior.is_started = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the prior when the warm-up is over."""
        module = cast("VMMVAE", pl_module.module)
        if trainer.current_epoch >= self.n_warmup_epochs and not module.prior.is_started:
            self._start(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the prior if training ends before it has: a trained model has clusters."""
        module = cast("VMMVAE", pl_module.module)
        if not module.prior.is_started:
            self._start(trainer, module)

    def _start(self, trainer: pl.Trainer, module: VMMVAE) -> None:
        with torch.random.fork_rng(devices=[]):  # the sample must not change the order of the minibatches
            sample = _embed(module, _sampled_minibatches(trainer, module))
        prior = cast("BayesianMixturePrior", module.prior)
        n_effective = min(self.n_effective, len(sample.z))
        mixture = fit_coarsened_mixture(
            sample.z,
            n_components=min(prior.n_components, max(1, len(sample.z) // 10)),
            n_effective=n_effective,
            wishart_scale_factor=prior.wishart_scale_factor,
            seed=settings.seed or 0,
        )
        shares = (mixture.responsibilities / mixture.responsibilities.sum(0)).float().mT
        if module.pseudo_inputs is not None:
            module.pseudo_inputs.fill(_mean_cells(sample, shares, module.pseudo_inputs, module.n_batch))
        prior.start_from(mixture, n_effective, shares @ sample.variance)
        _announce(trainer, mixture)


class Sample(NamedTuple):
    """Cells: means and variances of posteriors ``(n, p)``, log1p of counts ``(n, n_genes)``, covariates."""

    z: Tensor
    variance: Tensor
    log_counts: Tensor
    batch: Tensor
    continuous: Tensor | None
    categorical: Tensor | None


def _sampled_minibatches(trainer: pl.Trainer, module: VMMVAE) -> Iterable[dict[str, Tensor]]:
    """Minibatches of training cells: drawn uniformly where that is possible, else the first of the loader."""
    n_cells = max(SMALLEST_SAMPLE, min(LARGEST_SAMPLE, LARGEST_MATRIX // module.n_input))
    splitter: Any = trainer.datamodule  # type: ignore[attr-defined]
    if getattr(splitter, "train_idx", None) is not None and hasattr(splitter, "adata_manager"):
        indices = np.asarray(splitter.train_idx)
        if len(indices) > n_cells:
            indices = np.random.default_rng(settings.seed or 0).choice(indices, n_cells, replace=False)
        yield from AnnDataLoader(splitter.adata_manager, indices=indices, batch_size=1024, num_workers=0)
        return
    found = 0
    for tensors in splitter.train_dataloader():
        yield tensors
        found += len(tensors[REGISTRY_KEYS.X_KEY])
        if found >= n_cells:
            return


@torch.no_grad()
def _embed(module: VMMVAE, minibatches: Iterable[dict[str, Tensor]]) -> Sample:
    columns: dict[str, list[Tensor]] = {name: [] for name in Sample._fields}
    for tensors in minibatches:
        tensors = {**tensors, REGISTRY_KEYS.X_KEY: dense(tensors[REGISTRY_KEYS.X_KEY])}
        with evaluation_mode(module):
            qz = module.inference(**module._get_inference_input(tensors))[MODULE_KEYS.QZ_KEY]
        values = {
            "z": qz.loc,
            "variance": qz.variance,
            "log_counts": torch.log1p(tensors[REGISTRY_KEYS.X_KEY].float()),
            "batch": tensors[REGISTRY_KEYS.BATCH_KEY],
            "continuous": tensors.get(REGISTRY_KEYS.CONT_COVS_KEY),
            "categorical": tensors.get(REGISTRY_KEYS.CAT_COVS_KEY),
        }
        for name, value in values.items():
            if value is not None:
                columns[name].append(value.cpu())
    return Sample(**{name: torch.cat(parts) if parts else None for name, parts in columns.items()})  # type: ignore[arg-type]


def _mean_cells(sample: Sample, shares: Tensor, pseudo_inputs: PseudoInputs, n_batch: int) -> PseudoCells:
    """Mean cell of every cluster on the scale of the encoder; ``shares`` is ``(K, n)``, rows sum to one."""
    device = pseudo_inputs.expression.device
    categorical: tuple[Tensor, ...] = ()
    if sample.categorical is not None:
        n_categories = [logits.shape[-1] for logits in pseudo_inputs.category_logits]
        codes = sample.categorical[:, : len(n_categories)].long().unbind(1)
        categorical = tuple(shares @ one_hot(c, n).float() for c, n in zip(codes, n_categories, strict=True))
    return PseudoCells(
        counts=torch.expm1(shares @ sample.log_counts).to(device),
        batch=(shares @ one_hot(sample.batch.long().ravel(), max(n_batch, 1)).float()).to(device),
        continuous=None if sample.continuous is None else (shares @ sample.continuous.float()).to(device),
        categorical=tuple(probabilities.to(device) for probabilities in categorical),
    )


def _announce(trainer: pl.Trainer, mixture: CoarsenedMixture) -> None:
    """Tell the model, whose saved arguments describe the module, and the log."""
    n_components = len(mixture.weights)
    model: Any = getattr(trainer, "_model", None)
    if model is not None:
        model.init_params_["non_kwargs"]["n_components"] = n_components
    logger.info("The prior starts from %s clusters of the embedding.", n_components)
