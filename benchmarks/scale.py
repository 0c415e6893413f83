"""How training from disk scales with the number of cells: time of an epoch, peak memory, cluster labels.

    python benchmarks/scale.py --n-cells 100000 300000 --folder scale

Counts are simulated onto disk a few thousand cells at a time. Then, for every number of cells and each in a
process of its own: `SCVI_VMM` trains for a first epoch and a second one that is timed; embedding and labels
are computed, streaming; and neighbours and Leiden are run on the same embedding. Parts whose results are in
the folder are not run again. Where `--leiden-up-to` leaves Leiden out, its time is extrapolated linearly
from the largest number of cells that it ran on, which flatters it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

PARTS = ("simulate", "train", "infer", "leiden")
N_GENES, N_TYPES, N_BATCHES = 2000, 20, 4
COUNTS_PER_CELL = 280
CELLS_PER_CHUNK = 2000
Result = dict[str, float]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-cells", nargs="+", type=int, default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--folder", type=Path, default=Path("scale"), help="for counts and results")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--n-components", type=int, default=100)
    parser.add_argument("--start", choices=("cells", "embedding"), default="cells")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--leiden-up-to", type=int, default=300_000, help="largest number of cells for Leiden"
    )
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run what has not been run, and print a Markdown table."""
    arguments = parse_arguments()
    if arguments.part is not None:
        run_part(arguments)
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    results: dict[int, dict[str, Result]] = {}
    for n_cells in arguments.n_cells:
        parts = [part for part in PARTS if part != "leiden" or n_cells <= arguments.leiden_up_to]
        results[n_cells] = {part: result_of(part, n_cells, arguments) for part in parts}
        print(table(results, arguments), flush=True)


def result_of(part: str, n_cells: int, arguments: argparse.Namespace) -> Result:
    """Read a result, or run the part in a fresh process."""
    path = path_of(arguments, n_cells, part, "json")
    if not path.exists():
        environment = {**os.environ, "NUMBA_NUM_THREADS": str(arguments.threads)}
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(arguments.threads)
        options = {
            "--n-cells": n_cells,
            "--folder": arguments.folder,
            "--batch-size": arguments.batch_size,
            "--n-components": arguments.n_components,
            "--start": arguments.start,
            "--threads": arguments.threads,
            "--part": part,
        }
        command = [sys.executable, __file__, *(str(word) for option in options.items() for word in option)]
        subprocess.run(command, check=True, env=environment)
    result: Result = json.loads(path.read_text())
    return result


def path_of(arguments: argparse.Namespace, n_cells: int, part: str, suffix: str) -> Path:
    """File of a part, named after all that it depends on."""
    name = f"{n_cells}_{part}"
    if part != "simulate":
        name = f"{n_cells}_{arguments.start}_{arguments.n_components}_{arguments.batch_size}_{part}"
    path: Path = arguments.folder / f"{name}.{suffix}"
    return path


def run_part(arguments: argparse.Namespace) -> None:
    """Run one part in this process, and write its result when it is complete."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    (n_cells,) = arguments.n_cells
    run = {"simulate": simulate, "train": train, "infer": infer, "leiden": leiden}[arguments.part]
    result = run(n_cells, arguments)
    result["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
    path_of(arguments, n_cells, arguments.part, "json").write_text(json.dumps(result))


class Stopwatch:
    """Seconds since it was made, by the clock and of this process's CPU time."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self, name: str) -> Result:
        """Return both, as entries of a result."""
        return {
            f"{name}_wall": time.perf_counter() - self.wall,
            f"{name}_cpu": time.process_time() - self.cpu,
        }


