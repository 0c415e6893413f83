"""Commands and their options. Each command imports its implementation when it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vmmscvi.cli._errors import as_command_error, errors_in_one_line
from vmmscvi.cli._seeds import LARGEST_SEED

app = typer.Typer(
    name="vmmscvi",
    help="Integrate and cluster single-cell counts with scVI and the VampPrior Mixture Model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class PriorChoice(StrEnum):
    """Priors of the latent space."""

    vmm = "vmm"
    gmm = "gmm"
    vampprior = "vampprior"
    standard_normal = "standard_normal"


def _print_version(asked: bool) -> None:
    if asked:
        from vmmscvi import __version__

        typer.echo(f"vmmscvi {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Handle the options of the program itself."""


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of all random numbers.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress bar and no notes.")]
NEffective = Annotated[
    float | None,
    typer.Option(min=1.0, help="Granularity, as effective sample size (500 by default); more is finer."),
]
Accelerator = Annotated[str, typer.Option(help="Hardware to train on: auto, cpu, gpu or mps.")]


@app.command()
def integrate(
    source: Annotated[Path, typer.Argument(metavar="INPUT.h5ad", help="Raw counts, cells by genes.")],
    batch_key: Annotated[
        str | None, typer.Option(help="Column of obs with the batches; a single batch by default.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Layer with the raw counts; X by default.")] = None,
    prior: Annotated[PriorChoice, typer.Option(help="Prior of the latent space.")] = PriorChoice.vmm,
    n_latent: Annotated[int, typer.Option(min=1, help="Dimensions of the embedding.")] = 10,
    n_components: Annotated[
        int | None,
        typer.Option(min=1, help="Largest number of clusters; 100 by default, or a tenth of the cells."),
    ] = None,
    hvg: Annotated[
        int | None,
        typer.Option(
            "--hvg",
            min=1,
            metavar="N",
            help="Train on the N most variable genes; the output keeps all genes.",
        ),
    ] = None,
    seed: Seed = 0,
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="Largest number of epochs; the default depends on the cells.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="OUT.h5ad", help="Output; INPUT_vmm.h5ad beside the input by default."),
    ] = None,
    save_model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder in which to save the trained model.")
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FIG.png", help="UMAP by batch, cluster and probability; png, pdf or svg."),
    ] = None,
    color: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Further column of obs or gene for the figure; repeatable."),
    ] = None,
    markers: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Table of marker genes of the clusters.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Page with maps, clusters, markers, settings.")
    ] = None,
    n_effective: NEffective = None,
    min_size: Annotated[
        int | None,
        typer.Option(min=1, help='Also write obs["vmm_cut"], with clusters below this size merged.'),
    ] = None,
    accelerator: Accelerator = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train on raw counts, and write INPUT with an integrated embedding and clusters.

    Adds obsm["X_vmm"], obs["vmm_cluster"], its probability, the second cluster,
    entropy and novelty, obs["vmm_leaf"] (subclusters) and uns["vmmscvi"]
    (settings, versions, table and tree of the clusters, history). With --figure
    or --report also obsm["X_umap"]. All other content is kept unchanged.
    """
    with errors_in_one_line():
        from vmmscvi.cli._integrate_options import IntegrateOptions, check_paths

        options = IntegrateOptions(
            source=source,
            out=out or source.with_name(f"{source.stem}_vmm.h5ad"),
            batch_key=batch_key,
            layer=layer,
            prior=prior.value,
            n_latent=n_latent,
            n_components=n_components,
            n_variable_genes=hvg,
            seed=seed,
            max_epochs=max_epochs,
            save_model=save_model,
            figure=figure,
            color=tuple(color or ()),
            markers=markers,
            report=report,
            n_effective=n_effective,
            min_size=min_size,
            accelerator=accelerator,
            overwrite=overwrite,
            quiet=quiet,
        )
        check_paths(options)

        from vmmscvi.cli._integrate import run_integrate

        run_integrate(options)


@app.command("map")
def map_query(
    source: Annotated[Path, typer.Argument(metavar="QUERY.h5ad", help="Raw counts of the query.")],
    model: Annotated[
        Path, typer.Option(metavar="DIR", help="Reference model, saved with integrate --save-model.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="OUT.h5ad", help="Output; QUERY_vmm.h5ad beside the input by default."),
    ] = None,
    max_epochs: Annotated[int, typer.Option(min=1, help="Largest number of epochs.")] = 100,
    seed: Seed = 0,
    accelerator: Accelerator = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Map new cells into a saved model, and write QUERY with its clusters.

    Adds the same results as integrate; obs["vmm_novelty"] near 1 marks cells
    unlike the reference. Genes missing from the query are filled with zeros.
    """
    with errors_in_one_line():
        from vmmscvi.cli._output import require_readable, require_writable

        out = out or source.with_name(f"{source.stem}_vmm.h5ad")
        require_readable(source)
        require_writable(out, overwrite=overwrite, option="--out")

        from vmmscvi.cli._map import MapOptions, run_map

        run_map(
            MapOptions(
                source=source,
                model=model,
                out=out,
                max_epochs=max_epochs,
                seed=seed,
                accelerator=accelerator,
                overwrite=overwrite,
                quiet=quiet,
            )
        )


