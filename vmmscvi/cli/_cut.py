"""``vmmscvi cut``: finer or coarser clusters of a file, without model or training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import typer

from vmmscvi._annotation import written_entries
from vmmscvi.cli._errors import CommandError, as_command_error
from vmmscvi.cli._h5ad import read_h5ad, write_with_columns
from vmmscvi.cli._output import written_whole
from vmmscvi.cli._quiet import quiet_libraries
from vmmscvi.priors import ClusterTree


@dataclass(frozen=True, kw_only=True)
class CutOptions:
    """Options of the command; see its help."""

    source: Path
    out: Path
    key: str
    n_clusters: int | None
    n_effective: float | None
    min_size: int
    overwrite: bool
    quiet: bool


def run_cut(options: CutOptions) -> None:
    """Write the file with a column of clusters at another level.

    Raises
    ------
    CommandError
        If the file has no tree, the level does not exist, or the column exists and may not be replaced.
    """
    with quiet_libraries():
        adata = read_h5ad(options.source)
        is_ours = f"obs/{options.key}" in written_entries(adata)
        if options.key in adata.obs and not is_ours and not options.overwrite:
            raise CommandError(
                f"--key {options.key} is already a column of {options.source}; choose another name, or pass "
                "--overwrite."
            )
        with as_command_error(prefix=f"{options.source}: "):
            tree = ClusterTree.from_anndata(adata)
            cut = tree.cut(options.n_clusters, options.n_effective, options.min_size)
        with as_command_error(OSError, prefix=f"{options.out} was not written: "):
            with written_whole(options.out, overwrite=options.overwrite) as temporary:
                columns = {options.key: pd.Categorical(cut)}
                write_with_columns(options.source, adata, columns, temporary)
        if not options.quiet:
            sizes = ", ".join(f"{name} ({n})" for name, n in cut.value_counts(sort=False).items())
            typer.echo(f"wrote {options.out}: {options.key}, {cut.nunique()} clusters: {sizes}", err=True)
