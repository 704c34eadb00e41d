"""Files that are written whole or not at all."""

from __future__ import annotations

import uuid
from pathlib import Path

from lightning_robust import _checks


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Writes ``content`` to ``path``: a reader sees the old file or the new one, never half of one.

    The bytes go to a temporary file beside ``path``, which then takes its name in one step (`Path.replace`, which is
    `os.replace`). If anything fails, the old file is untouched and the temporary one is removed. Missing folders are
    made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_bytes(Path(folder) / "a" / "b.txt", b"whole").read_bytes()
        b'whole'
    """
    path = _checks.path("path", path)
    _checks.instance("content", content, bytes, "bytes")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def write_text(path: str | Path, content: str) -> Path:
    """`write_bytes` for text, in UTF-8."""
    return write_bytes(path, _checks.text("content", content, empty=True).encode("utf-8"))
