"""Everything private in scvi-tools, Lightning and torch that the package relies on is what it was."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy
from scvi.model import SCVI
from scvi.model.base import UnsupervisedTrainingMixin
from scvi.module import VAE
from scvi.train import AdversarialTrainingPlan, TrainingPlan
from torch.nn.parallel import DistributedDataParallel

import vmmscvi
from vmmscvi import _upstream

PACKAGE = Path(vmmscvi.__file__).parent
OTHERS = ("scvi", "lightning", "torch", "anndata", "sklearn", "scipy", "mudata")


def imports(path: Path) -> list[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level
    ]


def test_private_modules_are_imported_in_one_place() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}: {module}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "_upstream.py" and "benchmark" not in path.parts
        for module in imports(path)
        if module.split(".")[0] in OTHERS and any(part.startswith("_") for part in module.split("."))
    }
    assert found == set()


def test_all_that_is_listed_exists() -> None:
    assert {name for name in _upstream.__all__ if getattr(_upstream, name, None) is None} == set()


ARGUMENTS: dict[str, tuple[Any, set[str]]] = {
    "validate_data_split": (_upstream.validate_data_split, {"n_samples", "train_size", "validation_size"}),
    "get_max_epochs_heuristic": (_upstream.get_max_epochs_heuristic, {"n_obs"}),
    "merge_kwargs": (_upstream.merge_kwargs, {"name"}),
    "VAE._regular_inference": (VAE._regular_inference, {"x", "batch_index", "cont_covs", "cat_covs"}),
    "VAE._get_inference_input": (VAE._get_inference_input, {"tensors"}),
    "VAE._get_generative_input": (VAE._get_generative_input, {"tensors", "inference_outputs"}),
    "SCVI._validate_anndata": (SCVI._validate_anndata, {"adata", "copy_if_view"}),
    "SCVI._get_most_recent_anndata_manager": (SCVI._get_most_recent_anndata_manager, {"adata", "required"}),
    "SCVI._make_data_loader": (SCVI._make_data_loader, {"adata", "indices", "batch_size"}),
    "SCVI._get_init_params": (SCVI._get_init_params, {"locals"}),
    "SCVI._check_if_trained": (SCVI._check_if_trained, set()),
    "UnsupervisedTrainingMixin.train": (
        UnsupervisedTrainingMixin.train,
        {"max_epochs", "batch_size", "early_stopping", "plan_kwargs", "train_size", "datamodule"},
    ),
    "TrainingPlan.compute_and_log_metrics": (
        TrainingPlan.compute_and_log_metrics, {"loss_output", "metrics", "mode"},
    ),
    "TrainingPlan._optimizer_creator_fn": (TrainingPlan._optimizer_creator_fn, {"optimizer_cls"}),
    "AdversarialTrainingPlan.loss_adversarial_classifier": (
        AdversarialTrainingPlan.loss_adversarial_classifier, {"z", "batch_index"},
    ),
    "DDP": (
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model,
        {"module", "params_and_buffers_to_ignore"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_called_functions_take_the_same_arguments(name: str) -> None:
    function, expected = ARGUMENTS[name]
    assert expected <= inspect.signature(function).parameters.keys()


def test_attributes_that_are_read_or_set_exist() -> None:
    layer = torch.nn.Linear(1, 1)
    optimizer = LightningOptimizer(torch.optim.SGD(layer.parameters(), lr=0.1))
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert callable(optimizer._on_before_step) and callable(optimizer._on_after_step)
    assert isinstance(type(trainer._logger_connector).metrics, property)
    assert _upstream.LoudEarlyStopping(monitor="x", warmup_epochs=3)._current_step == 0
    assert DDPStrategy(find_unused_parameters=True)._ddp_kwargs == {"find_unused_parameters": True}
    assert not layer._forward_pre_hooks and torch.ones(1)._version == 0
    assert isinstance(torch.nn.BatchNorm1d(2), torch.nn.modules.batchnorm._BatchNorm)
    assert isinstance(torch.nn.Dropout(), torch.nn.modules.dropout._DropoutNd)
    assert {"_module_cls", "_training_plan_cls", "_data_splitter_cls", "_train_runner_cls"} <= {
        name for cls in SCVI.__mro__ for name in vars(cls)
    }


def test_steps_that_do_not_report_are_not_counted() -> None:
    """The plan replaces the hooks by which an optimizer reports to the training loop."""
    assert _upstream.do_nothing_closure() is None


def test_configurations_are_merged_and_keywords_win() -> None:
    assert _upstream.merge_kwargs({"a": 1, "b": 2}, {"b": 3}, name="plan") == {"a": 1, "b": 3}


def test_trainings_that_scvi_tools_would_do_are_long() -> None:
    assert [_upstream.get_max_epochs_heuristic(n) for n in (100, 20_000, 80_000)] == [400, 400, 100]


def test_names_of_outputs_are_those_of_the_modules() -> None:
    keys = _upstream.MODULE_KEYS
    found = keys.Z_KEY, keys.QZ_KEY, keys.PZ_KEY, keys.PX_KEY, keys.LIBRARY_KEY, keys.KL_Z_KEY
    assert found == ("z", "qz", "pz", "px", "library", "kl_divergence_z")


def test_representations_of_batches_are_saved_under_the_name_that_old_models_have() -> None:
    module = VAE(5, n_batch=2, batch_representation="embedding")
    assert "_embeddings_dict.batch.weight" in module.state_dict()
