"""Files from public addresses: fetched once, kept in a cache folder, and checked by checksum."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "VMMSCVI_CACHE"
CHECKSUMS = "checksums.json"
"""In each data set's folder: SHA256 of its files as they were first downloaded."""

TIMEOUT_SECONDS = 60
BLOCK_BYTES = 1 << 20


class DownloadError(ConnectionError):
    """A file could not be fetched; the message says from where, and how to do without a network."""


class ChecksumError(ValueError):
    """A file is not what it was, or not what it should be."""


def cache_folder(dataset: str, cache: Path | None = None) -> Path:
    """Return the folder that keeps a data set's files.

    Parameters
    ----------
    dataset
        Its name.
    cache
        Folder of all data sets; by default the environment's ``VMMSCVI_CACHE``, or ``vmmscvi`` in the place
        where the operating system keeps a user's caches.
    """
    if cache is None:
        named = os.environ.get(CACHE_VARIABLE)
        cache = Path(named) if named else _system_caches() / "vmmscvi"
    return cache / "datasets" / dataset


def _system_caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))


def fetch(url: str, folder: Path, name: str, sha256: str | None = None) -> Path:
    """Return the path of a file, downloaded unless it is in the folder already.

    Parameters
    ----------
    url
        Its address.
    folder
        Where it is kept; made if there is none.
    name
        Its name there.
    sha256
        Its checksum, where that is known. Otherwise the checksum is recorded at the first download, and
        later uses are checked against that: this shows a file that changed, not one that was wrong from the
        start.

    Raises
    ------
    DownloadError
        If it cannot be fetched. Nothing is left behind.
    ChecksumError
        If it is there, but has another checksum.
    """
    path = folder / name
    if not path.exists():
        with no_half_files(folder, [url]):
            _download(url, path)
    check_files(folder, [name], {} if sha256 is None else {name: sha256})
    return path


def _download(url: str, path: Path) -> None:
    from scvi.utils import track

    logger.info("Downloading %s to %s.", url, path)
    request = urllib.request.Request(url, headers={"User-Agent": "vmmscvi"})
    partial = path.with_name(path.name + ".part")
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response, partial.open("wb") as file:
        size = response.headers.get("Content-Length")
        n_blocks = None if size is None else -(-int(size) // BLOCK_BYTES)
        blocks: Iterable[bytes] = iter(lambda: response.read(BLOCK_BYTES), b"")
        for block in track(blocks, total=n_blocks, description=f"Downloading {path.name}", style="tqdm"):
            file.write(block)
    if size is not None and partial.stat().st_size != int(size):
        raise OSError(f"got {partial.stat().st_size} of {size} bytes")
    partial.replace(path)


@contextmanager
def no_half_files(folder: Path, addresses: list[str]) -> Iterator[None]:
    """Turn failures of the network into :class:`DownloadError`, and remove what a broken download left.

    Parameters
    ----------
    folder
        Where files are downloaded to within the block; made if there is none.
    addresses
        Where they come from, for the message.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.rglob("*"))
    try:
        yield
    except BaseException as error:
        for path in set(folder.rglob("*")) - before:
            if path.is_file():
                path.unlink()
        if not isinstance(error, OSError):
            raise
        reason = getattr(error, "reason", None) or error
        raise DownloadError(
            f"Could not download {' and '.join(addresses)}: {reason}. Without a network, fetch it elsewhere "
            f"and put it into {folder}, or set {CACHE_VARIABLE} to a folder that another machine filled."
        ) from error


def check_files(folder: Path, names: Iterable[str], known: dict[str, str] | None = None) -> None:
    """Check files against their checksums, and record those of files that have none so far.

    Parameters
    ----------
    folder
        Where they are.
    names
        Paths within the folder.
    known
        Checksums by name that come before the recorded ones.

    Raises
    ------
    ChecksumError
        If a file has another checksum.
    """
    record = folder / CHECKSUMS
    recorded: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    expected = {**recorded, **(known or {})}
    found = {name: _sha256(folder / name) for name in names}
    for name, checksum in found.items():
        if expected.get(name, checksum) != checksum:
            raise ChecksumError(
                f"{folder / name} has SHA256 {checksum}; expected {expected[name]}. Delete it, and its entry "
                f"in {record} if its source was replaced on purpose, to download it again."
            )
    if found.keys() - recorded.keys():
        record.write_text(json.dumps({**recorded, **found}, indent=1, sort_keys=True) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
