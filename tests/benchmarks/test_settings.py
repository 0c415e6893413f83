"""The configuration of the experiments, as jobs are given it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "benchmarks" / "config.yaml").read_text())


def configured(**changes: Any) -> dict[str, Any]:
    content = {
        "datasets": {
            "A": {"path": "a.h5ad", "train": {"max_epochs": 5, "batch_size": 64}},
            "B": {"path": "b.h5ad"},
        },
        "methods": {"VMM": {"kind": "scvi_vmm", "train": {"max_epochs": 9}}, "PCA": {"kind": "pca"}},
    }
    return {"experiments": {"mine": {**content, **changes}}}


def test_every_experiment_of_the_repository_can_be_read(steps: Any) -> None:
    for name in CONFIG["experiments"]:
        experiment = steps.settings.read_experiment(CONFIG, name)
        folders = [cell.folder for cell in experiment.cells]
        assert folders and len(set(folders)) == len(folders)
    for name in CONFIG["images"]:
        assert steps.settings.read_images(CONFIG, name)
    assert set(CONFIG["all"]) <= {*CONFIG["experiments"], *CONFIG["images"]}


def test_arguments_of_a_dataset_go_over_those_of_a_method_that_is_trained(steps: Any) -> None:
    experiment = steps.settings.read_experiment(configured(), "mine")
    assert json.loads(experiment.training("a", "vmm"))["train"] == {"max_epochs": 5, "batch_size": 64}
    assert json.loads(experiment.training("b", "vmm"))["train"] == {"max_epochs": 9}
    assert json.loads(experiment.training("a", "pca"))["train"] == {}


def test_a_grid_is_a_method_for_each_setting_which_goes_over_the_datasets(steps: Any) -> None:
    grid = {"batch_size": [128, 256], "prior_lr_ratio": [0.1]}
    experiment = steps.settings.read_experiment(
        configured(methods={"VMM": {"kind": "scvi_vmm", "grid": grid}}), "mine"
    )
    assert list(experiment.methods) == [
        "vmm-batch_size-128-prior_lr_ratio-0.1",
        "vmm-batch_size-256-prior_lr_ratio-0.1",
    ]
    trained = json.loads(experiment.training("a", "vmm-batch_size-256-prior_lr_ratio-0.1"))
    assert trained["train"] == {"max_epochs": 5, "batch_size": 256, "prior_lr_ratio": 0.1}


def test_a_method_can_be_kept_to_some_datasets(steps: Any) -> None:
    methods = {"SysVI": {"kind": "sysvi", "datasets": ["B"]}, "PCA": {"kind": "pca"}}
    cells = steps.settings.read_experiment(configured(methods=methods), "mine").cells
    assert [(cell.dataset, cell.method) for cell in cells] == [("a", "pca"), ("b", "sysvi"), ("b", "pca")]


def test_the_command_line_chooses_a_part(steps: Any) -> None:
    config = {
        **configured(),
        "methods": ["PCA"],
        "datasets": ["B"],
        "seeds": ["3", "4"],
    }  # Snakemake's are text
    cells = steps.settings.read_experiment(config, "mine").cells
    assert [cell.folder for cell in cells] == ["b/pca/seed3", "b/pca/seed4"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": {}}, "keys: found \\['method'\\]"),
        ({"methods": {"X": {"kind": "nope"}}}, "kind of method 'X'"),
        ({"methods": {"X": {"kind": "pca", "datasets": ["C"]}}}, "datasets of 'X'"),
        ({"methods": {"X, 1": {"kind": "pca"}, "x 1": {"kind": "pca"}}}, "differ as folders"),
        ({"datasets": {"A": {"path": "a", "simulate": "b"}}}, "one of path, source and simulate"),
        ({"datasets": {"A": {"path": "a", "batch": "b"}}}, "keys: found \\['batch'\\]"),
        ({"clusterings": ["louvain"]}, "clusterings: found"),
        ({"seeds": [0, -1]}, "seeds must be"),
        ({"seeds": [1, 1]}, "seeds must be"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(steps: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        steps.settings.read_experiment(configured(**changes), "mine")


def test_an_unknown_choice_is_refused(steps: Any) -> None:
    with pytest.raises(ValueError, match="datasets: found \\['C'\\]"):
        steps.settings.read_experiment({**configured(), "datasets": ["C"]}, "mine")


def test_reading_leaves_the_configuration_as_it_is(steps: Any) -> None:
    before = copy.deepcopy(CONFIG)
    steps.settings.read_experiment(CONFIG, "tuning")
    assert before == CONFIG
