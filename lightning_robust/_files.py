"""Files that are there whole or not at all, also when the program is killed while it writes."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_robust import _checks


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file to write in place of `path`; it takes the name `path` when the block ends without an error.

    The temporary file lies beside `path` and is flushed to the disk before it is renamed, which is one step of the file
    system. So a reader finds the old content or the new one, never half of one. After an error the old content stays.
    Missing folders are made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "a" / "b.txt") as temporary:
        ...         _ = temporary.write_text("whole")
        ...     (Path(folder) / "a" / "b.txt").read_text()
        'whole'
    """
    path = _checks.path("path", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a file by `replacing`, and give its path."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def write_text(path: str | Path, content: str) -> Path:
    """Write a text in UTF-8, its line ends as they are; see `write_bytes`."""
    return write_bytes(path, content.encode())
