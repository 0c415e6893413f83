"""How the time of a minibatch grows with components, latent dimensions and batches, against stock scVI.

    python benchmarks/scaling_curves.py run --table scaling.csv
    python benchmarks/scaling_curves.py draw --table scaling.csv --figure scaling.png

Simulated counts, batch size 128, one thread. One quantity at a time is changed; models take turns, and the
median of the epochs' CPU time counts, which is less sensitive to other load than wall time. All components
are kept (``start="cells"``), as many as there are.
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import epoch_time

VALUES: dict[str, tuple[int, ...]] = {
    "n_components": (10, 30, 100, 200, 500),
    "n_latent": (10, 20, 30, 50),
    "n_batches": (1, 10, 100, 1000),
}
DEFAULTS = {"n_components": 100, "n_latent": 10, "n_batches": 3}
TITLES = {"n_components": "components K", "n_latent": "latent dimensions p", "n_batches": "batches"}
MODELS = ("stock", "standard_normal", "vmm")
COLUMNS = ("quantity", "value", "model", "ms_per_minibatch", "prior_step_ms")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("run", "draw"))
    parser.add_argument("--table", type=Path, default=Path("scaling.csv"))
    parser.add_argument("--figure", type=Path, default=Path("scaling.png"))
    parser.add_argument("--n-cells", type=int, default=4000)
    parser.add_argument("--n-genes", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="epochs that count in every round")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Measure everything, and write the table."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"  # before the first import of torch or NumPy, which read it once
    warnings.filterwarnings("ignore")
    import scvi
    import torch

    torch.set_num_threads(1)
    scvi.settings.verbosity = logging.ERROR
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with arguments.table.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for quantity, values in VALUES.items():
            for value in values:
                for row in measure({**DEFAULTS, quantity: value}, arguments):
                    table.writerow({"quantity": quantity, "value": value, **row})
                file.flush()


def measure(setting: dict[str, int], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time all models under one setting."""
    import scvi

    from vmmscvi import SCVI_VMM
    from vmmscvi.data import simulate_counts

    adata = simulate_counts(n_cells=arguments.n_cells, n_genes=arguments.n_genes, n_batches=1, seed=0)
    # of equal size: a batch needs two cells, and time does not depend on what batches are
    adata.obs["batch"] = [f"batch{i % setting['n_batches']}" for i in range(adata.n_obs)]
    models: dict[str, Any] = {}
    for name in MODELS:
        scvi.settings.seed = 0
        if name == "stock":
            scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
            models[name] = scvi.model.SCVI(adata, n_latent=setting["n_latent"], gene_likelihood="zinb")
        else:
            SCVI_VMM.setup_anndata(adata, batch_key="batch")
            models[name] = SCVI_VMM(
                adata, prior=name, n_components=setting["n_components"], n_latent=setting["n_latent"]
            )
    options = argparse.Namespace(epochs=arguments.epochs, plan_kwargs=[])
    epochs: dict[str, list[epoch_time.Seconds]] = {name: [] for name in MODELS}
    prior_steps: dict[str, list[epoch_time.Seconds]] = {name: [] for name in MODELS}
    for _ in range(arguments.rounds):
        for name, model in models.items():
            epochs[name] += epoch_time.train_timed(
                model, name, arguments.batch_size, options, prior_steps[name]
            )
    n_minibatches = len(list(epoch_time.minibatch_sizes(int(0.9 * adata.n_obs), arguments.batch_size)))

    def milliseconds(times: list[epoch_time.Seconds]) -> float:
        return 1000 * epoch_time.median_seconds(times).cpu / n_minibatches if times else 0.0

    return [
        {
            "model": name,
            "ms_per_minibatch": milliseconds(epochs[name]),
            "prior_step_ms": milliseconds(prior_steps[name]),
        }
        for name in MODELS
    ]


def draw(arguments: argparse.Namespace) -> None:
    """Draw a panel for each quantity."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import pandas as pd

    table = pd.read_csv(arguments.table)
    labels = {name: epoch_time.MODELS[name] for name in MODELS}
    styles = {"stock": ("#d55e00", "s"), "standard_normal": ("#009e73", "^"), "vmm": ("#0072b2", "o")}
    figure, axes = plt.subplots(1, len(VALUES), figsize=(9, 2.8), sharey=True, layout="constrained")
    for ax, quantity in zip(axes, VALUES, strict=True):
        for name in MODELS:
            of_model = table[(table["quantity"] == quantity) & (table["model"] == name)]
            color, marker = styles[name]
            ax.plot(
                of_model["value"],
                of_model["ms_per_minibatch"],
                marker,
                ls="-",
                color=color,
                label=labels[name],
            )
        steps = table[(table["quantity"] == quantity) & (table["model"] == "vmm")]
        ax.plot(steps["value"], steps["prior_step_ms"], "o", ls=":", mfc="white", color="#0072b2",
                label="of which empirical-Bayes step")  # fmt: skip
        ax.set(xlabel=TITLES[quantity], xscale="linear" if quantity == "n_latent" else "log")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set(ylabel="CPU ms per minibatch", ylim=(0, None))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(arguments.figure, dpi=120)


if __name__ == "__main__":
    parsed = parse_arguments()
    {"run": run, "draw": draw}[parsed.command](parsed)
