"""Methods of a model for its clusters: assignments, weights, centres, densities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi.data import AnnDataManager
from torch import Tensor

from vmmscvi.priors import MixturePrior, Prior

VALUES_PER_CHUNK = {"cpu": 2**19, "other": 2**25}
"""Whitened distances per chunk. Few on a CPU, where each operation on larger arrays allocates new pages."""


class ClusteringMixin:
    """Clusters of a mixture prior. Components are named ``"0"`` to ``"K-1"``; the names never change."""

    module: Any
    adata: AnnData
    adata_manager: AnnDataManager
    is_trained_: bool

    def get_cluster_probabilities(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        dataloader: Iterable[dict[str, Tensor]] | None = None,
    ) -> pd.DataFrame:
        r"""Return soft cluster assignments: the responsibility of every component for every cell.

        Parameters
        ----------
        adata
            Registered AnnData, or one with the same genes and batches; the training data by default.
        indices
            Positions of the cells to use; all by default.
        batch_size
            Minibatch size of the encoder; ``scvi.settings.batch_size`` by default.
        dataloader
            Minibatches to use instead of ``adata``, for example of a data module. The index of the result
            is its ``obs_names``, or else numbers.

        Returns
        -------
        DataFrame
            Probabilities of shape ``(n_cells, K)``, with index ``obs_names`` and one column for each
            component. Each row sums to one.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        ValueError
            If the model's prior has no components.

        Notes
        -----
        :math:`r_{ij} \propto \pi_j \exp E_{q(\mu_j)} \log N(z_i; \mu_j, \Lambda_j^{-1})` at the posterior
        mean :math:`z_i`.
        """
        prior = self._mixture_prior()
        z = self._latent_tensor(adata, indices, batch_size, dataloader)
        with torch.inference_mode():
            probabilities = by_chunks(z, prior, prior.responsibilities)
        names = self._obs_names(adata, indices, dataloader, len(z))
        return pd.DataFrame(probabilities.numpy(), index=names, columns=self.component_names())

    def predict(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        soft: bool = False,
        dataloader: Iterable[dict[str, Tensor]] | None = None,
    ) -> pd.Series | pd.DataFrame:
        """Assign every cell to its most probable cluster.

        Parameters
        ----------
        adata, indices, batch_size
            Cells to assign, as in :meth:`get_cluster_probabilities`.
        soft
            Whether to return the probabilities instead.
        dataloader
            As in :meth:`get_cluster_probabilities`.

        Returns
        -------
        Series or DataFrame
            Categorical Series of component names with index ``obs_names``; its categories are the components
            that occur, in numerical order. With ``soft=True`` the DataFrame of
            :meth:`get_cluster_probabilities`.
        """
        if soft:
            return self.get_cluster_probabilities(adata, indices, batch_size, dataloader)
        prior = self._mixture_prior()
        z = self._latent_tensor(adata, indices, batch_size, dataloader)
        with torch.inference_mode():  # by chunks: K probabilities for every cell would take much memory
            assigned = by_chunks(z, prior, lambda chunk: prior.responsibilities(chunk).argmax(1))
        used, codes = np.unique(assigned.numpy(), return_inverse=True)
        clusters = pd.Categorical.from_codes(codes, categories=[str(i) for i in used])
        names = self._obs_names(adata, indices, dataloader, len(z))
        return pd.Series(clusters, index=names, name="vmm_cluster")

    def get_cluster_weights(self) -> pd.Series:
        """Return the mixing weights of all components, the share of cells that the prior expects in each.

        Returns
        -------
        Series
            Weights of length ``K`` that sum to one, indexed by component name.
        """
        weights = self._mixture_prior().weights.detach().cpu().numpy()
        return pd.Series(weights, index=self.component_names(), name="weight")

    def get_cluster_centers(self) -> pd.DataFrame:
        """Return the centres of all components in the latent space.

        Returns
        -------
        DataFrame
            Centres of shape ``(K, p)``, indexed by component name.
        """
        centers = self._mixture_prior().component_distribution().loc.detach().cpu().numpy()
        return pd.DataFrame(centers, index=self.component_names())

    def get_prior_log_density(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        dataloader: Iterable[dict[str, Tensor]] | None = None,
    ) -> pd.Series:
        """Return the log-density of the learned prior at every cell; low values fit no cluster.

        Parameters
        ----------
        adata, indices, batch_size, dataloader
            Cells to evaluate, as in :meth:`get_cluster_probabilities`.

        Returns
        -------
        Series
            Log-densities at the posterior means, in nats, with index ``obs_names``. Compare cells of one
            model only; values of different models are not comparable.
        """
        prior = self._trained_prior()
        z = self._latent_tensor(adata, indices, batch_size, dataloader)
        with torch.inference_mode():
            log_density = by_chunks(z, prior, prior.log_prob)
        names = self._obs_names(adata, indices, dataloader, len(z))
        return pd.Series(log_density.numpy(), index=names, name="prior_log_density")

    def component_names(self) -> list[str]:
        """Return the names of all components, ``"0"`` to ``"K-1"``."""
        return [str(i) for i in range(self._mixture_prior().n_components)]

    # -- helpers ---------------------------------------------------------------------------------------------

    def _trained_prior(self) -> Prior:
        if not self.is_trained_:
            raise RuntimeError("The model has not been trained: call `train` first.")
        prior: Prior = self.module.latent_prior
        return prior

    def _mixture_prior(self) -> MixturePrior:
        prior = self._trained_prior()
        if not isinstance(prior, MixturePrior):
            raise ValueError(
                f"A model with a {type(prior).__name__} has no clusters: use `prior='vmm'` or `prior='gmm'`, "
                "or cluster the result of `get_latent_representation()`."
            )
        return prior

    def _latent_tensor(
        self,
        adata: AnnData | None,
        indices: Sequence[int] | None,
        batch_size: int | None,
        dataloader: Iterable[dict[str, Tensor]] | None = None,
    ) -> Tensor:
        self._trained_prior()
        if dataloader is not None and indices is not None:
            raise ValueError(
                "`indices` cannot be used with `dataloader`: pass a `dataloader` of these cells only."
            )
        if dataloader is None and adata is None and self.adata is None:
            raise ValueError("The model holds no data: pass `adata` or `dataloader`.")
        if dataloader is not None:
            self._check_dataloader(dataloader)  # type: ignore[attr-defined]
        more = {} if dataloader is None else {"dataloader": dataloader}  # not every model has this argument
        z = self.get_latent_representation(  # type: ignore[attr-defined]
            adata=adata, indices=indices, batch_size=batch_size, **more
        )
        return torch.as_tensor(z, device=self.module.device)

    def _obs_names(
        self,
        adata: AnnData | None,
        indices: Sequence[int] | None,
        dataloader: Iterable[dict[str, Tensor]] | None = None,
        n_cells: int = 0,
    ) -> pd.Index:
        if dataloader is not None:
            found: pd.Index = getattr(dataloader, "obs_names", pd.RangeIndex(n_cells))
            return found
        names = (self.adata if adata is None else adata).obs_names
        return names if indices is None else names[np.asarray(indices)]

    def _component_index(self, component: str | int) -> int:
        names = self.component_names()
        if str(component) not in names:
            raise ValueError(f"`component` must be one of '0' to '{len(names) - 1}', found {component!r}.")
        return names.index(str(component))


def by_chunks(z: Tensor, prior: Prior, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to latent positions ``(n, p)`` in chunks; return the joined results on the CPU."""
    values_per_cell = z.shape[1] * getattr(prior, "n_components", 1)
    n_values = VALUES_PER_CHUNK["cpu" if z.device.type == "cpu" else "other"]
    chunks = torch.split(z, max(n_values // values_per_cell, 1))
    return torch.cat([function(chunk).cpu() for chunk in chunks])
