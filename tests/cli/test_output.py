"""Files are there as a whole or not at all, and others are not replaced unless that was asked for."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vmmscvi.cli._errors import CommandError
from vmmscvi.cli._output import require_writable, written_whole

OLD, NEW = "the old content", "the new content"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.h5ad"


def test_the_file_appears_when_it_is_complete(target):
    with written_whole(target, overwrite=False) as temporary:
        temporary.write_text(NEW)
        assert not target.exists()
        assert temporary.parent == target.parent  # one file system, so that the move is one step
    assert target.read_text() == NEW
    assert names(target.parent) == ["out.h5ad"]


def test_an_existing_file_is_intact_until_the_new_one_is_complete(target):
    target.write_text(OLD)
    with written_whole(target, overwrite=True) as temporary:
        temporary.write_text(NEW)
        assert target.read_text() == OLD
    assert target.read_text() == NEW


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_while_writing_leaves_things_as_they_were(target, error, exists):
    if exists:
        target.write_text(OLD)
    with pytest.raises(error), written_whole(target, overwrite=True) as temporary:
        temporary.write_text("partial")
        raise error
    assert names(target.parent) == (["out.h5ad"] if exists else [])
    assert not exists or target.read_text() == OLD


def test_a_file_that_appeared_meanwhile_is_not_replaced(target):
    with (
        pytest.raises(CommandError, match="was created meanwhile and has not been replaced"),
        written_whole(target, overwrite=False) as temporary,
    ):
        temporary.write_text(NEW)
        target.write_text(OLD)
    assert target.read_text() == OLD
    assert names(target.parent) == ["out.h5ad"]


def test_missing_output_is_an_error_and_not_an_empty_file(target):
    with pytest.raises(FileNotFoundError), written_whole(target, overwrite=False):
        pass
    assert names(target.parent) == []


@pytest.mark.skipif(sys.platform == "win32", reason="permissions and links of POSIX")
def test_permissions_are_those_of_other_files_and_links_are_followed(target):
    ordinary = target.with_name("ordinary")
    ordinary.write_text("")
    with written_whole(target, overwrite=False) as temporary:
        temporary.write_text(OLD)
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    target.chmod(0o640)
    link = target.with_name("link.h5ad")
    link.symlink_to(target)
    with written_whole(link, overwrite=True) as temporary:
        temporary.write_text(NEW)
    assert link.is_symlink() and target.read_text() == NEW
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


WRITER = """
    import signal, sys, time
    from pathlib import Path

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests as a job
    from vmmscvi.cli._errors import errors_in_one_line
    from vmmscvi.cli._output import written_whole

    with errors_in_one_line(), written_whole(Path(sys.argv[1]), overwrite=True) as temporary:
        with temporary.open("w") as file:
            file.write("partial")
            file.flush()
            print("writing", flush=True)
            time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("signal_sent", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_a_process_killed_while_writing_leaves_the_old_file(target, signal_sent):
    target.write_text(OLD)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    process.send_signal(getattr(signal, signal_sent))
    process.wait(timeout=30)
    process.stdout.close()
    assert process.returncode != 0
    assert target.read_text() == OLD
    if signal_sent != "SIGKILL":  # which no process can answer
        assert names(target.parent) == ["out.h5ad"]


def test_unwritable_outputs_are_found_early(tmp_path):
    existing = tmp_path / "there"
    existing.write_text(OLD)
    require_writable(tmp_path / "free", overwrite=False, option="--out")
    require_writable(existing, overwrite=True, option="--out")
    with pytest.raises(CommandError, match=r"--out .*there already exists; .* --overwrite"):
        require_writable(existing, overwrite=False, option="--out")
    with pytest.raises(CommandError, match="is a folder"):
        require_writable(tmp_path, overwrite=True, option="--out")
    with pytest.raises(CommandError, match=r"folder .*nowhere does not exist"):
        require_writable(tmp_path / "nowhere" / "a", overwrite=False, option="--out")
