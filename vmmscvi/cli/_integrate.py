"""``vmmscvi integrate``: from an h5ad file to an h5ad file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import typer
from anndata import AnnData
from numpy.typing import NDArray

from vmmscvi import plotting
from vmmscvi._annotation import EMBEDDING, ENTRIES, LEAF, Annotation, foreign_entries
from vmmscvi._layers import layer_names
from vmmscvi._neighbors import neighbor_graph, umap
from vmmscvi.cli._errors import CommandError, as_command_error
from vmmscvi.cli._genes import highly_variable_genes
from vmmscvi.cli._h5ad import read_h5ad, write_with_results
from vmmscvi.cli._integrate_options import IntegrateOptions
from vmmscvi.cli._map_panels import CUT, column_of_markers, map_panels
from vmmscvi.cli._output import written_whole
from vmmscvi.cli._quiet import quiet_libraries
from vmmscvi.cli._train import default_n_components, train_model
from vmmscvi.model import SCVI_VMM
from vmmscvi.model._annotation_mixin import annotation_of
from vmmscvi.plotting._figure import PRINT_DPI, figure_format
from vmmscvi.priors import ClusterTree

UMAP = "X_umap"
MARKERS_PER_CLUSTER = 20


def run_integrate(options: IntegrateOptions) -> None:
    """Read the input, train, and write the requested outputs.

    Raises
    ------
    CommandError
        If the input cannot be used; raised before training whenever possible.
    """
    note = _noter(options.quiet)
    if options.figure is not None:
        with as_command_error():
            figure_format(options.figure)
    with quiet_libraries():
        adata = read_h5ad(options.source)
        check_keys(adata, options)
        data, genes = training_data(adata, options)
        note(
            f"{options.source}: {adata.n_obs:,} cells; training on {data.n_vars:,} of {adata.n_vars:,} genes"
        )
        n_components = options.n_components or default_n_components(data.n_obs)
        model = train_model(
            data,
            batch_key=options.batch_key,
            layer=options.layer,
            prior=options.prior,
            n_latent=options.n_latent,
            n_components=n_components,
            seed=options.seed,
            max_epochs=options.max_epochs,
            n_effective=options.n_effective,
            accelerator=options.accelerator,
            show_progress=not options.quiet,
        )
        results = annotation_of(model, settings_of_run=_settings(options, n_components, genes))
        if options.figure is not None or options.report is not None:
            results = with_map(results, adata, options)
        if options.min_size is not None:
            results = with_cut(results, adata, options.min_size)
        with as_command_error(OSError, prefix=f"{options.out} was not written: "):
            with written_whole(options.out, overwrite=options.overwrite) as temporary:
                write_with_results(options.source, adata, results, temporary)
        note(f"wrote {options.out}: {_describe(results)}")
        if options.save_model is not None:
            with as_command_error(OSError, prefix=f"{options.save_model} was not written: "):
                save_model(model, options.save_model)
            note(f"wrote {options.save_model}")
        results.write_to(adata)
        for path, write in (
            (options.figure, partial(draw, adata, results, options)),
            (options.markers, partial(write_markers, model, adata, options)),
            (options.report, partial(write_report, model, adata, results, options)),
        ):
            if path is not None and path == options.markers and results.n_clusters < 2:
                note(f"{path} was not written: markers need two clusters or more, found one")
            elif path is not None:
                with as_command_error(OSError, ValueError, prefix=f"{path} was not written: "):
                    write()
                note(f"wrote {path}")


def check_keys(adata: AnnData, options: IntegrateOptions) -> None:
    """Check that the columns and layers named by the options exist.

    Raises
    ------
    CommandError
        If a column or layer is missing, cells have no batch, or the file is empty.
    """
    if 0 in adata.shape:
        raise CommandError(
            f"{options.source} has {adata.n_obs} cells and {adata.n_vars} genes; expected at least one of "
            "each."
        )
    if options.layer is not None and options.layer not in layer_names(adata):
        raise CommandError(
            f"--layer {options.layer} is not in the file; its layers are {_listed(layer_names(adata))}."
        )
    if options.layer is None and adata.X is None:
        raise CommandError(f"{options.source} has no X; pass the layer with the raw counts as --layer.")
    entries = ENTRIES if options.min_size is None else [*ENTRIES, f"obs/{CUT}"]
    if not options.overwrite and (foreign := foreign_entries(adata, entries)):
        raise CommandError(
            f"{options.source} already has {', '.join(foreign)}, not written by vmmscvi; rename them, or "
            "pass --overwrite to replace them."
        )
    for option, keys in (("--batch-key", (options.batch_key,)), ("--color", options.color)):
        for key in keys:
            is_gene = option == "--color" and key in adata.var_names
            if key is not None and key not in adata.obs and not is_gene:
                raise CommandError(
                    f"{option} {key} is not in the file; its columns of obs are {_listed(adata.obs)}."
                )
    if options.batch_key is not None:
        n_missing = int(adata.obs[options.batch_key].isna().sum())
        if n_missing:
            raise CommandError(
                f"--batch-key {options.batch_key} has no value for {n_missing} cells; remove these cells, or "
                "give them a batch."
            )


def training_data(adata: AnnData, options: IntegrateOptions) -> tuple[AnnData, NDArray[np.str_] | None]:
    """Return the training data, and the names of the genes if a selection was requested.

    ``adata`` is not changed. The counts keep their place (``X`` or layer), so a saved model can be loaded
    with the user's own data.
    """
    obs = adata.obs[[] if options.batch_key is None else [options.batch_key]].copy()
    var = adata.var[[]].copy()
    if options.layer is None:
        data = AnnData(X=adata.X, obs=obs, var=var)
    else:
        data = AnnData(obs=obs, var=var, layers={options.layer: adata.layers[options.layer]})
    if options.n_variable_genes is None:
        return data, None
    with as_command_error():
        chosen = highly_variable_genes(data, options.n_variable_genes, options.batch_key, options.layer)
    return data[:, chosen].copy(), data.var_names[chosen].to_numpy(dtype=str)


def save_model(model: SCVI_VMM, folder: Path) -> None:
    """Save a model, each file in one step; keep other files in the folder."""
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".vmmscvi-") as temporary:
        model.save(temporary, overwrite=True)
        for file in Path(temporary).iterdir():
            os.replace(file, folder / file.name)


def with_map(results: Annotation, adata: AnnData, options: IntegrateOptions) -> Annotation:
    """Add UMAP coordinates, under another name if the file has a UMAP of other origin."""
    key = UMAP
    if not options.overwrite and foreign_entries(adata, [f"obsm/{UMAP}"]):
        key = f"{UMAP}_vmm"
    coordinates = umap(neighbor_graph(results.embedding, options.seed), options.seed)
    return replace(results, embeddings={key: coordinates})


def with_cut(results: Annotation, adata: AnnData, min_size: int) -> Annotation:
    """Add a column with clusters of at least ``min_size`` cells."""
    leaves = pd.Series(results.columns[LEAF], index=adata.obs_names)
    tree = ClusterTree.from_dict(results.uns["cluster_tree"], leaves)
    with as_command_error():
        cut = tree.cut(min_size=min_size)
    return replace(results, columns={**results.columns, CUT: pd.Categorical(cut)})


def draw(adata: AnnData, results: Annotation, options: IntegrateOptions) -> None:
    """Write the figure: a UMAP by batch, cluster, probability and requested columns."""
    if options.figure is None:
        return
    panels, titles = map_panels(adata, options.batch_key, options.color)
    with mpl.rc_context({"backend": "Agg"}):
        (basis,) = results.embeddings
        figure = plotting.embedding_panels(adata, basis, panels, titles=titles, empty="")
        with written_whole(options.figure, overwrite=options.overwrite) as temporary:
            figure.savefig(
                temporary, format=figure_format(options.figure), dpi=PRINT_DPI, bbox_inches="tight"
            )
        mpl.pyplot.close(figure)


def markers_of(model: SCVI_VMM, adata: AnnData) -> pd.DataFrame:
    """Return the markers of the written clusters, among all genes of the file."""
    return model.get_markers(MARKERS_PER_CLUSTER, groupby=column_of_markers(adata), adata=adata)


def write_markers(model: SCVI_VMM, adata: AnnData, options: IntegrateOptions) -> None:
    """Write the table of markers."""
    if options.markers is None:
        return
    with written_whole(options.markers, overwrite=options.overwrite) as temporary:
        separator = "\t" if options.markers.suffix.lower() == ".tsv" else ","
        markers_of(model, adata).to_csv(temporary, index=False, sep=separator)


def write_report(model: SCVI_VMM, adata: AnnData, results: Annotation, options: IntegrateOptions) -> None:
    """Write the report as an HTML page."""
    from vmmscvi.cli._report import report_page

    if options.report is None:
        return
    (basis,) = results.embeddings
    has_clusters = results.n_clusters > 1
    page = report_page(
        adata,
        markers_of(model, adata) if has_clusters else None,
        splits=model.get_split_markers(ClusterTree.from_anndata(adata), adata=adata)
        if has_clusters
        else None,
        title=f"{options.source.name}: clusters of vmmscvi",
        basis=basis,
        batch_key=options.batch_key,
        layer=options.layer,
        color=options.color,
    )
    with written_whole(options.report, overwrite=options.overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _settings(options: IntegrateOptions, n_components: int, genes: NDArray[np.str_] | None) -> dict[str, Any]:
    return {
        "source": options.source.name,
        "batch_key": options.batch_key,
        "layer": options.layer,
        "prior": options.prior,
        "n_latent": options.n_latent,
        "n_components": n_components,
        "n_variable_genes": options.n_variable_genes,
        "genes": genes,
        "max_epochs": options.max_epochs,
        "n_effective": options.n_effective,
        "seed": options.seed,
        "embedding": EMBEDDING,
    }


def _describe(results: Annotation) -> str:
    if results.clusters is None:
        return f"{EMBEDDING}; this prior has no clusters"
    cut = results.columns.get(CUT)
    joined = "" if cut is None else f"; {CUT} with {len(pd.Categorical(cut).categories)} clusters"
    return f"{EMBEDDING} and {results.n_clusters} clusters{joined}"


def _listed(names: Any) -> str:
    return ", ".join(map(str, names)) or "none"


def _noter(quiet: bool) -> Callable[[str], None]:
    """Return the function that writes notes; to standard error, which leaves standard output for results."""
    return (lambda text: None) if quiet else (lambda text: typer.echo(text, err=True))