@app.command()
def cut(
    source: Annotated[Path, typer.Argument(metavar="FILE.h5ad", help="Output of integrate.")],
    n_clusters: Annotated[int | None, typer.Option(min=1, help="Number of clusters.")] = None,
    n_effective: Annotated[
        float | None, typer.Option(min=1.0, help="Granularity (effective sample size), instead of a number.")
    ] = None,
    min_size: Annotated[int, typer.Option(min=1, help="Smallest number of cells in a cluster.")] = 1,
    key: Annotated[str, typer.Option(help="Name of the new column of obs.")] = "vmm_cut",
    out: Annotated[
        Path | None,
        typer.Option(metavar="OUT.h5ad", help="Output; FILE_cut.h5ad beside the input by default."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write coarser or finer clusters of an output of integrate, without training."""
    with errors_in_one_line():
        from vmmscvi.cli._output import require_readable, require_writable

        out = out or source.with_name(f"{source.stem}_cut.h5ad")
        require_readable(source)
        require_writable(out, overwrite=overwrite, option="--out")

        from vmmscvi.cli._cut import CutOptions, run_cut

        run_cut(
            CutOptions(
                source=source,
                out=out,
                key=key,
                n_clusters=n_clusters,
                n_effective=n_effective,
                min_size=min_size,
                overwrite=overwrite,
                quiet=quiet,
            )
        )


@app.command()
def demo(
    out_dir: Annotated[Path, typer.Option(metavar="DIR", help="Folder for demo.h5ad and demo.png.")] = Path(
        "vmmscvi_demo"
    ),
    seed: Seed = 0,
    n_cells: Annotated[int, typer.Option(min=200, help="Number of simulated cells.")] = 2000,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each training.")] = 80,
    accelerator: Accelerator = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Simulate counts of known types, train with N(0, I) and with the VMM, and compare.

    Prints a table and writes an h5ad file and a figure. Takes a minute or two.
    """
    with errors_in_one_line():
        from vmmscvi.cli._output import require_writable

        files = {"h5ad": out_dir / "demo.h5ad", "figure": out_dir / "demo.png"}
        with as_command_error(OSError, prefix=f"--out-dir {out_dir} cannot be created: "):
            out_dir.mkdir(parents=True, exist_ok=True)
        for path in files.values():
            require_writable(path, overwrite=overwrite, option="--out-dir:")

        from vmmscvi.cli._demo import run_demo

        run_demo(
            out_dir=out_dir,
            seed=seed,
            n_cells=n_cells,
            n_epochs=epochs,
            accelerator=accelerator,
            overwrite=overwrite,
            quiet=quiet,
        )
