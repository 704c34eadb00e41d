"""One run at a time in a folder."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lightning_robust.cells.errors import StudyLockedError

_log = logging.getLogger(__name__)

LOCK = ".lock"


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder for the length of the block; nobody else can.

    The operating system holds the lock on the file `.lock` for as long as the process lives and drops it when the
    process ends, however it ends. So a lock can never be stale, and there is no moment at which two runs both take an
    old one over; a file that a killed run has left behind does not count. The file says who holds the lock, for the
    message alone, and stays where it is.

    On a file system or platform without such locks a warning says so and the block runs: every file of a study is
    written atomically, so two runs at once would lose time but no results.

    Raises:
        StudyLockedError: another run holds it; the message names its process and machine.
    """
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        if not _take(file):
            raise StudyLockedError(
                f"Another run is at work in {folder}: {_holder(file)}. Wait for it or stop it first."
            )
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _take(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:
        _log.warning("This platform has no file locks: see that no other run uses %s.", Path(file.name).parent)
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        _log.warning("No lock on %s (%s): see that no other run uses this folder.", file.name, error)
    return True


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        holder = json.loads(file.read())
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        return "a process that has not given its name"
