from pathlib import Path
from typing import Any

import pytest
import yaml

from vmmscvi.benchmark import load_config
from vmmscvi.benchmark._config import dump_config, select

DATASET = {"name": "a", "path": "a.h5ad"}
METHOD = {"name": "VMM", "kind": "scvi_vmm"}
CONFIG: dict[str, Any] = {"datasets": [DATASET], "methods": [METHOD]}
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_paths_are_relative_to_the_file_or_to_the_folder_of_data(tmp_path: Path) -> None:
    file = tmp_path / "benchmark.yaml"
    file.write_text(yaml.safe_dump(CONFIG))
    assert load_config(file).datasets[0].path == (tmp_path / "a.h5ad").resolve()
    assert load_config(file, tmp_path / "data").datasets[0].path == (tmp_path / "data/a.h5ad").resolve()


def test_without_a_file_there_is_a_default() -> None:
    config = load_config()
    assert len(config.methods) == 2
    assert config.seeds == (0,)


def test_what_is_written_reads_as_the_same_but_for_the_folder_of_the_data(tmp_path: Path) -> None:
    config = load_config({**CONFIG, "seeds": [3, 1], "scib": False}, tmp_path)
    assert load_config(yaml.safe_load(dump_config(config)), tmp_path) == config
    assert str(tmp_path) not in dump_config(config)


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("*.yaml")), ids=lambda file: file.stem)
def test_configurations_of_the_repository_are_valid(file: Path) -> None:
    assert load_config(file).methods


def test_a_dataset_changes_the_training_of_methods_that_are_trained() -> None:
    config = load_config(
        {
            "datasets": [{**DATASET, "train": {"max_epochs": 7}}],
            "methods": [{**METHOD, "train": {"max_epochs": 9, "lr": 0.1}}, {"name": "PCA", "kind": "pca"}],
        }
    )
    trained, not_trained = (method.on(config.datasets[0]) for method in config.methods)
    assert trained.train == {"max_epochs": 7, "lr": 0.1}
    assert not_trained.train == {}


def test_some_of_a_configuration_can_be_selected() -> None:
    config = load_config({**CONFIG, "methods": [METHOD, {"name": "PCA", "kind": "pca"}]})
    chosen = select(config, methods=["PCA"], seeds=[5, 6], threads=3)
    assert [method.name for method in chosen.methods] == ["PCA"]
    assert (chosen.seeds, chosen.threads, chosen.datasets) == ((5, 6), 3, config.datasets)
    with pytest.raises(ValueError, match=r"methods must be of \['VMM', 'PCA'\]; found \['Harmony'\]"):
        select(config, methods=["Harmony"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": None}, "datasets must be a list"),
        ({"datasets": []}, "datasets must not be empty"),
        ({"methods": [{"name": "x", "kind": "magic"}]}, "kind is 'magic'; expected one of"),
        ({"methods": [{"kind": "pca"}]}, "name is missing"),
        ({"methods": [METHOD, METHOD]}, "names of methods must differ"),
        (
            {"methods": [{**METHOD, "name": "A b"}, {**METHOD, "name": "a-b"}]},
            "folders of methods must differ",
        ),
        ({"methods": [{**METHOD, "name": "..."}]}, "letter or digit"),
        ({"methods": [{**METHOD, "train": 5}]}, "train must be a mapping"),
        ({"methods": [{"name": "x", "kind": "pca", "train": {"lr": 1}}]}, "pca is not trained"),
        ({"datasets": [{"name": "a"}]}, "one of path, source and simulate; found none"),
        ({"datasets": [{**DATASET, "simulate": "x"}]}, "one of path, source and simulate"),
        ({"datasets": [{**DATASET, "arguments": {"a": 1}}]}, "a file takes no arguments"),
        ({"datasets": [{**DATASET, "n_top_genes": 0}]}, "n_top_genes must be a positive integer"),
        ({"seeds": [0, 0]}, "seeds must differ"),
        ({"seeds": [-1]}, "integers from 0 on; found -1"),
        ({"seeds": [True]}, "integers from 0 on; found True"),
        ({"clusterings": ["louvain"]}, r"found \['louvain'\]"),
        ({"thread": 1}, r"unknown keys \['thread'\]"),
        ({"threads": 0}, "threads must be a positive integer"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config({**CONFIG, **changes})


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no configuration .*missing\.yaml"):
        load_config(tmp_path / "missing.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"bad\.yaml is not YAML"):
        load_config(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(ValueError, match="a mapping with datasets and methods"):
        load_config(tmp_path / "list.yaml")
