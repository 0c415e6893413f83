"""Proteins, peaks and multiome: scvi-tools' models and Leiden beside the same models with the mixture prior.

    python benchmarks/modalities --data DIR --out results/modalities
    python benchmarks/modalities --data DIR --out results/modalities --methods stock --sets schep_scatac
    python benchmarks/modalities --out results/modalities --tables

Models are trained with their defaults. Labels are used for scoring only; the "best resolution" is the one
with the best NMI. Every run writes one JSON file below ``--out``. Existing runs are skipped, so the same call
resumes an interrupted one. The tables are printed, and written to ``tables.md`` in ``--out``.

The ELBO is ``get_elbo`` on the validation cells: a mean over cells, in nats, higher is better. At the same
seed both methods have the same validation cells.

- PEAKVI: ``get_elbo`` weighs the KL by 1. Its training loss does not: it sums the reconstruction over the
  minibatch and adds that sum to the KL of every cell, so the KL has a weight of 1 / minibatch size.
- TOTALVI: the ELBO includes the terms of the protein background.
- MULTIVI: the ELBO includes the penalty on the distance between modalities, and is no bound.

Times are those of ``train()``, in one thread. CPU seconds depend little on other work of the machine.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/modalities",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the real sets (h5ad)")
    parser.add_argument("--out", type=Path, default=Path("results/modalities"))
    parser.add_argument("--sets", nargs="+", help="data sets; by default all but the optional ones")
    parser.add_argument("--models", nargs="+", help="models; by default all that apply to a set")
    parser.add_argument("--methods", nargs="+", choices=["stock", "vmm"], default=["stock", "vmm"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="max_epochs of every training, for a trial")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tables", action="store_true", help="train nothing, print the tables")
    parser.add_argument("--list", action="store_true", help="list data sets and models")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Make the runs that are missing and print the tables; return 1 if a run could not be made."""
    args = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    warnings.filterwarnings("ignore")

    import modality_data

    try:
        specs = modality_data.chosen(args.sets)
        modality_data.require_models(args.models)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if args.list:
        for spec in modality_data.SPECS:
            note = ", only when named" if spec.optional else ""
            sys.stdout.write(f"{spec.name} ({spec.modality}): {', '.join(spec.models)}{note}\n")
        return 0

    # Only now: scvi-tools takes seconds.
    import modality_runs
    import modality_tables
    import torch

    # Lightning sets its own levels when it is imported.
    for name in ("scvi", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    n_failed = 0
    if not args.tables:
        torch.set_num_threads(args.threads)
        runs = modality_runs.runs_of(specs, args.models, args.methods, args.seeds)
        n_failed = modality_runs.run_all(runs, args.data, args.out, args.epochs)
    results = modality_tables.read_results(args.out)
    if not results:
        sys.stderr.write(f"{args.out} holds no results.\n")
        return 1
    tables = modality_tables.report(results)
    (args.out / "tables.md").write_text(tables)
    sys.stdout.write(tables)
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
