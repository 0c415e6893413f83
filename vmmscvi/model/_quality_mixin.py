"""Quality of clusters, and a verdict for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS
from torch import Tensor

from vmmscvi._calibration import share_above
from vmmscvi.model._clustering_mixin import by_chunks
from vmmscvi.model._names_mixin import ClusterNamesMixin
from vmmscvi.model._novelty_mixin import NoveltyMixin
from vmmscvi.priors import MixturePrior

FALSE_ALARM_RATE = 0.05
"""Default share of each cluster's reference cells that a verdict calls unknown."""
UNKNOWN = "unknown"
"""Verdict on cells that fit no cluster."""
LOW_DENSITY = 0.95
"""Pooled novelty that one reference cell in twenty exceeds."""
MOSTLY = 0.5
"""A cluster is a catch-all if a larger share of its reference cells has low density."""


class QualityMixin(ClusterNamesMixin, NoveltyMixin):
    """Measures of cluster quality, and detection of clusters that hold outliers."""

    def cluster_quality(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Measure how well the cells of each cluster fit it.

        ====================  ==============================================================================
        ``n_cells``           number of cells
        ``share``             share of all cells
        ``mean_probability``  mean probability of the cluster for its cells
        ``low_density``       share of its cells whose density is among the lowest 5% of the reference
        ``spread``            standard deviation of the component, as a multiple of the clusters' median
        ``largest_batch``     share of its cells that belong to the most frequent batch
        ``catch_all``         whether most of its reference cells have low density: outliers, not a type
        ====================  ==============================================================================

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_cluster_probabilities`.

        Returns
        -------
        DataFrame
            Table with one row for each non-empty cluster, indexed by component name. If the model stores no
            reference, ``low_density`` is NaN and ``catch_all`` is ``False``.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        ValueError
            If the model's prior has no components.
        """
        self._mixture_prior()
        z = self._latent_tensor(adata, indices, batch_size)
        data = self.adata if adata is None else adata
        codes = data.obs.get(f"_scvi_{REGISTRY_KEYS.BATCH_KEY}")
        if codes is not None:
            codes = codes.to_numpy() if indices is None else codes.to_numpy()[np.asarray(indices)]
        return self._quality_at(z, codes)

    def get_verdict(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        false_alarm_rate: float = FALSE_ALARM_RATE,
    ) -> pd.DataFrame:
        """Return the cluster of each cell, or a verdict that it fits none.

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_cluster_probabilities`.
        false_alarm_rate
            Share of the reference cells of each cluster that would be called unknown.

        Returns
        -------
        DataFrame
            Table with index ``obs_names`` and columns ``cluster``, ``probability`` (of the cluster),
            ``novelty`` (within the cluster) and ``verdict`` (the cluster's name or ``"unknown"``). A cell is
            unknown if its novelty exceeds ``1 - false_alarm_rate`` or its cluster is a catch-all, see
            :meth:`cluster_quality`.

        Raises
        ------
        RuntimeError
            If the model has not been trained, or stores no reference.
        ValueError
            If ``false_alarm_rate`` is not between 0 and 1.
        """
        if not 0 < false_alarm_rate < 1:
            raise ValueError(f"`false_alarm_rate` must be between 0 and 1, found {false_alarm_rate}.")
        novelty = self.get_novelty_score(adata, indices, batch_size)
        probabilities = self.get_cluster_probabilities(adata, indices, batch_size)
        cluster = probabilities.idxmax(axis=1).astype("category")
        return pd.DataFrame(
            {
                "cluster": cluster,
                "probability": probabilities.max(axis=1),
                "novelty": novelty,
                "verdict": self._verdict(cluster, novelty.to_numpy(), false_alarm_rate),
            },
            index=novelty.index,
        )

    def get_catch_alls(self) -> list[str]:
        """Return the names of components that hold outliers of the reference, see :meth:`cluster_quality`."""
        names = self.component_names()
        return [names[k] for k in self._catch_alls()]

    def _catch_alls(self) -> list[int]:
        """Numbers of the components of :meth:`get_catch_alls`; usable before a query is trained."""
        prior = self.module.latent_prior
        if self.reference_cells_ is None:
            return []
        z = torch.as_tensor(self.reference_cells_["z"], device=self.module.device)
        with torch.inference_mode():
            density = by_chunks(z, prior, prior.log_prob).numpy()
        cluster = cluster_of_each(z, prior)
        low = share_above(np.asarray(self.reference_log_densities_), density) > LOW_DENSITY
        spread = _relative_spread(prior, cluster)
        return [int(k) for k in np.unique(cluster) if low[cluster == k].mean() > MOSTLY and spread[k] > 1.0]

    def _verdict(
        self, clusters: pd.Series, novelty: NDArray[np.floating], false_alarm_rate: float
    ) -> pd.Categorical:
        """Name of each cell's cluster, or ``"unknown"``; ``clusters`` must be categorical."""
        unknown = self._is_unknown(clusters.to_numpy(str), novelty, false_alarm_rate)
        return pd.Categorical(np.where(unknown, UNKNOWN, self._named(clusters).to_numpy(str)))

    def _is_unknown(
        self, clusters: NDArray[np.str_], novelty: NDArray[np.floating], false_alarm_rate: float
    ) -> NDArray[np.bool_]:
        is_catch_all = np.isin(clusters, np.array(self.get_catch_alls(), dtype=str))
        return np.asarray((novelty > 1.0 - false_alarm_rate) | is_catch_all)

    def _quality_at(self, z: Tensor, batches: NDArray[Any] | None) -> pd.DataFrame:
        """Table of :meth:`cluster_quality` for positions ``(n, p)``."""
        prior = self._mixture_prior()
        with torch.inference_mode():
            best = by_chunks(z, prior, lambda chunk: torch.stack(prior.responsibilities(chunk).max(1), 1))
        cells = pd.DataFrame({"cluster": best[:, 1].long().numpy(), "probability": best[:, 0].numpy()})
        by_cluster = cells.groupby("cluster")
        table = pd.DataFrame({"n_cells": by_cluster.size()})
        table["share"] = table["n_cells"] / len(cells)
        table["mean_probability"] = by_cluster["probability"].mean()
        table["low_density"] = np.nan
        if self.reference_log_densities_ is not None:
            low = pd.Series(self._novelty_at(z, "pooled") > LOW_DENSITY)
            table["low_density"] = low.groupby(cells["cluster"]).mean()
        table["spread"] = _relative_spread(prior, cells["cluster"].to_numpy())[table.index]
        if batches is not None:
            of_batch = pd.crosstab(cells["cluster"], np.asarray(batches).ravel(), normalize="index")
            table["largest_batch"] = of_batch.max(axis=1)
        names = self.component_names()
        table.index = pd.Index([names[k] for k in table.index], name="cluster")
        table["catch_all"] = np.isin(table.index, np.array(self.get_catch_alls(), dtype=str))
        return table


def cluster_of_each(z: Tensor, prior: MixturePrior) -> NDArray[np.int64]:
    """Most probable component at positions ``(n, p)``, shape ``(n,)``."""
    with torch.inference_mode():
        return np.asarray(by_chunks(z, prior, lambda chunk: prior.responsibilities(chunk).argmax(1)).numpy())


def _relative_spread(prior: MixturePrior, clusters: NDArray[np.integer]) -> NDArray[np.float64]:
    """Geometric mean of each component's standard deviations, relative to the median of non-empty ones."""
    with torch.inference_mode():
        covariance = prior.component_distribution().covariance_matrix.double().cpu()
    spread = torch.exp(torch.linalg.slogdet(covariance).logabsdet / (2 * covariance.shape[-1])).numpy()
    return np.asarray(spread / np.median(spread[np.unique(clusters)]))
