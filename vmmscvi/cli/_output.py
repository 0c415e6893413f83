"""Write files completely or not at all, and replace existing files only on request."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from vmmscvi.cli._errors import CommandError


def require_readable(path: Path) -> None:
    """Check that an input file exists.

    Raises
    ------
    CommandError
        If it does not exist or is not a file.
    """
    if not path.is_file():
        state = "is not a file" if path.exists() else "does not exist"
        raise CommandError(f"{path} {state}; expected an h5ad file.")


def require_writable(path: Path, *, overwrite: bool, option: str) -> None:
    """Check that a file can be written, before its content is computed.

    Parameters
    ----------
    path
        File to be written.
    overwrite
        Whether an existing file may be replaced.
    option
        Name of the option, for the message.

    Raises
    ------
    CommandError
        If the file exists and may not be replaced, is a folder, or its folder is missing or not writable.
    """
    if path.is_dir():
        raise CommandError(f"{option} {path} is a folder; expected the name of a file.")
    if path.exists() and not overwrite:
        raise CommandError(
            f"{option} {path} already exists; choose another name, or pass --overwrite to replace it."
        )
    folder = path.resolve().parent
    if not folder.is_dir():
        raise CommandError(f"{option} {path}: the folder {folder} does not exist; create it first.")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"{option} {path}: the folder {folder} is not writable; choose another folder.")


@contextmanager
def written_whole(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary name to write to, and move the file to ``path`` after success.

    The temporary file is in the same folder, so the move is a single step: ``path`` holds either the old file
    (or none) or the complete new one. If writing fails or is terminated, the temporary file is removed and
    ``path`` is unchanged.

    Parameters
    ----------
    path
        Destination; a link is followed.
    overwrite
        Whether an existing file is replaced.

    Yields
    ------
    Path
        The temporary name.

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
                    f"{path} was created meanwhile and has not been replaced. Pass --overwrite to replace it."
                )
            shutil.copymode(target, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # data must reach the disk before the name does
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
