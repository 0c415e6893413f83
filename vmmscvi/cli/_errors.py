"""Errors that a user can fix are printed in one line on standard error; others keep their traceback."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from vmmscvi.cli._words import in_options

USER_ERROR = 2
TRAINING_FAILED = 1
TERMINATED = 128 + signal.SIGTERM


class CommandError(Exception):
    """An error that the user can fix.

    Parameters
    ----------
    message
        The problem, and how to fix it.
    exit_code
        Exit code of the command.
    """

    def __init__(self, message: str, exit_code: int = USER_ERROR) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End the command with one line on standard error and the error's exit code.

    Within the context, a request to terminate (SIGTERM) unwinds like an exception, so temporary files are
    removed.
    """
    with _terminating_cleanly():
        try:
            yield
        except CommandError as error:
            typer.echo(f"Error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(error.exit_code) from error


@contextmanager
def as_command_error(
    *kinds: type[Exception], prefix: str = "", rewrite: Callable[[str], str] = in_options
) -> Iterator[None]:
    """Turn exceptions of some classes, by default ``ValueError``, into a :class:`CommandError`.

    Parameters
    ----------
    *kinds
        Classes of exceptions.
    prefix
        Beginning of the message.
    rewrite
        Function that translates the exception's message, by default :func:`in_options`.
    """
    caught = kinds or (ValueError,)
    try:
        yield
    except caught as error:
        raise CommandError(f"{prefix}{rewrite(str(error)) or type(error).__name__}") from error


@contextmanager
def _terminating_cleanly() -> Iterator[None]:
    def leave(signum: int, frame: FrameType | None) -> None:
        sys.exit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():  # only it can set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
