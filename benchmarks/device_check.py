"""Time of a training step on a GPU, beside stock scVI: launches, copies and waits from the profiler.

    python benchmarks/device_check.py                                   # 100,000 x 2,000, under five minutes
    python benchmarks/device_check.py --accelerator cpu --n-cells 2000 --n-genes 200 --steps 16   # a trial

Counts are Poisson noise around four profiles: only their size matters. Every model trains with the same
minibatches; the mixture is initialised from the embedding after a short warm-up. Steps are timed without the
profiler, between two synchronisations, and then profiled. Ratios are to stock scVI with fused Adam.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from operation_counts import fused_adam
from torch.profiler import ProfilerActivity, profile

PRIORS = {"stock scVI, fused Adam": None, "ours, N(0, I)": "standard_normal", "ours, VMM": "vmm"}
N_SKIPPED = 16
"""Steps of an epoch before those that are timed."""
N_PROFILED = 16
"""Steps that are profiled: a multiple of the interval of the prior's steps."""


class Measured(NamedTuple):
    """Means over steps.

    Attributes
    ----------
    ms
        Wall time of a step, in milliseconds.
    launches, host_copies, waits
        Kernels launched, copies from the device to the host, and synchronisations of a step.
    """

    ms: float
    launches: float
    host_copies: float
    waits: float


class MeasureSteps(Callback):
    """Time steps of the second epoch, then profile some.

    Parameters
    ----------
    n_steps
        Number of steps to time.
    """

    def __init__(self, n_steps: int) -> None:
        super().__init__()
        self.n_steps = n_steps
        self.result: Measured | None = None
        self._began = self._ms = 0.0
        self._profile: Any = None

    def on_train_batch_start(self, trainer: Any, plan: Any, batch: Any, batch_idx: int) -> None:
        """Begin to time, or to profile."""
        if trainer.current_epoch != 1:
            return
        if batch_idx == N_SKIPPED:
            self._began = _now(plan.device)
        elif batch_idx == N_SKIPPED + self.n_steps:
            self._ms = 1000 * (_now(plan.device) - self._began) / self.n_steps
            kinds = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (plan.device.type == "cuda")]
            self._profile = profile(activities=kinds)
            self._profile.__enter__()

    def on_train_batch_end(self, trainer: Any, plan: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Read the profile."""
        if trainer.current_epoch == 1 and batch_idx == N_SKIPPED + self.n_steps + N_PROFILED - 1:
            self._profile.__exit__(None, None, None)
            events = {event.key: event.count / N_PROFILED for event in self._profile.key_averages()}
            self.result = Measured(
                self._ms,
                _total(events, "LaunchKernel"),
                _total(events, "Memcpy DtoH"),
                _total(events, "StreamSynchronize"),
            )


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _total(events: dict[str, float], part: str) -> float:
    return sum(count for name, count in events.items() if part in name)


def random_counts(n_cells: int, n_genes: int, seed: int = 0) -> Any:
    """Draw counts of four types of cells, a tenth of them not zero, in two batches."""
    import anndata as ad
    import scipy.sparse as sp

    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.3, 0.4, size=(4, n_genes)).astype(np.float32)
    kind = rng.integers(4, size=n_cells)
    rows = [sp.csr_matrix(rng.poisson(rates[part]).astype(np.float32)) for part in np.array_split(kind, 20)]
    adata = ad.AnnData(sp.vstack(rows, format="csr"))
    adata.X[:, 0] = 1.0  # no cell is empty
    adata.obs["batch"] = rng.choice(["a", "b"], size=n_cells)
    return adata


def measure(adata: Any, name: str, batch_size: int, arguments: argparse.Namespace) -> Measured:
    """Train a model for two short epochs; measure in the second."""
    import scvi

    from vmmscvi import SCVI_VMM

    scvi.settings.seed = 0
    steps = MeasureSteps(arguments.steps)
    prior: Any = PRIORS[name]
    options: dict[str, Any] = {"batch_size": batch_size, "max_epochs": 2, "early_stopping": False}
    if prior is None:
        scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
        model = scvi.model.SCVI(adata, encode_covariates=True)
        options["plan_kwargs"] = fused_adam()
    else:
        SCVI_VMM.setup_anndata(adata, batch_key="batch")
        model = SCVI_VMM(adata, prior=prior)
        options |= {"n_warmup_epochs": 1} if prior == "vmm" else {}
    model.train(
        accelerator=arguments.accelerator,
        devices=1,
        train_size=0.9,
        callbacks=[steps],
        limit_train_batches=N_SKIPPED + arguments.steps + N_PROFILED,
        limit_val_batches=0,
        enable_progress_bar=False,
        **options,
    )
    if steps.result is None:
        raise RuntimeError("An epoch has too few minibatches: pass more --n-cells, or fewer --steps.")
    return steps.result


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accelerator", default="gpu")
    parser.add_argument("--n-cells", type=int, default=100_000)
    parser.add_argument("--n-genes", type=int, default=2000)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[128, 1024])
    parser.add_argument("--steps", type=int, default=48, help="steps that are timed")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    import scvi

    scvi.settings.verbosity = logging.ERROR
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    adata = random_counts(arguments.n_cells, arguments.n_genes)
    print("| batch | model | ms a step | x stock | launches | copies to the host | waits |")
    print("|--:|---|--:|--:|--:|--:|--:|")
    for batch_size in arguments.batch_sizes:
        stock = None
        for name in PRIORS:
            found = measure(adata, name, batch_size, arguments)
            stock = stock or found
            cells = [str(batch_size), name, f"{found.ms:.2f}", f"{found.ms / stock.ms:.2f}"]
            cells += [f"{value:.1f}" for value in found[1:]]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
