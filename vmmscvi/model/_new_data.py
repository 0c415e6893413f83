"""Checks of new data for a trained model: genes in order, known categories.

A mixin for any model of scvi-tools on AnnData; nothing here depends on counts or priors.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager

from vmmscvi._upstream import MANAGER_UUID_KEY, SCVI_UUID_KEY, assign_adata_uuid, load_saved_files
from vmmscvi.model._categories import ARGUMENTS, check_known_categories, registered_columns
from vmmscvi.model._genes import in_order_of, registered_genes, require_same_genes
from vmmscvi.model._setup_checks import use_sparse_matrices


class NewDataMixin:
    """Checks of data that a model was not trained on; list it before scvi-tools' class.

    Data registered with the model are not checked again, because their batches are stored in
    ``obs["_scvi_batch"]``, independent of later changes of the batch column.

    If the genes are in another order, a reordered copy of the data is used. MuData are handled by scvi-tools.
    """

    id: str
    registry_: dict[str, Any]
    _per_instance_manager_store: ClassVar[dict[str, dict[str, AnnDataManager]]]
    _reordered_uuid: str | None = None
    """Identifier of the last registered copy, which is released when the next one is made."""

    if TYPE_CHECKING:

        @property
        def adata(self) -> Any: ...

    # -- entry points of data --------------------------------------------------------------------------------

    @classmethod
    def setup_anndata(cls, adata: AnnData, *args: Any, **kwargs: Any) -> None:
        """Register an AnnData for the model.

        Parameters
        ----------
        adata
            The data.
        *args, **kwargs
            As in ``setup_anndata`` of the model in scvi-tools.

        Raises
        ------
        ValueError
            If a layer or column is missing or invalid, or if categories are unknown to the registry of other
            data, ``source_registry``.
        """
        registry = kwargs.get("source_registry")
        if registry is not None and isinstance(adata, AnnData):
            may_be_new = bool(kwargs.get("extend_categories"))
            for known in registered_columns(registry):
                asked = kwargs.get(known.argument, known.name)
                named = known._replace(name=asked) if isinstance(asked, str) else known
                check_known_categories(adata.obs, named, cls.__name__, may_be_new)
        with warnings.catch_warnings():  # MuData or AnnData is the user's choice
            warnings.filterwarnings("ignore", message="We recommend using setup_mudata")
            super().setup_anndata(adata, *args, **kwargs)  # type: ignore[misc]

    @classmethod
    def load(cls, dir_path: str, adata: Any = None, *args: Any, **kwargs: Any) -> Self:
        """Load a saved model; arguments as in :meth:`scvi.model.base.BaseModelClass.load`.

        If the genes of ``adata`` are in another order than the model's, the model holds a reordered copy.

        Raises
        ------
        ValueError
            If genes or categories of ``adata`` differ from those of the model.
        """
        if isinstance(adata, AnnData):
            prefix, url = kwargs.get("prefix"), kwargs.get("backup_url")
            adata = in_order_of(adata, _saved_genes(dir_path, prefix, url), cls.__name__)
        model: Self = super().load(dir_path, adata, *args, **kwargs)  # type: ignore[misc]
        return model

    @classmethod
    def load_query_data(
        cls, adata: Any = None, reference_model: Any = None, *args: Any, **kwargs: Any
    ) -> Self:
        """Map new cells; arguments as in :meth:`scvi.model.base.ArchesMixin.load_query_data`."""
        if isinstance(adata, AnnData) and reference_model and not kwargs.get("inplace_subset_query_vars"):
            known = (
                reference_model._known_genes()
                if isinstance(reference_model, NewDataMixin)
                else _saved_genes(str(reference_model))
            )
            adata = in_order_of(adata, known, cls.__name__)
        model: Self = super().load_query_data(adata, reference_model, *args, **kwargs)  # type: ignore[misc]
        return model

    def _validate_anndata(self, adata: AnnData | None = None, copy_if_view: bool = True) -> AnnData:
        if isinstance(adata, AnnData) and not self._is_registered(adata):
            ordered = in_order_of(adata, self._known_genes(), type(self).__name__)
            changed = self._changed_columns(ordered)
            for known in registered_columns(self.registry_):
                check_known_categories(changed, known, type(self).__name__)
            if ordered is not adata:
                self._let_go_of_last_copy()
                assign_adata_uuid(ordered, overwrite=True)
                self._reordered_uuid = ordered.uns[SCVI_UUID_KEY]
            adata = ordered
            if not adata.is_view:
                use_sparse_matrices(adata, self.registry_.get("setup_args", {}).get("layer"))
        validated: AnnData = super()._validate_anndata(adata, copy_if_view=copy_if_view)  # type: ignore[misc]
        return validated

    def _check_dataloader(self, dataloader: Iterable[Any]) -> None:
        """Check the genes of minibatches that have gene names."""
        names = getattr(dataloader, "var_names", None)
        if names is not None:
            require_same_genes(names, self._known_genes(), "dataloader")

    # -- helpers ---------------------------------------------------------------------------------------------

    def _is_registered(self, adata: AnnData) -> bool:
        """Whether this object is currently registered with this model."""
        manager = self._managers().get(adata.uns.get(SCVI_UUID_KEY, ""))
        if manager is None or manager.adata is not adata:
            return False
        # else another model has registered the data since, and they will be registered again
        return bool(adata.uns.get(MANAGER_UUID_KEY) == manager.id)

    def _changed_columns(self, adata: AnnData) -> pd.DataFrame:
        """Columns of ``obs`` without those whose categories have been renamed since registration.

        Data that another model has registered since will be registered again with the current names. This is
        possible only for the data that this model was made with.
        """
        manager = self._managers().get(adata.uns.get(SCVI_UUID_KEY, ""))
        obs: pd.DataFrame = adata.obs
        if manager is None or manager.adata is not adata or manager._source_registry is not None:
            return obs
        key = REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.LABELS_KEY
        renamed = [
            column.name
            for column in registered_columns(self.registry_)
            for name in key
            if ARGUMENTS[name] == column.argument
            and column.name in obs
            and _are_codes_of(obs[column.name], obs.get(f"_scvi_{name}"))
        ]
        return obs.drop(columns=renamed)

    def _managers(self) -> dict[str, AnnDataManager]:
        return type(self)._per_instance_manager_store.get(self.id, {})

    def _let_go_of_last_copy(self) -> None:
        """Release the copy made for an earlier call, which scvi-tools would keep as long as the model."""
        own = None if self.adata is None else self.adata.uns.get(SCVI_UUID_KEY)
        if self._reordered_uuid is not None and self._reordered_uuid != own:
            self._managers().pop(self._reordered_uuid, None)

    def _known_genes(self) -> list[np.ndarray]:
        """Names of the model's genes, at registration and now (the data may have been renamed)."""
        known = registered_genes(self.registry_)
        if isinstance(self.adata, AnnData):
            known.append(self.adata.var_names.to_numpy())
        return known


def _saved_genes(dir_path: str, prefix: str | None = None, backup_url: str | None = None) -> list[np.ndarray]:
    attributes, names, _, _ = load_saved_files(
        dir_path, False, prefix=prefix, map_location="cpu", backup_url=backup_url
    )
    known = registered_genes(attributes.get("registry_", {}))
    return known if names is None or isinstance(names, dict) else [*known, np.asarray(names)]


def _are_codes_of(column: pd.Series, codes: Any) -> bool:
    """Whether registering a column again would give the stored codes, so only categories were renamed."""
    if codes is None or column.isna().any():
        return False
    return bool(np.array_equal(column.astype("category").cat.codes, np.asarray(codes).ravel()))
