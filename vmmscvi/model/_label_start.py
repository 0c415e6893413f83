"""The prior starts from known cell types: one component for each label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scvi import REGISTRY_KEYS, settings
from scvi.data import AnnDataManager
from scvi.dataloaders import AnnDataLoader
from torch import Tensor
from torch.nn.functional import one_hot

from vmmscvi.model._start import (
    LARGEST_MATRIX,
    SMALLEST_SAMPLE,
    Sample,
    StartFromEmbedding,
    embed,
)
from vmmscvi.priors import CoarsenedMixture
from vmmscvi.train._start import LARGEST_SAMPLE

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from vmmscvi.module import VMMVAE


class StartFromLabels(StartFromEmbedding):
    """Train under N(0, I) first; then let every label be a component.

    Labelled training cells give each component its weight, covariance and mean cell. At most 20,000 of them
    are embedded, the same number of each label where there are enough. Unlabelled cells take part in the
    training, not in the start.

    Parameters
    ----------
    n_warmup_epochs, n_effective
        See :class:`vmmscvi.train._start.StartFromClusters`.
    names
        Labels that become components, in their order.
    codes
        Code of the label of every cell, as registered; that of label ``names[j]`` is ``label_codes[j]``.
    label_codes
        Codes of ``names``.
    """

    def __init__(
        self,
        n_warmup_epochs: int,
        n_effective: float | None,
        names: list[str],
        codes: np.ndarray,
        label_codes: list[int],
    ) -> None:
        super().__init__(n_warmup_epochs, n_effective)
        self.names = names
        self._codes = codes
        self._label_codes = label_codes
        self._of_label: list[np.ndarray] = []
        self._labels = np.empty(0, dtype=int)

    @classmethod
    def of_registered(
        cls,
        adata_manager: AnnDataManager | None,
        unlabeled_category: str | None,
        n_warmup_epochs: int,
        n_effective: float | None,
    ) -> StartFromLabels:
        """Read the labels that were registered with the data.

        Parameters
        ----------
        adata_manager
            Manager of the training data.
        unlabeled_category
            Label of cells whose type is not known.
        n_warmup_epochs, n_effective
            As in the constructor.

        Raises
        ------
        ValueError
            If no labels are registered, the unlabelled category is not one of them, or nothing is labelled.
        """
        if adata_manager is None:
            raise ValueError("`start='labels'` needs AnnData; a data module does not tell the cells' labels.")
        state = adata_manager.get_state_registry(REGISTRY_KEYS.LABELS_KEY)
        if state.original_key == "_scvi_labels":
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
        return cls(n_warmup_epochs, n_effective, [known[i] for i in label_codes], codes, label_codes)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look for the training cells of every label, and switch to N(0, I)."""
        super().on_fit_start(trainer, pl_module)
        splitter: Any = trainer.datamodule  # type: ignore[attr-defined]
        train = np.asarray(splitter.train_idx)
        self._of_label = [train[self._codes[train] == code] for code in self._label_codes]
        missing = [name for name, cells in zip(self.names, self._of_label, strict=True) if not len(cells)]
        if missing:
            raise ValueError(
                f"`start='labels'`: none of the training cells has the label {missing[0]!r}. Give such cells "
                "the unlabelled category, or train on more of the cells (`train_size`)."
            )

    def embed(self, trainer: pl.Trainer, module: VMMVAE) -> Sample:
        """Embed labelled training cells, evenly over the labels."""
        splitter: Any = trainer.datamodule  # type: ignore[attr-defined]
        n_cells = max(SMALLEST_SAMPLE, min(LARGEST_SAMPLE, LARGEST_MATRIX // module.n_input))
        rng = np.random.default_rng(settings.seed or 0)
        share = max(1, n_cells // len(self.names))
        drawn = [c if len(c) <= share else rng.choice(c, share, replace=False) for c in self._of_label]
        labels, indices = np.repeat(np.arange(len(drawn)), [len(c) for c in drawn]), np.concatenate(drawn)
        order = np.argsort(indices)  # files are read in their order, whatever is asked for
        self._labels, indices = labels[order], indices[order]

        def minibatches() -> Iterator[dict[str, Tensor]]:
            yield from AnnDataLoader(splitter.adata_manager, indices=indices, batch_size=1024, num_workers=0)

        return embed(module, minibatches())

    def find_components(self, module: VMMVAE, sample: Sample) -> CoarsenedMixture:
        """Take the labels for clusters: their shares, means and covariances."""
        z = sample.z.double()
        r = one_hot(torch.as_tensor(self._labels), len(self.names)).double()
        counts, n_cells = r.sum(0), torch.tensor([float(len(cells)) for cells in self._of_label])
        loc = (r.mT @ z) / counts.unsqueeze(-1)
        centered = z - loc[torch.as_tensor(self._labels)]
        scatter = torch.einsum("nk,np,nq->kpq", r, centered, centered)
        return CoarsenedMixture(
            responsibilities=r,
            weights=(n_cells / n_cells.sum()).double(),
            loc=loc,
            covariance=scatter / counts[:, None, None],
        )

    def note_start(self, trainer: pl.Trainer, n_components: int) -> None:
        """Tell the model which label each component started from."""
        super().note_start(trainer, n_components)
        model: Any = getattr(trainer, "_model", None)
        if model is not None:
            model.start_labels_ = list(self.names)
