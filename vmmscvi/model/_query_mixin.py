"""New cells in a trained model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS, settings

from vmmscvi.model._batch_columns import average_new_batches
from vmmscvi.model._novelty_mixin import NoveltyMixin
from vmmscvi.priors import AdaptedMixture, MixturePrior, adapt_mixture
from vmmscvi.starts import embed

logger = logging.getLogger(__name__)

N_CELLS_OF_BATCH = 20_000
"""Cells of a batch that its map is fitted to at most."""


class QueryMixin(NoveltyMixin):
    """Query mapping: clusters are those of the reference."""

    latent_maps_: dict[int, dict[str, NDArray[np.float64]]] | None = None
    """By the code of a batch: :meth:`AdaptedMixture.to_dict` of the map that its cells are moved by."""
    n_reference_batches_: int | None = None
    """Number of batches before those of the query were added."""

    @classmethod
    def load_query_data(
        cls, adata: Any = None, reference_model: Any = None, *args: Any, unfrozen: bool = False, **kwargs: Any
    ) -> Self:
        """Map new cells into a trained model: its clusters are those of the reference.

        Prior, centres and encoder are frozen. :meth:`train` moves the cells of each new batch to where the
        reference has the like of them, see :func:`vmmscvi.priors.adapt_mixture`, and trains what the decoder
        has of the new batches.

        Parameters
        ----------
        adata, reference_model, *args, **kwargs
            As in :meth:`scvi.model.SCVI.load_query_data`.
        unfrozen
            Whether everything is trained, the prior included, which goes on from the reference's.
        """
        model: Self = super().load_query_data(  # type: ignore[misc]
            adata, reference_model, *args, unfrozen=unfrozen, **kwargs
        )
        module: Any = model.module
        module.doubt_new_categories()
        if unfrozen:
            module.unfreeze_prior()
            model._use_latent_maps(None)
            return model
        module.freeze_prior()
        model._use_latent_maps(model.latent_maps_)
        model.n_reference_batches_ = _number_of_batches(cls, reference_model)
        if model.n_reference_batches_ is not None and hasattr(module, "latent_maps"):
            average_new_batches(module, model.n_reference_batches_)
            if isinstance(module.latent_prior, MixturePrior) and isinstance(model.adata, AnnData):
                for encoder in module.latent_encoders().values():
                    encoder.requires_grad_(False)
        return model

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> Self:
        """Load a model; arguments as in :meth:`scvi.model.SCVI.load`."""
        model: Self = super().load(*args, **kwargs)  # type: ignore[misc]
        model._use_latent_maps(model.latent_maps_)
        return model

    def _use_latent_maps(self, maps: Mapping[int, Mapping[str, NDArray[np.float64]]] | None) -> None:
        """Keep maps with the model, and let its module use them."""
        self.latent_maps_ = None if maps is None else {code: dict(values) for code, values in maps.items()}
        if hasattr(self.module, "latent_maps"):
            found = (self.latent_maps_ or {}).items()
            self.module.latent_maps = {code: AdaptedMixture.from_dict(values) for code, values in found}

    def _map_new_batches(self) -> None:
        """Fit the maps of a query's new batches; nothing to do in a model that is no query."""
        n_known, module = self.n_reference_batches_, self.module
        prior = module.latent_prior
        if n_known is None or self.adata is None or not (prior.is_frozen and isinstance(prior, MixturePrior)):
            return
        kept = {code: values for code, values in (self.latent_maps_ or {}).items() if code < n_known}
        self._use_latent_maps(kept)
        reference = self._reference_moments()
        device = module.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            loader = self._make_data_loader(adata=self.adata, batch_size=settings.batch_size)  # type: ignore[attr-defined]
            embedding = embed(module, loader)
        codes = self.adata.obs[f"_scvi_{REGISTRY_KEYS.BATCH_KEY}"].to_numpy().astype(int)
        rng = np.random.default_rng(settings.seed or 0)
        maps = dict(kept)
        for code in np.unique(codes[codes >= n_known]):
            cells = np.flatnonzero(codes == code)
            if len(cells) > N_CELLS_OF_BATCH:
                cells = np.sort(rng.choice(cells, N_CELLS_OF_BATCH, replace=False))
            maps[int(code)] = adapt_mixture(embedding.z[cells], reference).to_dict()
        self._use_latent_maps(maps)


def _number_of_batches(cls: Any, reference_model: Any) -> int | None:
    """Number of batches of a reference, given as a model or a folder; ``None`` if it does not tell."""
    registry: Any = (
        cls.load_registry(str(reference_model))
        if not hasattr(reference_model, "registry_")
        else reference_model.registry_
    )
    field = registry.get("field_registries", {}).get(REGISTRY_KEYS.BATCH_KEY, {})
    mapping = field.get("state_registry", {}).get("categorical_mapping")
    return None if mapping is None else len(mapping)
