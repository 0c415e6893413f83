"""Pseudo-inputs start from training cells: drawn when training starts and it is known which these are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from scvi import REGISTRY_KEYS
from torch import Tensor

from vmmscvi.model._training_cells import training_cells
from vmmscvi.model._validation import check_n_components
from vmmscvi.module import PseudoCells

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from vmmscvi.module import VMMVAE, PseudoInputs


class InitializePseudoInputs(Callback):
    """Fill the pseudo-inputs with ``K`` different cells: training cells, unless others are given.

    Which ones are drawn, see :func:`vmmscvi.model._training_cells.training_cells`.

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
        with torch.random.fork_rng(devices=[]):  # every loader draws a seed for workers, even without any
            tensors = self._cells(trainer.datamodule, module.pseudo_inputs.n_components)  # type: ignore[attr-defined]
        continuous = tensors.get(REGISTRY_KEYS.CONT_COVS_KEY)
        device = module.pseudo_inputs.expression.device
        # batches start uniform, as in the paper: a centre belongs to no batch in particular
        cells = PseudoCells(
            counts=dense(tensors[REGISTRY_KEYS.X_KEY]).to(device),
            continuous=None if continuous is None else continuous.to(device),
        )
        module.pseudo_inputs.fill(cells)

    def _cells(self, splitter: Any, n_components: int) -> dict[str, Tensor]:
        if self.indices is None:
            return _first_cells(training_cells(splitter, n_components), n_components)
        cells = _first_cells(training_cells(splitter, n_components, self.indices), n_components)
        ranks = np.argsort(np.argsort(self.indices))
        return {name: tensor[ranks] for name, tensor in cells.items()}


def check_start_cells(
    start_cells: Sequence[int] | np.ndarray | None,
    start: str,
    pseudo_inputs: PseudoInputs | None,
    n_obs: int | None,
    has_adata: bool = True,
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
    has_adata
        Whether AnnData is trained on, whose cells have positions.

    Returns
    -------
    Their positions, or ``None`` for random cells.

    Raises
    ------
    ValueError
        If the prior starts from something else, a data module is trained on, or they are not one position
        for each component, all different.
    """
    if start_cells is None:
        return None
    if start != "cells" or pseudo_inputs is None:
        raise ValueError("`start_cells` needs `start='cells'` and a prior with pseudo-inputs.")
    if not has_adata:
        raise ValueError("`start_cells` needs AnnData: cells of a data module have no positions.")
    cells = np.asarray(start_cells)
    if cells.shape != (pseudo_inputs.n_components,) or not np.issubdtype(cells.dtype, np.integer):
        raise ValueError(
            f"`start_cells` must have {pseudo_inputs.n_components} positions of cells, one for each "
            f"component, found shape {cells.shape} of {cells.dtype}: set `n_components` accordingly."
        )
    if n_obs is not None and not ((cells >= 0) & (cells < n_obs)).all():
        raise ValueError(f"`start_cells` must be positions from 0 to {n_obs - 1}, found {cells[:5]}.")
    if len(np.unique(cells)) < len(cells):
        raise ValueError("`start_cells` must be different cells: components that start alike stay alike.")
    return cells


def _first_cells(minibatches: Iterable[dict[str, Tensor]], n_cells: int) -> dict[str, Tensor]:
    """Expression and continuous covariates of the first cells."""
    cells = list(minibatches)
    check_n_components(n_cells, sum(tensors[REGISTRY_KEYS.X_KEY].shape[0] for tensors in cells))
    keys = (REGISTRY_KEYS.X_KEY, REGISTRY_KEYS.CONT_COVS_KEY)
    keys = tuple(key for key in keys if cells[0].get(key) is not None)
    return {key: torch.cat([dense(tensors[key]) for tensors in cells])[:n_cells] for key in keys}


def dense(tensor: Tensor) -> Tensor:
    """Return a tensor in the strided layout."""
    return tensor if tensor.layout == torch.strided else tensor.to_dense()
