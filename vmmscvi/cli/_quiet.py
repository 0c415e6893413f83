"""Silence what libraries say to developers, for the time of a command."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from vmmscvi.cli._words import in_options

OURS = "vmmscvi"
"""Logger of the package."""
CHATTY = ("anndata", "lightning", "lightning.fabric", "lightning.pytorch", "numba", "scanpy", "scvi")
"""Loggers that report every step."""

HARMLESS = (
    r".*does not have many workers",
    r".*number of training batches .* is smaller than the logging interval",
    r".*Graph is not fully connected",  # UMAP: separate clusters
    r".*does not contain unnormalized count data",  # an error of ours follows, which says what to do
    r"Category .* has fewer than 3 cells",  # a warning, or an error, of ours follows if it matters
    r"`adata\.(X|layers.*)` has (fractional|negative) values",  # an error follows, in the words of options
    r".*n_jobs value .* overridden to 1 by setting random_state",
    r".*LeafSpec",
    r"Transforming to str index",
)
"""Starts of warnings that are no concern of someone who runs a command."""

TELLING = (
    r".*Observation names are not unique",
    r".*Variable names are not unique",
)
"""Starts of warnings that matter only if the command fails: they may say why."""


def _show(text: str) -> None:
    typer.echo(f"Warning: {text}", err=True)


def _reword(record: logging.LogRecord) -> bool:
    """Put a message of the package into the words of the command line; none is left out."""
    if record.name.split(".")[0] == OURS:
        record.msg, record.args = in_options(record.getMessage()), ()
    return True


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide reports, deprecations and warnings known to be harmless; other warnings and errors stay.

    Warnings that may explain a failure are shown if there is one. What the package logs names options, not
    arguments of Python.
    """
    handlers = [*logging.getLogger(OURS).handlers, *logging.getLogger().handlers]
    levels = {name: logging.getLogger(name).level for name in CHATTY}
    kept: dict[str, None] = {}

    def show(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        text = " ".join(str(message).split())
        if any(re.match(start, text) for start in TELLING):
            kept[text] = None
        else:
            _show(text)

    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message=message)
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.showwarning = show
        for handler in handlers:
            handler.addFilter(_reword)
        try:
            yield
        except BaseException:
            for text in kept:
                _show(text)
            raise
        finally:
            for handler in handlers:
                handler.removeFilter(_reword)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
