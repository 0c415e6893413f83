"""``vmmscvi demo``: the complete analysis on simulated counts with known types."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import typer
from anndata import AnnData
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vmmscvi._annotation import CLUSTER, UNS, Annotation
from vmmscvi._neighbors import leiden, neighbor_graph, umap
from vmmscvi.cli._demo_colors import matched_colors
from vmmscvi.cli._demo_table import Row, as_frame, compare, print_table
from vmmscvi.cli._errors import as_command_error
from vmmscvi.cli._output import written_whole
from vmmscvi.cli._quiet import quiet_libraries
from vmmscvi.cli._train import train_model
from vmmscvi.data import simulate_counts
from vmmscvi.model._annotation_mixin import annotation_of
from vmmscvi.plotting import embedding_panels

NORMAL, VMM = "standard_normal", "vmm"
NAMES = {NORMAL: "N(0, I)", VMM: "VMM"}
LEIDEN = "leiden_standard_normal"
SHARES = (0.40, 0.20, 0.13, 0.10, 0.07, 0.05, 0.03, 0.02)
"""Shares of the types: Leiden tends to split large ones, and a mixture may miss small ones."""
RESOLUTIONS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
WARMUP_EPOCHS = 40
"""Enough for simulated types, which are distinct; real types need more."""
FIGURE_DPI = 200
SMALL_TEXT: Any = {"font.size": 9, "axes.titlesize": 9.5}


def run_demo(
    *,
    out_dir: Path,
    seed: int,
    n_cells: int,
    n_epochs: int,
    accelerator: str,
    overwrite: bool,
    quiet: bool,
) -> list[Row]:
    """Simulate, train with both priors, print the table, and write ``demo.h5ad`` and ``demo.png``.

    Parameters
    ----------
    out_dir
        Folder of the two files.
    seed
        Seed of simulation, split, weights and training; the same for both priors.
    n_cells
        Number of simulated cells.
    n_epochs
        Epochs of each training.
    accelerator
        Hardware to train on.
    overwrite
        Whether to replace existing files.
    quiet
        Whether to omit progress bar and notes.

    Returns
    -------
    list of Row
        The rows of the table.

    Raises
    ------
    CommandError
        If settings are invalid, or training fails.
    """
    start = time.monotonic()
    with quiet_libraries(), mpl.rc_context({"backend": "Agg"}):
        with as_command_error():
            adata = simulate(n_cells, seed)
        types, batches = adata.obs["cell_type"], adata.obs["batch"]
        rows = []
        for prior, name in NAMES.items():
            if not quiet:
                typer.echo(f"training with the prior {name} for {n_epochs} epochs", err=True)
            results = _train(adata, prior, seed, n_epochs, accelerator, show_progress=not quiet)
            graph = neighbor_graph(results.embedding, seed)
            if prior == VMM:
                clusters, clusters_by = results.clusters, "the prior's components"
                results.write_to(adata)
            else:
                clusters = leiden(graph, seed)
                clusters_by = "none (Leiden needs igraph)" if clusters is None else "Leiden, resolution 1"
                adata.obsm[f"X_{prior}"] = results.embedding
                if clusters is not None:
                    adata.obs[LEIDEN] = clusters
            rows.append(compare(name, clusters_by, clusters, results.embedding, types, batches))
            if prior == NORMAL and clusters is not None:
                rows.append(_best_leiden(graph, seed, results.embedding, types, batches))
            adata.obsm[f"X_umap_{prior}"] = umap(graph, seed)
        adata.uns[UNS]["comparison"] = as_frame(rows)
        with as_command_error(OSError, prefix=f"--out-dir {out_dir} was not written to: "):
            _write(adata, out_dir, overwrite)
    n_types, n_batches = types.nunique(), batches.nunique()
    print_table(rows, f"{n_cells:,} simulated cells, {n_types} types, {n_batches} batches, seed {seed}")
    if not quiet:
        seconds = time.monotonic() - start
        typer.echo(f"wrote {out_dir / 'demo.h5ad'} and {out_dir / 'demo.png'} in {seconds:.0f} s", err=True)
    return rows


def _best_leiden(
    graph: AnnData, seed: int, embedding: NDArray[np.float32], types: pd.Series, batches: pd.Series
) -> Row:
    """Score the resolution that is best by the labels, which users without labels cannot choose."""
    rows = [
        compare(
            NAMES[NORMAL],
            f"Leiden, resolution {resolution:g} (chosen with the labels)",
            leiden(graph, seed, resolution),
            embedding,
            types,
            batches,
        )
        for resolution in RESOLUTIONS
    ]
    return max(rows, key=lambda row: row.ari)


def simulate(n_cells: int, seed: int) -> AnnData:
    """Simulate eight types with shares as uneven as in blood, in three batches; one batch lacks a type."""
    return simulate_counts(
        n_cells=n_cells,
        n_genes=1000,
        n_types=len(SHARES),
        proportions=SHARES,
        n_batches=3,
        missing={"batch1": ["type3"]},
        seed=seed,
    )


def _train(
    adata: AnnData, prior: str, seed: int, n_epochs: int, accelerator: str, show_progress: bool
) -> Annotation:
    model = train_model(
        adata.copy(),  # registration changes the data
        batch_key="batch",
        prior=prior,
        seed=seed,
        max_epochs=n_epochs,
        n_warmup_epochs=min(WARMUP_EPOCHS, n_epochs // 2) if prior == VMM else None,
        accelerator=accelerator,
        show_progress=show_progress,
    )
    settings = {"prior": prior, "seed": seed, "max_epochs": n_epochs, "batch_key": "batch"}
    return annotation_of(model, settings_of_run=settings)


def _write(adata: AnnData, out_dir: Path, overwrite: bool) -> None:
    for key in (CLUSTER, LEIDEN):
        if key in adata.obs:
            adata.uns[f"{key}_colors"] = np.array(matched_colors(adata.obs[key], adata.obs["cell_type"]))
    with written_whole(out_dir / "demo.h5ad", overwrite=overwrite) as temporary:
        adata.write_h5ad(temporary, compression="gzip")
    figure = demo_figure(adata)
    with written_whole(out_dir / "demo.png", overwrite=overwrite) as temporary:
        figure.savefig(temporary, format="png", dpi=FIGURE_DPI, bbox_inches="tight")
    plt.close(figure)


def demo_figure(adata: AnnData) -> Figure:
    """Draw both embeddings by batch, type and cluster.

    Parameters
    ----------
    adata
        Output of the demo.

    Returns
    -------
    Figure
        The figure, with one row for each prior.
    """
    n_of = {key: adata.obs[key].nunique() for key in ("cell_type", CLUSTER, LEIDEN) if key in adata.obs}
    titles = {
        "batch": "batches",
        "cell_type": f"types ({n_of['cell_type']})",
        CLUSTER: f"the prior's components ({n_of[CLUSTER]} clusters)",
        LEIDEN: f"Leiden, resolution 1 ({n_of.get(LEIDEN)} clusters)",
    }
    normal_clusters = LEIDEN if LEIDEN in adata.obs else None
    bases = {name: f"X_umap_{prior}" for prior, name in NAMES.items()}
    color: dict[str, list[str | None]] = {
        NAMES[NORMAL]: ["batch", "cell_type", normal_clusters],
        NAMES[VMM]: ["batch", "cell_type", CLUSTER],
    }
    with mpl.rc_context(SMALL_TEXT):
        return embedding_panels(adata, bases, color, titles=titles, empty="no clusters")
