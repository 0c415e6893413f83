"""The mixture as a classifier: predicted labels, their calibration, and wrong given labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS, settings
from torch import Tensor

from vmmscvi._annotation import LABEL
from vmmscvi._label_calibration import LabelCalibration, fit_temperature, right_and_wrong_labels, tempered
from vmmscvi.model._clustering_mixin import by_chunks
from vmmscvi.model._names_mixin import ClusterNamesMixin
from vmmscvi.priors import FREE, ComponentLabels, MixturePrior

NEW = "new"
"""Prefix of the names of free components that have not been renamed."""
FEWEST_HELD_OUT = 200
"""Labelled validation cells that suffice for the temperature; with fewer, all labelled cells are used."""
N_CALIBRATION_CELLS = 10_000
"""Largest number of cells that the temperature is fitted to."""


class LabelsMixin(ClusterNamesMixin):
    """Predict labels of cells from the labels of their components; see ``train(start="labels")``."""

    registry_: dict[str, Any]
    validation_indices: NDArray[np.int64] | None
    label_temperature_: float = 1.0
    """Temperature of label probabilities, fitted to given labels after training."""

    if TYPE_CHECKING:

        def _random_state_kept(self) -> AbstractContextManager[None]: ...

    def predict_labels(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        soft: bool = False,
        dataloader: Iterable[dict[str, Tensor]] | None = None,
        calibrated: bool = True,
    ) -> pd.Series | pd.DataFrame:
        """Predict the label of every cell, or a possible new type.

        The probability of a label is the sum of its components' responsibilities at the posterior mean, with
        a temperature: responsibilities are more certain than labels allow. The temperature is fitted to the
        labels of validation cells after training, or to all labels if these are few
        (``label_temperature_``). A cell's own label is not used for its prediction. A free component is a
        possible new type; it is named by its number, such as ``"new 3"``, or by :meth:`rename_clusters`.

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_cluster_probabilities`.
        soft
            Whether to return probabilities.
        dataloader
            As in :meth:`get_cluster_probabilities`.
        calibrated
            Whether to apply the temperature, which does not change the most probable label.

        Returns
        -------
        Series or DataFrame
            Categorical Series with index ``obs_names``. With ``soft=True`` a DataFrame with one column for
            each label and each free component; each row sums to one.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        ValueError
            If the prior was not initialised from labels.

        Examples
        --------
        >>> SCVI_VMM.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
        >>> model = SCVI_VMM(adata)
        >>> model.train(start="labels", unlabeled_category="unknown")
        >>> adata.obs["predicted"] = model.predict_labels()
        """
        self._labels_of_prior()
        z = self._latent_tensor(adata, indices, batch_size, dataloader)
        names = self._obs_names(adata, indices, dataloader, len(z))
        probabilities = self._label_probabilities(z).set_index(names)
        if calibrated:
            values = tempered(probabilities.to_numpy(), self.label_temperature_)
            probabilities = pd.DataFrame(values, probabilities.index, probabilities.columns)
        return probabilities if soft else most_probable(probabilities)

    def get_label_disagreement(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> pd.Series:
        """Return the probability that each cell's given label is wrong.

        Parameters
        ----------
        adata, indices, batch_size
            Registered cells, as in :meth:`get_cluster_probabilities`.

        Returns
        -------
        Series
            Probabilities with index ``obs_names``; NaN for cells without a label, or with a label that no
            component has.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        ValueError
            If the prior was not initialised from labels, or the model was trained with ``label_noise=0``.
        """
        labels = self._labels_of_prior()
        if labels.noise == 0:
            raise ValueError(
                "The model was trained with `label_noise=0`, which rules out wrong labels: train it with "
                "another value or leave the argument out."
            )
        soft: Any = self.predict_labels(adata, indices, batch_size, soft=True)
        given = self._columns_of_labels(soft, self._given_codes(adata, indices))
        own = soft.to_numpy()[np.arange(len(soft)), given]
        is_right, is_wrong = right_and_wrong_labels(own, labels.noise, labels.n_labels)
        found = np.where(given >= 0, is_wrong / (is_right + is_wrong), np.nan)
        return pd.Series(found, index=soft.index, name="label_disagreement")

    def get_label_calibration(self, n_bins: int = 15) -> LabelCalibration:
        """Compare label probabilities with the labels of held-out validation cells.

        Parameters
        ----------
        n_bins
            Number of bins of equal width.

        Returns
        -------
        LabelCalibration
            Accuracy, expected calibration error and bins.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        ValueError
            If the prior was not initialised from labels, or no validation cell has one of these labels.
        """
        labels = self._labels_of_prior()
        cells = np.asarray([] if self.validation_indices is None else self.validation_indices, dtype=int)
        codes = self._given_codes(None, cells.tolist())
        has_label = np.isin(codes, labels.of_components.cpu().numpy())
        if not has_label.any():
            raise ValueError(
                f"None of the {len(cells)} validation cells has a label of the prior: train with more "
                "validation cells (`validation_size`)."
            )
        probabilities = self.predict_labels(indices=cells[has_label].tolist(), soft=True)
        given = np.array(self._names_of_codes())[codes[has_label]]
        correct = probabilities.idxmax(axis=1).to_numpy(str) == given
        return LabelCalibration.of(probabilities.max(axis=1).to_numpy(float), correct, n_bins)

    # -- helpers ---------------------------------------------------------------------------------------------

    def _calibrate_labels(self) -> None:
        """Fit the temperature of label probabilities; a frozen prior keeps that of its reference."""
        prior: Any = self.module.latent_prior
        if prior.is_frozen:
            return
        self.label_temperature_ = 1.0
        labels, adata = getattr(prior, "labels", None), getattr(self, "adata", None)
        if labels is None or adata is None:
            return
        codes = self._given_codes(None, None)
        known = np.flatnonzero(np.isin(codes, labels.of_components.cpu().numpy()))
        held_out = np.intersect1d(known, [] if self.validation_indices is None else self.validation_indices)
        cells = (held_out if len(held_out) >= FEWEST_HELD_OUT else known).astype(int)
        if len(cells) > N_CALIBRATION_CELLS:
            rng = np.random.default_rng(settings.seed or 0)
            cells = np.sort(rng.choice(cells, N_CALIBRATION_CELLS, replace=False))
        with self._random_state_kept():
            soft: Any = self.predict_labels(indices=cells.tolist(), soft=True, calibrated=False)
        given = self._columns_of_labels(soft, codes[cells])
        self.label_temperature_ = fit_temperature(soft.to_numpy(), given, labels.noise, labels.n_labels)

    def _columns_of_labels(self, soft: pd.DataFrame, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Column of each cell's given label; -1 for labels that no component has."""
        names = np.array(self._names_of_codes(), dtype=object)
        has_label = np.isin(codes, self._labels_of_prior().of_components.cpu().numpy())
        return np.where(has_label, soft.columns.get_indexer(names[codes]), -1)

    def _labels_of_prior(self) -> ComponentLabels:
        labels = getattr(self._mixture_prior(), "labels", None)
        if labels is None:
            raise ValueError(
                "The prior has no labels: register them with `setup_anndata(..., labels_key=...)` and train "
                "with `start='labels'`."
            )
        found: ComponentLabels = labels
        return found

    def _names_of_codes(self) -> list[str]:
        state = self.registry_["field_registries"][REGISTRY_KEYS.LABELS_KEY]["state_registry"]
        return [str(name) for name in state["categorical_mapping"]]

    def _component_labels(self) -> list[str]:
        """Label of each component, or name of a free component."""
        names, given = self._names_of_codes(), self.cluster_names_ or {}
        codes: list[int] = self.module.latent_prior.labels.of_components.tolist()
        return [
            given.get(str(i), f"{NEW} {i}") if code == FREE else names[code] for i, code in enumerate(codes)
        ]

    def _label_probabilities(self, z: Tensor) -> pd.DataFrame:
        """Sum responsibilities over components of the same name; labels come first, in registered order."""
        prior: MixturePrior = self._mixture_prior()
        codes = self._labels_of_prior().of_components.tolist()
        of_components = self._component_labels()
        order = sorted(range(len(codes)), key=lambda i: (codes[i] == FREE, codes[i]))
        columns = list(dict.fromkeys(of_components[i] for i in order))
        at = torch.tensor([columns.index(name) for name in of_components], device=z.device)

        def summed(chunk: Tensor) -> Tensor:
            r = prior.responsibilities(chunk)
            return r.new_zeros(len(r), len(columns)).index_add_(1, at, r)

        with torch.inference_mode():
            return pd.DataFrame(by_chunks(z, prior, summed).numpy(), columns=columns)

    def _given_codes(self, adata: AnnData | None, indices: Sequence[int] | None) -> NDArray[np.int64]:
        adata = self._validate_anndata(adata)  # type: ignore[attr-defined]
        manager = self.get_anndata_manager(adata, required=True)  # type: ignore[attr-defined]
        codes = np.asarray(manager.get_from_registry(REGISTRY_KEYS.LABELS_KEY)).ravel().astype(np.int64)
        return codes if indices is None else codes[np.asarray(indices, dtype=int)]


def most_probable(probabilities: pd.DataFrame) -> pd.Series:
    """Return the column with the largest value in each row; its categories are the columns that occur."""
    at = probabilities.to_numpy().argmax(1)
    used, codes = np.unique(at, return_inverse=True)
    values = pd.Categorical.from_codes(codes, categories=list(probabilities.columns[used]))
    return pd.Series(values, index=probabilities.index, name=LABEL)
