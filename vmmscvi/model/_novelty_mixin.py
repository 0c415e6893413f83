"""How unlike the reference cells are: densities under the prior, calibrated by those of the training data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scvi import settings

N_REFERENCE_CELLS = 10_000
"""Cells whose densities a model remembers at most; shares are then known to half a percent."""


class NoveltyMixin:
    """A score that a model takes along: to a file, and to the queries that are mapped into it."""

    module: Any
    adata: AnnData
    reference_log_densities_: np.ndarray | None = None
    """Sorted log-densities of reference cells under the prior."""

    if TYPE_CHECKING:

        def get_prior_log_density(
            self, adata: AnnData | None, indices: Sequence[int] | None, batch_size: int | None
        ) -> pd.Series: ...

    def get_novelty_score(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> pd.Series:
        """Share of the reference cells that fit the clusters better: 0 for typical cells, 1 for novel ones.

        The reference are the cells of the data that the prior was trained on, validation cells included, at
        most 10,000 of them; for a mapped query those of the reference model. A query that trains the prior as
        well (``load_query_data(..., unfrozen=True)``) takes their place. One reference cell in twenty has a
        score above 0.95: that is the share of false alarms at this threshold, as far as the query differs
        from the reference in nothing but its types. Types that lie close to known ones in the embedding, or
        that the encoder takes for a known one, are not found.

        Parameters
        ----------
        adata, indices, batch_size
            Cells to score, as in :meth:`get_cluster_probabilities`.

        Returns
        -------
        Series with values between 0 and 1, index ``obs_names``.

        Raises
        ------
        RuntimeError
            If the model has not been trained, or remembers no reference.
        """
        log_density = self.get_prior_log_density(adata, indices, batch_size)
        if self.reference_log_densities_ is None:
            raise RuntimeError(
                "The model remembers no reference: it was trained with a data module, or by a version that "
                "did not keep one. Use `get_prior_log_density`."
            )
        novelty = self._share_of_denser(log_density.to_numpy())
        return pd.Series(novelty, index=log_density.index, name="novelty")

    def _share_of_denser(self, log_density: NDArray[np.floating]) -> NDArray[np.float64]:
        """Share of the remembered reference cells whose density is higher, shape ``(n,)``."""
        reference = np.asarray(self.reference_log_densities_)
        n_better = len(reference) - np.searchsorted(reference, log_density, side="right")
        return np.asarray(n_better / len(reference), dtype=np.float64)

    def _remember_reference(self) -> None:
        """Keep the densities of the cells that the prior was trained on; those of a frozen one are known."""
        if self.module.latent_prior.is_frozen:
            return
        self.reference_log_densities_ = None
        if self.adata is None:
            return
        cells = np.arange(self.adata.n_obs)
        if len(cells) > N_REFERENCE_CELLS:
            rng = np.random.default_rng(settings.seed or 0)
            cells = np.sort(rng.choice(cells, N_REFERENCE_CELLS, replace=False))
        device = self.module.device
        # encoding draws samples that nobody asked for: what the user draws next stays the same
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            log_density = self.get_prior_log_density(None, cells, None)  # type: ignore[arg-type]
        self.reference_log_densities_ = np.sort(log_density.to_numpy())
