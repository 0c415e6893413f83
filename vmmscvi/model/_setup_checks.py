"""Checks at registration and construction, beyond those of scvi-tools."""

from __future__ import annotations

import inspect
import warnings
from functools import wraps
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse
from scvi.model.base import RNASeqMixin

from vmmscvi._layers import layer_names
from vmmscvi.model._keywords import check_keywords, known_keywords

ROWS_CHECKED = 256
TRANSFER_KEYWORDS = {"source_registry", "extend_categories", "allow_missing_labels"}
"""Arguments that scvi-tools passes to fields when data are registered with another registry."""
NOT_OURS = r".*does not contain unnormalized count data"
"""scvi-tools' warning, which does not report the values found."""


class ArgumentChecksMixin:
    """Checks of names of arguments and groups, for any model; list it before scvi-tools' class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        module_class: type | None = getattr(self, "_module_cls", None)
        if module_class is not None:  # else the arguments of the module are unknown
            known = known_keywords("__init__", type(self), module_class)
            check_keywords(kwargs, known, type(self).__name__)
        super().__init__(*args, **kwargs)

    @classmethod
    def setup_anndata(cls, adata: AnnData, *args: Any, **kwargs: Any) -> None:
        """Register an AnnData; see the model's class."""
        check_keywords(kwargs, known_keywords("setup_anndata", cls) | TRANSFER_KEYWORDS, "setup_anndata")
        if kwargs.get("source_registry") is None and adata.n_obs < 2:
            raise ValueError(f"`adata` must have at least two cells to train on, found {adata.n_obs}.")
        if isinstance(adata, AnnData):
            use_sparse_matrices(adata, kwargs.get("layer"))
        super().setup_anndata(adata, *args, **kwargs)  # type: ignore[misc]

    @wraps(RNASeqMixin.differential_expression)
    def differential_expression(self, *args: Any, **kwargs: Any) -> Any:
        """Compare the expression of groups; see :meth:`scvi.model.SCVI.differential_expression`."""
        inherited = super().differential_expression  # type: ignore[misc]
        given = inspect.signature(inherited).bind(*args, **kwargs).arguments
        adata = given.get("adata") if given.get("adata") is not None else self.adata  # type: ignore[attr-defined]
        groupby = given.get("groupby")
        if groupby is not None and given.get("idx1") is None and isinstance(adata, AnnData):
            _check_groups(adata, groupby, {name: given.get(name) for name in ("group1", "group2")})
        return inherited(*args, **kwargs)


class CountChecksMixin:
    """Check of gene counts at registration; list it before scvi-tools' class."""

    @classmethod
    def setup_anndata(cls, adata: AnnData, *args: Any, **kwargs: Any) -> None:
        """Register an AnnData; see the model's class."""
        if isinstance(adata, AnnData):
            _warn_unless_counts(adata, kwargs.get("layer"), cls.__name__)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=NOT_OURS)
            super().setup_anndata(adata, *args, **kwargs)  # type: ignore[misc]


def use_sparse_matrices(adata: AnnData, layer: str | None) -> None:
    """Convert a sparse array to a sparse matrix that shares its memory, because scvi-tools reads only these.

    Parameters
    ----------
    adata
        The data; changed in place.
    layer
        Layer of the counts; ``adata.X`` by default.
    """
    matrix = _matrix(adata, layer)
    if not isinstance(matrix, sparse.sparray):
        return
    make = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}.get(matrix.format, sparse.csr_matrix)
    if layer is None:
        adata.X = make(matrix)
    else:
        adata.layers[layer] = make(matrix)


def _matrix(adata: AnnData, layer: str | None) -> Any:
    """Return the matrix of the counts; ``None`` for a layer that does not exist or is read lazily."""
    if layer is None:
        return adata.X
    matrix = adata.layers[layer] if layer in layer_names(adata) else None
    return matrix if hasattr(matrix, "shape") else None


def _warn_unless_counts(adata: AnnData, layer: str | None, class_name: str) -> None:
    """Warn early, from the first cells, about values that training will reject."""
    matrix = _matrix(adata, layer)
    if matrix is None:
        return
    some = matrix[:ROWS_CHECKED]
    values = some.data if sparse.issparse(some) else np.asarray(some)
    if not np.issubdtype(values.dtype, np.number):
        return
    wrong = values[(values < 0) | (values != np.round(values))].ravel()
    if not wrong.size:
        return
    where = "`adata.X`" if layer is None else f"`adata.layers[{layer!r}]`"
    kind = "negative" if (wrong < 0).any() else "fractional"
    warnings.warn(
        f"{where} has {kind} values (for example {wrong.min() if kind == 'negative' else wrong[0]:g}), like "
        "normalised, log-transformed or scaled data. Raw counts are expected, and "
        f"`{class_name}.train` will refuse anything else unless `gene_likelihood='normal'`. Register the raw "
        "counts with `setup_anndata(adata, layer=...)`.",
        UserWarning,
        stacklevel=4,
    )


def _check_groups(adata: AnnData, groupby: str, groups: dict[str, Any]) -> None:
    if groupby not in adata.obs:
        raise ValueError(
            f"`groupby`: {groupby!r} is not a column of `adata.obs`, which has "
            f"{list(adata.obs.columns)[:20]}."
        )
    known = list(adata.obs[groupby].astype("category").cat.categories)
    for argument, value in groups.items():
        names = [value] if isinstance(value, str) or not np.iterable(value) else list(value)
        for name in names:
            if name is None or name in known:
                continue
            hint = " Leave `group2` out to compare with all other cells." if name == "rest" else ""
            if str(name) in [str(other) for other in known]:
                hint = f" The groups are {type(known[0]).__name__}, not {type(name).__name__}."
            raise ValueError(
                f"`{argument}`: {name!r} is not a group of `adata.obs[{groupby!r}]`, which has {known[:20]}."
                + hint
            )
