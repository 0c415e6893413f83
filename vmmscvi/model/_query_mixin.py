"""Mapping of query cells into a trained model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS, settings
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import one_hot

from vmmscvi._mapping_report import MappingReport, mapping_report
from vmmscvi.model._batch_columns import average_new_batches
from vmmscvi.model._quality_mixin import FALSE_ALARM_RATE, QualityMixin, cluster_of_each
from vmmscvi.priors import AdaptedMixture, GaussianMoments, MixturePrior, adapt_mixture, moments_of
from vmmscvi.starts import embed

logger = logging.getLogger(__name__)

BATCH_CODES = f"_scvi_{REGISTRY_KEYS.BATCH_KEY}"
"""Column of ``obs`` in which scvi-tools stores batch codes."""
N_CELLS_OF_BATCH = 20_000
"""Largest number of cells of a batch to which its map is fitted."""
N_FINE = 60
"""Largest number of fine components that describe the reference cells."""
CELLS_PER_COMPONENT = 50
"""Smallest average number of reference cells per fine component."""
N_CELLS_OF_REPORT = 10_000
"""Largest number of query cells that are compared with the reference."""


class QueryMixin(QualityMixin):
    """Query mapping with the clusters of the reference."""

    latent_maps_: dict[int, dict[str, NDArray[np.float64]]] | None = None
    """Map of each batch, by batch code, as :meth:`AdaptedMixture.to_dict`."""
    n_reference_batches_: int | None = None
    """Number of batches of the reference, without those of the query."""

    @classmethod
    def load_query_data(
        cls, adata: Any = None, reference_model: Any = None, *args: Any, unfrozen: bool = False, **kwargs: Any
    ) -> Self:
        """Map new cells into a trained model, with the clusters of the reference.

        Prior, centres and encoder are frozen. :meth:`train` moves the cells of each new batch to similar
        cells of the reference (see :func:`vmmscvi.priors.adapt_mixture`) and trains the decoder's weights of
        the new batches. Without new batches or without a mixture no cell is moved.

        Parameters
        ----------
        adata, reference_model, *args
            As in :meth:`scvi.model.SCVI.load_query_data`.
        unfrozen
            Whether to train all parameters, including the prior, from their values in the reference.
        **kwargs
            As in :meth:`scvi.model.SCVI.load_query_data`.

        Returns
        -------
        Self
            The query model, to be trained.
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
        return model

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> Self:
        """Load a saved model.

        Parameters
        ----------
        *args, **kwargs
            As in :meth:`scvi.model.SCVI.load`.

        Returns
        -------
        Self
            The model.
        """
        model: Self = super().load(*args, **kwargs)  # type: ignore[misc]
        model._use_latent_maps(model.latent_maps_)
        return model

    def get_mapping_report(self, false_alarm_rate: float = FALSE_ALARM_RATE) -> MappingReport:
        """Assess, without labels, how well the new batches of a query are mapped.

        The report is also logged after training.

        Parameters
        ----------
        false_alarm_rate
            As in :meth:`get_verdict`.

        Returns
        -------
        MappingReport
            Figures for the query, and advice.

        Raises
        ------
        RuntimeError
            If the model has not been trained, is not a query with new batches, or stores no reference cells.
        """
        new = self._cells_of_new_batches()
        if self.reference_cells_ is None or len(new) == 0:
            raise RuntimeError(
                "The mapping report needs a query model with new batches and stored reference cells: make "
                "one with `load_query_data`."
            )
        if len(new) > N_CELLS_OF_REPORT:
            rng = np.random.default_rng(settings.seed or 0)
            new = np.sort(rng.choice(new, N_CELLS_OF_REPORT, replace=False))
        prior, names = self._mixture_prior(), np.array(self.component_names())
        with self._random_state_kept():
            z = self._latent_tensor(None, new, None)  # type: ignore[arg-type]
        reference = torch.as_tensor(self.reference_cells_["z"], device=z.device)
        clusters, of_reference = (names[cluster_of_each(cells, prior)] for cells in (z, reference))
        unknown = self._is_unknown(clusters, self._novelty_at(z), false_alarm_rate)
        return mapping_report(
            z.cpu().numpy(), clusters, unknown, reference.cpu().numpy(), of_reference, false_alarm_rate
        )

    def _cells_of_new_batches(self) -> NDArray[np.int64]:
        """Positions of the cells in batches that the reference lacks; empty for other models."""
        if self.n_reference_batches_ is None or self.adata is None or BATCH_CODES not in self.adata.obs:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(self._batch_codes() >= self.n_reference_batches_)

    def _batch_codes(self) -> NDArray[np.int64]:
        return np.asarray(self.adata.obs[BATCH_CODES], dtype=np.int64)

    def _report_mapping(self) -> None:
        """Log the report of a query whose prior is frozen."""
        if (
            getattr(self.module, "latent_maps", None)
            and self.reference_cells_ is not None
            and len(self._cells_of_new_batches())
        ):
            logger.info("%s", self.get_mapping_report())

    def _random_state_kept(self) -> AbstractContextManager[None]:
        """Restore the random state afterwards, because encoding draws samples as a side effect."""
        device = self.module.device
        return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])

    def _use_latent_maps(self, maps: Mapping[int, Mapping[str, NDArray[np.float64]]] | None) -> None:
        """Store maps in the model and install them in its module."""
        self.latent_maps_ = None if maps is None else {code: dict(values) for code, values in maps.items()}
        if hasattr(self.module, "latent_maps"):
            found = (self.latent_maps_ or {}).items()
            self.module.latent_maps = {
                code: AdaptedMixture.from_dict(values).latent_map() for code, values in found
            }

    def _fine_components(self) -> tuple[GaussianMoments, Tensor]:
        """Fine components of the reference cells, and the cluster of each.

        A cluster may hold several types whose shares differ in the query; fine components separate them.
        Catch-alls are left out, so no cells are moved towards them.
        """
        prior: Any = self.module.latent_prior
        with torch.inference_mode():
            components = prior.component_distribution()
        if self.reference_cells_ is None:  # a model saved by an earlier version
            coarse = GaussianMoments(prior.weights, components.loc, components.covariance_matrix)
            return coarse.to(torch.device("cpu")), torch.arange(prior.n_components)
        z = torch.as_tensor(self.reference_cells_["z"], device=self.module.device)
        kept = ~np.isin(cluster_of_each(z, prior), self._catch_alls())
        cells = z.cpu().numpy()[kept]
        n_fine = min(N_FINE, max(len(cells) // CELLS_PER_COMPONENT, 1))
        found = KMeans(n_fine, n_init=1, random_state=0).fit(cells)
        centers = torch.as_tensor(found.cluster_centers_, device=z.device, dtype=z.dtype)
        wide = torch.eye(z.shape[1], dtype=torch.float64).expand(n_fine, -1, -1)
        start = GaussianMoments(torch.full((n_fine,), 1.0 / n_fine), centers.cpu(), wide)
        fine = moments_of(
            torch.as_tensor(cells), one_hot(torch.as_tensor(found.labels_).long(), n_fine), start
        )
        return fine, torch.as_tensor(np.unique(cluster_of_each(centers, prior), return_inverse=True)[1])

    def _map_new_batches(self) -> None:
        """Fit the maps of a query's new batches; do nothing for other models."""
        n_known, prior = self.n_reference_batches_, self.module.latent_prior
        new = self._cells_of_new_batches()
        maps_latent = hasattr(self.module, "latent_maps") and isinstance(prior, MixturePrior)
        if n_known is None or not (len(new) and prior.is_frozen and maps_latent):
            return
        for encoder in self.module.latent_encoders().values():
            encoder.requires_grad_(False)  # the map is valid only for this encoder
        maps = {code: values for code, values in (self.latent_maps_ or {}).items() if code < n_known}
        self._use_latent_maps(maps)
        with self._random_state_kept():
            loader = self._make_data_loader(  # type: ignore[attr-defined]
                adata=self.adata, batch_size=settings.batch_size
            )
            z = embed(self.module, loader).z
        reference, codes = self._fine_components(), self._batch_codes()
        rng = np.random.default_rng(settings.seed or 0)
        for code in np.unique(codes[new]):
            cells = np.flatnonzero(codes == code)
            if len(cells) > N_CELLS_OF_BATCH:
                cells = np.sort(rng.choice(cells, N_CELLS_OF_BATCH, replace=False))
            maps[int(code)] = adapt_mixture(z[cells], *reference).to_dict()
        self._use_latent_maps(maps)


def _number_of_batches(cls: Any, reference_model: Any) -> int | None:
    """Count the batches of a reference, a model or a folder; ``None`` if unknown."""
    registry: Any = (
        cls.load_registry(str(reference_model))
        if not hasattr(reference_model, "registry_")
        else reference_model.registry_
    )
    field = registry.get("field_registries", {}).get(REGISTRY_KEYS.BATCH_KEY, {})
    mapping = field.get("state_registry", {}).get("categorical_mapping")
    return None if mapping is None else len(mapping)
