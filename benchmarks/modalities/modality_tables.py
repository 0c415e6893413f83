"""Tables of the comparison: clusters, ELBO and time, and what holds, from the files of the runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

Result = dict[str, Any]
Key = tuple[str, str]
"""Data set and model."""

LEIDEN_1, LEIDEN_BEST, OWN = "stock + Leiden, resolution 1", "stock + Leiden, best resolution", "ours"


def read_results(out: Path) -> list[Result]:
    """Return the results of all finished runs."""
    return [json.loads(path.read_text()) for path in sorted(out.glob("*/*/*.json"))]


def by_key(results: Iterable[Result], method: str) -> dict[Key, list[Result]]:
    """Return the results of a method by data set and model, in the order of seeds."""
    found: dict[Key, list[Result]] = {}
    for result in sorted((r for r in results if r["method"] == method), key=lambda r: r["seed"]):
        found.setdefault((result["data"], result["model"]), []).append(result)
    return found


def clusterings(stock: list[Result], ours: list[Result], column: str) -> dict[str, list[dict[str, float]]]:
    """Return number of clusters, NMI and ARI of every seed, by clustering; the best resolution is by NMI."""

    def pick(found: dict[str, Any]) -> dict[str, float]:
        return {"clusters": found["n_clusters"], **found["scores"][column]}

    grids = [[{"resolution": each["resolution"], **pick(each)} for each in r["leiden"]] for r in stock]
    return {
        LEIDEN_1: [next(each for each in grid if each["resolution"] == 1) for grid in grids],
        LEIDEN_BEST: [max(grid, key=lambda each: each["nmi"]) for grid in grids],
        OWN: [pick(r["own"]) for r in ours],
    }


def spread(values: Iterable[float], digits: int) -> str:
    """Return the mean, and smallest and largest value."""
    array = np.array(list(values), dtype=float)
    if array.size == 0:
        return ""
    texts = [f"{value:.{digits}f}" for value in (array.mean(), array.min(), array.max())]
    return texts[0] if texts[1] == texts[2] else f"{texts[0]} ({texts[1]} to {texts[2]})"


def clusters_table(results: list[Result]) -> pd.DataFrame:
    """Return a row for each data set, kind of labels, model and clustering."""
    stock, ours = by_key(results, "stock"), by_key(results, "vmm")
    rows = []
    for key in ordered(results):
        of_key = [*stock.get(key, []), *ours.get(key, [])]
        for column, n_types in of_key[0]["n_types"].items():
            found = clusterings(stock.get(key, []), ours.get(key, []), column)
            for name, scores in found.items():
                if scores:
                    rows.append(
                        {
                            "data": key[0],
                            "labels": column,
                            "types": n_types,
                            "model": key[1],
                            "clusters of": name,
                            "clusters": spread((s["clusters"] for s in scores), 1),
                            "NMI": spread((s["nmi"] for s in scores), 3),
                            "ARI": spread((s["ari"] for s in scores), 3),
                            "seeds": len(scores),
                        }
                    )
    return pd.DataFrame(rows)


def training_table(results: list[Result]) -> pd.DataFrame:
    """Return a row for each data set, model and method: validation ELBO, epochs and time."""
    rows = []
    for method in ("stock", "vmm"):
        for (data, model), found in by_key(results, method).items():
            rows.append(
                {
                    "data": data,
                    "cells": found[0]["n_cells"],
                    "model": model,
                    "method": method,
                    "latent dimensions": found[0]["n_latent"],
                    "validation ELBO": spread((r["elbo"] for r in found), 1),
                    "epochs": spread((r["n_epochs"] for r in found), 0),
                    "training, wall s": spread((r["train_seconds"] for r in found), 0),
                    "training, CPU s": spread((r["train_cpu_seconds"] for r in found), 0),
                    "wall s per epoch": spread((r["train_seconds"] / r["n_epochs"] for r in found), 3),
                    "CPU s per epoch": spread((r["train_cpu_seconds"] / r["n_epochs"] for r in found), 3),
                    "seeds": len(found),
                }
            )
    order = {key: i for i, key in enumerate(ordered(results))}
    return pd.DataFrame(sorted(rows, key=lambda row: order[row["data"], row["model"]]))


def criteria_table(results: list[Result]) -> pd.DataFrame:
    """Return what holds, by data set, labels and model, of the means over the seeds that both have."""
    stock, ours = by_key(results, "stock"), by_key(results, "vmm")
    rows = []
    for key in ordered(results):
        pairs = paired(stock.get(key, []), ours.get(key, []))
        if not pairs:
            continue
        for column, n_types in pairs[0][0]["n_types"].items():
            found = clusterings([s for s, _ in pairs], [o for _, o in pairs], column)
            mean = {
                name: {m: float(np.mean([s[m] for s in scores])) for m in ("clusters", "nmi", "ari")}
                for name, scores in found.items()
            }
            own, ratio = mean[OWN], mean[OWN]["clusters"] / n_types

            def at_least(name: str, own: dict[str, float] = own, mean: dict[str, Any] = mean) -> str:
                return " and ".join(m.upper() for m in ("nmi", "ari") if own[m] >= mean[name][m]) or "neither"

            rows.append(
                {
                    "data": key[0],
                    "labels": column,
                    "model": key[1],
                    "clusters / types": f"{ratio:.2f}",
                    "within 0.7 to 2": "yes" if 0.7 <= ratio <= 2 else "no",
                    "at least Leiden 1's": at_least(LEIDEN_1),
                    "at least the best's": at_least(LEIDEN_BEST),
                    "ELBO, ours - stock's": f"{np.mean([o['elbo'] - s['elbo'] for s, o in pairs]):+.1f}",
                    "CPU s per epoch, ours / stock's": f"{epoch_ratio(pairs):.2f}",
                    "seeds": len(pairs),
                }
            )
    return pd.DataFrame(rows)


def paired(stock: list[Result], ours: list[Result]) -> list[tuple[Result, Result]]:
    """Return the results of both methods with the same seed; their validation cells must be the same."""
    by_seed = {r["seed"]: r for r in ours}
    pairs = [(r, by_seed[r["seed"]]) for r in stock if r["seed"] in by_seed]
    for first, second in pairs:
        if first["validation_hash"] != second["validation_hash"]:
            raise ValueError(
                f"validation cells of {first['data']}, {first['model']}, seed {first['seed']} differ between "
                "stock and vmm; expected the same cells. Remove the two results and run them again."
            )
    return pairs


def epoch_ratio(pairs: list[tuple[Result, Result]]) -> float:
    """Return CPU seconds for an epoch of ours, as a multiple of stock's."""
    stock, ours = (
        np.mean([pair[i]["train_cpu_seconds"] / pair[i]["n_epochs"] for pair in pairs]) for i in (0, 1)
    )
    return float(ours / stock)


