"""Time of a training epoch on images, every prior against N(0, I), taking turns in one run.

    python benchmarks/images_epoch_time.py --data DIR --n-images 4000 --threads 1

Without ``--data`` the images are random: the time does not depend on what they show. Networks and batches are
the paper's; a VMM is timed with all its components and with as many as are usually left. Every model trains
for a few epochs and the models take turns, so that other load on the machine touches all of them alike; the
first epoch of a round is not counted. CPU time stands beside wall time.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

BASELINE = "N(0, I)"
MODELS: dict[str, dict[str, Any]] = {
    BASELINE: {"prior": "standard_normal"},
    "GMM, K = 100": {"prior": "gmm"},
    "VMM, K = 100": {"prior": "vmm"},
    "VMM, K = 100, encoded anew": {"prior": "vmm", "reuse_encoding": False},
    "VMM, K = 15": {"prior": "vmm", "n_components": 15},
    "VMM, K = 15, encoded anew": {"prior": "vmm", "n_components": 15, "reuse_encoding": False},
}


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of mnist.npz")
    parser.add_argument("--n-images", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--n-latent", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="epochs that count in every round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--accelerator", default="cpu")
    arguments = parser.parse_args()
    # before the first import of torch or NumPy, which read it once
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)
    measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    """Time all models and print the table."""
    import numpy as np
    import torch

    torch.set_num_threads(arguments.threads)
    if arguments.data is None:
        x = np.random.default_rng(0).uniform(-1, 1, (arguments.n_images, 784)).astype(np.float32)
    else:
        with np.load(arguments.data / "mnist.npz") as file:
            images = file["x_train"]
        rows = np.sort(np.random.default_rng(0).permutation(len(images))[: arguments.n_images])
        x = images[rows].reshape(len(rows), -1).astype(np.float32) / 127.5 - 1
    seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(arguments.rounds):
        for name, options in MODELS.items():
            seconds[name] += timed_epochs(x, options, arguments)
    print(f"{len(x)} images, batch {arguments.batch_size}, medians of {len(seconds[BASELINE])} epochs\n")
    print("| model | CPU s/epoch | wall s/epoch | CPU, x N(0, I) | wall, x N(0, I) |\n|---|--:|--:|--:|--:|")
    base = [median(column) for column in zip(*seconds[BASELINE], strict=True)]
    for name, times in seconds.items():
        wall, cpu = (median(column) for column in zip(*times, strict=True))
        print(f"| {name} | {cpu:.2f} | {wall:.2f} | {cpu / base[1]:.2f} | {wall / base[0]:.2f} |")


def timed_epochs(x: Any, options: dict[str, Any], arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """Train a model; wall and CPU times of its epochs but the first."""
    from lightning.pytorch.callbacks import Callback

    from vmmscvi.vae import VAE

    clock: list[tuple[float, float]] = []

    class Clock(Callback):
        """Epochs from start to start, validation included."""

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if torch_cuda_is_used(pl_module):
                import torch

                torch.cuda.synchronize()
            clock.append((time.perf_counter(), time.process_time()))

    model = VAE(
        **options,
        start="cells",
        n_latent=arguments.n_latent,
        batch_size=arguments.batch_size,
        max_epochs=arguments.epochs + 2,
        early_stopping=False,
        callbacks=[Clock()],
        accelerator=arguments.accelerator,
        random_state=0,
    )
    model.fit(x)
    times = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(clock)]
    return times[1:]


def torch_cuda_is_used(pl_module: Any) -> bool:
    """Whether work may still be queued when a clock is read."""
    return bool(pl_module.device.type == "cuda")


if __name__ == "__main__":
    main()
