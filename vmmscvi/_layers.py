"""Names of layers, whatever the version of anndata."""

from __future__ import annotations

from typing import Any


def layer_names(adata: Any) -> list[str]:
    """List the layers of an AnnData, or of a collection of them, of which nothing but the keys can be asked.

    Since anndata 0.13 one of the keys is ``None``, which stands for ``X``.

    Parameters
    ----------
    adata
        What has ``layers``.
    """
    return [name for name in adata.layers.keys() if name is not None]
