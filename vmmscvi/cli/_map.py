"""``vmmscvi map``: assign the cells of a file to the clusters of a saved model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scvi
import typer
from anndata import AnnData

from vmmscvi._annotation import NOVELTY, foreign_entries
from vmmscvi.cli._errors import TRAINING_FAILED, CommandError, as_command_error
from vmmscvi.cli._h5ad import read_h5ad, write_with_results
from vmmscvi.cli._integrate_options import MODEL_FILE
from vmmscvi.cli._output import written_whole
from vmmscvi.cli._quiet import quiet_libraries
from vmmscvi.cli._train import progress
from vmmscvi.model import SCVI_VMM
from vmmscvi.model._annotation_mixin import annotation_of
from vmmscvi.model._genes import as_names, registered_genes
from vmmscvi.train import NonFiniteTrainingError

NOVEL = 0.95
"""Score that one reference cell in twenty exceeds."""


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """Options of the command; see its help."""

    source: Path
    model: Path
    out: Path
    max_epochs: int
    seed: int
    accelerator: str
    overwrite: bool
    quiet: bool


def run_map(options: MapOptions) -> None:
    """Map a query and write it with the clusters of the reference.

    Raises
    ------
    CommandError
        If there is no model, or the query lacks genes, a column or a layer of the model.
    """
    if not (options.model / MODEL_FILE).is_file():
        raise CommandError(
            f"--model {options.model} has no {MODEL_FILE}; expected a folder written by "
            "integrate --save-model."
        )
    with quiet_libraries():
        adata = read_h5ad(options.source)
        if not options.overwrite and (foreign := foreign_entries(adata)):
            raise CommandError(
                f"{options.source} already has {', '.join(foreign)}, not written by vmmscvi; rename them, or "
                "pass --overwrite to replace them."
            )
        scvi.settings.seed = options.seed
        with as_command_error(ValueError, KeyError):
            query = _prepared(adata, options)
            model = SCVI_VMM.load_query_data(query, str(options.model), accelerator=options.accelerator)
            try:
                model.train(
                    max_epochs=options.max_epochs,
                    accelerator=options.accelerator,
                    **progress(not options.quiet),
                )
            except NonFiniteTrainingError as error:
                raise CommandError(str(error), exit_code=TRAINING_FAILED) from error
        settings = {"source": options.source.name, "model": options.model.name, "seed": options.seed}
        results = annotation_of(model, settings_of_run=settings)
        with as_command_error(OSError, prefix=f"{options.out} was not written: "):
            with written_whole(options.out, overwrite=options.overwrite) as temporary:
                write_with_results(options.source, adata, results, temporary)
        if not options.quiet:
            novelty: Any = results.columns.get(NOVELTY)
            novel = (
                "" if novelty is None else f"; novelty above {NOVEL}: {(novelty > NOVEL).mean():.0%} of cells"
            )
            typer.echo(
                f"wrote {options.out}: {results.n_clusters} clusters of the reference{novel}", err=True
            )


def _prepared(adata: AnnData, options: MapOptions) -> AnnData:
    """Return the query with the model's genes, in their order; ``adata`` is not changed."""
    model = options.model
    registry = SCVI_VMM.load_registry(str(model))
    for names in registered_genes(registry):
        genes = as_names(names)
        lacking = genes[~genes.isin(as_names(adata.var_names))]
        if len(lacking) == len(genes):
            raise CommandError(
                f"{options.source} has none of the model's {len(genes):,} genes, such as {genes[0]}; found "
                f"genes such as {adata.var_names[0]}. Use the same type of gene names."
            )
        if len(lacking) and not options.quiet:
            typer.echo(
                f"{options.source} lacks {len(lacking):,} of the model's {len(genes):,} genes; they are "
                "filled with zeros",
                err=True,
            )
    setup = registry["setup_args"]
    batch_key, layer = setup.get("batch_key"), setup.get("layer")
    if batch_key is not None and batch_key not in adata.obs:
        raise CommandError(
            f"{options.source} has no column {batch_key!r}, from which the model reads batches; its columns "
            f"of obs are {', '.join(map(str, adata.obs)) or 'none'}."
        )
    query = adata.copy()
    if layer is not None:
        if layer not in query.layers:
            raise CommandError(
                f"{options.source} has no layer {layer!r}, from which the model reads counts; add it."
            )
    SCVI_VMM.prepare_query_anndata(query, str(model))
    return query
