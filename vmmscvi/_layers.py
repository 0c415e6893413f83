"""Names of layers, for all versions of anndata."""

from __future__ import annotations

from typing import Any


def layer_names(adata: Any) -> list[str]:
    """List the layers of an AnnData or a collection, using only ``layers.keys()``.

    Since anndata 0.13 one of the keys is ``None``, which stands for ``X``.

    Parameters
    ----------
    adata
        An object with ``layers``.

    Returns
    -------
    list of str
        Names of the layers.
    """
    return [name for name in adata.layers.keys() if name is not None]
