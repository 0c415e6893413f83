"""Two processes that train together train the model that one process would have trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.slow

SCRIPT = """
import json, os, sys, warnings
from pathlib import Path

import numpy as np
import scvi
import torch

from vmmscvi import SCVI_VMM
from vmmscvi.data import simulate_counts
from vmmscvi.train import ResumableCheckpoint

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
rank = int(os.environ.get("LOCAL_RANK", 0))
scvi.settings.seed = None if options.pop("no_seed", False) else 0
if options.pop("without_noise", False):  # or else every process draws its own
    torch.distributions.Normal.rsample = lambda self, sample_shape=(): self.loc.expand(
        torch.Size(sample_shape) + self.loc.shape
    )
adata = simulate_counts(n_cells=320, n_genes=60, n_types=4, n_batches=2, seed=0)
labels = {"labels_key": "cell_type"} if options["start"] == "labels" else {}
sizes = {"n_components": 8, "n_hidden": 16, "n_latent": 4, **options.pop("model", {})}
if options.pop("stream", False):
    from vmmscvi.dataloaders import StreamedCounts

    path = folder / f"counts{rank}.h5ad"
    adata.write_h5ad(path)
    options["datamodule"] = StreamedCounts(path, batch_key="batch", batch_size=options.pop("batch_size"))
    model = SCVI_VMM(registry=options["datamodule"].registry, **sizes)
    cells = {"dataloader": options["datamodule"].inference_dataloader()}
else:
    SCVI_VMM.setup_anndata(adata, batch_key="batch", **labels)
    model, cells = SCVI_VMM(adata, **sizes), {}
callbacks = []
if options.pop("checkpoint", False):
    callbacks.append(ResumableCheckpoint(folder / "run.ckpt"))
if options.pop("resume", False):
    options["ckpt_path"] = folder / "run.ckpt"
if rank == 1:  # components are looked for in the first process
    from vmmscvi.starts import FromEmbedding

    FromEmbedding.initialise = None
options = {"callbacks": callbacks, **({} if cells else {"batch_size": 72}), **options}
model.train(accelerator="cpu", enable_progress_bar=False, **options)
history = {k: v.to_numpy(float).ravel() for k, v in (model.history or {}).items()}
np.savez(
    folder / f"rank{rank}.npz",
    n_steps=model.trainer.global_step,
    clusters=np.asarray(model.predict(soft=True, **cells)),
    train=options["datamodule"].train_idx if cells else model.train_indices,
    **{f"state/{k}": v.numpy() for k, v in model.module.state_dict().items() if "extra_state" not in k},
    **{f"history/{k}": v for k, v in history.items()},
)
if rank == 0 and options.get("strategy"):
    model.save(folder / "model", overwrite=True)
