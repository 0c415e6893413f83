"""``vmmscvi benchmark``: its commands and their options. What they do is in ``vmmscvi.benchmark``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vmmscvi.cli import _benchmark_images
from vmmscvi.cli._errors import TRAINING_FAILED, as_command_error, errors_in_one_line
from vmmscvi.cli._seeds import LARGEST_SEED

app = typer.Typer(
    help="Compare methods on datasets over several seeds: run, tune, report.", no_args_is_help=True
)
app.add_typer(_benchmark_images.app)

Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE.yaml", help="Datasets, methods and seeds; without, a simulated example."),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of results.")]
Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the data files; that of the configuration by default."),
]
Names = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this one; repeatable.")]
Seeds = Annotated[
    list[int] | None,
    typer.Option(min=0, max=LARGEST_SEED, help="Seeds instead of the configuration's; repeatable."),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processes at a time; 1, with Ray all CPUs.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of each process.")]
Ray = Annotated[bool, typer.Option("--ray", help="Let Ray run the processes.")]
Recompute = Annotated[
    bool, typer.Option("--recompute", help="Train again what was trained with other settings.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]


@app.command()
def run(
    config: Config = None,
    out: Out = Path("vmmscvi_benchmark"),
    data: Data = None,
    datasets: Names = None,
    methods: Names = None,
    seeds: Seeds = None,
    jobs: Jobs = None,
    threads: Threads = None,
    ray: Ray = False,
    recompute: Recompute = False,
    quiet: Quiet = False,
) -> None:
    """Train and score datasets x methods x seeds.

    A run that was stopped goes on where it stopped: finished cells are not computed again, failed ones are
    tried again. Writes DIR/results.csv; tables and figures come from `vmmscvi benchmark report DIR`.
    """
    with errors_in_one_line():
        from vmmscvi import benchmark

        with as_command_error():
            done = benchmark.run(
                config,
                out,
                data=data,
                datasets=datasets,
                methods=methods,
                seeds=seeds,
                jobs=jobs,
                threads=threads,
                ray=ray,
                recompute=recompute,
                progress=not quiet,
            )
        typer.echo(
            f"{done.n_trained} trained, {done.n_scored} scored, {done.n_finished_before} finished before, "
            f"{len(done.skipped)} skipped, {len(done.failed)} failed; wrote {out / 'results.csv'}",
            err=True,
        )
        _echo_failed(done.failed)


@app.command()
def tune(
    config: Config = None,
    out: Out = Path("vmmscvi_tuning"),
    data: Data = None,
    datasets: Names = None,
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help="Method to tune; the first with a mixture by default.")
    ] = None,
    batch_sizes: Annotated[
        list[int] | None, typer.Option(min=1, help="128, 256 and 512 by default; repeatable.")
    ] = None,
    ratios: Annotated[
        list[float] | None,
        typer.Option(help="Learning rate of the prior over that of the networks; 0.1 to 10; repeatable."),
    ] = None,
    seeds: Seeds = None,
    jobs: Jobs = None,
    threads: Threads = None,
    ray: Ray = False,
    recompute: Recompute = False,
    quiet: Quiet = False,
) -> None:
    """Choose batch size and learning rate of the prior as the paper does, WITH LABELS.

    The best scIB total among runs with at least as many clusters as types; for each batch size the ratio goes
    up until clusters are fewer. What is found so is not unsupervised. Writes DIR/tuning.csv and figures.
    """
    with errors_in_one_line():
        from vmmscvi import benchmark

        grid: dict[str, Any] = {"batch_sizes": batch_sizes, "ratios": ratios}
        with as_command_error():
            done = benchmark.tune(
                config,
                out,
                method=method,
                data=data,
                datasets=datasets,
                seeds=seeds,
                jobs=jobs,
                threads=threads,
                ray=ray,
                recompute=recompute,
                progress=not quiet,
                **{name: values for name, values in grid.items() if values},
            )
        chosen = done.table[done.table["chosen_with_labels"]]
        settings = chosen[["dataset", "batch_size", "prior_lr_ratio"]].drop_duplicates()
        typer.echo(
            "Chosen with labels:" if len(settings) else "Clusters are too few everywhere; none chosen."
        )
        typer.echo(settings.to_string(index=False) if len(settings) else "")
        _echo_failed(done.failed)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `run` wrote.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for tables and figures; DIR/report by default.")
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option(help="Of csv, md, tex, png, pdf; all by default; repeatable.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with the paper's tables, to put beside ours.")
    ] = None,
    datasets: Names = None,
    methods: Names = None,
) -> None:
    """Make tables and figures of the results."""
    with errors_in_one_line():
        from vmmscvi import benchmark

        chosen = {} if not formats else {"formats": tuple(formats)}
        with as_command_error():
            files = benchmark.report(
                results,
                out,
                reference=reference,
                progress=True,
                datasets=datasets,
                methods=methods,
                **chosen,
            )
        for file in files:
            typer.echo(file)


def _echo_failed(failed: Mapping[str, str]) -> None:
    """Say which cells failed and why, and end with an error if any did."""
    for cell, error in failed.items():
        typer.echo(f"Failed: {cell}: {' '.join(error.split())}", err=True)
    if failed:
        raise typer.Exit(TRAINING_FAILED)
