"""Time of a training epoch against stock scVI: all models in one run, taking turns, ratios of medians.

    python benchmarks/epoch_time.py --threads 1
    python benchmarks/epoch_time.py --data counts.h5ad --batch-key donor --batch-sizes 128 --models stock vmm

Without ``--data`` the counts are simulated. Every model trains in rounds of a few epochs and the models take
turns, so that other load on the machine touches all of them alike; the first epoch of a round warms up and
is not counted. Next to wall time stands the CPU time of the process, which is less sensitive to other load.
Epochs are timed without validation, and the floor is the time of nothing but the large matrix products that
an epoch of stock scVI needs. A VMM is timed with all its components, and as it is by default, with those
that are found in the embedding.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

BASELINE, FLOOR = "stock scVI", "matrix products"
MODELS = {
    "stock": BASELINE,
    "standard_normal": "ours, N(0, I)",
    "gmm": "ours, GMM",
    "vampprior": "ours, VampPrior",
    "vmm": "ours, VMM, all components kept",
    "vmm_found": "ours, VMM, components found",
}
N_WARMUP_EPOCHS = 5
"""Epochs before components are looked for in the embedding, where they are."""


class Seconds(NamedTuple):
    """A duration, or a point in time, on two clocks."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Seconds:
        """Read both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: Seconds) -> Seconds:
        """Subtract an earlier point in time."""
        return Seconds(self.wall - start.wall, self.cpu - start.cpu)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="counts as h5ad; simulated by default")
    parser.add_argument("--batch-key", default="batch", help="column of obs with the batches")
    parser.add_argument("--n-cells", type=int, default=6000, help="cells to simulate without --data")
    parser.add_argument("--n-genes", type=int, default=2000, help="genes to simulate without --data")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=MODELS,
        default=["stock", "standard_normal", "gmm", "vmm", "vmm_found"],
    )
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--n-components", type=int, default=100)
    parser.add_argument("--gene-likelihood", choices=("zinb", "nb"), default="zinb")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="epochs that count in every round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model-kwargs", nargs="*", default=[], metavar="NAME=VALUE", help="for our models")
    parser.add_argument(
        "--plan-kwargs", nargs="*", default=[], metavar="NAME=VALUE", help="for our training plan"
    )
    parser.add_argument("--out", type=Path, help="file for the table; printed in any case")
    return parser.parse_args()


def main() -> None:
    """Measure, and print a Markdown table."""
    arguments = parse_arguments()
    # before the first import of torch or NumPy, which read it once
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)
    warnings.filterwarnings("ignore")

    import scvi
    import torch

    torch.set_num_threads(arguments.threads)
    scvi.settings.verbosity = logging.ERROR
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    adata = load_counts(arguments)
    lines = [f"{adata.n_obs} cells x {adata.n_vars} genes, K = {arguments.n_components}, "
             f"{arguments.gene_likelihood}, {arguments.threads} thread(s), medians of "
             f"{arguments.rounds * arguments.epochs} epochs", ""]  # fmt: skip
    lines += table_head()
    for batch_size in arguments.batch_sizes:
        lines += table_rows(batch_size, *measure(adata, batch_size, arguments))
    print("\n".join(lines))
    if arguments.out is not None:
        arguments.out.write_text("\n".join(lines) + "\n")


def load_counts(arguments: argparse.Namespace) -> Any:
    """Read the data to train on, or simulate them."""
    import anndata as ad

    if arguments.data is not None:
        return ad.read_h5ad(arguments.data)
    from vmmscvi.data import simulate_counts

    return simulate_counts(n_cells=arguments.n_cells, n_genes=arguments.n_genes, seed=0)


def measure(
    adata: Any, batch_size: int, arguments: argparse.Namespace
) -> tuple[dict[str, list[Seconds]], dict[str, list[Seconds]]]:
    """Durations of epochs, and of the empirical-Bayes steps in them, by name of the model."""
    epochs: dict[str, list[Seconds]] = defaultdict(list)
    prior_steps: dict[str, list[Seconds]] = defaultdict(list)
    models = {name: build_model(name, adata, arguments) for name in arguments.models}
    for _ in range(arguments.rounds):
        for name, model in models.items():
            label = MODELS[name]
            epochs[label] += train_timed(model, name, batch_size, arguments, prior_steps[label])
        epochs[FLOOR] += [matrix_products(adata, batch_size, arguments) for _ in range(arguments.epochs)]
    return epochs, prior_steps


def build_model(name: str, adata: Any, arguments: argparse.Namespace) -> Any:
    """Make a model that has not been trained."""
    import scvi

    from vmmscvi import SCVI_VMM

    scvi.settings.seed = 0
    common = {"gene_likelihood": arguments.gene_likelihood}
    if name == "stock":
        scvi.model.SCVI.setup_anndata(adata, batch_key=arguments.batch_key)
        return scvi.model.SCVI(adata, **common)
    SCVI_VMM.setup_anndata(adata, batch_key=arguments.batch_key)
    options = {**common, **dict(map(read_option, arguments.model_kwargs))}
    prior = "vmm" if name == "vmm_found" else name
    return SCVI_VMM(adata, prior=prior, n_components=arguments.n_components, **options)


def read_option(text: str) -> tuple[str, Any]:
    """``name=value`` from the command line, the value as Python reads it."""
    import ast

    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def train_timed(
    model: Any, name: str, batch_size: int, arguments: argparse.Namespace, prior_steps: list[Seconds]
) -> list[Seconds]:
    """Train for a round; return the times of the epochs that count, append those of their prior steps."""
    from lightning.pytorch.callbacks import Callback

    class EpochTimer(Callback):
        """Epochs from start to start, so that what happens at their end is included."""

        def __init__(self) -> None:
            self.starts: list[Seconds] = []

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self.starts.append(Seconds.now())

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            self.starts.append(Seconds.now())

    class StepTimer(Callback):
        """Time of the empirical-Bayes steps of every epoch."""

        def __init__(self) -> None:
            self.epochs: list[list[Seconds]] = []

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            step = getattr(pl_module, "_empirical_bayes_step", None)
            if step is not None and pl_module.module.prior_parameters():
                pl_module._empirical_bayes_step = self.timed(step)

        def timed(self, step: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*args: Any) -> Any:
                start = Seconds.now()
                result = step(*args)
                self.epochs[-1].append(Seconds.now().since(start))
                return result

            return wrapper

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self.epochs.append([])

    timer, steps = EpochTimer(), StepTimer()
    options: dict[str, Any] = {"early_stopping": False, "enable_progress_bar": False, "accelerator": "cpu"}
    n_skipped = 1
    if name != "stock":
        options["plan_kwargs"] = dict(map(read_option, arguments.plan_kwargs))
        options["start"] = "cells"  # all components are there from the first epoch
    if name == "vmm_found":
        n_skipped = 1 if model.is_trained_ else 1 + N_WARMUP_EPOCHS
        options |= {"start": "embedding", "n_warmup_epochs": n_skipped - 1}
    model.train(
        max_epochs=n_skipped + arguments.epochs,
        batch_size=batch_size,
        train_size=0.9,
        callbacks=[timer, steps],
        **options,
    )
    prior_steps += [
        Seconds(sum(s.wall for s in epoch), sum(s.cpu for s in epoch))
        for epoch in steps.epochs[n_skipped:]
        if epoch
    ]
    times = [end.since(start) for start, end in zip(timer.starts, timer.starts[1:], strict=False)]
    return times[n_skipped:]


def matrix_products(adata: Any, batch_size: int, arguments: argparse.Namespace) -> Seconds:
    """Time of the products with gene-sized matrices in an epoch of stock scVI, forward and backward."""
    import torch

    n_hidden, n_genes = 128, adata.n_vars
    x, grad_genes = torch.rand(batch_size, n_genes), torch.rand(batch_size, n_genes)
    hidden, weight = torch.rand(batch_size, n_hidden), torch.rand(n_hidden, n_genes)
    n_outputs = 2 if arguments.gene_likelihood == "zinb" else 1
    start = Seconds.now()
    for n in minibatch_sizes(int(0.9 * adata.n_obs), batch_size):
        _ = x[:n] @ weight.T, hidden[:n].T @ x[:n]
        for _ in range(n_outputs):
            _ = hidden[:n] @ weight, grad_genes[:n] @ weight.T, grad_genes[:n].T @ hidden[:n]
    return Seconds.now().since(start)


def minibatch_sizes(n_cells: int, batch_size: int) -> Iterator[int]:
    """Numbers of cells in the minibatches of an epoch."""
    for start in range(0, n_cells, batch_size):
        yield min(batch_size, n_cells - start)


def table_head() -> list[str]:
    """Head of the table."""
    columns = [
        "batch",
        "model",
        "CPU s/epoch",
        "wall s/epoch",
        "CPU, x stock",
        "wall, x stock",
        "EB step, share",
    ]
    return [f"| {' | '.join(columns)} | x products |", "|--:|---|--:|--:|--:|--:|--:|--:|"]


def table_rows(
    batch_size: int, epochs: dict[str, list[Seconds]], prior_steps: dict[str, list[Seconds]]
) -> list[str]:
    """One row for each model."""
    medians = {name: median_seconds(times) for name, times in epochs.items()}
    stock, floor = medians.get(BASELINE), medians[FLOOR]
    rows = []
    for name, time_ in medians.items():
        ratios = (f"{time_.cpu / stock.cpu:.2f}", f"{time_.wall / stock.wall:.2f}") if stock else ("", "")
        steps = prior_steps.get(name)
        share = f"{100 * median_seconds(steps).cpu / time_.cpu:.0f}%" if steps else ""
        cells = [str(batch_size), name, f"{time_.cpu:.3f}", f"{time_.wall:.3f}", *ratios, share]
        rows.append(f"| {' | '.join(cells)} | {time_.cpu / floor.cpu:.1f} |")
    return rows


def median_seconds(times: list[Seconds]) -> Seconds:
    """Medians on both clocks."""
    return Seconds(median(t.wall for t in times), median(t.cpu for t in times))


if __name__ == "__main__":
    main()
