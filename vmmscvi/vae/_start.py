"""How a prior starts: from rows that are drawn, or from clusters of the embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from vmmscvi.module._prior_owner import evaluation_mode
from vmmscvi.train._start import LARGEST_SAMPLE, StartFromClusters
from vmmscvi.vae._data import in_chunks

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from vmmscvi.vae._data import ArrayDataModule, Indices
    from vmmscvi.vae._module import ArrayVAE


class EmbeddedRows(NamedTuple):
    """Rows ``(n, n_features)``, means and variances of their posteriors ``(n, p)``; on the CPU."""

    x: Tensor
    z: Tensor
    variance: Tensor


@torch.no_grad()
def embed_rows(module: ArrayVAE, x: Tensor) -> EmbeddedRows:
    """Embed rows in evaluation mode, some at a time.

    Parameters
    ----------
    module
        The module, on any device.
    x
        Rows, shape ``(n, n_features)``, on any device.
    """
    device = next(module.parameters()).device
    with evaluation_mode(module):
        posteriors = [module.encode(rows.to(device)) for rows in in_chunks(x)]
    return EmbeddedRows(
        x.cpu(),
        torch.cat([qz.mean.cpu() for qz in posteriors]),
        torch.cat([qz.variance.cpu() for qz in posteriors]),
    )


class StartFromEmbeddedRows(StartFromClusters):
    """The start of a prior from clusters of rows; pseudo-inputs are the clusters' mean rows.

    Parameters
    ----------
    n_warmup_epochs, n_effective
        See :class:`vmmscvi.train._start.StartFromClusters`.
    seed
        Seed of the sample and of the fit.
    """

    def __init__(self, n_warmup_epochs: int, n_effective: float | None, seed: int) -> None:
        super().__init__(n_warmup_epochs, n_effective)
        self._seed = seed

    @property
    def seed(self) -> int:
        """Seed of the fit."""
        return self._seed

    def embed(self, trainer: pl.Trainer, module: Any) -> EmbeddedRows:
        """Embed training rows, a sample of them where there are many."""
        data = cast("ArrayDataModule", trainer.datamodule)  # type: ignore[attr-defined]
        return embed_rows(module, data.x[draw_rows(data.train_indices, LARGEST_SAMPLE, self.seed)])

    def fill_pseudo_inputs(self, module: Any, sample: Any, shares: Tensor) -> None:
        """Set the pseudo-inputs to the clusters' mean rows."""
        module.pseudo_inputs.fill((shares @ sample.x).to(module.pseudo_inputs.values.device))


def draw_rows(indices: Indices, n_rows: int, seed: int) -> Indices:
    """Draw ``n_rows`` different ones of the rows, or take all where there are no more."""
    if len(indices) <= n_rows:
        return indices
    return np.random.default_rng(seed).choice(indices, n_rows, replace=False)
