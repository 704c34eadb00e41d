"""Files of JSON lines that grow: what was added is on the disk, also if the program is killed at any moment."""

from __future__ import annotations

import json
import math
import os
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lightning_robust._files import write_bytes

Row = Mapping[str, Any]
"""What a line holds: strings, integers, floats, booleans, None and lists of them by name."""

_CRC = ',"crc":"{:08x}"}}\n'
_CRC_LENGTH = len(_CRC.format(0))


class Journal:
    """A JSON object in each line, the first says what the file is; lines are added and never changed.

    Each line ends with `"crc"`, a CRC-32 of its text, which continues that of the line before: so a line that was
    changed, lost, doubled or moved is noticed. NaN and infinity are strings. A last line without an end, which a killed
    program leaves, is cut off. Where a line is damaged, the file is kept as `*.damaged` with a warning, and the journal
    goes on with the lines before.

    Args:
        path: The file; its folder is there.
        first: The first line of a new file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     journal = Journal(Path(folder) / "j.jsonl", {"format": 1})
        ...     journal.add([{"gain": 0.5}, {"gain": math.inf}])
        ...     journal.close()
        ...     print((Path(folder) / "j.jsonl").read_text())
        {"format":1,"crc":"..."}
        {"gain":0.5,"crc":"..."}
        {"gain":"inf","crc":"..."}
    """

    def __init__(self, path: Path, first: Row) -> None:
        known = survey(path)
        if known.damaged:
            _set_aside(path, known.lines)
        if known.first is None:
            write_bytes(path, _line(first, 0)[0])
            known = survey(path)
        self.path = path
        self._end, self._crc = known.end, known.crc
        self._file = path.open("r+b", buffering=0)
        self._cut()

    def add(self, rows: Iterable[Row]) -> None:
        """Write lines to the disk; after an error none of them is there."""
        lines, crc = [], self._crc
        for row in rows:
            line, crc = _line(row, crc)
            lines.append(line)
        content = memoryview(b"".join(lines))
        try:
            written = 0
            while written < len(content):
                written += self._file.write(content[written:]) or 0
            os.fsync(self._file.fileno())
        except BaseException:
            with suppress(OSError, ValueError):  # if this fails too, the next opening cuts it
                self._cut()
            raise
        self._end, self._crc = self._end + len(content), crc

    def rows(self) -> Iterator[dict[str, Any]]:
        """The lines after the first, in the order in which they were added."""
        return rows(self.path, self._end)

    def close(self) -> None:
        """Close the file; nothing can be added afterwards."""
        self._file.close()

    def _cut(self) -> None:
        """Cut off what is behind the last whole line."""
        self._file.truncate(self._end)
        self._file.seek(self._end)
        os.fsync(self._file.fileno())


class Survey(NamedTuple):
    """What is whole in a file: its first line, the end and the checksum of the last whole line, how many there are."""

    first: dict[str, Any] | None = None
    end: int = 0
    crc: int = 0
    lines: int = 0
    damaged: bool = False


def survey(path: Path, most: float = math.inf) -> Survey:
    """Check the lines of a file, `most` of them; a file that is not there has none.

    A first line without an end is damage: a journal begins whole.
    """
    known = Survey()
    if not path.exists():
        return known
    with path.open("rb") as file:
        for line in file:
            if known.lines >= most:
                break
            if not line.endswith(b"\n") and known.lines:
                break  # the program was killed while it wrote, or is writing now
            text, end = line[:-_CRC_LENGTH], line[-_CRC_LENGTH:]
            crc = zlib.crc32(text, known.crc)
            if not text or end != _CRC.format(crc).encode():
                return known._replace(damaged=True)
            first = _content(line) if known.first is None else known.first
            known = Survey(first, known.end + len(line), crc, known.lines + 1)
    return known


def rows(path: Path, end: int) -> Iterator[dict[str, Any]]:
    """The lines after the first, up to the place that a survey gave."""
    with path.open("rb") as file:
        at = len(file.readline())
        while at < end:
            line = file.readline()
            at += len(line)
            yield _content(line)


def plain(value: Any) -> Any:
    """A value as it is on the disk; a list is left as it is.

    Example:
        >>> plain(0.1), plain(-math.inf), plain(math.nan)
        (0.1, '-inf', 'nan')
    """
    return repr(float(value)) if isinstance(value, float) and not math.isfinite(value) else value


def _line(row: Row, crc: int) -> tuple[bytes, int]:
    """A line and its checksum."""
    text = json.dumps({name: plain(value) for name, value in row.items()}, separators=(",", ":"))[:-1]
    crc = zlib.crc32(text.encode(), crc)
    return (text + _CRC.format(crc)).encode(), crc


def _content(line: bytes) -> dict[str, Any]:
    row = json.loads(line)
    del row["crc"]
    return row


def _set_aside(path: Path, lines: int) -> None:
    """Keep a damaged file under another name."""
    names = (path.with_name(f"{path.name}{f'.{k}' if k else ''}.damaged") for k in range(10**6))
    aside = next(name for name in names if not name.exists())
    write_bytes(aside, path.read_bytes())
    warnings.warn(
        f"{path} is damaged in line {lines + 1}. It is kept as {aside.name}; the {max(0, lines - 1)} entries before "
        "that line are used again.",
        stacklevel=4,
    )
