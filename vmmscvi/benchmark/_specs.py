"""What a benchmark consists of: datasets, methods and settings, checked where they are made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from vmmscvi.benchmark._schema import CLUSTERINGS, METHOD_KINDS, OWN, SCIB_MAX_CELLS


@dataclass(frozen=True)
class DatasetSpec:
    """A data set of raw counts, from exactly one of a file, a loader and the simulator.

    Parameters
    ----------
    name
        Name in tables, and of the folder of results.
    path
        An h5ad file.
    source
        Name of a built-in loader.
    simulate
        Name of a preset of :func:`vmmscvi.data.simulate_preset`.
    arguments
        Arguments of the loader or of the preset. The preset's seed is 0 unless given here: all methods and
        seeds see the same data.
    batch_key, label_key
        Columns of ``obs``. Without ``batch_key`` all cells are one batch.
    layer
        Layer with the raw counts; ``X`` by default.
    n_top_genes
        Number of genes to keep, the most variable ones by scanpy's ``seurat_v3``, within batches, without
        labels; all by default.
    subsample
        Number of cells to keep, drawn at random (always the same ones); all by default.
    train
        Arguments of ``train`` on this set, over those of the methods that are trained; a number of epochs
        that suits its size, for instance.
    """

    name: str
    path: Path | None = None
    source: str | None = None
    simulate: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    batch_key: str | None = "batch"
    label_key: str = "cell_type"
    layer: str | None = None
    n_top_genes: int | None = None
    subsample: int | None = None
    train: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"dataset {self.name!r}"
        check_name(self.name, "name of a dataset")
        given = [key for key in ("path", "source", "simulate") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"{where} must have one of path, source and simulate; found {given or 'none'}.")
        if self.path is not None and self.arguments:
            raise ValueError(f"{where}: a file takes no arguments; found {sorted(self.arguments)}.")
        for key in ("n_top_genes", "subsample"):
            check_positive(getattr(self, key), f"{where}: {key}")


@dataclass(frozen=True)
class MethodSpec:
    """A method of integration.

    Parameters
    ----------
    name
        Name in tables; the folder of results is named after it.
    kind
        ``"scvi_vmm"``, ``"scvi"``, ``"sysvi"``, ``"harmony"``, ``"scanorama"`` or ``"pca"``.
    model
        Arguments of the model (of the integration, for methods without training).
    train
        Arguments of its ``train``.
    """

    name: str
    kind: str
    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name, "name of a method")
        if self.kind not in METHOD_KINDS:
            raise ValueError(
                f"method {self.name!r}: kind is {self.kind!r}; expected one of {list(METHOD_KINDS)}."
            )
        if self.train and not self.is_trained:
            raise ValueError(
                f"method {self.name!r}: {self.kind} is not trained, and takes no arguments of `train`."
            )

    @property
    def is_trained(self) -> bool:
        """Whether the method has a training with arguments."""
        return self.kind not in ("harmony", "scanorama", "pca")

    def on(self, dataset: DatasetSpec) -> MethodSpec:
        """Return the method as it is trained on a data set."""
        return replace(self, train={**self.train, **dataset.train}) if self.is_trained else self


@dataclass(frozen=True)
class BenchmarkConfig:
    """Datasets x methods x seeds, and how they are scored.

    Parameters
    ----------
    datasets, methods
        What is run; names must differ, methods' also when written as folders.
    seeds
        One trial each.
    clusterings
        Of ``"own"``, ``"leiden_1"``, ``"leiden_best"`` and ``"kmeans"``.
    scib
        Whether to compute scib-metrics.
    scib_max_cells
        Largest number of cells for scib-metrics, which are slow: of larger sets a random sample, the same for
        all methods and seeds.
    threads
        Threads of each process.
    """

    datasets: tuple[DatasetSpec, ...]
    methods: tuple[MethodSpec, ...]
    seeds: tuple[int, ...] = (0,)
    clusterings: tuple[str, ...] = CLUSTERINGS
    scib: bool = True
    scib_max_cells: int = SCIB_MAX_CELLS
    threads: int = 1

    def __post_init__(self) -> None:
        for name, found in (("datasets", self.datasets), ("methods", self.methods), ("seeds", self.seeds)):
            if not found:
                raise ValueError(f"{name} must not be empty.")
        for seed in self.seeds:
            if type(seed) is not int or seed < 0:
                raise ValueError(f"seeds must be integers from 0 on; found {seed!r}.")
        unknown = [name for name in self.clusterings if name not in CLUSTERINGS]
        if unknown:
            raise ValueError(f"clusterings must be of {list(CLUSTERINGS)}; found {unknown}.")
        check_positive(self.threads, "threads")
        check_positive(self.scib_max_cells, "scib_max_cells")
        check_distinct(self.seeds, "seeds")
        check_distinct([dataset.name for dataset in self.datasets], "names of datasets")
        check_distinct([method.name for method in self.methods], "names of methods")
        check_distinct([slug(dataset.name) for dataset in self.datasets], "folders of datasets")
        check_distinct([slug(method.name) for method in self.methods], "folders of methods")

    @property
    def scores_own_clusters(self) -> bool:
        """Whether the clusters of mixture priors are scored."""
        return OWN in self.clusterings


def changed_fields(spec: DatasetSpec | MethodSpec) -> dict[str, Any]:
    """Return the fields that differ from their defaults, so that new fields leave what was written valid."""
    found = {}
    for entry in fields(spec):
        value = getattr(spec, entry.name)
        default = entry.default if entry.default_factory is MISSING else entry.default_factory()
        if value != default:
            found[entry.name] = deepcopy(dict(value)) if isinstance(value, Mapping) else value
    return found


def slug(name: str) -> str:
    """Return a name as that of a folder: ``"VMM, ratio 5"`` is ``"vmm-ratio-5"``; ``_`` and ``.`` stay."""
    return re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-.")


def check_name(name: Any, what: str) -> None:
    """Raise ``ValueError`` unless a name is text that a folder can be named after."""
    if not isinstance(name, str) or not slug(name):
        raise ValueError(f"The {what} must be text with a letter or digit; found {name!r}.")


def check_positive(value: Any, what: str) -> None:
    """Raise ``ValueError`` unless a number is a positive integer or ``None``."""
    is_positive = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if value is not None and not is_positive:
        raise ValueError(f"{what} must be a positive integer; found {value!r}.")


def check_distinct(values: Iterable[Any], what: str) -> None:
    """Raise ``ValueError`` if a value occurs twice."""
    values = list(values)
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"The {what} must differ; found more than once: {repeated}.")
