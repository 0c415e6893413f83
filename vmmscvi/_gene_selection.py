"""Gene selection with scanpy by position, because names may be duplicated and tables may be sorted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from vmmscvi._threads import training_threads_kept


def mask_of_variable_genes(
    select: Callable[..., pd.DataFrame], counts: Any, batches: pd.Series | None, n_genes: int, **options: Any
) -> NDArray[np.bool_]:
    """Select genes by a function of scanpy.

    Parameters
    ----------
    select
        ``scanpy.pp.highly_variable_genes``, or the function of that name in ``scanpy.experimental``.
    counts
        Counts, shape ``(n_obs, n_vars)``.
    batches
        Batch of every cell; ``None`` for a single batch.
    n_genes
        Number of genes to select.
    **options
        Further arguments of ``select``.

    Returns
    -------
    numpy.ndarray
        Mask of shape ``(n_vars,)``.
    """
    names = [str(i) for i in range(counts.shape[0])]
    obs = pd.DataFrame(index=names)
    if batches is not None:
        obs["batch"] = batches.array
    numbered = AnnData(counts, obs=obs, var=pd.DataFrame(index=[str(i) for i in range(counts.shape[1])]))
    with training_threads_kept():
        table = select(
            numbered,
            n_top_genes=n_genes,
            batch_key=None if batches is None else "batch",
            check_values=False,
            inplace=False,
            **options,
        )
    mask: NDArray[np.bool_] = table["highly_variable"].loc[numbered.var_names].to_numpy(dtype=bool)
    return mask
