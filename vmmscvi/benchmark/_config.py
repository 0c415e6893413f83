"""Reading and writing a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from vmmscvi.benchmark._specs import BenchmarkConfig, DatasetSpec, MethodSpec, changed_fields

DEFAULT: Mapping[str, Any] = {
    "datasets": [
        {"name": "simulated", "simulate": "well_separated", "arguments": {"n_cells": 1000, "n_genes": 400}}
    ],
    "methods": [
        {"name": "VMM", "kind": "scvi_vmm", "train": {"max_epochs": 60}},
        {
            "name": "N(0, I)",
            "kind": "scvi_vmm",
            "model": {"prior": "standard_normal"},
            "train": {"max_epochs": 60},
        },
    ],
    "seeds": [0],
    "scib": False,
}
"""What is run without a configuration: about a minute, to see that everything works."""


def load_config(
    config: Path | str | Mapping[str, Any] | BenchmarkConfig | None = None, data: Path | str | None = None
) -> BenchmarkConfig:
    """Read and check a configuration.

    Parameters
    ----------
    config
        A YAML file, its content, or ``None`` for a small default. Keys are the parameters of
        :class:`BenchmarkConfig`, with a list of mappings for ``datasets`` (parameters of
        :class:`DatasetSpec`) and ``methods`` (those of :class:`MethodSpec`).
    data
        Folder that paths of data sets are relative to; by default that of the YAML file.

    Returns
    -------
    The configuration, with absolute paths.

    Raises
    ------
    ValueError
        If there is no such YAML file, a key is unknown or missing, or a value is impossible. Whether files of
        data exist is checked when they are to be used.
    """
    if isinstance(config, BenchmarkConfig):
        return config
    folder = Path.cwd() if data is None else Path(data)
    if config is None:
        content: Any = DEFAULT
    elif isinstance(config, Mapping):
        content = config
    else:
        file = Path(config)
        content = _read_yaml(file)
        folder = file.parent if data is None else folder
    if not isinstance(content, Mapping):
        raise ValueError(f"A configuration is a mapping with datasets and methods; found {content!r:.100}.")
    arguments = dict(content)
    datasets = [
        _resolve(_build(DatasetSpec, entry, "datasets"), folder) for entry in _list(arguments, "datasets")
    ]
    methods = [_build(MethodSpec, entry, "methods") for entry in _list(arguments, "methods")]
    for key in ("seeds", "clusterings"):
        if key in arguments:
            arguments[key] = tuple(_list(arguments, key))
    built: BenchmarkConfig = _build(
        BenchmarkConfig,
        {**arguments, "datasets": tuple(datasets), "methods": tuple(methods)},
        "configuration",
    )
    return built


def dump_config(config: BenchmarkConfig) -> str:
    """Return a configuration as YAML; of paths of data only the name of the file is kept."""
    content = dataclasses.asdict(config)
    content["datasets"] = [changed_fields(dataset) for dataset in config.datasets]
    content["methods"] = [changed_fields(method) for method in config.methods]
    for entry in content["datasets"]:
        if "path" in entry:
            entry["path"] = entry["path"].name
    for key in ("seeds", "clusterings"):
        content[key] = list(content[key])
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def select(
    config: BenchmarkConfig,
    datasets: Collection[str] | None = None,
    methods: Collection[str] | None = None,
    seeds: Collection[int] | None = None,
    threads: int | None = None,
) -> BenchmarkConfig:
    """Keep some datasets, methods and seeds, and set the number of threads, of what is given.

    Raises
    ------
    ValueError
        If a dataset or method is not in the configuration. Seeds may be new.
    """
    changes: dict[str, Any] = {}
    if datasets:
        changes["datasets"] = _chosen(config.datasets, datasets, "datasets")
    if methods:
        changes["methods"] = _chosen(config.methods, methods, "methods")
    if seeds:
        changes["seeds"] = tuple(seeds)
    if threads:
        changes["threads"] = threads
    return dataclasses.replace(config, **changes)


def _chosen(specs: tuple[Any, ...], names: Collection[str], what: str) -> tuple[Any, ...]:
    check_names(names, [spec.name for spec in specs], what)
    return tuple(spec for spec in specs if spec.name in names)


def check_names(names: Collection[str], known: Collection[str], what: str) -> None:
    """Raise a ``ValueError`` that says which names of ``what`` are not known, if any."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"{what} must be of {list(known)}; found {unknown}.")


def _read_yaml(file: Path) -> Any:
    if not file.is_file():
        raise ValueError(f"There is no configuration {file}.")
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML: {error}") from error


def _list(content: Mapping[str, Any], key: str) -> list[Any]:
    value = content.get(key)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{key} must be a list; found {value!r}.")
    return list(value)


def _build(cls: type[Any], entry: Any, where: str) -> Any:
    """Build a specification from a mapping, with messages that name its keys."""
    if isinstance(entry, cls):
        return entry
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: expected a mapping with {sorted(fields)}; found {entry!r}.")
    unknown = sorted(set(entry) - set(fields), key=str)
    if unknown:
        raise ValueError(f"{where}: unknown keys {unknown} in {entry!r:.100}; known are {sorted(fields)}.")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in entry:
            raise ValueError(f"{where}: {name} is missing in {entry!r:.100}.")
    arguments = dict(entry)
    for name in ("arguments", "model", "train"):
        if name in fields and name in arguments:
            arguments[name] = {} if arguments[name] is None else arguments[name]
            if not isinstance(arguments[name], Mapping):
                raise ValueError(f"{where}: {name} must be a mapping; found {arguments[name]!r}.")
    if arguments.get("path") is not None:
        arguments["path"] = Path(arguments["path"])
    return cls(**arguments)


def _resolve(dataset: DatasetSpec, folder: Path) -> DatasetSpec:
    if dataset.path is None:
        return dataset
    return dataclasses.replace(dataset, path=(folder / dataset.path).resolve())
