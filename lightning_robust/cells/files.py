"""Files that are there whole or not at all, so that a study may be killed at any moment."""

import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lightning_robust.cells.errors import DamagedFileError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to write in place of `path`: it takes the place when the block ends well, and is on the disk by then.

    The new file lies beside `path`, is flushed to the disk, and is moved over `path` in one step of the file system.
    Whoever reads `path` finds the old content or the new one, also after a power cut; after an exception the old one.

    Yields:
        where to write.
    """
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield new
        _flush(new)
        os.replace(new, path)  # noqa: PTH105  the step that makes it atomic, by its own name
        _flush(path.parent)
    finally:
        new.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed writer left half written in a folder."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a damaged file to `*.damaged`, or `*.damaged-2` and so on, and say where it went."""
    aside, count = path.with_name(path.name + ".damaged"), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.damaged-{count}")
    path.rename(aside)
    return aside


def save_artifact(path: Path, obj: Mapping[str, Any] | list[Any] | torch.Tensor) -> None:
    """Write tensors, or nested dicts and lists of tensors and scalars such as a state dict, whole or not at all.

    It is read back safely before it counts as written, so that what is saved can be loaded.

    Raises:
        TypeError: `obj` holds something that `load_artifact` would refuse, such as a whole module.
        OSError: it could not be written.
    """
    with replacing(path) as new:
        try:
            torch.save(obj, new)
        except RuntimeError as error:  # what torch makes of a write that failed
            raise OSError(f"{path} could not be written. Is the disk full? ({error})") from error
        try:
            torch.load(new, map_location="cpu", weights_only=True, mmap=True)
        except Exception:  # torch's own text advises to load it unsafely
            raise TypeError(
                f"Expected argument `obj` to hold tensors, dicts, lists and scalars alone, but got {type(obj).__name__}"
                " that cannot be read back safely. Save `module.state_dict()`."
            ) from None


def load_artifact(path: Path, *, map_location: str | torch.device = "cpu") -> Any:
    """Read what `save_artifact` wrote; nothing in the file is executed.

    Raises:
        FileNotFoundError: there is none.
        DamagedFileError: it is there and cannot be read.
    """
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch's own text advises to load it unsafely
        raise DamagedFileError(
            f"{path} cannot be read as an artefact ({type(error).__name__}): it is damaged, or holds objects that are"
            " never loaded. Delete the folder it lies in and run the same again: only this cell is computed again."
        ) from None


def _flush(path: Path) -> None:
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