def simulate(n_cells: int, arguments: argparse.Namespace) -> Result:
    """Write counts of cells of several types in several batches as h5ad, chunk by chunk.

    Total counts are log-normal and spread over the genes by the profile of the cell's type in its batch.
    """
    import h5py
    import numpy as np
    import pandas as pd
    from anndata.io import write_elem

    rng = np.random.default_rng(0)
    means = rng.normal(0, 1.5, N_GENES)
    types = means + rng.normal(0, 1, (N_TYPES, N_GENES)) * (rng.random((N_TYPES, N_GENES)) < 0.1)
    profiles = np.exp(types[:, None] + rng.normal(0, 0.2, (N_BATCHES, N_GENES)))
    cumulative = np.cumsum(profiles / profiles.sum(-1, keepdims=True), axis=-1)
    kind, batch = rng.integers(N_TYPES, size=n_cells), rng.integers(N_BATCHES, size=n_cells)
    total = rng.lognormal(np.log(COUNTS_PER_CELL), 0.3, n_cells).astype(int) + 1
    path = path_of(arguments, n_cells, "simulate", "h5ad")
    indptr = [np.zeros(1, dtype=np.int64)]
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        matrix = file.create_group("X")
        matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        matrix.attrs["shape"] = (n_cells, N_GENES)
        data = matrix.create_dataset("data", (0,), np.float32, maxshape=(None,), chunks=(65_536,))
        indices = matrix.create_dataset("indices", (0,), np.int32, maxshape=(None,), chunks=(65_536,))
        for start in range(0, n_cells, CELLS_PER_CHUNK):
            cells = slice(start, min(start + CELLS_PER_CHUNK, n_cells))
            counts = np.zeros((cells.stop - start, N_GENES), dtype=np.float32)
            group = kind[cells] * N_BATCHES + batch[cells]
            for number in np.unique(group):
                rows = np.flatnonzero(group == number)
                which = np.repeat(rows, total[cells][rows])
                genes = np.searchsorted(cumulative.reshape(-1, N_GENES)[number], rng.random(len(which)))
                np.add.at(counts, (which, np.minimum(genes, N_GENES - 1)), 1)
            where = counts.nonzero()
            for dataset, values in ((data, counts[where]), (indices, where[1])):
                dataset.resize(len(dataset) + len(values), axis=0)
                dataset[-len(values) :] = values
            indptr.append(indptr[-1][-1] + np.cumsum((counts > 0).sum(1)))
        matrix["indptr"] = np.concatenate(indptr)
        obs = {"cell_type": kind, "batch": batch}
        table = {name: pd.Categorical(codes.astype(str)) for name, codes in obs.items()}
        write_elem(file, "obs", pd.DataFrame(table, index=[f"cell_{i}" for i in range(n_cells)]))
        write_elem(file, "var", pd.DataFrame(index=[f"gene_{i}" for i in range(N_GENES)]))
        n_stored = len(data)
    return {"density": n_stored / n_cells / N_GENES, "file_gb": path.stat().st_size / 1e9}


def open_counts(n_cells: int, arguments: argparse.Namespace) -> Any:
    """Open the counts as a data module."""
    import scvi
    import torch

    from vmmscvi.dataloaders import StreamedCounts

    torch.set_num_threads(arguments.threads)
    scvi.settings.verbosity = logging.ERROR
    scvi.settings.seed = 0
    path = path_of(arguments, n_cells, "simulate", "h5ad")
    return StreamedCounts(path, batch_key="batch", train_size=1.0, batch_size=arguments.batch_size)


