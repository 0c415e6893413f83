"""Commands and their options. What they do is in modules that are imported when a command runs."""

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
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Take the options that all commands share."""


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of everything random.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Neither progress bar nor notes.")]
Accelerator = Annotated[str, typer.Option(help="Where to train: auto, cpu, gpu or mps.")]


@app.command()
def integrate(
    source: Annotated[Path, typer.Argument(metavar="INPUT.h5ad", help="Raw counts, cells by genes.")],
    batch_key: Annotated[
        str | None, typer.Option(help="Column of obs with the batches; without, there is one batch.")
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
        int | None, typer.Option(min=1, help="Largest number of epochs; by default it depends on the cells.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="OUT.h5ad", help="Output; INPUT_vmm.h5ad beside the input by default."),
    ] = None,
    save_model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to save the trained model in.")
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FIG.png", help="UMAP by batch, cluster and probability; png, pdf or svg."),
    ] = None,
    color: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Column of obs for the figure as well; repeatable."),
    ] = None,
    accelerator: Accelerator = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train on raw counts and write INPUT with an integrated embedding and clusters.

    Adds obsm["X_vmm"], obs["vmm_cluster"], obs["vmm_cluster_probability"],
    obs["vmm_leaf"] (finer parts of the clusters) and uns["vmmscvi"] (settings,
    versions, weights of the clusters, their tree, history).
    All else is written as it was read.
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
            accelerator=accelerator,
            overwrite=overwrite,
            quiet=quiet,
        )
        check_paths(options)

        from vmmscvi.cli._integrate import run_integrate

        run_integrate(options)


@app.command()
def demo(
    out_dir: Annotated[Path, typer.Option(metavar="DIR", help="Folder for demo.h5ad and demo.png.")] = Path(
        "vmmscvi_demo"
    ),
    seed: Seed = 0,
    n_cells: Annotated[int, typer.Option(min=200, help="Number of simulated cells.")] = 3000,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each training.")] = 150,
    accelerator: Accelerator = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Simulate counts of known types, train with N(0, I) and with the VMM, and compare.

    Prints a table, and writes an h5ad and a figure. Takes some minutes.
    """
    with errors_in_one_line():
        from vmmscvi.cli._output import require_writable

        files = {"h5ad": out_dir / "demo.h5ad", "figure": out_dir / "demo.png"}
        with as_command_error(OSError, prefix=f"--out-dir {out_dir} cannot be made: "):
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
