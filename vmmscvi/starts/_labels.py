"""A prior from known cell types: one component for each label."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scvi import REGISTRY_KEYS, settings
from scvi.data import AnnDataManager
from torch.nn.functional import one_hot

from vmmscvi.priors import CoarsenedMixture
from vmmscvi.starts._clusters import Embedding, FromEmbedding
from vmmscvi.starts._sample import LARGEST_SAMPLE, Minibatches, cells_at


class FromLabels(FromEmbedding):
    """Initialise a prior with one component for each label.

    Labelled training cells give each component its weight, covariance and mean input. At most 20,000 of them
    are embedded, the same number of each label where there are enough. Unlabelled cells take part in the
    training, not in the start.

    Parameters
    ----------
    n_effective
        See :class:`FromEmbedding`.
    names
        Labels that become components, in their order.
    codes
        Code of the label of every cell, as registered; that of label ``names[j]`` is ``label_codes[j]``.
    label_codes
        Codes of ``names``.
    """

    def __init__(
        self,
        n_effective: float | None,
        names: list[str],
        codes: np.ndarray,
        label_codes: list[int],
    ) -> None:
        super().__init__(n_effective)
        self.names = names
        self._codes = codes
        self._label_codes = label_codes
        self._labels = np.empty(0, dtype=int)
        self._n_cells: list[int] = []

    @classmethod
    def of_registered(
        cls,
        adata_manager: AnnDataManager | None,
        unlabeled_category: str | None,
        n_effective: float | None,
    ) -> FromLabels:
        """Read the labels that were registered with the data.

        Parameters
        ----------
        adata_manager
            Manager of the training data.
        unlabeled_category
            Label of cells whose type is not known.
        n_effective
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
        codes = np.asarray(adata_manager.get_from_registry(REGISTRY_KEYS.LABELS_KEY)).ravel().astype(int)
        present = set(codes.tolist())
        label_codes = [i for i, n in enumerate(known) if n != str(unlabeled_category) and i in present]
        if not label_codes:
            raise ValueError(f"`start='labels'`: all cells have the label {unlabeled_category!r}.")
        return cls(n_effective, [known[i] for i in label_codes], codes, label_codes)

    def check(self, datamodule: Any) -> None:
        """Check that every label has training cells."""
        of_label = zip(self.names, self._of_label(datamodule), strict=True)
        missing = [name for name, cells in of_label if not len(cells)]
        if missing:
            raise ValueError(
                f"`start='labels'`: none of the training cells has the label {missing[0]!r}. Give such cells "
                "the unlabelled category, or train on more of the cells (`train_size`)."
            )

    def _of_label(self, datamodule: Any) -> list[np.ndarray]:
        """Training cells of every label."""
        train = np.asarray(datamodule.train_idx)
        return [train[self._codes[train] == code] for code in self._label_codes]

    def sample(self, datamodule: Any) -> Minibatches:
        """Labelled training cells, evenly over the labels."""
        of_label = self._of_label(datamodule)
        rng = np.random.default_rng(settings.seed or 0)
        share = max(1, LARGEST_SAMPLE // len(self.names))
        drawn = [c if len(c) <= share else rng.choice(c, share, replace=False) for c in of_label]
        labels, indices = np.repeat(np.arange(len(drawn)), [len(c) for c in drawn]), np.concatenate(drawn)
        order = np.argsort(indices)  # files are read in their order, whatever is asked for
        self._labels, self._n_cells = labels[order], [len(cells) for cells in of_label]
        return cells_at(datamodule.adata_manager, indices[order])

    def find_clusters(self, module: Any, embedding: Embedding) -> CoarsenedMixture:
        """Take the labels for clusters: their shares, means and covariances."""
        z = embedding.z.double()
        r = one_hot(torch.as_tensor(self._labels), len(self.names)).double()
        counts, n_cells = r.sum(0), torch.tensor(self._n_cells, dtype=torch.float64)
        loc = (r.mT @ z) / counts.unsqueeze(-1)
        centered = z - loc[torch.as_tensor(self._labels)]
        scatter = torch.einsum("nk,np,nq->kpq", r, centered, centered)
        return CoarsenedMixture(
            responsibilities=r,
            weights=n_cells / n_cells.sum(),
            loc=loc,
            covariance=scatter / counts[:, None, None],
        )
