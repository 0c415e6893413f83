"""The checked settings of a simulation and the tree of types. Nothing here is random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from numbers import Integral, Real
from typing import Literal

import numpy as np
from numpy.typing import NDArray

TypeShares = Literal["random", "equal"] | Sequence[float] | Mapping[str, float]

#: Standard deviations on the natural-log scale above this are typing errors: one SD would be a factor of 20.
MAX_LOG_SD = 3.0
#: Ranks (as a share of all genes, by mean expression) from which markers are drawn: genes below are too rare
#: to be seen, and genes above so abundant that a marker's fold change would fill the whole library.
MARKER_RANKS = (0.30, 0.95)
DEFAULT_MARKERS = 50
DEFAULT_SUBTYPE_MARKERS = 15

_LEAST_COUNT = {"n_cells": 1, "n_genes": 2, "n_types": 1, "n_batches": 1}
_LOG_SDS = (
    "type_effect",
    "batch_effect",
    "batch_depth_effect",
    "depth_sd",
    "type_depth_sd",
    "gene_mean_sd",
    "dispersion_sd",
)
_FOLD_CHANGES = ("marker_log_fold_change", "subtype_log_fold_change")
_NON_NEGATIVE = ("dispersion", "dispersion_trend")


@dataclass(frozen=True)
class TypeTree:
    """Coarse types and the leaves (subtypes) below them; a coarse type that is not split is its own leaf."""

    coarse: tuple[str, ...]
    leaves: tuple[str, ...]
    parent: NDArray[np.intp]
    """Index into ``coarse`` of each leaf, shape ``(n_leaves,)``."""

    @cached_property
    def is_split(self) -> NDArray[np.bool_]:
        """Whether a leaf is one of several subtypes of its coarse type, shape ``(n_leaves,)``."""
        siblings = np.bincount(self.parent, minlength=len(self.coarse))
        return np.asarray(siblings[self.parent] > 1)

    def below(self, name: str) -> list[int]:
        """Return the indices of the leaves that ``name``, a leaf or a coarse type, stands for."""
        return [
            i
            for i, leaf in enumerate(self.leaves)
            if name == leaf or name == self.coarse[int(self.parent[i])]
        ]


@dataclass(frozen=True, kw_only=True)
class SimulationSettings:
    """Checked arguments of :func:`vmmscvi.data.simulate_counts`; see there for their meaning."""

    n_cells: int
    n_genes: int
    n_types: int
    n_subtypes: int | Mapping[str, int]
    proportions: TypeShares
    exact_proportions: bool
    continuum: bool
    n_markers: int | None
    marker_log_fold_change: float
    n_subtype_markers: int | None
    subtype_log_fold_change: float
    type_effect: float
    n_batches: int
    batch_proportions: Sequence[float] | None
    batch_effect: float
    batch_type_interaction: float
    batch_depth_effect: float
    missing: Mapping[str, Sequence[str]] | None
    depth: float
    depth_sd: float
    type_depth_sd: float
    gene_mean_sd: float
    dispersion: float
    dispersion_trend: float
    dispersion_sd: float

    def __post_init__(self) -> None:
        """Check every argument that can be judged without drawing anything."""
        for name, least in _LEAST_COUNT.items():
            require_count(name, getattr(self, name), least)
        for name in _LOG_SDS:
            require_number(name, getattr(self, name), 0.0, MAX_LOG_SD)
        for name in _FOLD_CHANGES:
            require_number(name, getattr(self, name), 0.0, 2 * MAX_LOG_SD)
        for name in _NON_NEGATIVE:
            require_number(name, getattr(self, name), 0.0)
        require_number("batch_type_interaction", self.batch_type_interaction, 0.0, 1.0)
        require_number("depth", self.depth, 0.0)
        if self.depth == 0:
            raise ValueError("depth is 0; expected a number of molecules above 0.")
        for name in ("exact_proportions", "continuum"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected True or False.")
        self._require_consistency()

    def _require_consistency(self) -> None:
        n_leaves = len(self.tree.leaves)
        if self.n_cells < n_leaves:
            raise ValueError(
                f"n_cells is {self.n_cells}; expected at least one cell for each of the {n_leaves} types."
            )
        if self.n_cells < self.n_batches:
            raise ValueError(
                f"n_cells is {self.n_cells}; expected at least one cell for each of the "
                f"{self.n_batches} batches."
            )
        if self.continuum and n_leaves < 2:
            raise ValueError(
                f"n_types is {self.n_types} with continuum=True; expected at least 2 types to run between."
            )
        _ = self.marker_counts, self.batch_shares, self.present  # evaluated here so that errors come first

    @cached_property
    def tree(self) -> TypeTree:
        """Names of the types: ``type3``, or ``type3.0``, ``type3.1``, ... when type 3 is split."""
        coarse = tuple(f"type{i}" for i in range(self.n_types))
        if isinstance(self.n_subtypes, Mapping):
            require_known("n_subtypes", self.n_subtypes, coarse)
            splits = [self.n_subtypes.get(name, 1) for name in coarse]
        else:
            splits = [self.n_subtypes] * self.n_types
        for split in splits:
            require_count("n_subtypes", split, 1)
        leaves = tuple(
            name if split == 1 else f"{name}.{j}"
            for name, split in zip(coarse, splits, strict=True)
            for j in range(split)
        )
        return TypeTree(coarse, leaves, np.repeat(np.arange(self.n_types), splits))

    @cached_property
    def batches(self) -> tuple[str, ...]:
        """Names of the batches."""
        return tuple(f"batch{i}" for i in range(self.n_batches))

    @cached_property
    def batch_shares(self) -> NDArray[np.float64]:
        """Share of the cells of each batch, shape ``(n_batches,)``."""
        if self.batch_proportions is None:
            return np.full(self.n_batches, 1 / self.n_batches)
        return as_shares("batch_proportions", self.batch_proportions, self.n_batches)

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Whether a type occurs in a batch, shape ``(n_batches, n_leaves)``."""
        present = np.ones((self.n_batches, len(self.tree.leaves)), dtype=bool)
        missing = self.missing or {}
        if not isinstance(missing, Mapping):
            raise ValueError(f"missing is {missing!r}; expected a mapping, such as {{'batch1': ['type3']}}.")
        require_known("missing", missing, self.batches)
        for batch, names in missing.items():
            if isinstance(names, str):
                raise ValueError(
                    f"missing[{batch!r}] is the string {names!r}; expected a list of type names."
                )
            require_known(f"missing[{batch!r}]", names, {*self.tree.leaves, *self.tree.coarse})
            for name in names:
                present[self.batches.index(batch), self.tree.below(name)] = False
        gone = [self.tree.leaves[i] for i in np.flatnonzero(~present.any(axis=0))]
        if gone:
            raise ValueError(
                f"missing removes {gone} from every batch; expected each type in at least one batch."
            )
        empty = [self.batches[i] for i in np.flatnonzero(~present.any(axis=1))]
        if empty:
            raise ValueError(f"missing leaves no type in {empty}; expected at least one type in each batch.")
        return present

    @cached_property
    def marker_counts(self) -> tuple[int, int]:
        """Numbers of markers of each coarse type and of each subtype; 0 if there is only one."""
        n_coarse = self.n_types if self.n_types > 1 else 0
        n_split = int(self.tree.is_split.sum())
        start, stop = marker_range(self.n_genes)
        room = stop - start
        # By default subtypes take their part first (they need few), so a small panel has both kinds.
        n_sub = self.n_subtype_markers
        if n_sub is None:
            n_sub = min(DEFAULT_SUBTYPE_MARKERS, room // (2 * n_split)) if n_split else 0
        require_count("n_subtype_markers", n_sub, 0)
        n_main = self.n_markers
        if n_main is None:
            n_main = min(DEFAULT_MARKERS, max(room - n_sub * n_split, 0) // n_coarse) if n_coarse else 0
        require_count("n_markers", n_main, 0)
        needed = n_main * n_coarse + n_sub * n_split
        if needed > room:
            raise ValueError(
                f"n_markers is {n_main} for {n_coarse} types and n_subtype_markers is {n_sub} for {n_split} "
                f"subtypes, {needed} genes in total; expected at most {room} with n_genes={self.n_genes}, "
                "because a gene marks at most one type, and very rare or abundant genes mark none."
            )
        return n_main, n_sub


def marker_range(n_genes: int) -> tuple[int, int]:
    """Return the range of ranks, by mean expression, of the genes from which markers are drawn."""
    return int(MARKER_RANKS[0] * n_genes), max(int(MARKER_RANKS[1] * n_genes), 1)


def require_count(name: str, value: object, least: int) -> None:
    """Raise unless ``value`` is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name} is {value!r}; expected an integer of at least {least}.")


def require_number(name: str, value: object, least: float, most: float = np.inf) -> None:
    """Raise unless ``value`` is a finite number in ``[least, most]``."""
    number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    if not number or not isfinite(float(value)) or not least <= float(value) <= most:  # type: ignore[arg-type]
        bound = f"between {least:g} and {most:g}" if np.isfinite(most) else f"of at least {least:g}"
        raise ValueError(f"{name} is {value!r}; expected a finite number {bound}.")


def require_known(name: str, found: Iterable[str], known: Iterable[str]) -> None:
    """Raise if ``found`` holds a name that is not in ``known``."""
    unknown = [item for item in found if item not in set(known)]
    if unknown:
        raise ValueError(f"{name} holds {unknown}; expected names among {sorted(known)}.")


def as_shares(name: str, values: Sequence[float], length: int) -> NDArray[np.float64]:
    """Return ``values`` as an array of ``length`` positive shares that sum to 1, or raise."""
    try:
        shares = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {values!r}; expected {length} numbers that sum to 1.") from None
    if shares.shape != (length,):
        raise ValueError(f"{name} has shape {shares.shape}; expected {length} numbers, ({length},).")
    if not (np.isfinite(shares).all() and (shares > 0).all()):
        raise ValueError(f"{name} is {values!r}; expected finite shares above 0.")
    if abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"{name} sums to {shares.sum():g}; expected shares that sum to 1.")
    return np.asarray(shares / shares.sum())
