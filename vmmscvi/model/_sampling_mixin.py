"""Generate cells: draw from the prior and decode into counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse
from scvi import REGISTRY_KEYS, settings
from torch import Tensor

from vmmscvi._upstream import MODULE_KEYS
from vmmscvi.model._clustering_mixin import ClusteringMixin
from vmmscvi.priors import MixturePrior


class SamplingMixin(ClusteringMixin):
    """Samples of the prior predictive distribution."""

    @torch.inference_mode()
    def sample_prior(
        self,
        n: int,
        component: str | int | None = None,
        batch: str | None = None,
        library_size: float | None = None,
        seed: int | None = None,
    ) -> AnnData:
        """Generate cells from the prior predictive: draw latent positions and decode them into counts.

        Batch, covariates and library size come from random training cells.

        Parameters
        ----------
        n
            Number of cells.
        component
            Component to draw from; by default all components, with their weights.
        batch
            Batch to decode into; by default that of the random training cells.
        library_size
            Expected total count of a cell; by default that of the random training cells. Not for models with
            size factors.
        seed
            Seed of this call; ``scvi.settings.seed`` by default.

        Returns
        -------
        AnnData
            Counts, with ``obs["component"]`` (mixtures only: the most probable component), ``obs["batch"]``
            and ``obsm["X_vmm"]``.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        ValueError
            If an argument is out of range, or names an unknown component or batch.
        """
        prior = self._trained_prior()
        if n < 1:
            raise ValueError(f"`n` must be a positive integer, found {n}.")
        has_factors = getattr(self.module, "use_size_factor_key", False)
        if library_size is not None and (has_factors or not library_size > 0):
            raise ValueError(
                f"`library_size` must be a positive number, or None for a model with size factors; found "
                f"{library_size}."
            )
        if self.adata is None:
            raise ValueError("`sample_prior` needs the training data: load the model with `adata`.")
        index = None if component is None else self._component_index(component)
        seed = (settings.seed or 0) if seed is None else seed
        device = self.module.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            tensors = self._random_cells(n, np.random.default_rng(seed))
            if batch is not None:
                tensors[REGISTRY_KEYS.BATCH_KEY] = torch.full_like(
                    tensors[REGISTRY_KEYS.BATCH_KEY], self._batch_code(batch)
                )
            torch.manual_seed(seed)
            z = prior.sample(n, component=index) if isinstance(prior, MixturePrior) else prior.sample(n)
            z = z.to(device)
            generated = self.module.generate(tensors, z, library_size)
        return self._generated_anndata(generated, z, tensors[REGISTRY_KEYS.BATCH_KEY])

    @torch.inference_mode()
    def get_decoded_centers(self, library_size: float = 1e4, seed: int | None = None) -> pd.DataFrame:
        """Return the expected counts at the centre of every component.

        Parameters
        ----------
        library_size
            Expected total count of a cell. Not for models with size factors, which use that of the random
            training cell.
        seed
            Seed of the random training cell; ``scvi.settings.seed`` by default.

        Returns
        -------
        DataFrame
            Expected counts of shape ``(K, n_vars)``, indexed by component name, averaged over all batches
            with equal weight. Further covariates come from one random training cell.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        ValueError
            If the prior has no components, or the model has no data.
        """
        centers = self._mixture_prior().component_distribution().loc
        if self.adata is None:
            raise ValueError("`get_decoded_centers` needs the training data: load the model with `adata`.")
        seed = (settings.seed or 0) if seed is None else seed
        device = self.module.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            cell = self._random_cells(1, np.random.default_rng(seed))
        cell = {name: value.expand(len(centers), *value.shape[1:]) for name, value in cell.items()}
        library = torch.full((len(centers), 1), float(np.log(library_size)), device=device)
        expected = []
        for code in range(len(self._batch_names())):
            tensors = {**cell, REGISTRY_KEYS.BATCH_KEY: torch.full_like(cell[REGISTRY_KEYS.BATCH_KEY], code)}
            inputs = self.module._get_generative_input(
                tensors, {MODULE_KEYS.Z_KEY: centers.to(device), MODULE_KEYS.LIBRARY_KEY: library}
            )
            generated: dict[str, Any] = self.module.generative(**inputs)
            expected.append(generated[MODULE_KEYS.PX_KEY].mean)
        values = torch.stack(expected).mean(0).cpu().numpy()
        return pd.DataFrame(values, index=self.component_names(), columns=self.adata.var_names)

    # -- helpers ---------------------------------------------------------------------------------------------

    def _random_cells(self, n: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Draw training cells with replacement, as inputs of the module."""
        # matrices on disk need each cell once and in order
        cells, repeats = np.unique(rng.integers(self.adata.n_obs, size=n), return_inverse=True)
        loader = self._make_data_loader(  # type: ignore[attr-defined]
            adata=self.adata, indices=cells, batch_size=len(cells), shuffle=False
        )
        return {key: value[repeats].to(self.module.device) for key, value in next(iter(loader)).items()}

    def _batch_names(self) -> list[str]:
        state = self.adata_manager.get_state_registry(REGISTRY_KEYS.BATCH_KEY)
        return [str(name) for name in state.categorical_mapping]

    def _batch_code(self, batch: str) -> int:
        names = self._batch_names()
        if str(batch) not in names:
            raise ValueError(f"`batch` must be one of {names}, found {batch!r}.")
        return names.index(str(batch))

    def _generated_anndata(self, generated: dict[str, Tensor], z: Tensor, batch: Tensor) -> AnnData:
        features = [name for name in ("X", "genes", "peaks") if name in generated]
        cells = AnnData(sparse.csr_matrix(torch.cat([generated[n] for n in features], 1).cpu().numpy()))
        names = self._feature_names()
        if len(names) == cells.n_vars:
            cells.var_names = names
        if len(features) > 1:
            cells.var["modality"] = np.repeat(features, [generated[n].shape[1] for n in features])
        cells.obs_names = [f"generated_{i}" for i in range(cells.n_obs)]
        if "protein" in generated:
            cells.obsm["protein"] = pd.DataFrame(
                generated["protein"].cpu().numpy(),
                index=cells.obs_names,
                columns=list(self.protein_state_registry.column_names),  # type: ignore[attr-defined]
            )
        names = self._batch_names()
        codes = batch.ravel().long().tolist()
        cells.obs["batch"] = pd.Categorical([names[i] for i in codes], categories=names)
        if isinstance(self.module.latent_prior, MixturePrior):
            assigned = self.module.assign(z).tolist()
            cells.obs["component"] = pd.Categorical([str(i) for i in assigned])
        cells.obsm["X_vmm"] = z.cpu().numpy()
        return cells

    def _feature_names(self) -> list[str]:
        """Names of genes and peaks, in the order of the module's inputs."""
        names: list[str] = []
        for key in (REGISTRY_KEYS.X_KEY, REGISTRY_KEYS.ATAC_X_KEY):
            if key in self.adata_manager.data_registry:
                field = self.adata_manager.data_registry[key]
                data: Any = self.adata
                modality = getattr(field, "mod_key", None)
                names += list((data if modality is None else data.mod[modality]).var_names)
        return names
