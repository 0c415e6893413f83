"""Cells a second and peak memory of data modules that read from disk: StreamedCounts and annbatch.

    python benchmarks/scale.py --n-cells 1000000 --folder scale --part simulate
    python benchmarks/loaders.py scale/1000000_simulate.h5ad --folder loaders

Each loader runs in a process of its own: one pass over the training cells that is not timed, and one that is,
up to the dense minibatch that a module is given. annbatch reads a store of zarr shards, which is written
first, and timed. Needs Python 3.12, scvi-tools 1.5 and annbatch 0.2.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

LOADERS = ("StreamedCounts", "annbatch")


def streamed(arguments: argparse.Namespace) -> Any:
    """Make our data module."""
    from vmmscvi.dataloaders import StreamedCounts

    return StreamedCounts(arguments.counts, batch_key="batch", batch_size=arguments.batch_size, seed=0)


def annbatch(arguments: argparse.Namespace) -> Any:
    """Make scvi-tools' data module, and the store if there is none."""
    from vmmscvi import SCVI_VMM

    store = arguments.folder / f"{arguments.counts.stem}.zarr"
    cells = SCVI_VMM.setup_annbatch(
        collection_path=str(store),
        paths=None if store.exists() else [str(arguments.counts)],
        batch_key="batch",
        rebuild=not store.exists(),
        batch_size=arguments.batch_size,
        shuffle=True,
        preload_to_gpu=False,
    )
    cells.set_split(train_size=0.9, batch_size=arguments.batch_size)
    return cells


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Read all training cells twice; time the second pass."""
    import torch

    torch.set_num_threads(1)
    began = time.perf_counter()
    cells = {"StreamedCounts": streamed, "annbatch": annbatch}[arguments.loader](arguments)
    result: dict[str, float] = {"prepare_seconds": time.perf_counter() - began}
    loader = cells.train_dataloader()
    for _ in range(2):
        wall, cpu, n_cells = time.perf_counter(), time.process_time(), 0
        for minibatch in loader:
            n_cells += len(cells.on_before_batch_transfer(minibatch, 0)["X"])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
    each = {"cells_per_second": n_cells / wall, "cpu_us_per_cell": cpu / n_cells * 1e6}
    return {**result, **each, "cells": n_cells, "peak_gb": peak}


def main() -> None:
    """Run both loaders, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("counts", type=Path, help="h5ad file with raw counts and obs['batch']")
    parser.add_argument("--folder", type=Path, default=Path("loaders"), help="for the store of annbatch")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--loader", choices=LOADERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.loader:
        print(json.dumps(measure(arguments)))
        return
    rows = {}
    for loader in (*LOADERS, *LOADERS):  # twice: the first of annbatch writes its store
        words = [sys.executable, __file__, str(arguments.counts), "--folder", str(arguments.folder)]
        words += ["--batch-size", str(arguments.batch_size), "--loader", loader]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        answer = subprocess.run(words, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout
        rows[loader] = json.loads(answer.splitlines()[-1])
        print(loader, rows[loader], flush=True)
    print("| loader | cells a second | CPU microseconds a cell | peak memory, GB |\n|---|---|---|---|")
    for loader, row in rows.items():
        speed, cpu, memory = row["cells_per_second"], row["cpu_us_per_cell"], row["peak_gb"]
        print(f"| {loader} | {speed:,.0f} | {cpu:.0f} | {memory:.2f} |")


if __name__ == "__main__":
    main()
