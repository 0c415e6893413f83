"""Labels for models that register none in scvi-tools."""

from __future__ import annotations

from typing import Any

from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager, fields

from vmmscvi.model._validation import check_keys

TRANSFER = ("source_registry", "extend_categories", "allow_missing_labels")
"""Arguments of the registration that refer to the registry of other data."""


class LabelsFieldMixin:
    """Replace the constant labels of a model by a column; list it directly before scvi-tools' class."""

    @classmethod
    def setup_anndata(cls, adata: AnnData, *args: Any, labels_key: str | None = None, **kwargs: Any) -> None:
        """Register an AnnData; see the model's class.

        Parameters
        ----------
        adata
            The data.
        *args
            As in the model of scvi-tools.
        labels_key
            Column of ``adata.obs`` with labels, for ``train(start="labels")``.
        **kwargs
            As in the model of scvi-tools.

        Raises
        ------
        ValueError
            If the column is missing or has missing values.
        """
        if labels_key is None:
            super().setup_anndata(adata, *args, **kwargs)  # type: ignore[misc]
            return
        check_keys(adata, None, {"labels_key": labels_key})
        transfer = {name: kwargs.pop(name) for name in TRANSFER if name in kwargs}
        # registers constant labels, in contrast to the labels of other data
        super().setup_anndata(adata, *args, **kwargs)  # type: ignore[misc]
        stock = cls._get_most_recent_anndata_manager(adata, required=True)  # type: ignore[attr-defined]
        labels = fields.CategoricalObsField(REGISTRY_KEYS.LABELS_KEY, labels_key)
        own = [labels if field.registry_key == REGISTRY_KEYS.LABELS_KEY else field for field in stock.fields]
        setup = {**stock._get_setup_method_args(), "setup_method_name": "setup_anndata"}
        setup["setup_args"] = {**setup["setup_args"], "labels_key": labels_key}
        manager = AnnDataManager(own, setup_method_args=setup, validation_checks=stock.validation_checks)
        manager.register_fields(adata, **transfer)
        cls.register_manager(manager)  # type: ignore[attr-defined]
