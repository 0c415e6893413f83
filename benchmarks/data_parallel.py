"""Cells per second of data-parallel training on two processes, over one; and a model of more of them.

    python benchmarks/data_parallel.py --n-cells 20000

Every process has one thread and minibatches of the same size. What a step exchanges is counted from the
model: gradients of the networks, averaged by DDP, and those of the prior, averaged by the training plan.
Needs as many free processor cores as processes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

LINKS = {"NVLink, 200 GB/s, 20 µs": (200e9, 20e-6), "PCIe or Ethernet, 10 GB/s, 50 µs": (10e9, 50e-6)}
"""Bandwidth in bytes per second and latency in seconds of a message: assumptions, not measured."""
STEP_MS = (2.0, 5.0, 10.0)
"""Durations of a step without communication for which the model is evaluated."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-cells", type=int, default=20_000)
    parser.add_argument("--n-genes", type=int, default=2000)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--epochs", type=int, default=4, help="epochs, of which the first does not count")
    parser.add_argument("--devices", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, and print two Markdown tables."""
    arguments = parse_arguments()
    if arguments.devices is not None:
        train(arguments)
        return
    print("| batch, each | processes | cells/s | ratio |\n|--:|--:|--:|--:|")
    parameters: dict[str, int] = {}
    for batch_size in arguments.batch_sizes:
        of_one = 0.0
        for devices in (1, 2):
            result = run(arguments, batch_size, devices)
            parameters = {name: result[name] for name in ("networks", "prior")}
            rate = result["n_train"] / result["epoch_s"]
            of_one = of_one or rate
            print(f"| {batch_size} | {devices} | {rate:,.0f} | {rate / of_one:.2f} |", flush=True)
    print_model(parameters)


def run(arguments: argparse.Namespace, batch_size: int, devices: int) -> dict[str, Any]:
    """Train in fresh processes of one thread each."""
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment[name] = "1"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, __file__, "--n-cells", arguments.n_cells, "--n-genes", arguments.n_genes,
                   "--batch-sizes", batch_size, "--epochs", arguments.epochs, "--devices", devices,
                   "--result", path]  # fmt: skip
        subprocess.run([str(word) for word in command], check=True, env=environment, capture_output=True)
        result: dict[str, Any] = json.loads(path.read_text())
        return result


def train(arguments: argparse.Namespace) -> None:
    """Train; with several devices this runs in each of the processes, and the first one writes."""
    warnings.filterwarnings("ignore")
    import scvi
    from lightning.pytorch.callbacks import Callback

    from vmmscvi import SCVI_VMM
    from vmmscvi.data import simulate_counts

    class Clock(Callback):
        """Starts of the epochs."""

        def __init__(self) -> None:
            self.starts: list[float] = []

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self.starts.append(time.perf_counter())

    scvi.settings.verbosity = logging.ERROR
    scvi.settings.seed = 0
    adata = simulate_counts(n_cells=arguments.n_cells, n_genes=arguments.n_genes, seed=0)
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata)
    clock = Clock()
    several = {"strategy": "ddp_find_unused_parameters_true"} if arguments.devices > 1 else {}
    model.train(
        max_epochs=arguments.epochs + 1,
        batch_size=arguments.batch_sizes[0],
        start="cells",
        early_stopping=False,
        accelerator="cpu",
        devices=arguments.devices,
        callbacks=[clock],
        enable_progress_bar=False,
        **several,
    )
    if not model.trainer.is_global_zero:
        return
    prior = model.module.prior_parameters()
    n_prior = sum(p.numel() for p in prior)
    epochs = [end - start for start, end in zip(clock.starts, clock.starts[1:], strict=False)]
    result = {
        "epoch_s": median(epochs[1:]),
        "n_train": int(0.9 * adata.n_obs),
        "networks": sum(p.numel() for p in model.module.parameters()) - n_prior,
        "prior": n_prior,
    }
    arguments.result.write_text(json.dumps(result))


def print_model(parameters: dict[str, int]) -> None:
    """Throughput of eight devices, over one, if nothing but ring all-reduces is added to a step."""
    n = 8
    n_bytes = 4 * sum(parameters.values())
    print(
        f"\nA step exchanges {parameters['networks']:,} numbers of the networks and {parameters['prior']:,} "
        f"of the prior, {n_bytes / 1e6:.1f} MB in single precision. Eight devices, two all-reduces a step:\n"
    )
    print("| link (assumed) | all-reduce ms | " + " | ".join(f"step {ms:g} ms" for ms in STEP_MS) + " |")
    print("|---|--:|" + "--:|" * len(STEP_MS))
    for name, (bandwidth, latency) in LINKS.items():
        seconds = 2 * (n - 1) / n * n_bytes / bandwidth + 2 * 2 * (n - 1) * latency
        speedups = " | ".join(f"{n * ms / (ms + 1e3 * seconds):.1f}" for ms in STEP_MS)
        print(f"| {name} | {1e3 * seconds:.2f} | {speedups} |")


if __name__ == "__main__":
    main()
