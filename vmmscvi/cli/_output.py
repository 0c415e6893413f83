"""Files that are there as a whole or not at all, and never in place of others unless that was asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from vmmscvi.cli._errors import CommandError


def require_readable(path: Path) -> None:
    """Check that an input is there.

    Raises
    ------
    CommandError
        If it is not a file.
    """
    if not path.is_file():
        state = "is not a file" if path.exists() else "does not exist"
        raise CommandError(f"{path} {state}; expected an h5ad file.")


def require_writable(path: Path, *, overwrite: bool, option: str) -> None:
    """Check that a file can be written, before work is spent on what goes into it.

    Parameters
    ----------
    path
        File to be written.
    overwrite
        Whether it may exist.
    option
        What the user calls it, for the message.

    Raises
    ------
    CommandError
        If it exists and may not, is a folder, or its folder does not exist or cannot be written to.
    """
    if path.is_dir():
        raise CommandError(f"{option} {path} is a folder; expected the name of a file.")
    if path.exists() and not overwrite:
        raise CommandError(f"{option} {path} exists; choose another name, or pass --overwrite to replace it.")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise CommandError(f"{option} {path}: the folder {folder} does not exist; create it first.")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"{option} {path}: the folder {folder} cannot be written to.")


@contextmanager
def written_whole(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary name to write to, and move the file to ``path`` once that has succeeded.

    The temporary file is in the same folder, so that the move is a single step: whoever looks at ``path``
    finds the old file (or none) or the new one. If writing fails or is terminated, the temporary file is
    removed and ``path`` is as it was.

    Parameters
    ----------
    path
        Where the file goes; a link is followed.
    overwrite
        Whether an existing file is replaced.

    Raises
    ------
    CommandError
        If ``path`` exists and may not be replaced; checked again after writing.
    """
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{token_hex(3)}.tmp")
    try:
        yield temporary
        if target.exists():
            if not overwrite:
                raise CommandError(
                    f"{path} exists by now; it has not been replaced. Pass --overwrite to do so."
                )
            shutil.copymode(target, temporary)
        with temporary.open("rb+") as file:
            os.fsync(
                file.fileno()
            )  # a name that points at data which never reached the disk is a partial file
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
