"""What an evaluation has seen so far, on disk, event by event: a run that was killed goes on where it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from lightning_robust import _checks
from lightning_robust._journal import Journal, plain, rows, survey

Header = Mapping[str, str | int | float | None]
"""The settings of an evaluation: what must be equal for results to belong together."""

CLEAN = "clean"
"""The stage of the pass without an attack."""

END = "end"
"""The stage of the event that says that a process has come to its end. Events of a process have `sample` -1."""

_FORMAT = 1
_OWN = ("format", "shard", "shards")
_WIDTH = 60  # characters of a setting in an error
_NAME = re.compile(r"ledger-(\d+)-of-(\d+)\.jsonl")


class Event(NamedTuple):
    """What one wave of one stage did to one sample.

    Args:
        sample: place of the sample in the data.
        stage: name of the attack; "clean" for the pass without one.
        wave: number of the run within the stage.
        fooled: is the sample misclassified?
        target: class that the model gave instead of the label; -1 where it was right, or labels are no classes.
        step: step of the first success; -1 without one.
        gain: gain of the returned perturbation; of a clean pass a number for the output; NaN if unknown.
        radius: least radius at which an adversarial example was seen, in the units of the threat; inf if none was.
        passes: forward plus backward passes spent on the sample.
        key: what the sample's content is, as hexadecimal digits; equal samples have equal keys.
        label: class of the sample; None where labels are no classes.
        seen: what else was seen of the sample, as numbers; empty if nothing was, or by a version that did not say.
        said: what is to be known of a process, as JSON; then `sample` is -1.
    """

    sample: int
    stage: str
    wave: int
    fooled: bool
    target: int
    step: int
    gain: float
    radius: float
    passes: int
    key: str
    label: int | None
    seen: tuple[float, ...] = ()
    said: str = ""


class Ledger:
    """The events of one process of an evaluation, in a file; use it in a `with` block, or call `close`.

    The file `ledger-<i>-of-<n>.jsonl` has a JSON object in each line, first the settings, then the events. What was
    added is on the disk, also if the program is killed at any moment. Each line has a checksum. Nothing in the file is
    executed when it is read. `pandas.read_json(path, lines=True)` reads it as well; NaN and infinity are strings there.

    Example:
        >>> import tempfile
        >>> event = Event(0, "pgd", 0, True, 3, 7, 0.25, 0.01, 14, "00c0ffee00c0ffee", 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Ledger.open(folder, {"eps": 0.03}) as ledger:
        ...         ledger.add([event])
        ...     with Ledger.open(folder, {"eps": 0.03}) as again:
        ...         list(again.events()) == join(folder) == [event]
        True
    """

    def __init__(self, journal: Journal, lock: FileLock) -> None:
        self._journal, self._lock = journal, lock

    @classmethod
    def open(
        cls, folder: str | Path, header: Header, shard: tuple[int, int] = (0, 1), *, name: str = "folder"
    ) -> Ledger:
        """Make the ledger of a process, or go on with the one that is there.

        A last line that is not whole is cut off. Where a line before is damaged, the file is kept as `*.damaged` with a
        warning, and the ledger goes on with the events before that line. Ledgers of other settings in which no attack
        has a verdict, such as an evaluation that was refused leaves, are deleted, unless a process writes them.

        Args:
            folder: Where the file is, or will be.
            header: The settings: what must be equal for the events to be used again.
            shard: Number of this process, from 0, and number of processes; each has a file of its own.
            name: What errors call `folder`.

        Raises:
            ValueError: if a ledger in the folder has other settings or another number of processes; nothing is changed.
            BlockingIOError: if another process writes this ledger.
        """
        out, settings = _checks.path(name, folder), _settings(header)
        place, number = _checks.sequence("shard", shard, "a pair (number, count)", 2)
        number = _checks.count("shard[1]", number)
        place = _checks.count("shard[0]", place, 0, number - 1)
        path = out / f"ledger-{place}-of-{number}.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        lock = _lock_of(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise BlockingIOError(f"Another process writes {path}. Wait for it, or stop it first.") from None
        try:
            _make_way(path, settings, number, name)
            return cls(Journal(path, {"format": _FORMAT, "shard": place, "shards": number, **settings}), lock)
        except BaseException:
            lock.release()
            raise

    @property
    def path(self) -> Path:
        """The file."""
        return self._journal.path

    def add(self, events: Iterable[Event]) -> None:
        """Write events to the disk; after an error none of them is there."""
        self._journal.add(map(_row, events))

    def events(self) -> Iterator[Event]:
        """All events of this process, in the order in which they were added."""
        return map(_event, self._journal.rows())

    def close(self) -> None:
        """Close the file, so that another process may go on with it."""
        self._journal.close()
        self._lock.release()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def join(folder: str | Path) -> list[Event]:
    """The events of all processes, in the order of their numbers; nothing is changed on disk.

    A last line that is not whole is left out. Whether the processes have come to their ends `unfinished` says.

    Raises:
        FileNotFoundError: if the folder has no ledger.
        ValueError: if ledgers have different settings, one of a process is missing, or one is damaged.
    """
    return [_event(row) for path in _complete(folder) for row in rows(path, survey(path).end)]


def header_of(folder: str | Path) -> dict[str, str | int | float | None]:
    """The settings of the ledgers in a folder, with infinity as a string; raises as `join`."""
    return _read_settings(_complete(folder)[0]) or {}


def unfinished(folder: str | Path) -> list[int]:
    """The numbers of the processes that have not come to their ends; raises as `join`."""
    return [
        place for place, path in enumerate(_complete(folder)) if not any(map(_is_end, rows(path, survey(path).end)))
    ]


def _row(event: Event) -> dict[str, Any]:
    """An event as it is on disk; whole numbers are short."""
    row = event._asdict()
    # Whole numbers that a float holds exactly; a larger one, which a gain of NaN leaves, no reader of JSON takes.
    whole = [float(value).is_integer() and abs(value) < 2**53 for value in row["seen"]]
    seen = [int(value) if short else plain(value) for value, short in zip(row.pop("seen"), whole, strict=True)]
    said = row.pop("said")
    return row | ({"seen": seen} if seen else {}) | ({"said": said} if said else {})


def _event(row: dict[str, Any]) -> Event:
    numbers = {"gain": float(row["gain"]), "radius": float(row["radius"])}
    return Event(**{**row, **numbers, "seen": tuple(map(float, row.get("seen", ())))})


def _settings(header: Header) -> dict[str, Any]:
    """The settings as they are on disk."""
    for name, value in _checks.instance("header", header, Mapping, "a mapping from names to values").items():
        _checks.instance(f"header[{name!r}]", value, (str, int, float, type(None)), "a string, a number or None")
        if name in (*_OWN, "crc"):
            raise ValueError(f"Expected argument `header` to leave the name {name!r} to the ledger. Rename it.")
    return {_checks.text("header", name): plain(value) for name, value in header.items()}


def _read_settings(path: Path) -> dict[str, Any] | None:
    """The settings in a ledger; None where it does not begin with a whole line."""
    first = survey(path, 1).first
    if first is not None and first.get("format") != _FORMAT:
        raise ValueError(
            f"Expected {path} to be a ledger of format {_FORMAT}, but it has format {first.get('format')!r}. "
            "Give another folder, or use the version of lightning_robust that wrote it."
        )
    return None if first is None else {name: value for name, value in first.items() if name not in _OWN}


def _files(folder: Path) -> dict[tuple[int, int], Path]:
    """The ledgers in a folder, by number of processes and number of the process."""
    named = ((_NAME.fullmatch(path.name), path) for path in folder.glob("ledger-*.jsonl"))
    return dict(sorted(((int(match[2]), int(match[1])), path) for match, path in named if match))


def _complete(folder: str | Path) -> list[Path]:
    """The ledgers of all processes, if they belong together."""
    out = _checks.path("folder", folder)
    found = _files(out)
    if not found:
        raise FileNotFoundError(f"Expected argument `folder` to hold a ledger, but {out} has no ledger-*.jsonl.")
    sizes = sorted({number for number, _ in found})
    if len(sizes) > 1:
        raise ValueError(
            f"Expected argument `folder` to hold the ledgers of one evaluation, but {out} has some of "
            f"{' and of '.join(map(str, sizes))} processes. Keep those that belong together."
        )
    missing = [str(place) for place in range(sizes[0]) if (sizes[0], place) not in found]
    if missing:
        raise ValueError(
            f"Expected argument `folder` to hold the ledgers of {sizes[0]} processes, but in {out} those of number "
            f"{', '.join(missing)} are missing. Run these processes too."
        )
    paths = list(found.values())
    for path in paths:
        known = survey(path)
        if known.damaged or known.first is None:
            raise ValueError(
                f"Expected argument `folder` to hold whole ledgers, but {path} is damaged in line {known.lines + 1}. "
                "Run the same evaluation again: it sets the file aside and goes on before that line."
            )
        _check_same(path, _read_settings(path) or {}, _read_settings(paths[0]) or {}, "folder")
    return paths


def begun(path: Path) -> bool:
    """Has a ledger a verdict of an attack? One that a refused evaluation leaves has none."""
    known = survey(path)
    return known.damaged or any(map(_is_verdict, rows(path, known.end)))


def _is_verdict(row: dict[str, Any]) -> bool:
    return _is_end(row) if row["sample"] < 0 else bool(row["stage"] != CLEAN)


def _is_end(row: dict[str, Any]) -> bool:
    return bool(row["sample"] < 0 and row["stage"] == END)


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_name(f".{path.stem}.lock"))


def _make_way(own: Path, settings: dict[str, Any], number: int, name: str) -> None:
    """Refuse a folder that holds a ledger of another evaluation; delete those in which no attack has a verdict.

    Those of the other processes of this evaluation are left to them. The rest are locked until they are deleted.
    """
    idle = []
    with ExitStack() as locks:
        for (of, _), path in _files(own.parent).items():
            before = _read_settings(path)
            if before is None or (before == settings and of == number):
                continue
            if (of == number or _is_locked(path, locks)) and not begun(path):
                if of != number or path == own:
                    idle.append(path)
                continue
            _check_same(path, before, settings, name)
            raise ValueError(
                f"Expected argument `shard` to name {of} process(es), as many as wrote {path}, but got {number}. "
                "Use as many processes as before, or give another folder."
            )
        for path in idle:
            path.unlink(missing_ok=True)


def _is_locked(path: Path, locks: ExitStack) -> bool:
    """Take the lock of a ledger, if no process writes it."""
    try:
        locks.enter_context(_lock_of(path).acquire(timeout=0))
    except Timeout:
        return False
    return True


def _check_same(path: Path, before: dict[str, Any], now: dict[str, Any], name: str) -> None:
    """Refuse other settings, and say which."""
    other = [key for key in {**before, **now} if (key in before, before.get(key)) != (key in now, now.get(key))]
    if other:
        shown = ["`{}` was {} and is {}".format(key, *_shown(before, now, key)) for key in other[:5]]
        raise ValueError(
            f"Expected argument `{name}` to hold a ledger of these settings, but in {path} "
            f"{', '.join(shown)}{' and so on' if len(other) > 5 else ''}. "
            "Results of different settings do not mix: give another folder, or delete that file."
        )


def _shown(before: dict[str, Any], now: dict[str, Any], key: str) -> tuple[str, str]:
    """A setting in two headers; of long texts the place where they begin to differ."""
    one, other = (repr(settings[key]) if key in settings else "not there" for settings in (before, now))
    if max(len(one), len(other)) <= _WIDTH:
        return one, other
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    start = max(alike - _WIDTH // 3, 0)
    first, second = (
        f"{'...' * (start > 0)}{text[start : start + _WIDTH]}{'...' * (len(text) > start + _WIDTH)}"
        for text in (one, other)
    )
    return first, second
