"""A prior from clusters of the embedding and the labels that some cells have."""

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
    """Initialise a prior from clusters of the embedding, whose components have labels or are free.

    The search is that of :class:`FromEmbedding`, with the labels as part of the data: a label may have
    several components, its sub-types; a cluster with hardly any labelled cell stays free, as a new type.

    Parameters
    ----------
    n_effective, max_components, seed
        See :class:`FromEmbedding`.
    names
        Names of the labels that cells have.
    label_codes
        Their codes, as registered.
    noise
        Share of wrong labels; ``None`` to learn it.
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
        """Read the labels that were registered with the data.

        Parameters
        ----------
        adata_manager
            Manager of the training data.
        unlabeled_category
            Label of cells whose type is not known.
        n_effective, noise, max_components
            As in the constructor.

        Raises
        ------
        ValueError
            If no labels are registered, the unlabelled category is not one of them, or nothing is labelled.
        """
        if adata_manager is None:
            raise ValueError("`start='labels'` needs AnnData; a data module does not tell the cells' labels.")
        registered = adata_manager.data_registry
        state = (
            adata_manager.get_state_registry(REGISTRY_KEYS.LABELS_KEY)
            if REGISTRY_KEYS.LABELS_KEY in registered
            else None
        )
        if state is None or state.original_key == "_scvi_labels":
            raise ValueError(
                "`start='labels'` needs labels: name their column with `setup_anndata(..., labels_key=...)`."
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
            raise ValueError(f"`start='labels'`: all cells have the label {unlabeled_category!r}.")
        return cls(n_effective, [known[i] for i in label_codes], label_codes, noise, max_components)

    def check(self, datamodule: Any) -> None:
        """Warn of labels that no training cell has: nothing can be learned of them.

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
                "`start='labels'`: none of the training cells has a label. Train on more of the cells "
                "(`train_size`), or leave `start` out."
            )
        if missing:
            logger.warning(
                f"Only validation cells have the labels {missing[:20]}: they are not learned. Train on more "
                "of the cells (`train_size`)."
            )

    def find_clusters(self, module: Any, embedding: Embedding) -> CoarsenedMixture:
        """Find the clusters of an embedding, and which of them have which label."""
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
    """Replace the numbers of labels by their codes; ``FREE``, -1, is the index of the last entry."""
    return torch.as_tensor(np.append(codes, FREE))[labels]
