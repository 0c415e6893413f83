"""Cells with more features than those a model was trained on."""

from __future__ import annotations

from typing import Any

from anndata import AnnData


def with_features_of(model: Any, adata: AnnData | None) -> AnnData | None:
    """Return the cells with only the features of the model, if ``adata`` has more.

    Raises
    ------
    ValueError
        If ``adata`` lacks features of the model.
    """
    own: AnnData | None = model.adata
    if adata is None or adata is own:
        return None
    if own is None or not isinstance(adata, AnnData) or adata.n_vars == own.n_vars:
        return adata
    if lacking := [name for name in own.var_names if name not in adata.var_names]:
        raise ValueError(
            f"`adata` lacks {len(lacking)} features of the model, such as {lacking[:3]}: add them."
        )
    return adata[:, own.var_names].copy()
