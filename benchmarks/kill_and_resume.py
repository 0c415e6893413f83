"""Reliability: kill a training at random moments, resume it each time, compare with one that ran through.

Run ``python benchmarks/kill_and_resume.py --kills 20``; exits with 1 if a checkpoint could not be read, a run
went on elsewhere than at its checkpoint, or the result differs from the uninterrupted training's.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MAX_EPOCHS = 60


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
        n_warmup_epochs=20,
        batch_size=64,
        accelerator="cpu",
        enable_progress_bar=False,
        callbacks=[checkpoint, Epochs()],
        ckpt_path=checkpoint.resume_path,
    )
    state = {n: v.numpy() for n, v in model.module.state_dict().items()}
    np.savez(folder / "result.npz", **state, elbo=model.history["elbo_validation"].to_numpy(float))


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start a training in a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, "--train", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def n_started(folder: Path) -> int:
    """Count the epochs that have been started in all processes."""
    path = folder / "epochs.txt"
    return len(path.read_text().split()) if path.exists() else 0


def kill_at_random(folder: Path, rng: np.random.Generator, longest: float) -> int | None:
    """Start a training and kill it while it saves and trains; the exit code if it ended before."""
    before = n_started(folder)
    process = start(folder)
    while n_started(folder) == before and process.poll() is None:
        time.sleep(0.01)
    time.sleep(rng.uniform(0.0, longest))
    if process.poll() is not None:
        return process.returncode
    process.send_signal(signal.SIGKILL)
    process.wait()
    return None


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=0.4, help="most seconds before a kill")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train is not None:
        train(arguments.train)
        return

    import torch

    rng = np.random.default_rng(arguments.seed)
    n_kills = n_corrupt = n_lost = 0
    with tempfile.TemporaryDirectory() as name:
        whole, killed = Path(name) / "whole", Path(name) / "killed"
        whole.mkdir()
        killed.mkdir()
        assert start(whole).wait() == 0
        saved = []
        while n_kills < arguments.kills:
            begun = n_started(killed)
            if kill_at_random(killed, rng, arguments.longest) is not None:
                break
            n_kills += 1
            epochs = [int(line) for line in (killed / "epochs.txt").read_text().split()]
            if len(epochs) > begun and saved and epochs[begun] != saved[-1]:
                n_lost += 1
            path = killed / "run.ckpt"
            try:
                saved.append(torch.load(path, weights_only=True)["epoch"] + 1 if path.exists() else 0)
            except Exception as error:
                n_corrupt += 1
                print(f"corrupt after kill {n_kills}: {error}")
        process = start(killed)
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
        results = [np.load(folder / "result.npz") for folder in (whole, killed)]
        same = all(np.array_equal(results[0][n], results[1][n], equal_nan=True) for n in results[0].files)
        n_epochs = n_started(killed)
    report = {
        "kills": n_kills,
        "epochs saved at each kill": saved,
        "corrupt checkpoints": n_corrupt,
        "resumed elsewhere than at the checkpoint": n_lost,
        "epochs started, of which again": [n_epochs, n_epochs - MAX_EPOCHS],
        "same result as the uninterrupted training, bit by bit": same,
    }
    print(json.dumps(report, indent=2))
    sys.exit(not same or n_corrupt > 0 or n_lost > 0)


if __name__ == "__main__":
    main()
