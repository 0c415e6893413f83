"""Reliability: kill a training at random moments, resume it each time, compare with one that ran through.

Run ``python benchmarks/kill_and_resume.py --kills 20``; exits with 1 if a checkpoint could not be read, a run
went on elsewhere than at its checkpoint, or the result differs from the uninterrupted training's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

MAX_EPOCHS = 40


def train(folder: Path) -> None:
    """Train, from the checkpoint in the folder if there is one; what a user's script looks like."""
    import logging
    import warnings

    import scvi
    import torch
    from lightning.pytorch.callbacks import Callback

    from vmmscvi import SCVI_VMM
    from vmmscvi.data import simulate_counts
    from vmmscvi.train import ResumableCheckpoint

    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)

    class Epochs(Callback):
        def on_train_epoch_start(self, trainer: object, pl_module: object) -> None:
            with open(folder / "epochs.txt", "a") as file:
                file.write(f"{trainer.current_epoch}\n")  # type: ignore[attr-defined]

    scvi.settings.seed = 0
    adata = simulate_counts(n_cells=300, n_genes=100, n_types=4, n_batches=2, seed=0)
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata, n_components=10, n_hidden=16, n_latent=4)
    checkpoint = ResumableCheckpoint(folder / "run.ckpt")
    model.train(
        max_epochs=MAX_EPOCHS,
        n_warmup_epochs=15,
        batch_size=64,
        accelerator="cpu",
        enable_progress_bar=False,
        callbacks=[checkpoint, Epochs()],
        ckpt_path=checkpoint.resume_path,
    )
    state = {n: v.numpy() for n, v in model.module.state_dict().items()}
    np.savez(folder / "result.npz", **state, elbo=model.history["elbo_validation"].to_numpy(float))


def start(folder: Path) -> Any:
    """Start a training in a process of its own, forked so that nothing has to be imported again."""
    process = multiprocessing.get_context("fork").Process(target=silent_train, args=(folder,))
    process.start()
    return process


def silent_train(folder: Path) -> None:
    """Train without output."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    train(folder)


def n_started(folder: Path) -> int:
    """Count the epochs that have been started in all processes."""
    path = folder / "epochs.txt"
    return len(path.read_text().split()) if path.exists() else 0


def kill_at_random(folder: Path, rng: np.random.Generator, most_epochs: int) -> int | None:
    """Start a training, kill it some epochs later, wherever it is then; the exit code if it ended before."""
    last = n_started(folder) + rng.integers(1, most_epochs + 1)
    process, began = start(folder), time.monotonic()
    while n_started(folder) < last and process.is_alive():
        time.sleep(0.002)
    # a moment that is as likely in one part of an epoch, the writing of its file included, as in another
    time.sleep(rng.uniform(0.0, (time.monotonic() - began) / most_epochs))
    if not process.is_alive():
        process.join()
        return int(process.exitcode)
    process.kill()
    process.join()
    return None


def finish(folder: Path) -> int:
    """Train to the end; the exit code."""
    process = start(folder)
    process.join()
    return int(process.exitcode)


def same_result(first: Path, second: Path) -> bool:
    """Whether weights and history of two trainings are the same in every bit."""
    results = [np.load(folder / "result.npz") for folder in (first, second)]
    return all(np.array_equal(results[0][n], results[1][n], equal_nan=True) for n in results[0].files)


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-epochs", type=int, default=5, help="most epochs before a kill")
    arguments = parser.parse_args()
    import torch

    from vmmscvi import SCVI_VMM  # noqa: F401  (before the first fork)

    torch.set_num_threads(1)
    rng = np.random.default_rng(arguments.seed)
    n_corrupt = n_elsewhere = n_different = n_trainings = 0
    saved: list[int] = []
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        assert finish(whole) == 0
        while len(saved) < arguments.kills:
            n_trainings += 1
            killed, last = Path(name) / f"killed{n_trainings}", 0
            killed.mkdir()
            while len(saved) < arguments.kills:
                begun = n_started(killed)
                if kill_at_random(killed, rng, arguments.most_epochs) is not None:
                    break
                epochs = [int(line) for line in (killed / "epochs.txt").read_text().split()]
                n_elsewhere += len(epochs) > begun and epochs[begun] != last
                try:
                    path = killed / "run.ckpt"
                    last = torch.load(path, weights_only=True)["epoch"] + 1 if path.exists() else 0
                except Exception as error:
                    n_corrupt += 1
                    print(f"corrupt after kill {len(saved) + 1}: {error}")
                saved.append(last)
            assert finish(killed) == 0
            n_different += not same_result(whole, killed)
    report = {
        "kills": len(saved),
        "epochs saved at each": saved,
        "corrupt checkpoints": n_corrupt,
        "resumed elsewhere than at the checkpoint": n_elsewhere,
        "trainings that were finished in the end": n_trainings,
        "of these, different from the uninterrupted one in a bit": n_different,
    }
    print(json.dumps(report, indent=2))
    sys.exit(n_different + n_corrupt + n_elsewhere > 0)


if __name__ == "__main__":
    main()
