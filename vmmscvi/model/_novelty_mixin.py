"""How unlike the reference cells are: how well they fit their cluster, calibrated by the training data."""

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
"""Cells whose positions a model remembers at most; shares are then known to half a percent."""


class NoveltyMixin:
    """Scores that a model takes along: to a file, and to the queries that are mapped into it."""

    module: Any
    adata: AnnData
    reference_log_densities_: np.ndarray | None = None
    """Sorted log-densities of reference cells under the prior."""
    reference_cells_: dict[str, np.ndarray] | None = None
    """Positions ``"z"`` of these cells, shape ``(n, p)``, and codes of their batches, ``"batch"``."""

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
        """Share of the reference cells of its cluster that fit better: 0 for typical cells, 1 for novel ones.

        The reference are the cells of the data that the prior was trained on, validation cells included, at
        most 10,000 of them; for a mapped query those of the reference model. A query that trains the prior as
        well (``load_query_data(..., unfrozen=True)``) takes their place. In every cluster one reference cell
        in twenty has a score above 0.95: that is the share of false alarms at this threshold, as far as the
        query differs from the reference in nothing but its types. Types that lie close to known ones in the
        embedding, or that the encoder takes for a known one, are not found.

        Parameters
        ----------
        adata, indices, batch_size
            Cells to score, as in :meth:`get_cluster_probabilities`.
        calibration
            ``"cluster"`` compares a cell with the reference cells of its own cluster; those of all clusters
            stand in where a cluster has few. ``"pooled"`` compares the density with that of all reference
            cells, so that cells of rare clusters score high. A prior without components is pooled always.

        Returns
        -------
        Series with values between 0 and 1, index ``obs_names``.

        Raises
        ------
        RuntimeError
            If the model has not been trained, or remembers no reference.
        ValueError
            If ``calibration`` is neither.
        """
        if calibration not in get_args(Calibration):
            raise ValueError(f"`calibration` must be one of {get_args(Calibration)}, found {calibration!r}.")
        z = self._latent_tensor(adata, indices, batch_size)
        if self.reference_log_densities_ is None:
            raise RuntimeError(
                "The model remembers no reference: it was trained with a data module, or by a version that "
                "did not keep one. Use `get_prior_log_density`."
            )
        novelty = self._novelty_at(z, calibration)
        return pd.Series(novelty, index=self._obs_names(adata, indices), name="novelty")

    def _novelty_at(self, z: Tensor, calibration: Calibration = "cluster") -> NDArray[np.float64]:
        """Score positions ``(n, p)``; the reference must be known."""
        prior = self._trained_prior()
        if calibration == "cluster" and self.reference_cells_ is not None and isinstance(prior, MixturePrior):
            reference = torch.as_tensor(self.reference_cells_["z"], device=z.device)
            return ClusterCalibration(*_fits(reference, prior)).novelty(*_fits(z, prior))
        with torch.inference_mode():
            log_density = by_chunks(z, prior, prior.log_prob).numpy()
        return share_above(np.asarray(self.reference_log_densities_), log_density)

    def _remember_reference(self) -> None:
        """Keep positions of the cells that the prior was trained on; those of a frozen one are known."""
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
        # encoding draws samples that nobody asked for: what the user draws next stays the same
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
    """Cluster of each cell, and its log-density relative to the highest that the cluster has."""

    def fits(chunk: Tensor) -> Tensor:
        cluster = prior.responsibilities(chunk).argmax(1)
        return torch.stack((cluster.double(), prior.log_prob(chunk).double() - peaks[cluster].double()), 1)

    with torch.inference_mode():
        components = prior.component_distribution()
        at_centers: Tensor = components.log_prob(components.loc)  # type: ignore[no-untyped-call]
        peaks = at_centers + prior.weights.log()
        values = by_chunks(z, prior, fits).numpy()
    return values[:, 0].astype(np.int64), values[:, 1]
