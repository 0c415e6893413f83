"""The experiments of ``config.yaml``, checked and written out: what each job of the Snakefile is given."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

Spec = dict[str, Any]

EXPERIMENT = {"datasets", "methods", "seeds", "clusterings", "scib", "scib_max_cells", "compare", "tuning"}
DATASET = {
    "path", "source", "simulate", "arguments", "batch_key", "label_key", "layer", "n_top_genes", "subsample",
    "train",
}  # fmt: skip
METHOD = {"kind", "model", "train", "grid", "datasets"}
IMAGES = {"dataset", "methods", "batch_sizes", "seeds", "settings"}

TRAINED = ("scvi_vmm", "scvi", "sysvi")
KINDS = (*TRAINED, "harmony", "scanorama", "pca")
CLUSTERINGS = ("own", "leiden_1", "leiden_best", "kmeans")


@dataclass(frozen=True)
class Cell:
    """One training of an experiment, by the names of its folders."""

    dataset: str
    method: str
    seed: int

    @property
    def folder(self) -> str:
        """Folder within that of the experiment."""
        return f"{self.dataset}/{self.method}/seed{self.seed}"


@dataclass(frozen=True)
class Experiment:
    """Data sets x methods x seeds, and how they are scored. Data sets and methods go by their folders."""

    datasets: Mapping[str, Spec]
    methods: Mapping[str, Spec]
    seeds: tuple[int, ...]
    scoring: Spec
    extras: Spec = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        """All trainings, first of all methods and data sets of the first seed."""
        return [
            Cell(dataset, method, seed)
            for seed in self.seeds
            for dataset, data in self.datasets.items()
            for method, spec in self.methods.items()
            if data["name"] in spec.get("datasets", [data["name"]])
        ]

    def training(self, dataset: str, method: str) -> str:
        """Return name, kind and arguments of a method on a data set as JSON."""
        data, spec = self.datasets[dataset], self.methods[method]
        train = {**spec.get("train", {}), **data.get("train", {}), **spec.get("tuned", {})}
        trained = spec["kind"] in TRAINED
        return json.dumps(
            {
                "dataset": data["name"],
                "method": spec["name"],
                "kind": spec["kind"],
                "model": spec.get("model", {}),
                "train": train if trained else {},
            }
        )


def slug(name: str) -> str:
    """Return a name as that of a folder: ``"VMM, ratio 5"`` is ``"vmm-ratio-5"``."""
    return re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-.")


def read_experiment(config: Mapping[str, Any], name: str) -> Experiment:
    """Return an experiment; ``datasets``, ``methods`` and ``seeds`` of the configuration choose a part of it.

    Raises
    ------
    ValueError
        If a key, a kind of method or a clustering is unknown, or a choice names nothing of the experiment.
    """
    content = config["experiments"][name]
    where = f"experiment {name!r}"
    _check_keys(content, EXPERIMENT, where)
    datasets = _chosen(content["datasets"], config.get("datasets"), f"{where}: datasets")
    methods = _chosen(content["methods"], config.get("methods"), f"{where}: methods")
    for key, spec in datasets.items():
        _check_keys(spec, DATASET, f"{where}: data set {key!r}")
        if len({"path", "source", "simulate"} & set(spec)) != 1:
            raise ValueError(f"{where}: data set {key!r} must have one of path, source and simulate.")
    for key, spec in methods.items():
        _check_keys(spec, METHOD, f"{where}: method {key!r}")
        _check_among([spec.get("kind")], KINDS, f"{where}: kind of method {key!r}")
        _check_among(spec.get("datasets", []), content["datasets"], f"{where}: datasets of {key!r}")
    seeds = _seeds(config, content, where)
    scoring = {
        "clusterings": content.get("clusterings", list(CLUSTERINGS)),
        "scib": content.get("scib", True),
        "scib_max_cells": content.get("scib_max_cells", 5000),
    }
    _check_among(scoring["clusterings"], CLUSTERINGS, f"{where}: clusterings")
    extras = {key: content[key] for key in ("compare", "tuning") if key in content}
    return Experiment(_named(datasets, where), _named(_expanded(methods), where), seeds, scoring, extras)


def read_images(config: Mapping[str, Any], name: str) -> dict[str, Spec]:
    """Return the settings of every training of an experiment on images, by its folder."""
    content = config["images"][name]
    _check_keys(content, IMAGES, f"images {name!r}")
    seeds = _seeds(config, content, f"images {name!r}")
    return {
        f"{method}/batch{batch_size}/seed{seed}": {
            "dataset": content["dataset"],
            "method": method,
            "batch_size": batch_size,
            "seed": seed,
            **content.get("settings", {}),
        }
        for seed, batch_size, method in product(seeds, content.get("batch_sizes", [256]), content["methods"])
    }


def _seeds(config: Mapping[str, Any], content: Mapping[str, Any], where: str) -> tuple[int, ...]:
    """Return the seeds; those of the command line are text."""
    seeds = [str(seed) for seed in config.get("seeds") or content.get("seeds", [0])]
    if not all(seed.isdecimal() for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"{where}: seeds must be different integers from 0 on; found {seeds}.")
    return tuple(map(int, seeds))


def _expanded(methods: Mapping[str, Spec]) -> dict[str, Spec]:
    """Write out grids: a method for each combination of arguments of ``train``."""
    found: dict[str, Spec] = {}
    for name, spec in methods.items():
        grid = spec.get("grid", {})
        for values in product(*grid.values()):
            tuned = dict(zip(grid, values, strict=True))
            title = ", ".join([name, *(f"{key} {value:g}" for key, value in tuned.items())])
            found[title] = {**spec, "tuned": tuned}
    return found


def _named(specs: Mapping[str, Spec], where: str) -> dict[str, Spec]:
    """Return specifications by folder, with their names in them."""
    found = {slug(name): {**spec, "name": name} for name, spec in specs.items()}
    if len(found) < len(specs) or "" in found:
        raise ValueError(f"{where}: names must have letters and differ as folders; found {list(specs)}.")
    return found


def _chosen(specs: Mapping[str, Spec], names: Collection[str] | None, where: str) -> dict[str, Spec]:
    _check_among(names or (), specs, where)
    return {name: spec for name, spec in specs.items() if not names or name in names}


def _check_keys(content: Mapping[str, Any], known: Collection[str], where: str) -> None:
    _check_among(content, known, f"{where}: keys")


def _check_among(found: Collection[Any], known: Collection[Any], where: str) -> None:
    unknown = [value for value in found if value not in known]
    if unknown:
        raise ValueError(f"{where}: found {unknown}; expected some of {sorted(known)}.")