def proteins_table(results: list[Result]) -> pd.DataFrame:
    """Return ours with proteins beside ours on the genes alone: NMI and ARI, means over common seeds."""
    ours = by_key(results, "vmm")
    rows = []
    for (data, model), genes in ours.items():
        both = {r["seed"]: r for r in ours.get((data, "TOTALVI"), [])}
        pairs = [(r, both[r["seed"]]) for r in genes if r["seed"] in both]
        if model == "SCVI" and pairs:
            for column in pairs[0][0]["n_types"]:
                row: dict[str, object] = {"data": data, "labels": column}
                for measure in ("nmi", "ari"):
                    alone, with_protein = (
                        np.mean([pair[i]["own"]["scores"][column][measure] for pair in pairs]) for i in (0, 1)
                    )
                    row[f"{measure.upper()}, SCVI_VMM"] = f"{alone:.3f}"
                    row[f"{measure.upper()}, TOTALVI_VMM"] = f"{with_protein:.3f}"
                rows.append({**row, "seeds": len(pairs)})
    return pd.DataFrame(rows)


def ordered(results: list[Result]) -> list[Key]:
    """Return data sets and models in alphabetical order."""
    return sorted({(r["data"], r["model"]) for r in results})


def report(results: list[Result]) -> str:
    """Return all tables in Markdown, a section for each modality."""
    parts = []
    for modality in dict.fromkeys(r["modality"] for r in sorted(results, key=lambda r: r["modality"])):
        of_modality = [r for r in results if r["modality"] == modality]
        parts.append(f"## {modality}")
        for title, table in (
            ("Clusters", clusters_table(of_modality)),
            ("ELBO and time", training_table(of_modality)),
            ("Ours against stock's", criteria_table(of_modality)),
            ("Proteins against genes alone", proteins_table(of_modality)),
        ):
            if not table.empty:
                parts.append(f"### {title}\n\n{table.to_markdown(index=False, disable_numparse=True)}")
    return "\n\n".join(parts) + "\n"
