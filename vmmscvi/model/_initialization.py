"""Pseudo-inputs start from training cells: drawn when training starts and it is known which these are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from scvi import REGISTRY_KEYS, settings
from scvi.dataloaders import AnnDataLoader
from torch import Tensor

from vmmscvi.model._validation import check_n_components
from vmmscvi.module import PseudoCells

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from vmmscvi.module import VMMVAE, PseudoInputs

logger = logging.getLogger(__name__)


class InitializePseudoInputs(Callback):
    """Fill the pseudo-inputs with ``K`` different training cells, never with validation cells.

    With scvi-tools' own splitter, cells are drawn uniformly from the training set with a generator of their
    own, so that the global random state is not consumed; so they are by
    :class:`vmmscvi.dataloaders.StreamedCounts`. With other data modules they are the first cells that the
    training loader yields.

    Parameters
    ----------
    indices
        Observations to start from, one for each component; drawn at random by default.
    """

    def __init__(self, indices: np.ndarray | None = None) -> None:
        super().__init__()
        self.indices = indices

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fill the pseudo-inputs, unless an earlier training has."""
        module = cast("VMMVAE", pl_module.module)
        if not module.prior.is_started:  # then weights of a warm-up have been loaded
            raise ValueError("`ckpt_path` is a training in its warm-up: pass the `start` that it had.")
        if module.pseudo_inputs is None or bool(module.pseudo_inputs.is_initialized):
            return
        n_components = module.pseudo_inputs.n_components
        splitter: Any = trainer.datamodule  # type: ignore[attr-defined]
        if getattr(splitter, "train_idx", None) is not None and hasattr(splitter, "adata_manager"):
            tensors = self._drawn_cells(splitter, n_components)
        elif hasattr(splitter, "sample_dataloader"):
            tensors = _first_cells(splitter.sample_dataloader(n_components), n_components)
        else:
            logger.warning("Pseudo-inputs start from the training loader's first cells: shuffle the data.")
            tensors = _first_cells(splitter.train_dataloader(), n_components)
        continuous = tensors.get(REGISTRY_KEYS.CONT_COVS_KEY)
        device = module.pseudo_inputs.expression.device
        # batches start uniform, as in the paper: a centre belongs to no batch in particular
        cells = PseudoCells(
            counts=dense(tensors[REGISTRY_KEYS.X_KEY]).to(device),
            continuous=None if continuous is None else continuous.to(device),
        )
        module.pseudo_inputs.fill(cells)

    def _drawn_cells(self, splitter: Any, n_components: int) -> dict[str, Tensor]:
        indices = self.indices
        if indices is None:
            check_n_components(n_components, len(splitter.train_idx))
            generator = np.random.default_rng(settings.seed or 0)
            indices = generator.choice(np.asarray(splitter.train_idx), n_components, replace=False)
        order = np.argsort(indices)  # files are read in their order, whatever is asked for
        loader = AnnDataLoader(
            splitter.adata_manager, indices=indices[order], batch_size=n_components, num_workers=0
        )
        with torch.random.fork_rng(devices=[]):  # every loader draws a seed for workers, even without any
            tensors: dict[str, Tensor] = next(iter(loader))
        return {name: dense(tensor)[np.argsort(order)] for name, tensor in tensors.items()}


def check_start_cells(
    start_cells: Sequence[int] | np.ndarray | None,
    start: str,
    pseudo_inputs: PseudoInputs | None,
    n_obs: int | None,
) -> np.ndarray | None:
    """Check the cells that pseudo-inputs are to start from.

    Parameters
    ----------
    start_cells, start
        As in :meth:`vmmscvi.SCVI_VMM.train`.
    pseudo_inputs
        The model's, ``None`` for a prior without.
    n_obs
        Number of cells.

    Returns
    -------
    Their positions, or ``None`` for random cells.

    Raises
    ------
    ValueError
        If the prior starts from something else, or they are not one position for each component.
    """
    if start_cells is None:
        return None
    if start != "cells" or pseudo_inputs is None:
        raise ValueError("`start_cells` needs `start='cells'` and a prior with pseudo-inputs.")
    cells = np.asarray(start_cells)
    if cells.shape != (pseudo_inputs.n_components,) or not np.issubdtype(cells.dtype, np.integer):
        raise ValueError(
            f"`start_cells` must have {pseudo_inputs.n_components} positions of cells, one for each "
            f"component, found shape {cells.shape} of {cells.dtype}: set `n_components` accordingly."
        )
    if n_obs is not None and not ((cells >= 0) & (cells < n_obs)).all():
        raise ValueError(f"`start_cells` must be positions from 0 to {n_obs - 1}, found {cells[:5]}.")
    return cells


def _first_cells(loader: Any, n_cells: int) -> dict[str, Tensor]:
    """Collect the first cells of a loader, from as many minibatches as it takes."""
    minibatches: list[dict[str, Tensor]] = []
    found = 0
    for tensors in loader:
        minibatches.append(tensors)
        found += tensors[REGISTRY_KEYS.X_KEY].shape[0]
        if found >= n_cells:
            break
    check_n_components(n_cells, found)
    keys = (REGISTRY_KEYS.X_KEY, REGISTRY_KEYS.CONT_COVS_KEY)
    keys = tuple(key for key in keys if minibatches[0].get(key) is not None)
    return {key: torch.cat([dense(m[key]) for m in minibatches])[:n_cells] for key in keys}


def dense(tensor: Tensor) -> Tensor:
    """Return a tensor in the strided layout."""
    return tensor if tensor.layout == torch.strided else tensor.to_dense()
