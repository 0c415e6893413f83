"""Initialisation of a prior from clusters of the embedding and the labels of some cells."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from torch import Tensor

from vmmscvi.priors import FREE, CoarsenedMixture, LabelledCells
from vmmscvi.starts._clusters import Embedding, FromEmbedding

logger = logging.getLogger(__name__)


class FromLabels(FromEmbedding):
    """Initialise a prior from clusters of the embedding; each component has a label or is free.

    The search is that of :class:`FromEmbedding`, with the labels as part of the data. A label may have
    several components (sub-types). A cluster with hardly any labelled cells stays free (a new type).

    Parameters
    ----------
    n_effective
        See :class:`FromEmbedding`.
    names
        Names of the labels that occur.
    label_codes
        Registered codes of these labels.
    noise
        Share of wrong labels; ``None`` to learn it.
    max_components, seed
        See :class:`FromEmbedding`.
    """

    def __init__(
        self,
        n_effective: float | None,
        names: list[str],
        label_codes: list[int],
        noise: float | None = None,
        max_components: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(n_effective, max_components, seed)
        self.names = names
        self.noise = noise
        self._label_codes = np.asarray(label_codes, dtype=int)

    @classmethod
    def of_registered(
        cls,
        adata_manager: AnnDataManager | None,
        unlabeled_category: str | None,
        n_effective: float | None,
        noise: float | None = None,
        max_components: int | None = None,
    ) -> FromLabels:
        """Read the labels that are registered with the data.

        Parameters
        ----------
        adata_manager
            Manager of the training data.
        unlabeled_category
            Label of cells of unknown type.
        n_effective, noise, max_components
            As in the constructor.

        Returns
        -------
        FromLabels
            The initialisation.

        Raises
        ------
        ValueError
            If no labels are registered, ``unlabeled_category`` is not one of them, or no cell is labelled.
        """
        if adata_manager is None:
            raise ValueError(
                "`start='labels'` needs AnnData, because a data module does not provide labels: pass another "
                "`start`, or train on AnnData."
            )
        registered = adata_manager.data_registry
        state = (
            adata_manager.get_state_registry(REGISTRY_KEYS.LABELS_KEY)
            if REGISTRY_KEYS.LABELS_KEY in registered
            else None
        )
        if state is None or state.original_key == "_scvi_labels":
            raise ValueError(
                "`start='labels'` needs labels: register them with `setup_anndata(..., labels_key=...)`."
            )
        known = [str(name) for name in state.categorical_mapping]
        if unlabeled_category is not None and str(unlabeled_category) not in known:
            raise ValueError(
                f"`unlabeled_category` must be one of the labels in {state.original_key!r} ({known[:20]}), "
                f"found {unlabeled_category!r}."
            )
        present = set(_codes_of_cells(adata_manager).tolist())
        label_codes = [i for i, n in enumerate(known) if n != str(unlabeled_category) and i in present]
        if not label_codes:
            raise ValueError(
                f"`start='labels'` needs labelled cells, but all cells have the label "
                f"{unlabeled_category!r}: pass another `start`."
            )
        return cls(n_effective, [known[i] for i in label_codes], label_codes, noise, max_components)

    def check(self, datamodule: Any) -> None:
        """Warn about labels without training cells, which cannot be learned.

        Raises
        ------
        ValueError
            If no training cell has a label.
        """
        present = np.unique(_codes_of_cells(datamodule.adata_manager)[np.asarray(datamodule.train_idx)])
        pairs = zip(self.names, self._label_codes, strict=True)
        missing = [name for name, code in pairs if code not in present]
        if len(missing) == len(self.names):
            raise ValueError(
                "`start='labels'` needs labelled training cells, found none: train on more cells "
                "(`train_size`), or leave `start` out."
            )
        if missing:
            logger.warning(
                f"The labels {missing[:20]} occur only in validation cells and are not learned: train on "
                "more cells (`train_size`)."
            )

    def find_clusters(self, module: Any, embedding: Embedding) -> CoarsenedMixture:
        """Find the clusters of an embedding and their labels."""
        assert embedding.labels is not None
        codes = np.full(int(max(self._label_codes.max(), embedding.labels.max())) + 1, FREE)
        present = np.intersect1d(self._label_codes, embedding.labels.numpy())
        codes[present] = np.arange(len(present))
        of_cells = torch.as_tensor(codes)[embedding.labels]
        labels = LabelledCells.of(of_cells, embedding.batches, self.noise)
        mixture = self._search(module, embedding, labels)
        if mixture.component_labels is None:
            return mixture
        return mixture._replace(component_labels=_registered(mixture.component_labels, present))


def _codes_of_cells(adata_manager: AnnDataManager) -> NDArray[np.int64]:
    return np.asarray(adata_manager.get_from_registry(REGISTRY_KEYS.LABELS_KEY)).ravel().astype(np.int64)


def _registered(labels: Tensor, codes: np.ndarray) -> Tensor:
    """Replace the numbers of labels by their codes; ``FREE`` (-1) indexes the last entry."""
    return torch.as_tensor(np.append(codes, FREE))[labels]
