"""Kernels and copies to the host of a training step, on average over an epoch; stock scVI beside our priors.

    python benchmarks/count_operations.py
    python benchmarks/count_operations.py --data counts.h5ad --batch-key donor --batch-size 512

Without ``--data`` the counts are simulated. The VMM and the GMM are initialised after one epoch.
"Device paths" are what a GPU runs: the sparse encoder and the zero-aware likelihood are for CPUs only.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from typing import Any

from operation_counts import CountOperations, OperationCounts, fused_adam

DEVICE_PATHS = {"fast_likelihood": False, "sparse_encoder": False}
MODELS: dict[str, dict[str, Any]] = {
    "stock scVI": {"stock": True},
    "stock scVI, fused Adam": {"stock": True, "plan_kwargs": fused_adam()},
    "N(0, I)": {"prior": "standard_normal"},
    "GMM": {"prior": "gmm"},
    "VMM": {"prior": "vmm"},
    "N(0, I), device paths": {"prior": "standard_normal", **DEVICE_PATHS},
    "GMM, device paths": {"prior": "gmm", **DEVICE_PATHS},
    "VMM, device paths": {"prior": "vmm", **DEVICE_PATHS},
}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="counts as h5ad; simulated by default")
    parser.add_argument("--batch-key", default="batch", help="column of obs with the batches")
    parser.add_argument("--n-cells", type=int, default=1280, help="cells to simulate, or to read")
    parser.add_argument("--n-genes", type=int, default=200, help="genes to simulate without --data")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--operations", action="store_true", help="list the operations of every model too")
    return parser.parse_args()


def load_counts(arguments: argparse.Namespace) -> Any:
    """Read cells of all batches, or simulate them."""
    if arguments.data is None:
        from vmmscvi.data import simulate_counts

        return simulate_counts(n_cells=arguments.n_cells, n_genes=arguments.n_genes, seed=0)
    import anndata as ad
    import numpy as np

    adata = ad.read_h5ad(arguments.data)
    n_cells = min(arguments.n_cells, adata.n_obs)
    return adata[np.sort(np.random.default_rng(0).permutation(adata.n_obs)[:n_cells])].copy()


def count(
    adata: Any,
    batch_key: str = "batch",
    batch_size: int = 128,
    stock: bool = False,
    start: str = "embedding",
    plan_kwargs: dict[str, Any] | None = None,
    **model_kwargs: Any,
) -> tuple[OperationCounts, CountOperations]:
    """Train for three epochs, and count in the second.

    Parameters
    ----------
    adata
        Counts.
    batch_key, batch_size
        As in scvi-tools.
    stock
        Whether the model is :class:`scvi.model.SCVI`.
    start
        How our priors are initialised: from the embedding after one epoch, or from cells.
    plan_kwargs, **model_kwargs
        For the training plan and the model.
    """
    import scvi

    from vmmscvi import SCVI_VMM

    scvi.settings.seed = 0
    model_cls = scvi.model.SCVI if stock else SCVI_VMM
    model_cls.setup_anndata(adata, batch_key=batch_key)
    model = model_cls(adata, **({"encode_covariates": True} if stock else model_kwargs))
    counter = CountOperations(epoch=1)
    starts: dict[str, Any] = {}
    if not stock and model_kwargs.get("prior") != "standard_normal":
        starts = {"n_warmup_epochs": 1} if start == "embedding" else {"start": start}
    model.train(
        max_epochs=3,
        batch_size=batch_size,
        accelerator="cpu",
        early_stopping=False,
        enable_progress_bar=False,
        callbacks=[counter],
        plan_kwargs=plan_kwargs or {},
        **starts,
    )
    return counter.result(), counter


def main() -> None:
    """Count, and print a Markdown table."""
    arguments = parse_arguments()
    warnings.filterwarnings("ignore")
    import scvi

    scvi.settings.verbosity = logging.ERROR
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    adata = load_counts(arguments)
    print("| model | kernels a step | copies to the host a step |\n|---|---:|---:|")
    for name in arguments.models:
        counts, counter = count(adata, arguments.batch_key, arguments.batch_size, **MODELS[name])
        print(f"| {name} | {counts.kernels:.1f} | {counts.host_copies:.2f} |", flush=True)
        if arguments.operations:
            print("\n".join(f"    {n:6d} {operation}" for operation, n in counter.operations.most_common()))


if __name__ == "__main__":
    main()
