"""Silence what libraries say to developers, for the time of a command."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import typer

CHATTY = ("anndata", "lightning", "lightning.fabric", "lightning.pytorch", "numba", "scanpy", "scvi")
"""Loggers that report every step."""

HARMLESS = (
    r".*does not have many workers",
    r".*number of training batches .* is smaller than the logging interval",
    r".*Graph is not fully connected",  # UMAP: separate clusters
    r".*does not contain unnormalized count data",  # an error of ours follows, which says what to do
    r"Category .* has fewer than 3 cells",
    r".*n_jobs value .* overridden to 1 by setting random_state",
    r".*Observation names are not unique",
    r".*Variable names are not unique",
    r".*`LeafSpec",
    r"Transforming to str index",
)
"""Starts of warnings that are no concern of someone who runs a command."""


def _show_in_one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    typer.echo(f"Warning: {' '.join(str(message).split())}", err=True)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide reports, deprecations and warnings known to be harmless; other warnings and errors stay."""
    levels = {name: logging.getLogger(name).level for name in CHATTY}
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message=message)
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.showwarning = _show_in_one_line
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
