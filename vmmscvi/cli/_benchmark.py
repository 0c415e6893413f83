"""``vmmscvi benchmark``: its commands and their options. What they do is in ``vmmscvi.benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vmmscvi.cli import _benchmark_images
from vmmscvi.cli._errors import TRAINING_FAILED, as_command_error, errors_in_one_line

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
Seeds = Annotated[list[int] | None, typer.Option(help="Seeds instead of the configuration's; repeatable.")]
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
        for cell, error in done.failed.items():
            typer.echo(f"Failed: {cell}: {' '.join(error.split())}", err=True)
        typer.echo(
            f"{done.n_trained} trained, {done.n_scored} scored, {done.n_finished_before} finished before, "
            f"{len(done.skipped)} skipped, {len(done.failed)} failed; wrote {out / 'results.csv'}",
            err=True,
        )
        if done.failed:
            raise typer.Exit(TRAINING_FAILED)


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
) -> None:
    """Make tables and figures of the results."""
    with errors_in_one_line():
        from vmmscvi import benchmark

        chosen = {} if not formats else {"formats": tuple(formats)}
        with as_command_error():
            files = benchmark.report(results, out, reference=reference, **chosen)
        for file in files:
            typer.echo(file)
