"""Options of ``vmmscvi integrate``, and the checks that need no slow imports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vmmscvi.cli._errors import CommandError
from vmmscvi.cli._output import require_writable

MODEL_FILE = "model.pt"
"""Name of the file in a folder to which scvi-tools saves a model."""
TABLES, PAGES = (".csv", ".tsv"), (".html", ".htm")


@dataclass(frozen=True, kw_only=True)
class IntegrateOptions:
    """Options of the command; see its help."""

    source: Path
    out: Path
    batch_key: str | None
    layer: str | None
    prior: Literal["vmm", "gmm", "vampprior", "standard_normal"]
    n_latent: int
    n_components: int | None
    n_variable_genes: int | None
    seed: int
    max_epochs: int | None
    save_model: Path | None
    figure: Path | None
    color: tuple[str, ...]
    markers: Path | None
    report: Path | None
    n_effective: float | None
    min_size: int | None
    accelerator: str
    overwrite: bool
    quiet: bool


def check_paths(options: IntegrateOptions) -> None:
    """Check that the input exists and that every output can be written.

    Raises
    ------
    CommandError
        For the first problem.
    """
    if not options.source.exists():
        raise CommandError(f"{options.source} does not exist; expected an h5ad file with raw counts.")
    if not options.source.is_file():
        raise CommandError(f"{options.source} is not a file; expected an h5ad file with raw counts.")
    require_writable(options.out, overwrite=options.overwrite, option="--out")
    if options.figure is not None:
        require_writable(options.figure, overwrite=options.overwrite, option="--figure")
        if not options.figure.suffix:
            raise CommandError(f"--figure {options.figure} has no suffix; expected one such as .png or .pdf.")
    if options.color and options.figure is None and options.report is None:
        raise CommandError("--color has no effect without --figure or --report; pass one of them as well.")
    for option, path, suffixes in (
        ("--markers", options.markers, TABLES),
        ("--report", options.report, PAGES),
    ):
        if path is not None:
            require_writable(path, overwrite=options.overwrite, option=option)
            if path.suffix.lower() not in suffixes:
                raise CommandError(
                    f"{option} {path} has another suffix; expected a name that ends in "
                    f"{' or '.join(suffixes)}."
                )
    if options.prior == "standard_normal":
        for option, value in (
            ("--markers", options.markers),
            ("--n-effective", options.n_effective),
            ("--min-size", options.min_size),
        ):
            if value is not None:
                raise CommandError(
                    f"{option} needs clusters, which the prior standard_normal does not have; choose another "
                    "--prior, or leave the option out."
                )
    if options.save_model is not None:
        _check_model_folder(options.save_model, options.overwrite)
    outputs = {
        "--out": options.out,
        "--figure": options.figure,
        "--markers": options.markers,
        "--report": options.report,
    }
    seen: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        if (other := seen.setdefault(path.resolve(), option)) != option:
            raise CommandError(f"{other} and {option} are both {path}; expected two different files.")


def _check_model_folder(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"--save-model {folder} is a file; expected the name of a folder.")
    if (folder / MODEL_FILE).exists() and not overwrite:
        raise CommandError(
            f"--save-model {folder} already holds a model; choose another folder, or pass --overwrite."
        )
    if not folder.exists() and not folder.resolve().parent.is_dir():
        raise CommandError(
            f"--save-model {folder}: the folder {folder.resolve().parent} does not exist; create it first."
        )
