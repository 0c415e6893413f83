"""``vmmscvi benchmark images``: the options; what is done is in ``vmmscvi.benchmark.images``."""

from __future__ import annotations

from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from vmmscvi.cli._errors import TRAINING_FAILED, as_command_error, errors_in_one_line
from vmmscvi.cli._seeds import LARGEST_SEED

app = typer.Typer(
    name="images",
    help="The paper's image experiments: priors in a plain VAE, and VaDE.",
    no_args_is_help=True,
)


class Dataset(StrEnum):
    """Images with labels."""

    digits = "digits"
    mnist = "mnist"
    fashion_mnist = "fashion_mnist"


class Method(StrEnum):
    """Priors, and how they start."""

    vmm = "vmm"
    vmm_embedding = "vmm_embedding"
    gmm = "gmm"
    vampprior = "vampprior"
    vade = "vade"
    standard_normal = "standard_normal"


class StopOn(StrEnum):
    """What chooses the epoch."""

    elbo = "elbo"
    nmi = "nmi"


@app.command()
def run(
    dataset: Annotated[list[Dataset] | None, typer.Option(help="Repeatable; digits by default.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of MNIST and Fashion-MNIST, as npz or IDX files."),
    ] = None,
    method: Annotated[list[Method] | None, typer.Option(help="Repeatable; all by default.")] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, max=LARGEST_SEED, help="Repeatable; 0 by default.")
    ] = None,
    batch_size: Annotated[list[int] | None, typer.Option(min=1, help="Repeatable; 256 by default.")] = None,
    epochs: Annotated[int, typer.Option(min=2, help="Largest number of epochs.")] = 10_000,
    lr: Annotated[float, typer.Option(min=0.0, help="Learning rate of the networks.")] = 1e-4,
    prior_lr_ratio: Annotated[
        float, typer.Option(min=0.0, help="Learning rate of the prior, as a multiple, in the paper's start.")
    ] = 1.0,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without improvement until the end.")] = 100,
    stop_on: Annotated[
        StopOn,
        typer.Option(
            help="What chooses the epoch: elbo, or nmi as in the paper's Table 2, which uses labels."
        ),
    ] = StopOn.elbo,
    n_components: Annotated[int, typer.Option(min=1, help="Largest number of clusters.")] = 100,
    n_images: Annotated[int | None, typer.Option(min=100, help="Training images; all by default.")] = None,
    n_test: Annotated[
        int | None, typer.Option(min=10, help="Test images for Table 1; all by default.")
    ] = None,
    n_samples: Annotated[int, typer.Option(min=1, help="Samples of a posterior for likelihoods.")] = 100,
    accelerator: Annotated[str, typer.Option(help="Where to train: auto, cpu, gpu or mps.")] = "auto",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of results.")] = Path(
        "vmmscvi_benchmark_images"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Run again what is complete.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train datasets x methods x batch sizes x seeds; what is complete is kept.

    The defaults are the paper's protocol, which is meant for a GPU. On a CPU cut it:
    --n-images 10000 --epochs 40 --lr 5e-4.
    """
    with errors_in_one_line():
        from vmmscvi.benchmark.images import CellSettings, run_cells
        from vmmscvi.cli._quiet import quiet_libraries

        cells = [
            CellSettings(
                dataset=d.value,
                method=m.value,
                seed=s,
                batch_size=b,
                max_epochs=epochs,
                lr=lr,
                prior_lr_ratio=prior_lr_ratio,
                patience=patience,
                n_components=n_components,
                stop_on=stop_on.value,
                n_images=n_images,
                n_test=n_test,
                n_likelihood_samples=n_samples,
            )
            for s, d, b, m in product(
                seed or [0], dataset or [Dataset.digits], batch_size or [256], method or list(Method)
            )
        ]
        with as_command_error(), quiet_libraries():
            done = run_cells(
                cells,
                out,
                data,
                accelerator,
                verbose=not quiet,
                overwrite=overwrite,
                report=lambda message: typer.echo(message, err=True),
            )
        typer.echo(f"{done.n_run} run, {done.n_kept} kept, {done.n_failed} failed, in {out}", err=True)
        if done.n_failed:
            raise typer.Exit(TRAINING_FAILED)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `run` wrote.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for tables and figures; DIR/report by default.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with the paper's tables (table1*.csv, table2*.csv)."),
    ] = None,
) -> None:
    """Make tables and figures of the results, the paper's values beside ours."""
    with errors_in_one_line():
        import matplotlib as mpl

        from vmmscvi.benchmark.images import write_report

        with as_command_error(), mpl.rc_context({"backend": "Agg"}):
            for path in write_report(results, out or results / "report", reference):
                typer.echo(path)