"""

TOGETHER = {"strategy": "ddp_find_unused_parameters_true", "devices": 2}
NO_CHANCE = {  # nothing that depends on how cells are divided into two minibatches
    "without_noise": True,
    "model": {"dropout_rate": 0.0, "use_batch_norm": "none", "use_layer_norm": "both"},
}


def run(folder: Path, options: dict[str, Any], fails: bool = False) -> str:
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")}
    result = subprocess.run(
        [sys.executable, str(script), str(folder), json.dumps(options)],
        env={**environment, "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (result.returncode != 0) is fails, result.stderr[-3000:]
    return result.stderr


def results(folder: Path, rank: int = 0) -> dict[str, np.ndarray]:
    with np.load(folder / f"rank{rank}.npz") as content:
        return dict(content)


def assert_same_on_both(folder: Path) -> dict[str, np.ndarray]:
    first, second = results(folder, 0), results(folder, 1)
    for name in first:
        if not name.startswith("history/"):
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    return first


@pytest.mark.parametrize(
    ("prior", "start"),
    [("vmm", "cells"), ("vmm", "embedding"), ("vmm", "labels"), ("gmm", "labels"), ("vampprior", "cells")],
)
def test_two_processes_train_the_same_model_as_one(tmp_path: Path, start: str, prior: str) -> None:
    options: dict[str, Any] = {"start": start, "early_stopping": False, "max_epochs": 6, **NO_CHANCE}
    options |= {"check_val_every_n_epoch": 1, "n_warmup_epochs": None if start == "cells" else 3}
    options["model"] = {**options["model"], "prior": prior}
    run(tmp_path / "one", {**options, "batch_size": 288})
    run(tmp_path / "two", {**options, **TOGETHER, "batch_size": 144})
    one, two = results(tmp_path / "one"), assert_same_on_both(tmp_path / "two")
    assert one["n_steps"] == two["n_steps"] == options["max_epochs"]
    if start == "labels":
        assert two["clusters"].shape[1] == 4
    np.testing.assert_array_equal(one["train"], two["train"])
    for name in ("elbo_train", "elbo_validation", "train_loss", "prior_loss", "n_utilized_clusters", "alpha"):
        if f"history/{name}" in one:
            np.testing.assert_allclose(
                two[f"history/{name}"], one[f"history/{name}"], rtol=1e-4, err_msg=name
            )
    for name, value in one.items():
        if name.startswith("state/"):
            assert two[name].shape == value.shape, name
            np.testing.assert_allclose(two[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_the_strength_of_the_prior_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_epochs": 1, "start": "cells", "early_stopping": False, **NO_CHANCE}
    run(tmp_path / "one", {**options, "batch_size": 288})
    run(tmp_path / "two", {**options, **TOGETHER, "batch_size": 144})
    one, two = results(tmp_path / "one"), results(tmp_path / "two")
    # hyper-priors weighed against half of the cells would be twice as strong, and the loss another
    np.testing.assert_allclose(two["history/prior_loss"], one["history/prior_loss"], rtol=1e-4)


def test_early_stopping_stops_all_processes_and_restores_the_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"max_epochs": 30, "start": "embedding", "n_warmup_epochs": 2}
    options |= {"early_stopping_patience": 2, "early_stopping_min_delta": 1e9, "without_noise": True}
    run(tmp_path, {**options, **TOGETHER})
    history = assert_same_on_both(tmp_path)["history/elbo_validation"]
    assert len(history) == 2 + 1 + 2
    from vmmscvi import SCVI_VMM
    from vmmscvi.data import simulate_counts

    adata = simulate_counts(n_cells=320, n_genes=60, n_types=4, n_batches=2, seed=0)
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM.load(tmp_path / "model", adata=adata)
    np.testing.assert_allclose(
        model.get_cluster_probabilities(), results(tmp_path)["clusters"], rtol=1e-4, atol=1e-6
    )
    # without noise the validation ELBO of an epoch is a number, and only the best epoch's weights have it
    monkeypatch.setattr(
        torch.distributions.Normal,
        "rsample",
        lambda self, sample_shape=(): self.loc.expand(torch.Size(sample_shape) + self.loc.shape),
    )
    elbo = float(model.get_elbo(indices=model.validation_indices))
    best = np.sort(history[2:])
    assert best[1] - best[0] > 1e-3 * best[0]
    assert -elbo == pytest.approx(best[0], rel=1e-5)


def test_processes_can_be_resumed(tmp_path: Path) -> None:
    options = {"max_epochs": 5, "start": "embedding", "n_warmup_epochs": 2, **TOGETHER}
    run(tmp_path / "whole", options)
    run(tmp_path / "part", {**options, "max_epochs": 3, "checkpoint": True})
    run(tmp_path / "part", {**options, "resume": True})
    whole, part = assert_same_on_both(tmp_path / "whole"), assert_same_on_both(tmp_path / "part")
    for name, value in whole.items():
        np.testing.assert_array_equal(part[name], value, err_msg=name)


def test_processes_that_split_the_cells_differently_are_refused(tmp_path: Path) -> None:
    options = {"max_epochs": 2, "start": "cells", "no_seed": True, **TOGETHER}
    assert "Processes have split the cells differently" in run(tmp_path, options, fails=True)


def test_two_processes_stream_the_same_cells_as_one(tmp_path: Path) -> None:
    options: dict[str, Any] = {"start": "embedding", "n_warmup_epochs": 3, "max_epochs": 6, "stream": True}
    options |= {"early_stopping": False, "check_val_every_n_epoch": 1, **NO_CHANCE}
    run(tmp_path / "one", {**options, "batch_size": 288})  # all cells in one minibatch, or two of one half
    run(tmp_path / "two", {**options, **TOGETHER, "batch_size": 144})
    one, two = results(tmp_path / "one"), assert_same_on_both(tmp_path / "two")
    assert one["n_steps"] == two["n_steps"] == options["max_epochs"]
    np.testing.assert_allclose(two["history/elbo_train"], one["history/elbo_train"], rtol=1e-4)
    for name in [name for name in one if name.startswith("state/")]:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-5, err_msg=name)