def train(n_cells: int, arguments: argparse.Namespace) -> Result:
    """Train for two epochs, of which the second is timed; keep the model."""
    from lightning.pytorch.callbacks import Callback

    from vmmscvi import SCVI_VMM

    epochs: list[Result] = []

    class EpochTimer(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self.stopwatch = Stopwatch()

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            epochs.append(self.stopwatch.read("epoch"))

    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    stopwatch = Stopwatch()
    cells = open_counts(n_cells, arguments)
    opened = stopwatch.read("open")
    model = SCVI_VMM(registry=cells.registry, n_components=arguments.n_components)
    options: dict[str, Any] = {} if arguments.start == "cells" else {"n_warmup_epochs": 1}
    model.train(
        datamodule=cells,
        max_epochs=2,
        accelerator="cpu",
        start=arguments.start,
        callbacks=[EpochTimer()],
        enable_progress_bar=False,
        **options,
    )
    model.save(path_of(arguments, n_cells, "train", "model"), overwrite=True)
    return {**opened, **epochs[-1], "imported_gb": imported}


def infer(n_cells: int, arguments: argparse.Namespace) -> Result:
    """Embed all cells and predict their clusters, streaming; and predict from the embedding alone."""
    import numpy as np
    import torch

    from vmmscvi import SCVI_VMM
    from vmmscvi.model._clustering_mixin import by_chunks

    cells = open_counts(n_cells, arguments)
    model = SCVI_VMM.load(path_of(arguments, n_cells, "train", "model"), adata=False, accelerator="cpu")
    stopwatch = Stopwatch()
    z = model.get_latent_representation(dataloader=cells.inference_dataloader())
    result = stopwatch.read("embed")
    stopwatch = Stopwatch()
    clusters = model.predict(dataloader=cells.inference_dataloader())
    result |= stopwatch.read("predict")
    stopwatch = Stopwatch()
    with torch.inference_mode():
        assigned = by_chunks(torch.as_tensor(z), model.module.latent_prior, model.module.assign)
    result |= stopwatch.read("labels")
    if not np.array_equal(assigned.numpy(), clusters.to_numpy().astype(int)):
        raise RuntimeError("Labels from the embedding are not those from the counts.")
    np.save(path_of(arguments, n_cells, "infer", "npy"), z)
    return result


def leiden(n_cells: int, arguments: argparse.Namespace) -> Result:
    """Neighbour graph and Leiden on the same embedding, with scanpy's defaults but for igraph's Leiden.

    What numba compiles is compiled before, on a few cells.
    """
    import numpy as np
    import scanpy as sc
    from anndata import AnnData
    from pynndescent import PyNNDescentTransformer
    from scipy.sparse import csr_matrix

    class Transformer(PyNNDescentTransformer):
        """As scanpy's default; scanpy 1.11 cannot read the sparse arrays of pynndescent 0.7."""

        def fit_transform(self, *args: Any, **kwargs: Any) -> csr_matrix:
            return csr_matrix(super().fit_transform(*args, **kwargs))

    z = np.load(path_of(arguments, n_cells, "infer", "npy"))

    def run(z: Any) -> None:
        graph = AnnData(obsm={"X_vmm": z})
        sc.pp.neighbors(graph, use_rep="X_vmm", transformer=Transformer(n_neighbors=14))
        sc.tl.leiden(graph, flavor="igraph", n_iterations=2, directed=False)

    run(z[:5000])
    stopwatch = Stopwatch()
    run(z)
    return stopwatch.read("leiden")


def table(results: dict[int, dict[str, Result]], arguments: argparse.Namespace) -> str:
    """Markdown table: CPU and wall times, per cell as well, and ratios."""
    clustered = {n: parts["leiden"] for n, parts in results.items() if "leiden" in parts}
    lines = [
        f"{N_GENES} genes, K = {arguments.n_components}, batch size {arguments.batch_size}, "
        f"start from {arguments.start}, {arguments.threads} thread(s). Seconds of CPU (wall).",
        "",
        "| cells | density | epoch | µs CPU per cell | peak GB, training | embed | predict | "
        "peak GB, inference | labels of the embedding | neighbours + Leiden | ratio (CPU) |",
        "|" + "---|" * 11,
    ]
    for n_cells, parts in results.items():
        trained, inferred = parts["train"], parts["infer"]
        mark = ""
        if not clustered:
            of_graph = None
        elif n_cells in clustered:
            of_graph = clustered[n_cells]
        else:
            mark, largest = "extrapolated ", max(clustered)
            of_graph = {name: value * n_cells / largest for name, value in clustered[largest].items()}
        columns = [
            f"{n_cells:,}",
            f"{parts['simulate']['density']:.3f}",
            seconds(trained, "epoch"),
            f"{trained['epoch_cpu'] / n_cells * 1e6:.1f}",
            f"{trained['peak_gb']:.2f}",
            seconds(inferred, "embed"),
            seconds(inferred, "predict"),
            f"{inferred['peak_gb']:.2f}",
            seconds(inferred, "labels"),
            "" if of_graph is None else mark + seconds(of_graph, "leiden"),
            "" if of_graph is None else f"{of_graph['leiden_cpu'] / inferred['labels_cpu']:.0f}",
        ]
        lines.append("| " + " | ".join(columns) + " |")
    return "\n".join(lines) + "\n"


def seconds(result: Result, name: str) -> str:
    """CPU time, and wall time in parentheses."""
    return f"{result[f'{name}_cpu']:.2f} ({result[f'{name}_wall']:.2f})"


if __name__ == "__main__":
    main()
