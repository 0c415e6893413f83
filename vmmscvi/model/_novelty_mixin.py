"""Novelty of cells: how badly they fit their cluster, calibrated by the training data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS, settings
from torch import Tensor

from vmmscvi._calibration import ClusterCalibration, share_above
from vmmscvi.model._clustering_mixin import by_chunks
from vmmscvi.priors import MixturePrior, Prior

Calibration = Literal["cluster", "pooled"]

N_REFERENCE_CELLS = 10_000
"""Largest number of cells whose positions a model stores; shares are then accurate to half a percent."""


class NoveltyMixin:
    """Novelty scores. Their calibration is saved with a model and passed on to its queries."""

    module: Any
    adata: AnnData
    reference_log_densities_: np.ndarray | None = None
    """Sorted log-densities of reference cells under the prior."""
    reference_cells_: dict[str, np.ndarray] | None = None
    """Positions ``"z"`` of these cells, shape ``(n, p)``, and their batch codes ``"batch"``."""

    if TYPE_CHECKING:

        def _latent_tensor(
            self, adata: AnnData | None, indices: Sequence[int] | None, batch_size: int | None
        ) -> Tensor: ...

        def _obs_names(self, adata: AnnData | None, indices: Sequence[int] | None) -> pd.Index: ...

        def _trained_prior(self) -> Prior: ...

    def get_novelty_score(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        calibration: Calibration = "cluster",
    ) -> pd.Series:
        """Return each cell's novelty: the share of its cluster's reference cells that fit better.

        Typical cells score near 0, novel cells near 1. The reference cells are at most 10,000 cells of the
        data that trained the prior, including validation cells. A mapped query uses the cells of its
        reference model; a query that also trains the prior (``load_query_data(..., unfrozen=True)``)
        replaces them by its own.

        One reference cell in twenty of every cluster scores above 0.95. This is the rate of false alarms at
        that threshold if the query differs from the reference only in its cell types. New types that lie
        close to known ones in the embedding, or that the encoder maps onto a known type, are not detected.

        Parameters
        ----------
        adata, indices, batch_size
            Cells to score, as in :meth:`get_cluster_probabilities`.
        calibration
            ``"cluster"`` compares a cell with the reference cells of its own cluster, or of all clusters if
            its own has few. ``"pooled"`` compares the cell's density with that of all reference cells; cells
            of rare clusters then score high. A prior without components always uses ``"pooled"``.

        Returns
        -------
        Series
            Scores between 0 and 1 with index ``obs_names``.

        Raises
        ------
        RuntimeError
            If the model has not been trained, or stores no reference.
        ValueError
            If ``calibration`` is neither ``"cluster"`` nor ``"pooled"``.
        """
        if calibration not in get_args(Calibration):
            raise ValueError(f"`calibration` must be one of {get_args(Calibration)}, found {calibration!r}.")
        z = self._latent_tensor(adata, indices, batch_size)
        if self.reference_log_densities_ is None:
            raise RuntimeError(
                "The model stores no reference cells: it was trained with a data module or saved by an "
                "earlier version. Use `get_prior_log_density` instead."
            )
        novelty = self._novelty_at(z, calibration)
        return pd.Series(novelty, index=self._obs_names(adata, indices), name="novelty")

    def _novelty_at(self, z: Tensor, calibration: Calibration = "cluster") -> NDArray[np.float64]:
        """Score positions ``(n, p)``; needs a stored reference."""
        prior = self._trained_prior()
        if calibration == "cluster" and self.reference_cells_ is not None and isinstance(prior, MixturePrior):
            reference = torch.as_tensor(self.reference_cells_["z"], device=z.device)
            return ClusterCalibration(*_fits(reference, prior)).novelty(*_fits(z, prior))
        with torch.inference_mode():
            log_density = by_chunks(z, prior, prior.log_prob).numpy()
        return share_above(np.asarray(self.reference_log_densities_), log_density)

    def _remember_reference(self) -> None:
        """Store positions of the prior's training cells; a frozen prior keeps those of its reference."""
        if self.module.latent_prior.is_frozen:
            return
        self.reference_log_densities_ = self.reference_cells_ = None
        if self.adata is None:
            return
        cells = np.arange(self.adata.n_obs)
        if len(cells) > N_REFERENCE_CELLS:
            rng = np.random.default_rng(settings.seed or 0)
            cells = np.sort(rng.choice(cells, N_REFERENCE_CELLS, replace=False))
        device, prior = self.module.device, self._trained_prior()
        # encoding draws samples as a side effect: keep the user's random state
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            z = self._latent_tensor(None, cells, None)  # type: ignore[arg-type]
        with torch.inference_mode():
            log_density = by_chunks(z, prior, prior.log_prob)
        self.reference_log_densities_ = np.sort(log_density.numpy())
        self.reference_cells_ = {"z": z.cpu().numpy().astype(np.float32)}
        codes = self.adata.obs.get(f"_scvi_{REGISTRY_KEYS.BATCH_KEY}")
        if codes is not None:
            self.reference_cells_["batch"] = codes.to_numpy()[cells].astype(np.int32)


def _fits(z: Tensor, prior: MixturePrior) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Cluster of each cell, and its log-density relative to the peak of the cluster."""

    def fits(chunk: Tensor) -> Tensor:
        cluster = prior.responsibilities(chunk).argmax(1)
        return torch.stack((cluster.double(), prior.log_prob(chunk).double() - peaks[cluster].double()), 1)

    with torch.inference_mode():
        components = prior.component_distribution()
        at_centers: Tensor = components.log_prob(components.loc)  # type: ignore[no-untyped-call]
        peaks = at_centers + prior.weights.log()
        values = by_chunks(z, prior, fits).numpy()
    return values[:, 0].astype(np.int64), values[:, 1]
